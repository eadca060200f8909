"""NodeVolumeLimits: how many volumes of a CSI driver a node can attach, from its CSINode."""

from __future__ import annotations

from collections import Counter

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class NodeVolumeLimits:
    name = "NodeVolumeLimits"
    static = False

    def __init__(self) -> None:
        self._limits: dict[str, Column | None] = {}
        """Driver -> limit per slot, infinite where the node states none; None: no node does."""
        self._known = (-1, -1)

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if not shape.volumes.claims or not nodes.storage.limits:
            return None
        namespace, passed = shape.group.namespace, None
        drivers = _drivers(nodes, shape)
        for driver, new in Counter(drivers.values()).items():
            limit = self._limit(nodes, driver)
            if limit is None:
                continue
            attached = nodes.attached.volumes(driver)
            fits: Mask = attached[: nodes.size] + new <= limit
            for slot, shared in self._there(nodes, namespace, [n for n, d in drivers.items() if d == driver]).items():
                fits[slot] = shared == new or attached[slot] + new - shared <= limit[slot]
            passed = fits if passed is None else passed & fits
        return passed

    def room_at(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        wanted: dict[str, int] = {}
        for name, driver in _drivers(nodes, shape).items():
            there = slot in nodes.claims.get((shape.group.namespace, name), ())
            if not there:  # those that are take no further place
                wanted[driver] = wanted.get(driver, 0) + 1
        for driver, new in wanted.items():
            limit = self._limit(nodes, driver)
            if limit is not None and nodes.attached.volumes(driver)[slot] + new > limit[slot]:
                return False
        return True

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return bool(shape.volumes.claims and nodes.storage.limits)

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) exceed max volume count": int(refused.sum())}

    def _there(self, nodes: Snapshot, namespace: str, claims: list[str]) -> Counter[int]:
        """Slot -> how many of these claims pods use there already: they take no further place."""
        return Counter(slot for name in claims for slot in nodes.claims.get((namespace, name), ()))

    def _limit(self, nodes: Snapshot, driver: str) -> Column | None:
        now = nodes.generation, nodes.storage.limits_version
        if self._known != now:
            self._known = now
            self._limits.clear()
        if driver in self._limits:
            return self._limits[driver]
        limit = np.full(nodes.size, np.inf)
        for node, limits in nodes.storage.limits.items():
            if driver in limits and node in nodes.slots:
                limit[nodes.slots[node]] = limits[driver]
        found = self._limits[driver] = limit if len(limit) and limit.min() < np.inf else None
        return found


def _drivers(nodes: Snapshot, shape: Shape) -> dict[str, str]:
    """Of the pod's claims, as far as they are known."""
    namespace, driver_of = shape.group.namespace, nodes.storage.driver_of
    return {name: driver for name in set(shape.volumes.claims) if (driver := driver_of(namespace, name))}
