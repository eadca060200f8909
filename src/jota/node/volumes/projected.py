"""projected: several sources in one directory; among them ServiceAccount tokens, renewed at 80 % of their life.

Next: tokens.py, trustbundles.py, podcertificates.py, where what is not an object of the pod's namespace comes from.
"""

from __future__ import annotations

import os

from jota.meta.resource import CONFIGMAPS, SECRETS, Resource
from jota.node.model import Object
from jota.node.volumes import atomic, downwardapi
from jota.node.volumes.objects import pick
from jota.node.volumes.volume import Context, Driver, File, Mounted, Payload, VolumeFault, mode_of

TOKEN_SECONDS = 3600


def references(source: Object) -> list[tuple[Resource, str]]:
    out: list[tuple[Resource, str]] = []
    for part in source.get("sources") or []:
        if config := part.get("configMap"):
            out.append((CONFIGMAPS, config.get("name", "")))
        if secret := part.get("secret"):
            out.append((SECRETS, secret.get("name", "")))
    return out


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    mode = mode_of(source.get("defaultMode"), 0o644)
    files: Payload = {}
    for index, part in enumerate(source.get("sources") or []):
        files |= await _part(part, ctx, mode, name, index)
    path = os.path.join(ctx.volatile, "kubernetes.io~projected", name)
    atomic.write(path, files, ctx.clock.now(), fs_group=ctx.fs_group)
    return Mounted(path, read_only=True)


async def _part(part: Object, ctx: Context, mode: int, volume: str, index: int) -> Payload:
    if (config := part.get("configMap")) is not None:
        return pick(CONFIGMAPS, config.get("name", ""), config, ctx, mode)
    if (secret := part.get("secret")) is not None:
        return pick(SECRETS, secret.get("name", ""), secret, ctx, mode)
    if (downward := part.get("downwardAPI")) is not None:
        return downwardapi.payload(downward, ctx, mode)
    if (token := part.get("serviceAccountToken")) is not None:
        return await _token(token, ctx, mode)
    if (bundle := part.get("clusterTrustBundle")) is not None and ctx.anchors is not None:
        return {bundle["path"]: _private(await ctx.anchors(bundle), ctx, mode)}
    if (certificate := part.get("podCertificate")) is not None and ctx.credential is not None:
        credential, again = await ctx.credential(volume, index, certificate)
        if again:
            ctx.again(again)
        contents = {
            "credentialBundlePath": credential.key + credential.chain,
            "keyPath": credential.key,
            "certificateChainPath": credential.chain,
        }
        return {certificate[k]: _private(data, ctx, mode) for k, data in contents.items() if certificate.get(k)}
    raise VolumeFault(f"unsupported projected source: {', '.join(part) or 'empty'}")


async def _token(source: Object, ctx: Context, mode: int) -> Payload:
    seconds = int(source.get("expirationSeconds") or TOKEN_SECONDS)
    text, again = await ctx.tokens.token(ctx.pod, source.get("audience", ""), seconds)
    ctx.again(again)
    return {source["path"]: _private(text.encode(), ctx, mode)}


def _private(data: bytes, ctx: Context, mode: int) -> File:
    """A known reader lets the file be private to it; otherwise it follows defaultMode (as upstream)."""
    if ctx.fs_user is not None or ctx.fs_group is not None:
        mode = 0o600
    return File(data, mode, ctx.fs_user if ctx.fs_user is not None else -1)


DRIVER = Driver(mount, references)
