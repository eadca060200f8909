"""A pod's JSON cut into parts, of which those that pods of one template have in common are decoded once and shared.

In: bytes of a pod, or of what meta/watchevent.py calls its parts. Out: podparts.py. What is shared must never be changed. Next:
pods.py, which puts the parts together.
"""

from __future__ import annotations

from copy import copy
from sys import intern

import msgspec
from msgspec.structs import replace

from jota.client.podparts import (
    ClaimName,
    ClaimSource,
    Condition,
    ContainerStatus,
    ObjectMeta,
    OwnerReference,
    PodIP,
    PodResized,
    PodSpec,
    PodStatus,
)
from jota.client.sharing import MOST, NOTHING, Shared, SharedSpecs


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
    observedGeneration: int = 0


class _Resizing(msgspec.Struct, gc=False):
    status: PodResized


class _RawRest(msgspec.Struct, gc=False):
    spec: msgspec.Raw = NOTHING
    status: _RawStatus = msgspec.field(default_factory=_RawStatus)


class _RawPod(_RawRest, gc=False, kw_only=True):
    metadata: _RawMeta


decode_pod = msgspec.json.Decoder(_RawPod).decode
decode_metadata = msgspec.json.Decoder(_RawMeta).decode
decode_rest = msgspec.json.Decoder(_RawRest).decode
_decode_status = msgspec.json.Decoder(_RawStatus).decode
_decode_resizing = msgspec.json.Decoder(_Resizing).decode
_labels = Shared[dict[str, str] | None](dict[str, str] | None)
_owners = Shared[list[OwnerReference] | None](list[OwnerReference] | None)
_conditions = Shared[list[Condition] | None](list[Condition] | None)
_spec_of = SharedSpecs[PodSpec](PodSpec).of_pod
_waiting: dict[tuple[str, str, int], PodStatus] = {}
"""Phase, start time and identity of the conditions (which the status keeps) -> the status of pods with nothing else."""
_placed: dict[bytes, PodStatus] = {}
"""The same by its bytes: those of pods that were bound by one request are one object."""


def metadata_of(raw: _RawMeta, version: str) -> ObjectMeta:
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


def spec_of(raw: msgspec.Raw) -> PodSpec:
    return PodSpec() if raw is NOTHING else _spec_of(bytes(raw))


def renamed(spec: PodSpec, names: list[bytes]) -> PodSpec:
    """The spec with these names of its own (`Pod.own_names`). What it shares with others but for its volumes stays shared."""
    left = iter([name.decode() for name in names])
    volumes = spec.volumes and [
        v if v.persistentVolumeClaim is None else replace(v, persistentVolumeClaim=ClaimSource(next(left)))
        for v in spec.volumes
    ]
    return replace(spec, volumes=volumes, hostname=next(left, ""))


def status_of(raw: _RawStatus) -> PodStatus:
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


def status_from(data: bytes, meta: ObjectMeta) -> PodStatus:
    """The status of a pod with this metadata. Raises msgspec.DecodeError, ValidationError."""
    found = _placed.get(data)
    if found is not None:
        return found
    raw = _decode_status(data)
    found = resizing(status_of(raw), raw, meta, b'{"status":%b}' % data)
    if raw.containerStatuses is None and raw.podIP is None:
        if len(_placed) >= MOST:
            _placed.clear()
        _placed[data] = found
    return found


def resizing(status: PodStatus, raw: _RawStatus, meta: _RawMeta | ObjectMeta, data: bytes) -> PodStatus:
    """The status with what the pod's containers have, read anew from `data`, where that may not be what the spec asks for: the
    node has not seen the spec, or says that it has not come so far. Rare, so that others pay for no more than this look."""
    # a deletion is a generation of its own, and asks for nothing else
    behind = 0 < raw.observedGeneration < meta.generation - (meta.deletionTimestamp is not None)
    if raw.containerStatuses is None or not (behind or _CONDITION in bytes(raw.conditions)):
        return status
    found = copy(status)
    found.resized = _decode_resizing(data).status
    return found


_CONDITION = b'"PodResize'
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
