"""What each node's own accounts say about one kind of pod, kept from decision to decision: one score per slot.

After a pod came or went, only the nodes that the snapshot's journal names are looked at again. Shared by all shapes with the
same `Shape.own`. Which plugins take part: those with `own = True` (framework.py). Next: cycle.py adds the others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np

from jota.scheduler.framework import Own, OwnFilter, Score
from jota.scheduler.pod import Shape
from jota.scheduler.profile import Profile
from jota.scheduler.snapshot import Column, Mask, Snapshot

JITTER = 1e-3
"""Breaks ties at random without ever outweighing a real difference in score."""
_NOISE_REUSED = 64
_MOST_KEPT = 64
_FEW = 16
"""Changed nodes that are looked at one by one; beyond it and beyond a 256th of all nodes, columns are faster."""


class Allowed(Protocol):
    """The static filters' common mask for a shape (Cycle.allowed)."""

    def __call__(self, shape: Shape) -> Mask: ...


class Standing:
    """`value`: per slot, the weighted scores and a jitter below JITTER; -inf where the pod may not go. Read only."""

    __slots__ = ("allowed", "filters", "generation", "mark", "own", "scores", "value")

    def __init__(self, own: object) -> None:
        self.own = own
        self.generation = -1
        self.mark = 0
        self.allowed: Mask = np.zeros(0, np.bool_)
        self.value: Column = np.zeros(0)
        self.filters: list[OwnFilter] = []
        """Those that have a say."""
        self.scores: list[tuple[Score, float]] = []


class Standings:
    def __init__(self, profile: Profile, nodes: Snapshot, allowed: Allowed, random: np.random.Generator) -> None:
        self._nodes, self._allowed, self._random = nodes, allowed, random
        self._filters = [f for f in profile.filters if isinstance(f, OwnFilter) and not f.static]
        self._scores = [(s, w) for s, w in profile.scores if isinstance(s, Own) and s.own]
        self._kept: OrderedDict[int, Standing] = OrderedDict()
        self._noise: Column = np.zeros(0)
        self._noise_left = 0

    def of(self, shape: Shape) -> Standing:
        """Up to date."""
        known = self._kept.get(id(shape.own))
        if known is None or known.own is not shape.own:
            known = self._kept[id(shape.own)] = Standing(shape.own)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(id(shape.own))
        self.follow(known, shape)
        return known

    def follow(self, standing: Standing, shape: Shape) -> None:
        """Look again at what has changed since the last time."""
        nodes = self._nodes
        changed = nodes.changed_since(standing.mark)
        if standing.generation != nodes.generation or changed is None or len(changed) > max(_FEW, nodes.size >> 8):
            self._look_at_all(standing, shape)
        else:
            for slot in changed:
                standing.value[slot] = self._value(standing, shape, slot)
        standing.mark = nodes.mark()

    def ahead(self, standing: Standing, shape: Shape, slots: list[int]) -> list[float]:
        """What the accounts of these nodes say now, but for the jitter; -inf where the pod may not go. Nothing is kept of it:
        `keep` does."""
        nodes = self._nodes
        passed = standing.allowed
        for plugin in standing.filters:
            mask = plugin.mask(nodes, shape)
            if mask is not None:
                passed = passed & mask
        total = np.zeros(len(slots))
        for score, weight in standing.scores:
            column = score.score(nodes, shape, passed)
            if column is not None:
                total += weight * column[slots]
        found: list[float] = np.where(passed[slots], total, -np.inf).tolist()
        return found

    def keep(self, standing: Standing, slot: int, value: float) -> None:
        """What `ahead` said of a node."""
        if value != -np.inf:
            value += JITTER * self._random.random()
        standing.value[slot] = value

    def caught_up(self, standing: Standing) -> None:
        """All that has changed is kept."""
        standing.mark = self._nodes.mark()

    def _look_at_all(self, standing: Standing, shape: Shape) -> None:
        nodes = self._nodes
        standing.generation = nodes.generation
        standing.allowed = passed = self._allowed(shape)
        standing.filters, standing.scores = [], []
        for plugin in self._filters:
            mask = plugin.mask(nodes, shape)
            if mask is not None:
                passed = passed & mask
                standing.filters.append(plugin)
        value = self._jitter()
        for score, weight in self._scores:
            column = score.score(nodes, shape, passed)
            if column is not None:
                value += column if weight == 1.0 else weight * column
                standing.scores.append((score, weight))
        standing.value = np.where(passed, value, -np.inf)

    def _value(self, standing: Standing, shape: Shape, slot: int) -> float:
        if not standing.allowed[slot]:
            return -np.inf
        nodes = self._nodes
        for plugin in standing.filters:
            if not plugin.fits(nodes, shape, slot):
                return -np.inf
        total = JITTER * self._random.random()
        for score, weight in standing.scores:
            total += weight * (score.score_one(nodes, shape, slot) or 0.0)
        return total

    def _jitter(self) -> Column:
        """A row of one's own. Drawing thousands of numbers costs more than the scores; turning a row round serves as well."""
        if len(self._noise) != self._nodes.size or not self._noise_left:
            self._noise = self._random.random(self._nodes.size) * JITTER
            self._noise_left = _NOISE_REUSED
        self._noise_left -= 1
        return np.roll(self._noise, int(self._random.integers(max(1, self._nodes.size))))
