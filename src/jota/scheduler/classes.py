"""Nodes in classes: those of one class differ in nothing but what they are worth by themselves, so the best of a class stays the
best whatever pods elsewhere do to all of them.

For a batch that is spread softly over zones and hosts (every set's default) there are a few classes: a zone's nodes with no pod
of the set, with one, with two. To choose is to compare the first of each, instead of a row over all nodes. In: a column of raw
numbers with the parts that it is the sum of (related.py), and what nodes are worth otherwise. Out: slots, one by one, as
related.Following would have them. Next: cycle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.snapshot import Column, Mask

MOST = 24
"""Classes, beyond which rows are cheaper."""
Line = Callable[[float, float], tuple[float, float] | None]


class Part(Protocol):
    """What one constraint adds to the raw numbers."""

    each: float
    """For one more pod."""
    alone: bool
    """On its own node; else on all nodes with the same of `codes`."""
    codes: NDArray[np.intp]

    def counts_on(self, nodes: Mask) -> bool | None:
        """Whether pods on these nodes count; None: on some of them."""
        ...


class _Class:
    __slots__ = ("heap", "raw")

    def __init__(self, raw: float, heap: list[tuple[float, int]]) -> None:
        self.raw, self.heap = raw, heap
        """The raw number, but for what its group has in `more`; (what a node is worth, negated, its slot)."""


class _Group:
    """Nodes in the same domains."""

    __slots__ = ("classes", "codes", "more")

    def __init__(self, codes: tuple[int, ...]) -> None:
        self.codes = codes
        self.more = 0.0
        self.classes: dict[float, _Class] = {}


class Classes:
    def __init__(self, line: Line, weight: float, own: float, shared: Sequence[float], groups: list[_Group]) -> None:
        """`own`, `shared`: what one more pod adds on its node, and, per part, in its domain."""
        self._line, self._weight, self._own, self._groups = line, weight, own, groups
        self._beside: list[dict[int, list[_Group]]] = []
        self._shared = shared
        for n in range(len(shared)):
            beside: dict[int, list[_Group]] = {}
            for group in groups:
                beside.setdefault(group.codes[n], []).append(group)
            self._beside.append(beside)
        self._best: tuple[_Group, _Class] | None = None

    def best(self) -> int | None:
        """The slot that is worth the most now; None: there is none left."""
        raws = [c.raw + g.more for g in self._groups for c in g.classes.values()]
        line = self._line(min(raws), max(raws)) if raws else None
        factor = 0.0 if line is None else self._weight * line[0]
        most, self._best = -np.inf, None
        for group in self._groups:
            for one in group.classes.values():
                worth = factor * (one.raw + group.more) - one.heap[0][0]
                if worth > most:
                    most, self._best = worth, (group, one)
        return self._best[1].heap[0][1] if self._best is not None else None

    def placed(self, value: float) -> None:
        """A pod came to the best, which is worth so much by itself now."""
        assert self._best is not None
        group, one = self._best
        _, slot = heappop(one.heap)
        if not one.heap:
            del group.classes[one.raw]
        raw = one.raw + self._own
        there = group.classes.get(raw)
        if there is None:
            there = group.classes[raw] = _Class(raw, [])
        heappush(there.heap, (-value, slot))
        for each, code, beside in zip(self._shared, group.codes, self._beside, strict=True):
            for other in beside[code]:
                other.more += each


def classes_of(
    raw: Column, parts: Sequence[Part], value: Column, line: Line, weight: float, most: int
) -> Classes | None:
    """For up to `most` pods. `value`: what nodes are worth without the raw numbers, -inf where no pod may go. None: the nodes do
    not fall into a few classes."""
    feasible = value != -np.inf
    counting = [(part, part.counts_on(feasible)) for part in parts]
    if any(counts is None for _, counts in counting):
        return None
    own = sum(part.each for part, counts in counting if counts and part.alone)
    shared = [part for part, counts in counting if counts and not part.alone]
    slots = np.flatnonzero(feasible)
    kinds = np.unique(raw[slots], return_inverse=True)[1]
    for part in shared:
        codes = part.codes[slots]
        kinds = kinds * (int(codes.max(initial=0)) + 1) + codes
    _, firsts, which = np.unique(kinds, return_index=True, return_inverse=True)
    if not 0 < len(firsts) <= MOST:
        return None
    groups: dict[tuple[int, ...], _Group] = {}
    for n, first in enumerate(slots[firsts].tolist()):
        place = tuple([int(part.codes[first]) for part in shared])
        here = slots[which == n]
        if len(here) > most:
            here = here[np.argpartition(value[here], -most)[-most:]]
        heap = list(zip((-value[here]).tolist(), here.tolist(), strict=True))
        heapify(heap)
        number = float(raw[first])
        groups.setdefault(place, _Group(place)).classes[number] = _Class(number, heap)
    return Classes(line, weight, own, [part.each for part in shared], [*groups.values()])
