"""NodeVolumeLimits: how many volumes of a CSI driver a node can attach, from its CSINode."""

from __future__ import annotations

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot


class NodeVolumeLimits:
    name = "NodeVolumeLimits"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if not shape.volumes.claims or not nodes.storage.limits:
            return None
        namespace = shape.group.namespace
        wanted = {(driver, n) for n in shape.volumes.claims if (driver := self._driver(nodes, namespace, n))}
        if not wanted:
            return None
        passed = np.ones(nodes.size, np.bool_)
        for driver in {d for d, _ in wanted}:
            new = {n for d, n in wanted if d == driver}
            attached = self._attached(nodes, driver)
            for node, limits in nodes.storage.limits.items():
                slot = nodes.slots.get(node)
                if slot is not None and driver in limits:
                    here = attached.get(slot, set())
                    fresh = {(namespace, n) for n in new} - here
                    passed[slot] &= not fresh or len(here) + len(fresh) <= limits[driver]
        return passed

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) exceed max volume count": int(refused.sum())}

    def _attached(self, nodes: Snapshot, driver: str) -> dict[int, set[tuple[str, str]]]:
        """Slot -> claims whose volumes the driver has there."""
        found: dict[int, set[tuple[str, str]]] = {}
        for (namespace, name), users in nodes.claims.items():
            if self._driver(nodes, namespace, name) == driver:
                for slot in users:
                    found.setdefault(slot, set()).add((namespace, name))
        return found

    def _driver(self, nodes: Snapshot, namespace: str, name: str) -> str:
        """The CSI driver of a claim: its volume's, or the provisioner that will make one."""
        claim = nodes.storage.claims.get((namespace, name))
        if claim is None:
            return ""
        volume = nodes.storage.volumes.get(claim.spec.volumeName)
        if volume is not None:
            return volume.spec.csi.driver if volume.spec.csi else ""
        made = nodes.storage.class_of(claim)
        return made.provisioner if made is not None else ""
