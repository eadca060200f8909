"""The obviously correct scheduler: plain loops, one pod at a time, one node at a time. The vectorised one must agree."""

from __future__ import annotations

from jota.meta.quantity import milli, value
from jota.scheduler.pod import Shape, Toleration
from jota.scheduler.snapshot import Node, Taint


def amount(name: str, quantity: object) -> float:
    return float(milli(str(quantity)) if name == "cpu" else value(str(quantity)))


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    for t in tolerations:
        same_effect = t.effect in ("", taint.effect)
        same_key = t.key in ("", taint.key)
        same_value = t.operator == "Exists" or (t.key != "" and t.value == taint.value)
        if same_effect and same_key and same_value:
            return True
    return False


class NaiveNode:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.pods: list[Shape] = []
        self.capacity = {k: amount(k, v) for k, v in (node.status.allocatable or {}).items()}

    def used(self, resource: str) -> float:
        return sum(p.requests.get(resource, 0.0) for p in self.pods)

    def refusals(self, shape: Shape) -> list[str]:
        node = self.node
        tolerated = shape.tolerations
        if node.spec.unschedulable and not tolerates(tolerated, Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")):
            return ["unschedulable"]
        for taint in node.spec.taints or ():
            if taint.effect != "PreferNoSchedule" and not tolerates(tolerated, taint):
                return ["taint"]
        labels = node.metadata.labels or {}
        if any(labels.get(k) != v for k, v in shape.selector):
            return ["selector"]
        for protocol, address, port in shape.host_ports:
            for other in self.pods:
                for p2, a2, n2 in other.host_ports:
                    if protocol == p2 and port == n2 and (address == a2 or "0.0.0.0" in (address, a2)):
                        return ["ports"]
        return [r for r, a in shape.requests.items() if self.used(r) + a > self.capacity.get(r, 0.0)]

    def score(self, shape: Shape) -> float:
        cpu, memory = self.capacity.get("cpu", 0.0), self.capacity.get("memory", 0.0)
        used_cpu = sum(p.score_cpu for p in self.pods) + shape.score_cpu
        used_memory = sum(p.score_memory for p in self.pods) + shape.score_memory
        left = [min(1.0, max(0.0, 1 - u / c)) if c else 0.0 for u, c in ((used_cpu, cpu), (used_memory, memory))]
        share = [min(1.0, u / c) if c else 1.0 for u, c in ((used_cpu, cpu), (used_memory, memory))]
        return 50 * sum(left) + 100 - 50 * abs(share[0] - share[1])
