"""NodeUnschedulable: cordoned nodes take only pods that tolerate the unschedulable taint."""

from __future__ import annotations

from jota.scheduler.plugins.taint_toleration import tolerates
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot, Taint

_TAINT = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable:
    name = "NodeUnschedulable"
    static = True

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        return None if tolerates(shape.tolerations, _TAINT) else ~nodes.cordoned

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        return not nodes.cordoned[slot] or tolerates(shape.tolerations, _TAINT)

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) were unschedulable": int(refused.sum())}
