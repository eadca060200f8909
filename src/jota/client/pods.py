"""A pod as the components of a process read it: one view for controllers, scheduler and garbage collector, kept once.

Msgspec Structs: a fifth of the memory of plain dicts, and typed. Fields keep the API's names; a field that is left out has the
default of the API, or None. What pods of one template have in common is shared between them (sharing.py): never change a
pod. Next: controllers/views.py and scheduler/pod.py, which say what they make of it.
"""

from __future__ import annotations

from sys import intern
from typing import Any

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.client.reader import key_of
from jota.client.sharing import MOST, NOTHING, Shared, SharedSpecs

DEFAULT_SCHEDULER = "default-scheduler"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PLACED, TEMPLATE, LABELS, OWNERS, DELETION, PHASE, CONDITIONS, ADDRESSES = (1 << n for n in range(2, 10))
"""What a change of a pod was about (`Pod.changes`): its node; its spec but for the node; labels; owners; deletionTimestamp;
status.phase, conditions, IPs."""


class OwnerReference(msgspec.Struct, gc=False):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
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


class Toleration(msgspec.Struct, gc=False, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    tolerationSeconds: int | None = None


class Port(msgspec.Struct, gc=False):
    hostPort: int = 0
    hostIP: str = ""
    protocol: str = "TCP"
    containerPort: int = 0
    name: str = ""


class Requests(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None


class Container(msgspec.Struct, gc=False):
    resources: Requests | None = None
    ports: list[Port] | None = None
    restartPolicy: str = ""
    image: str = ""
    name: str = ""


class Gate(msgspec.Struct, gc=False):
    name: str = ""


class ClaimSource(msgspec.Struct, gc=False):
    claimName: str = ""


class Volume(msgspec.Struct, gc=False):
    name: str = ""
    persistentVolumeClaim: ClaimSource | None = None
    ephemeral: dict[str, Any] | None = None
    gcePersistentDisk: dict[str, Any] | None = None
    awsElasticBlockStore: dict[str, Any] | None = None
    iscsi: dict[str, Any] | None = None
    rbd: dict[str, Any] | None = None


class PodClaim(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None
    resourceClaimTemplateName: str | None = None


class ClaimName(msgspec.Struct, gc=False):
    name: str
    resourceClaimName: str | None = None


class SchedulingGroup(msgspec.Struct, gc=False):
    podGroupName: str = ""


class PodSpec(msgspec.Struct, gc=False):
    containers: list[Container] = []
    initContainers: list[Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    nodeName: str = ""
    nodeSelector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] | None = None
    topologySpreadConstraints: list[dict[str, Any]] | None = None
    schedulerName: str = DEFAULT_SCHEDULER
    schedulingGates: list[Gate] | None = None
    priority: int = 0
    preemptionPolicy: str = "PreemptLowerPriority"
    volumes: list[Volume] | None = None
    resourceClaims: list[PodClaim] | None = None
    schedulingGroup: SchedulingGroup | None = None
    hostname: str = ""
    subdomain: str = ""


class Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str = ""
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
    startTime: str = ""
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: list[Condition] | None = None
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    resourceClaimStatuses: list[ClaimName] | None = None
    nominatedNodeName: str = ""


class Pod(msgspec.Struct, gc=False):
    """Labels, owners, conditions and the spec but for its node are shared with the pods that are alike: never change them."""

    metadata: ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @classmethod
    def from_json(cls, data: bytes) -> Pod:
        """Raises msgspec.DecodeError, ValidationError."""
        raw = _decode_pod(data)
        return cls(_metadata(raw.metadata, raw.metadata.resourceVersion), _spec(raw.spec), _status(raw.status))

    @classmethod
    def from_parts(cls, metadata: bytes, rest: bytes, version: str) -> Pod:
        """The same from what meta/watchevent.py calls parts. Raises msgspec.DecodeError, ValidationError."""
        raw = _decode_rest(rest)
        return cls(_metadata(_decode_metadata(metadata), version), _spec(raw.spec), _status(raw.status))

    @staticmethod
    def changes(old: Pod, new: Pod) -> int:
        """What differs, in the bits above (client/cache.py). What is shared is the same object as long as it is equal; the
        bits may say too much, never too little."""
        bits = 0
        had, has = old.spec, new.spec
        if had.nodeName != has.nodeName:
            bits |= PLACED
        if had.containers is not has.containers:
            bits |= TEMPLATE
        was, meta = old.metadata, new.metadata
        if was.labels is not meta.labels:
            bits |= LABELS
        if was.ownerReferences is not meta.ownerReferences:
            bits |= OWNERS
        if was.deletionTimestamp != meta.deletionTimestamp:
            bits |= DELETION
        before, now = old.status, new.status
        if before.phase != now.phase:
            bits |= PHASE
        if before.conditions is not now.conditions:
            bits |= CONDITIONS
        if before.podIP != now.podIP or before.podIPs != now.podIPs:
            bits |= ADDRESSES
        return bits

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
        if not self.spec.volumes:
            return []
        names = []
        for volume in self.spec.volumes:
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
        required = ((self.spec.affinity or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
        for term in required.get("nodeSelectorTerms") or ():
            for field in term.get("matchFields") or ():
                named = field.get("values") or []
                if (field.get("key"), field.get("operator")) == ("metadata.name", "In") and len(named) == 1:
                    return str(named[0])
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
    startTime: str = ""
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: msgspec.Raw = NOTHING
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    resourceClaimStatuses: list[ClaimName] | None = None
    nominatedNodeName: str = ""


class _RawRest(msgspec.Struct, gc=False):
    spec: msgspec.Raw = NOTHING
    status: _RawStatus = msgspec.field(default_factory=_RawStatus)


class _RawPod(_RawRest, gc=False, kw_only=True):
    metadata: _RawMeta


_decode_pod = msgspec.json.Decoder(_RawPod).decode
_decode_metadata = msgspec.json.Decoder(_RawMeta).decode
_decode_rest = msgspec.json.Decoder(_RawRest).decode
_labels = Shared[dict[str, str] | None](dict[str, str] | None)
_owners = Shared[list[OwnerReference] | None](list[OwnerReference] | None)
_conditions = Shared[list[Condition] | None](list[Condition] | None)
_spec_of = SharedSpecs[PodSpec](PodSpec).of_pod
_waiting: dict[tuple[str, str, int], PodStatus] = {}
"""Phase, start time and identity of the conditions (which the status keeps) -> the status of pods with nothing else."""


def _metadata(raw: _RawMeta, version: str) -> ObjectMeta:
    return ObjectMeta(
        raw.name,
        intern(raw.namespace),
        raw.uid,
        version,
        raw.generation,
        raw.creationTimestamp and intern(raw.creationTimestamp),
        raw.deletionTimestamp,
        _labels(raw.labels),
        raw.annotations,
        _owners(raw.ownerReferences),
        raw.finalizers,
    )


def _spec(raw: msgspec.Raw) -> PodSpec:
    return PodSpec() if raw is NOTHING else _spec_of(bytes(raw))


def _status(raw: _RawStatus) -> PodStatus:
    """Pods that wait for a place, or for their node, have the same status."""
    conditions = _conditions(raw.conditions)
    if (
        raw.podIP,
        raw.podIPs,
        raw.containerStatuses,
        raw.initContainerStatuses,
        raw.resourceClaimStatuses,
    ) == _NONE_YET and not raw.nominatedNodeName:
        alike = raw.phase, raw.startTime, id(conditions)
        found = _waiting.get(alike)
        if found is None:
            if len(_waiting) >= MOST:
                _waiting.clear()
            found = _waiting[alike] = PodStatus(raw.phase, raw.startTime, conditions=conditions)
        return found
    return PodStatus(
        intern(raw.phase),
        intern(raw.startTime),
        raw.podIP,
        raw.podIPs,
        conditions,
        _quiet(raw.containerStatuses),
        _quiet(raw.initContainerStatuses),
        raw.resourceClaimStatuses,
        raw.nominatedNodeName,
    )


_NONE_YET = (None,) * 5
_uneventful: dict[tuple[tuple[str, bool], ...], list[ContainerStatus]] = {}


def _quiet(found: list[ContainerStatus] | None) -> list[ContainerStatus] | None:
    """Statuses of containers to which nothing has happened yet are the same for all pods of a template."""
    if not found or any(s.restartCount or (s.state is not None and s.state.terminated is not None) for s in found):
        return found
    alike = tuple((s.name, s.state is None) for s in found)
    if len(_uneventful) >= MOST:
        _uneventful.clear()
    return _uneventful.setdefault(alike, found)
