"""NodeResourcesFit: what a pod requests must be free on the node; and LeastAllocated, which prefers emptier nodes."""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class ResourcesFit:
    name = "NodeResourcesFit"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        passed = np.ones(nodes.size, np.bool_)
        for resource, amount in shape.requests.items():
            passed &= nodes.used(resource) + amount <= nodes.allocatable(resource)
        return passed

    def reasons(self, nodes: Snapshot, shape: Shape, slot: int) -> list[str]:
        short = [r for r, amount in shape.requests.items() if nodes.used(r)[slot] + amount > nodes.allocatable(r)[slot]]
        return ["Too many pods" if r == "pods" else f"Insufficient {r}" for r in short]


class LeastAllocated:
    """The mean of what is left of cpu and memory, in percent, were the pod placed there."""

    name = "NodeResourcesLeastAllocated"
    weight = 1.0

    def score(self, nodes: Snapshot, shape: Shape) -> Column | None:
        cpu, memory = nodes.allocatable("cpu"), nodes.allocatable("memory")
        left = _left(nodes.used_cpu[: nodes.size] + shape.score_cpu, cpu)
        left += _left(nodes.used_memory[: nodes.size] + shape.score_memory, memory)
        left *= BEST / 2
        return left

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float:
        cpu, memory = nodes.allocatable("cpu")[slot], nodes.allocatable("memory")[slot]
        left = _left_one(nodes.used_cpu[slot] + shape.score_cpu, cpu)
        left += _left_one(nodes.used_memory[slot] + shape.score_memory, memory)
        return float(left * (BEST / 2))


def _left(used: Column, capacity: Column) -> Column:
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = 1.0 - used / capacity
    fraction[~np.isfinite(fraction)] = 0.0
    np.clip(fraction, 0.0, 1.0, out=fraction)
    return fraction


def _left_one(used: float, capacity: float) -> float:
    return min(1.0, max(0.0, 1.0 - used / capacity)) if capacity > 0 else 0.0
