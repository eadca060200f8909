"""Which node needs what: pods -> the Secrets, ConfigMaps, claims, volumes and accounts that their node may read.

In: the stored pods, by the keys that changed (nothing is decoded until a node asks). Out: `uses`. Next: filters/node.py.
The references are upstream's (node authorizer's graph): volumes, env, envFrom, image pull secrets, claims and through
them their volumes and those volumes' secrets. A mirror pod gives its node nothing: the node made it itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from jota.api.registry import Registry
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text
from jota.meta.resource import PODS, Resource

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
MIRROR = "kubernetes.io/config.mirror"
Ref = tuple[str, str, str]
"""(plural, namespace, name)"""
_VOLUME_SECRETS = ("azureFile", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")
_CSI_SECRETS = ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")


class NodeGraph:
    """Reference counts per node, kept in step with the store."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._dirty: set[str] = set()
        self._pods: dict[str, tuple[str, frozenset[Ref]]] = {}
        self._nodes: dict[str, Counter[Ref]] = {}
        self._listening = False

    def uses(self, node: str, ref: Ref) -> bool:
        """Whether a pod bound to `node` needs the object."""
        self._settle()
        held = self._nodes.get(node)
        if not held:
            return False
        if held[ref] > 0:
            return True
        if ref[0] == "persistentvolumes":
            return any(volume == ref[2] for volume, _ in self._volumes(held))
        if ref[0] == "secrets":
            return any(ref in _volume_secrets(volume) for _, volume in self._volumes(held))
        return False

    def _volumes(self, held: Counter[Ref]) -> Iterator[tuple[str, Object]]:
        """The volumes that the claims of a node's pods are bound to."""
        for plural, namespace, name in held:
            if plural != CLAIMS.plural:
                continue
            claim = self._registry.get(CLAIMS, namespace, name)
            bound = text(part(claim or {}, "spec"), "volumeName")
            volume = self._registry.get(VOLUMES, "", bound) if bound else None
            owner = part(part(volume or {}, "spec"), "claimRef")
            if volume is not None and (text(owner, "namespace"), text(owner, "name")) == (namespace, name):
                yield bound, volume

    def _settle(self) -> None:
        if not self._listening:
            self._listening = True
            self._registry.touched(PODS, self._touch)
        self._registry.catch_up()
        while self._dirty:
            self._look(self._dirty.pop())

    def _touch(self, keys: list[str], anew: bool) -> None:
        if anew:
            self._pods.clear()
            self._nodes.clear()
            self._dirty.clear()
        self._dirty.update(keys)

    def _look(self, key: str) -> None:
        namespace, name = key.split("/")[3:5]
        pod = self._registry.get(PODS, namespace, name)
        node = text(part(pod or {}, "spec"), "nodeName")
        found = (node, frozenset(references(pod))) if pod is not None and node else None
        before = self._pods.get(key)
        if found == before:
            return
        if before is not None:
            held = self._nodes[before[0]]
            held.subtract(before[1])
            self._nodes[before[0]] = +held
            del self._pods[key]
        if found is not None:
            self._nodes.setdefault(node, Counter()).update(found[1])
            self._pods[key] = found


def references(pod: Object) -> Iterator[Ref]:
    """What a pod needs read for it on its node, itself and its claims included; (plural, namespace, name)."""
    meta, spec = pod["metadata"], part(pod, "spec")
    namespace = text(meta, "namespace")
    yield PODS.plural, namespace, text(meta, "name")
    if MIRROR in part(meta, "annotations"):
        return
    account = "serviceaccounts", text(spec, "serviceAccountName")
    for plural, name in (account, *_of_containers(spec), *_of_volumes(spec, text(meta, "name"))):
        if name:
            yield plural, namespace, name
    made = parts(part(pod, "status"), "resourceClaimStatuses")
    for claim in (*parts(spec, "resourceClaims"), *made):
        if name := text(claim, "resourceClaimName"):
            yield "resourceclaims", namespace, name
    for pull in parts(spec, "imagePullSecrets"):
        yield "secrets", namespace, text(pull, "name")


def _of_containers(spec: Object) -> Iterator[tuple[str, str]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in parts(spec, field):
            for source in parts(container, "envFrom"):
                yield "configmaps", text(part(source, "configMapRef"), "name")
                yield "secrets", text(part(source, "secretRef"), "name")
            for variable in parts(container, "env"):
                origin = part(variable, "valueFrom")
                yield "configmaps", text(part(origin, "configMapKeyRef"), "name")
                yield "secrets", text(part(origin, "secretKeyRef"), "name")


def _of_volumes(spec: Object, pod: str) -> Iterator[tuple[str, str]]:
    for volume in parts(spec, "volumes"):
        yield "configmaps", text(part(volume, "configMap"), "name")
        yield "secrets", text(part(volume, "secret"), "secretName")
        yield "secrets", text(part(part(volume, "csi"), "nodePublishSecretRef"), "name")
        yield CLAIMS.plural, text(part(volume, "persistentVolumeClaim"), "claimName")
        if "ephemeral" in volume:
            yield CLAIMS.plural, f"{pod}-{text(volume, 'name')}"
        for source in parts(part(volume, "projected"), "sources"):
            yield "configmaps", text(part(source, "configMap"), "name")
            yield "secrets", text(part(source, "secret"), "name")
        for driver in _VOLUME_SECRETS:
            yield "secrets", _driver_secret(part(volume, driver))


def _driver_secret(source: Object) -> str:
    return text(part(source, "secretRef"), "name") or text(source, "secretName")


def _volume_secrets(volume: Object) -> Iterator[Ref]:
    """The secrets that a PersistentVolume needs on its node; without a namespace of their own they stand in the claim's."""
    spec = part(volume, "spec")
    claimed = text(part(spec, "claimRef"), "namespace")
    for field in _CSI_SECRETS:
        secret = part(part(spec, "csi"), field)
        yield "secrets", text(secret, "namespace") or claimed, text(secret, "name")
    for driver in _VOLUME_SECRETS:
        source = part(spec, driver)
        named = text(part(source, "secretRef"), "namespace") or text(source, "secretNamespace") or claimed
        yield "secrets", named, _driver_secret(source)
