"""secret: the keys of a Secret as files in memory."""

from __future__ import annotations

import os

from jota.meta.resource import SECRETS, Resource
from jota.node.model import Object
from jota.node.volumes import atomic
from jota.node.volumes.objects import pick
from jota.node.volumes.volume import Context, Driver, Mounted, mode_of


def references(source: Object) -> list[tuple[Resource, str]]:
    return [(SECRETS, source.get("secretName", ""))]


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    payload = pick(SECRETS, source.get("secretName", ""), source, ctx, mode_of(source.get("defaultMode"), 0o644))
    path = os.path.join(ctx.volatile, "kubernetes.io~secret", name)
    atomic.write(path, payload, ctx.clock.now(), fs_group=ctx.fs_group)
    return Mounted(path, read_only=True)


DRIVER = Driver(mount, references)
