"""The pods of each node as a table, the most important first: who would have to go for a pod, on all nodes at once.

Rows are node slots; a row is made anew when the node's accounts have changed since. Worked example, one resource, a node of 4
with pods of 1, 2, 1 (all less important), a pod of 2 comes: without them 2 are left beside it; the first comes back (1 left),
the second cannot, the third can: the second is the victim. Next: preemption.py, which takes budgets and other rules along.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

Slots = NDArray[np.intp]
_NEVER = np.iinfo(np.int64).max
"""The priority of no pod."""
_UNSTARTED = np.inf
_MOST_KEPT = 8
_FEW = 16
"""Rows that are judged one by one: numpy has a price for each step, which pays only for many."""


class Placed(Protocol):
    """What is read of a pod on a node (preemption.Placed)."""

    @property
    def shape(self) -> Shape: ...
    @property
    def priority(self) -> int: ...
    @property
    def started(self) -> str: ...


P = TypeVar("P", bound=Placed)


def importance(pod: Placed) -> tuple[int, str]:
    """Sorts the most important first: by priority, then who started first (upstream: MoreImportantPod)."""
    return -pod.priority, pod.started or "~"


@dataclass(slots=True, frozen=True)
class Best:
    slot: int
    places: list[int]
    """Of the victims in the row."""


class Verdicts:
    """For one kind of pod at one priority: what each node would cost. Rows are made anew as `seen` falls behind."""

    __slots__ = ("_able", "_changed", "_leaders", "_least", "costs", "helps", "lower", "own", "seen")

    def __init__(self, own: object, rows: int) -> None:
        self.own = own
        self.seen: NDArray[np.int64] = np.full(rows, -1, np.int64)
        self.lower: Mask = np.zeros(rows, np.bool_)
        """There are less important pods."""
        self.helps: Mask = np.zeros(rows, np.bool_)
        """Their going gives room, and some of them must go."""
        self.costs: Column = np.zeros((4, rows))
        """Upstream's order: the highest victim's priority, the sum of priorities, the number of victims, and of the highest
        victims the earliest start, negative."""
        self._leaders: Slots = np.zeros(0, np.intp)
        """Who cost the `_least` the last time it was asked, among `_able`."""
        self._least: list[float] = []
        self._able: Mask = np.zeros(0, np.bool_)
        self._changed: set[int] | None = None
        """Rows that were made anew since; None: too many."""

    def made_anew(self, slots: Slots) -> None:
        if self._changed is not None:
            self._changed.update(slots[: _FEW + 1].tolist())
            if len(self._changed) > _FEW:
                self._changed = None

    def cheapest(self, among: Mask) -> Slots:
        """Those of the nodes that help at the least cost, in no order."""
        able = among & self.helps
        left = self._mended(able)
        if left is None or not len(left):
            left = np.flatnonzero(able)
            for costs in self.costs if len(left) else ():
                here = costs[left]
                left = left[here == here.min()]
            self._least = self.costs[:, left[0]].tolist() if len(left) else []
        self._leaders, self._able, self._changed = left, able, set()
        return left

    def _mended(self, able: Mask) -> Slots | None:
        """The answer of before, less who is not among them any more, with who is now: from one pod to the next few nodes change.
        None: too many did; empty: others follow."""
        if self._changed is None or len(self._able) != len(able):
            return None
        differ = np.flatnonzero(self._able != able)
        if len(differ) > _FEW:
            return None
        left = self._leaders
        for slot in self._changed.union(differ.tolist()):
            left = left[left != slot]
            if not able[slot]:
                continue
            cost = self.costs[:, slot].tolist()
            if cost < self._least:
                left, self._least = np.array([slot]), cost
            elif cost == self._least:
                left = np.append(left, slot)
        return left


class Victims:
    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self._seen: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: list[list[Any]] = []
        self._unfilled: dict[int, None] = {}
        """Rows that the columns do not have yet: these are looked at when many rows are judged at once."""
        self._priorities: NDArray[np.int64] = np.full((0, 4), _NEVER, np.int64)
        self._started: Column = np.full((0, 4), _UNSTARTED)
        self._amounts: dict[str, Column] = {}
        self._known: OrderedDict[tuple[int, int], Verdicts] = OrderedDict()

    def row(self, slot: int) -> list[Any]:
        """The node's pods, as they were followed last."""
        return self._rows[slot]

    def follow(self, on_node: Mapping[str, Mapping[str, Placed]]) -> None:
        """Make the rows of changed nodes anew. `on_node`: node -> pods."""
        nodes = self._nodes
        versions = nodes.versions
        if len(self._seen) < len(versions):
            self._widen(len(versions), self._priorities.shape[1])
        changed = np.flatnonzero(self._seen[: len(versions)] != versions)
        for slot in changed.tolist():
            name = nodes.names[slot]
            pods = on_node.get(name, {}).values() if nodes.slots.get(name) == slot else ()
            row = sorted(pods, key=importance)
            if row != self._rows[slot]:  # else room was kept or given back, and nobody came or went
                self._rows[slot] = row
                self._unfilled[slot] = None
        self._seen[changed] = versions[changed]

    def best(
        self, among: Mask, verdicts: Verdicts, priority: int, wanted: list[tuple[str, float]], start: int
    ) -> Best | None:
        """The node that gives room with the least important, then the fewest victims, then the youngest.

        `among`: nodes where nothing but room is missing. `start`: where the round over the nodes begins, for ties.
        """
        left = verdicts.cheapest(among)
        if not len(left):
            return None
        slot = int(left[((left - start) % self._nodes.size).argmin()])
        return Best(slot, self._trial_of(slot, priority, wanted)[0])

    def best_for_each(
        self,
        among: Mask,
        verdicts: Verdicts,
        shape: Shape,
        priority: int,
        wanted: list[tuple[str, float]],
        start: int,
        count: int,
    ) -> list[Best]:
        """The same for up to so many pods of a shape, each as if room was kept for those before it.

        That changes what the node of each costs, and nothing else: the next goes to one that costs as little. Unless a node would
        make way for one more at no higher cost (its victims were larger than needed): the pods up to there are told of."""
        left = verdicts.cheapest(among)
        if not len(left):
            return []
        left = left[((left - start) % self._nodes.size).argsort()][:count]
        self._fill()
        victims = self._trial(left, priority, wanted)[0].tolist()
        two = [(resource, amount + shape.requests.get(resource, 0.0)) for resource, amount in wanted]
        costs, _, helps = self._costs(left, priority, two)
        again = np.flatnonzero(helps & ~_dearer(costs, verdicts.costs[:, left[0]]))
        upto = int(again[0]) + 1 if len(again) else len(left)
        return [
            Best(slot, [place for place, goes in enumerate(row) if goes])
            for slot, row in zip(left[:upto].tolist(), victims, strict=False)
        ]

    def verdicts(self, shape: Shape, priority: int, wanted: list[tuple[str, float]]) -> Verdicts:
        """What each node would cost a pod of this shape and priority, as the rows were followed last. `wanted`: what it needs,
        by resource."""
        key, versions = (id(shape.own), priority), self._nodes.versions
        known = self._known.get(key)
        if known is None or known.own is not shape.own or len(known.seen) != len(versions):
            known = self._known[key] = Verdicts(shape.own, len(versions))
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        changed = np.flatnonzero(known.seen != versions)
        if len(changed) > _FEW:
            self._judge(known, changed, priority, wanted)
        else:
            for slot in changed.tolist():
                self._judge_one(known, slot, priority, wanted)
        known.made_anew(changed)
        known.seen[changed] = versions[changed]
        return known

    def _judge_one(self, verdicts: Verdicts, slot: int, priority: int, wanted: list[tuple[str, float]]) -> None:
        """As `_judge`, for one row."""
        places, verdicts.lower[slot], enough = self._trial_of(slot, priority, wanted)
        verdicts.helps[slot] = enough and bool(places)
        if places:
            gone = [self._rows[slot][place] for place in places]
            highest = max(p.priority for p in gone)
            earliest = min(_number(p.started) for p in gone if p.priority == highest)
            total = sum(p.priority + 2**31 for p in gone)
            verdicts.costs[:, slot] = (highest, total, len(gone), -earliest)

    def _trial_of(self, slot: int, priority: int, wanted: list[tuple[str, float]]) -> tuple[list[int], bool, bool]:
        """As `_trial`, for one row; the victims by their places, none where even that is not enough."""
        row, resources = self._rows[slot], [resource for resource, _ in wanted]
        first = next((place for place, p in enumerate(row) if p.priority < priority), len(row))
        if first == len(row):
            return [], False, False
        amounts = [[p.shape.requests.get(resource, 0.0) for resource in resources] for p in row[first:]]
        free = []
        for (resource, amount), theirs in zip(wanted, zip(*amounts, strict=True), strict=True):
            room = self._nodes.allocatable_at(resource, slot) - self._nodes.used_at(resource, slot)
            free.append(room + sum(theirs) - amount)
        if min(free, default=0.0) < 0:
            return [], True, False
        victims = []
        for place, mine in enumerate(amounts, first):
            left = [room - amount for room, amount in zip(free, mine, strict=True)]
            if min(left, default=0.0) < 0:
                victims.append(place)
            else:
                free = left
        return victims, True, True

    def _judge(self, verdicts: Verdicts, slots: Slots, priority: int, wanted: list[tuple[str, float]]) -> None:
        self._fill()
        verdicts.costs[:, slots], verdicts.lower[slots], verdicts.helps[slots] = self._costs(slots, priority, wanted)

    def _costs(self, slots: Slots, priority: int, wanted: list[tuple[str, float]]) -> tuple[Column, Mask, Mask]:
        """What `Verdicts` holds of these rows: costs, lower, helps."""
        victims, lower, enough = self._trial(slots, priority, wanted)
        priorities = self._priorities[slots]
        highest = np.where(victims, priorities, np.iinfo(np.int64).min).max(axis=1)
        oldest = victims & (priorities == highest[:, None])
        earliest = np.where(oldest, self._started[slots], np.inf).min(axis=1)
        # Sums of up to hundreds of 32-bit priorities are exact in floats of 53 bits.
        total = np.where(victims, priorities + 2**31, 0).sum(axis=1)
        costs = np.array((highest, total, victims.sum(axis=1), -earliest), np.float64)
        return costs, lower, enough & victims.any(axis=1)

    def _trial(self, slots: Slots, priority: int, wanted: list[tuple[str, float]]) -> tuple[Mask, Mask, Mask]:
        """(per row and place: a victim; per row: there are less important pods; without them the pod fits)."""
        lower = self._priorities[slots] < priority
        some: Mask = np.logical_or.reduce(lower, axis=1)
        enough: Mask = some.copy()
        room, amounts = [], []
        for resource, amount in wanted:
            mine = self._of(resource)[slots] * lower
            free = (self._nodes.allocatable(resource)[slots] - self._nodes.used(resource)[slots]) + mine.sum(axis=1)
            free -= amount
            enough &= free >= 0
            room.append(free)
            amounts.append(mine)
        victims = lower
        for place in range(lower.shape[1]):
            back = lower[:, place].copy()
            if not back.any():
                continue
            for free, mine in zip(room, amounts, strict=True):
                back &= mine[:, place] <= free
            for free, mine in zip(room, amounts, strict=True):
                free -= mine[:, place] * back
            victims[:, place] &= ~back
        return victims, some, enough

    # -- the table

    def _fill(self) -> None:
        """Bring the columns of rows up to date: many at once cost little more than one."""
        if not self._unfilled:
            return
        slots = [*self._unfilled]
        rows = [self._rows[slot] for slot in slots]
        most, places = max(map(len, rows)), self._priorities.shape[1]
        if most > places:
            places = max(most, places * 2)
            self._widen(len(self._seen), places)
        self._priorities[slots] = _padded([[p.priority for p in row] for row in rows], places, _NEVER)
        self._started[slots] = _padded([[_number(p.started) for p in row] for row in rows], places, _UNSTARTED)
        for resource, table in self._amounts.items():
            table[slots] = _padded(_asked(resource, rows), places, 0.0)
        self._unfilled.clear()

    def _of(self, resource: str) -> Column:
        """Requests per pod, built at first use."""
        table = self._amounts.get(resource)
        if table is None:
            rows = _padded(_asked(resource, self._rows), self._priorities.shape[1], 0.0)
            table = self._amounts[resource] = np.array(rows, np.float64)
        return table

    def _widen(self, rows: int, places: int) -> None:
        more = rows - len(self._seen), places - self._priorities.shape[1]
        self._rows += [[] for _ in range(more[0])]
        self._seen = np.pad(self._seen, (0, more[0]), constant_values=-1)
        around = ((0, more[0]), (0, more[1]))
        self._priorities = np.pad(self._priorities, around, constant_values=_NEVER)
        self._started = np.pad(self._started, around, constant_values=_UNSTARTED)
        self._amounts = {r: np.pad(t, around) for r, t in self._amounts.items()}


def _dearer(costs: Column, than: Column) -> Mask:
    """Per column, in the order of the rows."""
    more: Mask = np.zeros(costs.shape[1], np.bool_)
    equal = ~more
    for mine, other in zip(costs, than.tolist(), strict=True):
        more |= equal & (mine > other)
        equal &= mine == other
    return more


def _padded(rows: list[list[float]], places: int, empty: float) -> list[list[float]]:
    for row in rows:
        row += [empty] * (places - len(row))
    return rows


def _asked(resource: str, rows: list[list[Any]]) -> list[list[float]]:
    """What each of their pods asks for."""
    return [[p.shape.requests.get(resource, 0.0) for p in row] for row in rows]


@lru_cache(4096)
def _number(stamp: str) -> float:
    """An RFC 3339 stamp in UTC as a number of the same order; infinite for none."""
    return float("".join(c for c in stamp if c.isdigit())[:14]) if stamp else _UNSTARTED
