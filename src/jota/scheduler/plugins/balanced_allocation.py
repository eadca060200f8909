"""NodeResourcesBalancedAllocation: prefer nodes whose cpu and memory would be used in like proportion."""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class BalancedAllocation:
    name = "NodeResourcesBalancedAllocation"
    own = True

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        if _best_effort(shape):
            return None
        cpu = _fraction(nodes.used_cpu[: nodes.size] + shape.score_cpu, nodes.inverse("cpu"))
        memory = _fraction(nodes.used_memory[: nodes.size] + shape.score_memory, nodes.inverse("memory"))
        # The standard deviation of two numbers is half their distance.
        cpu -= memory
        np.abs(cpu, out=cpu)
        cpu *= -BEST / 2
        cpu += BEST
        return cpu

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        if _best_effort(shape):
            return 0.0
        cpu = _fraction_one(nodes.used_cpu.item(slot) + shape.score_cpu, nodes.allocatable_at("cpu", slot))
        memory = _fraction_one(nodes.used_memory.item(slot) + shape.score_memory, nodes.allocatable_at("memory", slot))
        return float(BEST - abs(cpu - memory) * (BEST / 2))


def _best_effort(shape: Shape) -> bool:
    """A pod that requests nothing leaves the proportions as they are."""
    return "cpu" not in shape.requests and "memory" not in shape.requests


def _fraction(used: Column, inverse: tuple[Column, bool]) -> Column:
    """A node without the resource counts as full."""
    used *= inverse[0]
    if not inverse[1]:
        used[inverse[0] == 0] = 1.0
    np.minimum(used, 1.0, out=used)
    return used


def _fraction_one(used: float, capacity: float) -> float:
    return min(1.0, used / capacity) if capacity > 0 else 1.0
