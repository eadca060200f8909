"""Nodes in classes: those of one class differ in nothing but what they are worth by themselves, so the best of a class stays the
best whatever pods elsewhere do to all of them.

For a batch that is spread softly over zones and hosts (every set's default) there are a few classes: a zone's nodes with no pod
of the set, with one, with two. To choose is to compare the first of each, instead of a row over all nodes. In: a column of raw
numbers with the parts that it is the sum of (related.py), and what nodes are worth otherwise. Out: slots, one by one or many
ahead, as related.Following would have them. Next: cycle.py.
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
    __slots__ = ("heap", "raw", "waiting")

    def __init__(self, raw: float, heap: list[tuple[float, int]]) -> None:
        self.raw, self.heap = raw, heap
        """The raw number, but for what its group has in `more`; (what a node is worth, negated, its slot)."""
        self.waiting = 0
        """Nodes of which it is not known yet what they are worth."""


class _Group:
    """Nodes in the same domains."""

    __slots__ = ("classes", "codes", "more", "place")

    def __init__(self, codes: tuple[int, ...], place: int) -> None:
        """`place`: among the groups."""
        self.codes, self.place = codes, place
        self.more = 0.0
        self.classes: dict[float, _Class] = {}


class _Choice:
    """One of those that were chosen ahead."""

    __slots__ = ("factor", "group", "more", "slot", "to", "worth")

    def __init__(self, slot: int, worth: float, factor: float, more: list[float], group: _Group, to: _Class) -> None:
        self.slot, self.worth, self.factor, self.more = slot, worth, factor, more
        """What it was worth, what a raw number was, and what each group had more, when it was chosen."""
        self.group, self.to = group, to
        """Where it belongs with its pod."""


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
        self._worth = self._factor = 0.0
        """Of the best, and of a raw number."""
        self._ahead: list[_Choice] = []
        self._told = 0
        """Of how many of their nodes it is known what they are worth."""
        self._reached: dict[_Class, _Group] = {}
        """To which these belong."""

    def best(self) -> int | None:
        """The slot that is worth the most now; None: there is none left."""
        raws = [c.raw + g.more for g in self._groups for c in g.classes.values()]
        line = self._line(min(raws), max(raws)) if raws else None
        factor = 0.0 if line is None else self._weight * line[0]
        most, self._best, self._factor = -np.inf, None, factor
        for group in self._groups:
            for one in group.classes.values():
                if not one.heap:
                    continue
                worth = factor * (one.raw + group.more) - one.heap[0][0]
                if worth > most:
                    most, self._best = worth, (group, one)
        self._worth = most
        return self._best[1].heap[0][1] if self._best is not None else None

    def placed(self, value: float) -> None:
        """A pod came to the best, which is worth so much by itself now."""
        there, slot = self._moved()
        heappush(there.heap, (-value, slot))

    def ahead(self, most: int) -> list[int]:
        """Up to so many slots, the best one after another, as if nodes were worth nothing after they got a pod. What they are
        worth is to be told to `right` before anything else is asked."""
        slots: list[int] = []
        self._ahead, self._told = [], 0
        self._reached.clear()
        while len(slots) < most and self.best() is not None:
            assert self._best is not None
            group, more = self._best[0], [g.more for g in self._groups]
            there, slot = self._moved()
            there.waiting += 1
            self._ahead.append(_Choice(slot, self._worth, self._factor, more, group, there))
            slots.append(slot)
        return slots

    def right(self, value: float) -> bool:
        """The next node of those ahead is worth so much by itself with its pod: whether the choice that came after it is right. If
        it is not, nothing may be asked any more."""
        one = self._ahead[self._told]
        self._told += 1
        one.to.waiting -= 1
        self._reached[one.to] = one.group
        heappush(one.to.heap, (-value, one.slot))
        if self._told == len(self._ahead):
            return True
        after = self._ahead[self._told]
        # who was in these classes before was looked at when it was chosen
        factor, more = after.factor, after.more
        return all(factor * (c.raw + more[g.place]) - c.heap[0][0] <= after.worth for c, g in self._reached.items())

    def _moved(self) -> tuple[_Class, int]:
        """The best gets a pod: (the class that it goes to, its slot)."""
        assert self._best is not None
        group, one = self._best
        _, slot = heappop(one.heap)
        raw = one.raw + self._own
        there = group.classes.get(raw)
        if there is None:
            there = group.classes[raw] = _Class(raw, [])
        if not one.heap and not one.waiting and one is not there:
            del group.classes[one.raw]
        for each, code, beside in zip(self._shared, group.codes, self._beside, strict=True):
            for other in beside[code]:
                other.more += each
        return there, slot


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
        groups.setdefault(place, _Group(place, len(groups))).classes[number] = _Class(number, heap)
    return Classes(line, weight, own, [part.each for part in shared], [*groups.values()])
