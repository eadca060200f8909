"""NodeResourcesBalancedAllocation: prefer nodes whose resources would be used in like proportion.

The score falls with the standard deviation of what would be requested of each resource (upstream's formula): containers that
request nothing count as nothing here, and a resource that a node does not have has no say there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class BalancedAllocation:
    name = "NodeResourcesBalancedAllocation"
    own = True

    def __init__(self, resources: Sequence[str] = ("cpu", "memory")) -> None:
        """`resources` of NodeResourcesBalancedAllocationArgs."""
        self._resources = tuple(resources)

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        if self._best_effort(shape):
            return None
        parts = [(self._fraction(nodes, shape, r), *nodes.inverse(r)) for r in self._resources]
        if len(parts) == 2 and all(everywhere for _, _, everywhere in parts):
            # The standard deviation of two numbers is half their distance.
            spread = parts[0][0] - parts[1][0]
            np.abs(spread, out=spread)
            spread *= -BEST / 2
            spread += BEST
            return spread
        count = sum((inverse > 0).astype(np.float64) for _, inverse, _ in parts)
        many = np.maximum(count, 1.0)
        mean = sum(f for f, _, _ in parts) / many
        squares = sum(np.where(inverse > 0, f - mean, 0.0) ** 2 for f, inverse, _ in parts)
        deviation: Column = np.sqrt(squares / many)
        return (1.0 - deviation) * BEST

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        if self._best_effort(shape):
            return 0.0
        fractions = []
        for resource in self._resources:
            capacity = nodes.allocatable_at(resource, slot)
            if capacity > 0:
                used = nodes.used_at(resource, slot) + shape.requests.get(resource, 0.0)
                fractions.append(min(1.0, used / capacity))
        if len(fractions) == 2:
            return BEST - abs(fractions[0] - fractions[1]) * (BEST / 2)
        mean = sum(fractions) / max(1, len(fractions))
        squares = sum((f - mean) ** 2 for f in fractions)
        return (1.0 - math.sqrt(squares / max(1, len(fractions)))) * BEST

    def _best_effort(self, shape: Shape) -> bool:
        """A pod that requests nothing leaves the proportions as they are."""
        return not any(r in shape.requests for r in self._resources)

    def _fraction(self, nodes: Snapshot, shape: Shape, resource: str) -> Column:
        """0 where the node has none of it."""
        used = nodes.used(resource) + shape.requests.get(resource, 0.0)
        used *= nodes.inverse(resource)[0]
        np.minimum(used, 1.0, out=used)
        return used
