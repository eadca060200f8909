"""ServiceAccount: each pod runs as one, and finds its token, the cluster's CA and its namespace in a projected volume.

The account "default" may still be on its way in a young namespace: pods are let in with what it will say by default, since
the volume is filled by the node, later.
"""

from __future__ import annotations

import zlib
from typing import ClassVar

import orjson

from jota.api import ownnames
from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import forbidden
from jota.meta.resource import PODS, SERVICEACCOUNTS, Resource

DEFAULT = "default"
PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
PREFIX = "kube-api-access-"
MIRROR = "kubernetes.io/config.mirror"
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
TOKEN_SECONDS = 3607
"""An hour, recognisable: clients that never reload tokens are found by it upstream."""


class ServiceAccount(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (SERVICEACCOUNTS,)
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def admit(self, attrs: AdmissionAttributes) -> None:
        pod = attrs.object
        if attrs.operation != "CREATE" or pod is None or attrs.subresource:
            return
        if MIRROR in part(part(pod, "metadata"), "annotations"):
            return
        spec = part(pod, "spec")
        name = text(spec, "serviceAccountName") or text(spec, "serviceAccount") or DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = attrs.registry.look(SERVICEACCOUNTS, attrs.namespace, name)
        if account is None and name != DEFAULT:
            detail = f'error looking up service account {attrs.namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", attrs.name, detail)
        if not parts(spec, "imagePullSecrets") and parts(account or {}, "imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in parts(account or {}, "imagePullSecrets")]
        if _automount(spec, account or {}):
            mount(spec)


def _automount(spec: Object, account: Object) -> bool:
    """The pod's word counts before the account's."""
    for holder in (spec, account):
        wish = holder.get("automountServiceAccountToken")
        if isinstance(wish, bool):
            return wish
    return True


def mount(spec: Object) -> None:
    """Add the volume and its mounts, except where a container mounts something there itself."""
    containers = [*parts(spec, "initContainers"), *parts(spec, "containers")]
    wanting = [c for c in containers if all(m.get("mountPath") != PATH for m in parts(c, "volumeMounts"))]
    if not wanting:
        return
    volumes = parts(spec, "volumes")
    name = next((text(v, "name") for v in volumes if text(v, "name").startswith(PREFIX)), "")
    if not name:
        name = PREFIX + suffix(spec)
        spec["volumes"] = [*volumes, {"name": name, "projected": _projection()}]
    for container in wanting:
        mounts = parts(container, "volumeMounts")
        container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": PATH}]


def suffix(spec: Object) -> str:
    """Five characters that pods of one template share, so that their specs stay equal (shapes.py)."""
    number, letters = zlib.crc32(ownnames.cut(orjson.dumps(spec))[0]), []
    for _ in range(5):
        number, at = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[at])
    return "".join(letters)


def _projection() -> Object:
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [field]}},
        ],
        "defaultMode": 420,
    }
