"""VolumeBinding: a pod goes where its claims' volumes are, can be bound, or can be made.

A bound claim ties the pod to the nodes that its volume's affinity allows. A claim that waits for its first consumer may
take a free volume or have one made; what was chosen is carried out before the pod is bound (binding.py).
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from jota.scheduler.nodeselector import selector_mask, term_mask
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot
from jota.scheduler.storage import NO_PROVISIONER, Claim, Storage, Volume

_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
_NOTHING = "node(s) didn't find available persistent volumes to bind"
_LOST = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"

_FEW, _MOST_KEPT = 8, 50_000


class VolumeBinding:
    name = "VolumeBinding"
    static = False

    def __init__(self) -> None:
        self._reached: OrderedDict[str, tuple[int, Volume, tuple[int, ...]]] = OrderedDict()

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        masks = [m for _, m in self._judged(nodes, shape) if m is not None]
        if not masks:
            return None
        return masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        claims = (nodes.storage.claims.get((shape.group.namespace, name)) for name in shape.volumes.claims)
        return any(claim is None or not claim.spec.volumeName for claim in claims)

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Each node by the first claim that keeps it out."""
        found: dict[str, int] = {}
        left = refused.copy()
        for reason, mask in self._judged(nodes, shape):
            if mask is not None and (count := int((left & ~mask).sum())):
                found[reason] = found.get(reason, 0) + count
                left &= mask
        return found

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where the pod is refused: no pod's going makes a volume."""
        mask = self.mask(nodes, shape)
        return None if mask is None else ~mask

    def _judged(self, nodes: Snapshot, shape: Shape) -> list[tuple[str, Mask | None]]:
        """(reason, mask) per claim."""
        storage, namespace = nodes.storage, shape.group.namespace
        return [self._judge(nodes, storage, storage.claims.get((namespace, n)), n) for n in shape.volumes.claims]

    def _judge(self, nodes: Snapshot, storage: Storage, claim: Claim | None, name: str) -> tuple[str, Mask | None]:
        nowhere = np.zeros(nodes.size, np.bool_)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found', nowhere
        if claim.metadata.deletionTimestamp is not None:
            return f'persistentvolumeclaim "{name}" is being deleted', nowhere
        if claim.spec.volumeName:
            volume = storage.volumes.get(claim.spec.volumeName)
            return (_LOST, nowhere) if volume is None else (_CONFLICT, reachable(nodes, volume))
        if not storage.waits(claim):
            return _IMMEDIATE, nowhere
        chosen = storage.selected_node(claim)
        if chosen:
            nowhere[[nodes.slots[chosen]] if chosen in nodes.slots else []] = True
            return _NOTHING, nowhere
        return _NOTHING, self._bindable(nodes, storage, claim)

    def _bindable(self, nodes: Snapshot, storage: Storage, claim: Claim) -> Mask | None:
        made = provisionable(nodes, storage, claim)
        if made is not None and made.all():
            return None
        out = np.zeros(nodes.size, np.bool_) if made is None else made
        few: list[int] = []
        for volume in storage.candidates(claim):
            where = self._reach(nodes, volume)
            if where is None:
                return None
            if isinstance(where, tuple):
                few += where
            else:
                out |= where
        out[few] = True
        return out

    def _reach(self, nodes: Snapshot, volume: Volume) -> Mask | tuple[int, ...] | None:
        """As `reachable`, kept until a node changes; as slots when they are few (a local volume has one)."""
        known = self._reached.get(volume.metadata.name)
        if known is not None and known[0] == nodes.generation and known[1] is volume:
            return known[2]
        where: Mask | tuple[int, ...] | None = reachable(nodes, volume)
        if where is not None and np.count_nonzero(where) <= _FEW:
            where = tuple(np.flatnonzero(where).tolist())
            self._reached[volume.metadata.name] = (nodes.generation, volume, where)
            if len(self._reached) > _MOST_KEPT:
                self._reached.popitem(last=False)
        return where


def provisionable(nodes: Snapshot, storage: Storage, claim: Claim) -> Mask | None:
    """Where the claim's class can make a volume; None: nowhere."""
    found = storage.class_of(claim)
    if found is None or found.provisioner in ("", NO_PROVISIONER):
        return None
    if not found.allowedTopologies:
        return np.ones(nodes.size, np.bool_)
    allowed = np.zeros(nodes.size, np.bool_)
    for topology in found.allowedTopologies:
        expressions = [
            {"key": e["key"], "operator": "In", "values": e.get("values") or []}
            for e in topology.get("matchLabelExpressions") or ()
        ]
        allowed |= term_mask(nodes, {"matchExpressions": expressions})
    return allowed


def reachable(nodes: Snapshot, volume: Volume) -> Mask | None:
    """The nodes that the volume's node affinity allows; None: all."""
    required = (volume.spec.nodeAffinity or {}).get("required")
    if not required:
        return None
    return selector_mask(nodes, required)
