"""NodeUnschedulable: cordoned nodes take only pods that tolerate the unschedulable taint."""

from __future__ import annotations

import numpy as np

from jota.scheduler.plugins.taint_toleration import tolerates
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot, Taint

_TAINT = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable:
    name = "NodeUnschedulable"
    static = True

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if tolerates(shape.tolerations, _TAINT):
            return None
        return np.fromiter((n is not None and not n.spec.unschedulable for n in nodes.facts), np.bool_, nodes.size)

    def reasons(self, nodes: Snapshot, shape: Shape, slot: int) -> list[str]:
        return ["node(s) were unschedulable"]
