"""VolumeRestrictions: disks that one writer at a time may mount, and claims that one pod at a time may use."""

from __future__ import annotations

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot

_DISK = "node(s) had no available disk"
_CLAIM = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


class VolumeRestrictions:
    name = "VolumeRestrictions"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if self._taken(nodes, shape):
            return np.zeros(nodes.size, np.bool_)
        if not shape.volumes.exclusive:
            return None
        passed = np.ones(nodes.size, np.bool_)
        passed[[slot for slot, taken in nodes.disks.items() if _clash(shape, taken)]] = False
        return passed

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {_CLAIM if self._taken(nodes, shape) else _DISK: int(refused.sum())}

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return bool(shape.volumes.exclusive) or any(self._single(nodes, shape, name) for name in shape.volumes.claims)

    def _taken(self, nodes: Snapshot, shape: Shape) -> bool:
        namespace = shape.group.namespace
        return any(nodes.claims.get((namespace, n)) and self._single(nodes, shape, n) for n in shape.volumes.claims)

    def _single(self, nodes: Snapshot, shape: Shape, name: str) -> bool:
        claim = nodes.storage.claims.get((shape.group.namespace, name))
        return claim is not None and "ReadWriteOncePod" in (claim.spec.accessModes or ())


def _clash(shape: Shape, taken: dict[tuple[str, ...], int]) -> bool:
    """The same disk twice, unless both only read."""
    return any(
        disk[:2] == other[:2] and not (disk[2] == other[2] == "ro")
        for disk in shape.volumes.exclusive
        for other in taken
    )
