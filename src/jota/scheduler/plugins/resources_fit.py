"""NodeResourcesFit: what a pod requests must be free on the node; and its scoring strategies, which weigh what is free.

LeastAllocated prefers emptier nodes (spread), MostAllocated fuller ones (pack), RequestedToCapacityRatio follows a curve
of its own. Scores count cpu and memory of containers that request nothing with upstream's defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

Strategy = Literal["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"]
_PLAIN = {"cpu": 1.0, "memory": 1.0}


class ResourcesFit:
    name = "NodeResourcesFit"
    static = False

    def __init__(self, ignored: frozenset[str] = frozenset(), ignored_groups: frozenset[str] = frozenset()) -> None:
        """`ignoredResources` and `ignoredResourceGroups` of NodeResourcesFitArgs: extended resources that others manage."""
        self._ignored, self._groups = ignored, ignored_groups

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        passed: Mask | None = None
        for resource, amount in self.wanted(shape):
            fits = nodes.used(resource) + amount <= nodes.allocatable(resource)
            passed = fits if passed is None else passed & fits
        return passed

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        """The same for one node."""
        for resource, amount in self.wanted(shape):
            if nodes.used_at(resource, slot) + amount > nodes.allocatable_at(resource, slot):
                return False
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """One node may lack several things; each counts."""
        found: dict[str, int] = {}
        for resource, amount in self.wanted(shape):
            short = int((refused & (nodes.used(resource) + amount > nodes.allocatable(resource))).sum())
            if short:
                found["Too many pods" if resource == "pods" else f"Insufficient {resource}"] = short
        return found

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where the whole node would be too small."""
        small = np.zeros(nodes.size, np.bool_)
        for resource, amount in self.wanted(shape):
            small |= amount > nodes.allocatable(resource)
        return small

    def wanted(self, shape: Shape) -> Iterable[tuple[str, float]]:
        """(resource, amount) that must be free."""
        if not self._ignored and not self._groups:
            return shape.requests.items()
        return [
            (r, a)
            for r, a in shape.requests.items()
            if r not in self._ignored and ("/" not in r or r.partition("/")[0] not in self._groups)
        ]


class ResourceScore:
    """The weighted mean over the strategy's resources, as if the pod were placed there."""

    name = "NodeResourcesFit"
    own = True

    def __init__(
        self,
        strategy: Strategy = "LeastAllocated",
        resources: Mapping[str, float] | None = None,
        curve: Sequence[tuple[float, float]] = (),
    ) -> None:
        """`resources`: name -> weight. `curve`: (utilisation in percent, score 0 to 10) points, rising in utilisation."""
        self._strategy = strategy
        given = (resources or _PLAIN).items()
        self._plain = [(r, w) for r, w in given if r in _PLAIN]
        self._extended = [(r, w) for r, w in given if r not in _PLAIN]
        self._curve = [(x / 100, y * BEST / 10) for x, y in curve]

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        total, weights, partial = np.zeros(nodes.size), 0.0, np.zeros(0)
        for resource, weight in self._asked(shape):
            inverse, everywhere = nodes.inverse(resource)
            valued = self._valued(self._used(nodes, shape, resource) * inverse)
            valued *= weight
            weights += weight
            if not everywhere:  # nodes without the resource: it has no say there
                has = inverse > 0
                valued *= has
                partial = (partial if len(partial) else np.zeros(nodes.size)) + weight * ~has
            total += valued
        if not weights:
            return None
        if not len(partial):
            total *= 1.0 / weights
            return total
        return np.divide(total, weights - partial, out=total, where=partial < weights)

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        total = weights = 0.0
        for resource, weight in self._asked(shape):
            capacity = nodes.allocatable_at(resource, slot)
            if capacity > 0:
                total += weight * self._value(self._used_one(nodes, shape, resource, slot) / capacity)
                weights += weight
        return total / weights if weights else 0.0

    def _asked(self, shape: Shape) -> list[tuple[str, float]]:
        """Extended resources that the pod does not ask for have no say (upstream)."""
        if not self._extended:
            return self._plain
        return self._plain + [(r, w) for r, w in self._extended if r in shape.requests]

    def _used(self, nodes: Snapshot, shape: Shape, resource: str) -> Column:
        if resource == "cpu":
            return nodes.used_cpu[: nodes.size] + shape.score_cpu
        if resource == "memory":
            return nodes.used_memory[: nodes.size] + shape.score_memory
        return nodes.used(resource) + shape.requests.get(resource, 0.0)

    def _used_one(self, nodes: Snapshot, shape: Shape, resource: str, slot: int) -> float:
        if resource == "cpu":
            return nodes.used_cpu.item(slot) + shape.score_cpu
        if resource == "memory":
            return nodes.used_memory.item(slot) + shape.score_memory
        return nodes.used_at(resource, slot) + shape.requests.get(resource, 0.0)

    def _valued(self, fraction: NDArray[np.float64]) -> Column:
        if self._strategy == "RequestedToCapacityRatio":
            xs, ys = zip(*self._curve, strict=True)
            curved: Column = np.interp(fraction, xs, ys).astype(np.float64)
            return curved
        np.minimum(fraction, 1.0, out=fraction)
        fraction *= BEST
        if self._strategy == "LeastAllocated":
            np.subtract(BEST, fraction, out=fraction)
        return fraction

    def _value(self, fraction: float) -> float:
        if self._strategy == "RequestedToCapacityRatio":
            return float(self._valued(np.array([fraction]))[0])
        clipped = min(1.0, max(0.0, fraction))
        if self._strategy == "LeastAllocated":
            return (1.0 - clipped) * BEST
        return clipped * BEST
