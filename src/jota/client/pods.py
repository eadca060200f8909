"""A pod as the components of a process read it: one view for controllers, scheduler and garbage collector, kept once.

What pods of one template have in common is shared between them (podreading.py): never change a pod. Next: controllers/views.py
and scheduler/pod.py, which say what they make of it.
"""

from __future__ import annotations

from sys import intern
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from jota.aio.clock import parse_rfc3339
from jota.client.podparts import Condition, ObjectMeta, PodSpec, PodStatus
from jota.client.podreading import (
    decode_metadata,
    decode_pod,
    decode_rest,
    metadata_of,
    renamed,
    resizing,
    spec_of,
    status_from,
    status_of,
)
from jota.client.reader import key_of
from jota.meta.change import Change

ENDED = ("Succeeded", "Failed")
"""Phases of pods that run no more."""
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PLACED, TEMPLATE, LABELS, OWNERS, DELETION, FINISHED, CONDITIONS, ADDRESSES, CLAIM_NAMES = (
    1 << n for n in range(3, 12)
)
"""What a change of a pod was about (`Pod.changes`): its node; its spec but for the node, or what it has of it; labels; owners;
deletionTimestamp; whether it has ended; conditions; IPs; status.resourceClaimStatuses."""


class Pod(msgspec.Struct, gc=False):
    """Labels, owners, conditions and the spec but for its node are shared with the pods that are alike: never change them."""

    metadata: ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @classmethod
    def from_json(cls, data: bytes) -> Pod:
        """Raises msgspec.DecodeError, ValidationError."""
        raw = decode_pod(data)
        status = resizing(status_of(raw.status), raw.status, raw.metadata, data)
        return cls(metadata_of(raw.metadata, raw.metadata.resourceVersion), spec_of(raw.spec), status)

    @classmethod
    def from_parts(cls, metadata: bytes, rest: bytes, version: str) -> Pod:
        """The same from what meta/watchevent.py calls parts. Raises msgspec.DecodeError, ValidationError."""
        raw, meta = decode_rest(rest), decode_metadata(metadata)
        status = resizing(status_of(raw.status), raw.status, meta, rest)
        return cls(metadata_of(meta, version), spec_of(raw.spec), status)

    @classmethod
    def changed(cls, pod: Pod, change: Change, version: str) -> Pod:
        """What became of a pod, or another pod of its kind. Raises msgspec.DecodeError, ValidationError."""
        meta = replace(pod.metadata, resourceVersion=version, **change.metadata)
        spec, status = pod.spec, pod.status
        if change.names:
            spec = renamed(spec, change.names)
        if change.node:
            spec = replace(spec, nodeName=intern(change.node))
        if change.status:
            status = status_from(change.status, meta)
        return cls(meta, spec, status)

    @staticmethod
    def own_names(pod: Pod) -> list[bytes]:
        """As kinds/core/pod has them: of its claims, and its hostname."""
        spec = pod.spec
        claims = [v.persistentVolumeClaim.claimName for v in spec.volumes or () if v.persistentVolumeClaim is not None]
        return [name.encode() for name in ([*claims, spec.hostname] if spec.hostname else claims)]

    @staticmethod
    def changes(old: Pod, new: Pod) -> int:
        """What differs, in the bits above (client/cache.py). What is shared is the same object as long as it is equal; the
        bits may say too much, never too little."""
        bits = 0
        had, has = old.spec, new.spec
        if had.nodeName != has.nodeName:
            bits |= PLACED
        if had.containers is not has.containers or old.status.resized is not new.status.resized:
            bits |= TEMPLATE
        was, meta = old.metadata, new.metadata
        if was.labels is not meta.labels:
            bits |= LABELS
        if was.ownerReferences is not meta.ownerReferences:
            bits |= OWNERS
        if was.deletionTimestamp != meta.deletionTimestamp:
            bits |= DELETION
        before, now = old.status, new.status
        if before.phase != now.phase and (before.phase in ENDED) != (now.phase in ENDED):
            bits |= FINISHED
        if before.conditions is not now.conditions:
            bits |= CONDITIONS
        if before.podIP != now.podIP or before.podIPs != now.podIPs:
            bits |= ADDRESSES
        if before.resourceClaimStatuses != now.resourceClaimStatuses:
            bits |= CLAIM_NAMES
        return bits

    KIN: ClassVar[int] = TEMPLATE | LABELS | OWNERS

    @staticmethod
    def kin(pod: Pod) -> tuple[int, int, int, str]:
        """Akin are pods of one namespace with the same labels, owners and spec but for the node and names of their own."""
        meta = pod.metadata
        return id(pod.spec.containers), id(meta.labels), id(meta.ownerReferences), meta.namespace

    @property
    def key(self) -> str:
        return self.metadata.key

    @property
    def terminating(self) -> bool:
        return self.metadata.deletionTimestamp is not None

    @property
    def finished(self) -> bool:
        return self.status.phase in ENDED

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
