"""What controllers read of a Pod, as msgspec Structs: a fifth of the memory of plain dicts, and typed.

All controllers of a process share one cache of these. Fields keep the API's names; null and absent are both None.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.client.informer import key_of
from jota.client.sharing import NOTHING, Shared, SharedSpecs


class OwnerReference(msgspec.Struct, gc=False):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None

    @property
    def group(self) -> str:
        return self.apiVersion.rpartition("/")[0]


class ObjectMeta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    ownerReferences: list[OwnerReference] | None = None
    finalizers: list[str] | None = None

    @property
    def key(self) -> str:
        return key_of(self.namespace, self.name)

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object."""
        for reference in self.ownerReferences or ():
            if reference.controller:
                return reference
        return None


class Partial(msgspec.Struct, gc=False):
    """Any object's metadata (PartialObjectMetadata)."""

    metadata: ObjectMeta
    apiVersion: str = ""
    kind: str = ""


class Toleration(msgspec.Struct, gc=False):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    tolerationSeconds: int | None = None


class Port(msgspec.Struct, gc=False):
    containerPort: int
    name: str | None = None
    protocol: str | None = None


class Requests(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None


class Container(msgspec.Struct, gc=False):
    name: str
    resources: Requests | None = None
    ports: list[Port] | None = None
    restartPolicy: str | None = None


class FieldExpression(msgspec.Struct, gc=False):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class NodeTerm(msgspec.Struct, gc=False):
    matchFields: list[FieldExpression] | None = None


class NodeTerms(msgspec.Struct, gc=False):
    nodeSelectorTerms: list[NodeTerm] | None = None


class NodeAffinity(msgspec.Struct, gc=False):
    requiredDuringSchedulingIgnoredDuringExecution: NodeTerms | None = None


class Affinity(msgspec.Struct, gc=False):
    nodeAffinity: NodeAffinity | None = None


class ClaimSource(msgspec.Struct, gc=False):
    claimName: str = ""


class Volume(msgspec.Struct, gc=False):
    name: str
    persistentVolumeClaim: ClaimSource | None = None
    ephemeral: dict[str, object] | None = None


class PodClaim(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None
    resourceClaimTemplateName: str | None = None


class ClaimName(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None


class PodSpec(msgspec.Struct, gc=False):
    containers: list[Container] = []
    initContainers: list[Container] | None = None
    nodeName: str | None = None
    hostname: str | None = None
    subdomain: str | None = None
    affinity: Affinity | None = None
    volumes: list[Volume] | None = None
    tolerations: list[Toleration] | None = None
    resourceClaims: list[PodClaim] | None = None


class Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    lastTransitionTime: str | None = None


class PodIP(msgspec.Struct, gc=False):
    ip: str = ""


class Terminated(msgspec.Struct, gc=False):
    exitCode: int = 0
    finishedAt: str | None = None


class ContainerState(msgspec.Struct, gc=False):
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, gc=False):
    name: str = ""
    restartCount: int = 0
    state: ContainerState | None = None


class PodStatus(msgspec.Struct, gc=False):
    phase: str = ""
    startTime: str | None = None
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: list[Condition] | None = None
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    resourceClaimStatuses: list[ClaimName] | None = None


class Pod(msgspec.Struct, gc=False):
    """Labels, owners, conditions and the spec but for its node are shared with the pods that are alike: never change them."""

    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @classmethod
    def from_json(cls, data: bytes) -> Pod:
        """Raises msgspec.DecodeError, ValidationError."""
        raw = _decode_pod(data)
        meta, status = raw.metadata, raw.status
        metadata = ObjectMeta(
            meta.name,
            meta.namespace,
            meta.uid,
            meta.resourceVersion,
            meta.generation,
            meta.creationTimestamp,
            meta.deletionTimestamp,
            _labels(meta.labels),
            meta.annotations,
            _owners(meta.ownerReferences),
            meta.finalizers,
        )
        return cls(
            metadata,
            _spec_of(bytes(raw.spec)),
            PodStatus(
                status.phase,
                status.startTime,
                status.podIP,
                status.podIPs,
                _conditions(status.conditions),
                status.containerStatuses,
                status.initContainerStatuses,
                status.resourceClaimStatuses,
            ),
        )

    @property
    def key(self) -> str:
        return self.metadata.key

    @property
    def terminating(self) -> bool:
        return self.metadata.deletionTimestamp is not None

    @property
    def finished(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def active(self) -> bool:
        """Neither finished nor being deleted: it counts as a replica."""
        return not self.finished and not self.terminating

    @property
    def ready_condition(self) -> Condition | None:
        for condition in self.status.conditions or ():
            if condition.type == "Ready":
                return condition
        return None

    @property
    def ready(self) -> bool:
        condition = self.ready_condition
        return condition is not None and condition.status == "True"

    @property
    def ready_since(self) -> float:
        """Epoch seconds of the last transition to ready; 0 when not ready or unknown."""
        condition = self.ready_condition
        if condition is None or condition.status != "True" or not condition.lastTransitionTime:
            return 0.0
        return parse_rfc3339(condition.lastTransitionTime)

    @property
    def created(self) -> float:
        return parse_rfc3339(self.metadata.creationTimestamp) if self.metadata.creationTimestamp else 0.0

    @property
    def restarts(self) -> int:
        """The most restarts of any of its containers."""
        return max((s.restartCount for s in self.status.containerStatuses or ()), default=0)

    @property
    def ips(self) -> list[str]:
        found = [p.ip for p in self.status.podIPs or () if p.ip]
        return found or ([self.status.podIP] if self.status.podIP else [])

    @property
    def claims(self) -> list[str]:
        """Keys of the PersistentVolumeClaims that it uses, those of its ephemeral volumes too."""
        names = []
        for volume in self.spec.volumes or ():
            if volume.persistentVolumeClaim is not None:
                names.append(volume.persistentVolumeClaim.claimName)
            elif volume.ephemeral is not None:
                names.append(f"{self.metadata.name}-{volume.name}")
        return [key_of(self.metadata.namespace, name) for name in names]

    @property
    def target(self) -> str:
        """The node that it runs on or, not bound yet, is made for by a required affinity to one metadata.name; or ""."""
        if self.spec.nodeName:
            return self.spec.nodeName
        affinity = self.spec.affinity.nodeAffinity if self.spec.affinity is not None else None
        required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
        for term in (required.nodeSelectorTerms if required is not None else None) or ():
            for field in term.matchFields or ():
                if (field.key, field.operator) == ("metadata.name", "In") and len(field.values or ()) == 1:
                    return (field.values or [""])[0]
        return ""

    def reference(self) -> dict[str, str]:
        """Its ObjectReference, for events and target references."""
        meta = self.metadata
        return {
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "apiVersion": "v1",
            "resourceVersion": meta.resourceVersion,
        }


def are_ready(pods: Iterable[Pod]) -> list[Pod]:
    """Those that are ready. Pods that became so in one second share their conditions: one look for all of them."""
    known: dict[int, bool] = {}
    found = []
    for pod in pods:
        key = id(pod.status.conditions)
        ready = known.get(key)
        if ready is None:
            ready = known[key] = pod.ready
        if ready:
            found.append(pod)
    return found


class _RawMeta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: msgspec.Raw = NOTHING
    annotations: dict[str, str] | None = None
    ownerReferences: msgspec.Raw = NOTHING
    finalizers: list[str] | None = None


class _RawStatus(msgspec.Struct, gc=False):
    phase: str = ""
    startTime: str | None = None
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: msgspec.Raw = NOTHING
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    resourceClaimStatuses: list[ClaimName] | None = None


class _RawPod(msgspec.Struct, gc=False):
    metadata: _RawMeta
    spec: msgspec.Raw
    status: _RawStatus = msgspec.field(default_factory=_RawStatus)


_decode_pod = msgspec.json.Decoder(_RawPod).decode
_labels = Shared[dict[str, str] | None](dict[str, str] | None)
_owners = Shared[list[OwnerReference] | None](list[OwnerReference] | None)
_conditions = Shared[list[Condition] | None](list[Condition] | None)
_spec_of = SharedSpecs[PodSpec](PodSpec).of_pod


def owner_of(pod: Pod) -> tuple[str, str] | None:
    """(kind, group) of the object that manages a pod; None for an orphan."""
    owner = pod.metadata.controller
    return None if owner is None else (owner.kind, owner.group)


def mine_or_nobodys(kind: str, group: str = "") -> tuple[Callable[[Pod], Hashable], Iterable[Hashable]]:
    """The route of a controller of pods, for Controller.watch: those that a `kind` manages, and orphans to adopt."""
    return owner_of, ((kind, group), None)


def pod_key(pod: Pod) -> tuple[str]:
    return (pod.key,)


def controlled_by(kind: str, group: str = "") -> Callable[[Pod], Iterable[str]]:
    """Keys of a Pod's controlling owner when that is a `kind`, for Controller.watch."""

    def keys(pod: Pod) -> Iterable[str]:
        owner = pod.metadata.controller
        if owner is not None and owner.kind == kind and owner.group == group:
            return (key_of(pod.metadata.namespace, owner.name),)
        return ()

    return keys
