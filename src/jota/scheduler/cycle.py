"""One scheduling decision: (nodes, shape, how many) -> slots. Pure but for the snapshot, where placed pods are assumed.

The result is always that of placing the pods one by one. Three ways there, by what the shape asks for:
- nothing but its own node matters: scored once, then a heap holds the best nodes and only the chosen one is scored again;
- other nodes matter to scores or filters (spread, affinity, preferences): the parts that do are computed again for each pod.
"""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.framework import Coupled, Filter, Score
from jota.scheduler.pod import Placement, Shape
from jota.scheduler.profile import Profile
from jota.scheduler.snapshot import Column, Mask, Snapshot

Slots = NDArray[np.intp]
_JITTER = 1e-3
"""Breaks ties at random without ever outweighing a real difference in score."""
_NOISE_REUSED = 64
_MOST_MEMOISED = 4096
_ABOUT_THE_POD = ("persistentvolumeclaim ", "pod has ", 'resourceclaim "', "resourceclaim of ")
"""Reasons that no node is to blame for are told without a number (upstream's PreFilter messages)."""


class Cycle:
    def __init__(self, profile: Profile, nodes: Snapshot, seed: int) -> None:
        self._profile, self._nodes = profile, nodes
        self._random = np.random.default_rng(seed)
        self._couplers = [p for p in profile.filters if isinstance(p, Coupled)]
        self._static: dict[int, tuple[Placement, Mask]] = {}
        self._generation = -1
        self._noise: Column = np.zeros(0)
        self._noise_left = 0

    def feasible(self, shape: Shape) -> Mask:
        """Where the pod may go now."""
        passed = self.allowed(shape).copy()
        for plugin in self._profile.filters:
            if not plugin.static:
                mask = plugin.mask(self._nodes, shape)
                if mask is not None:
                    passed &= mask
        return passed

    def place(self, shape: Shape, count: int, within: Mask | None = None) -> list[int]:
        """Slots for up to `count` pods of one shape, best first; fewer when the nodes are full. Assumes them.

        `within`: only there, if given.
        """
        coupled: list[Filter] = [p for p in self._couplers if p.couples(self._nodes, shape)]
        base = self.allowed(shape) if within is None else self.allowed(shape) & within
        base = self._passed(shape, base.copy(), [p for p in self._profile.filters if not p.static and p not in coupled])
        if not base.any():
            return []
        first = int(base.argmax())
        alone = [(p, w) for p, w in self._profile.scores if p.score_one(self._nodes, shape, first) is not None]
        related = [(p, w) for p, w in self._profile.scores if (p, w) not in alone]
        scores = self._jitter()
        self._add(scores, shape, base, alone)
        chosen: list[int] = []
        try:
            if count == 1 or coupled or related:
                self._place_each(shape, count, base, scores, coupled, alone, related, chosen)
            else:
                self._place_batch(shape, count, base, scores, chosen)
        except BaseException:  # a plugin's mistake must not leave pods in the accounts that nobody will bind
            for slot in chosen:
                self._nodes.remove_pod(self._nodes.names[slot], shape)
            raise
        return chosen

    def _place_each(
        self,
        shape: Shape,
        count: int,
        base: Mask,
        own: Column,
        coupled: list[Filter],
        alone: list[tuple[Score, float]],
        related: list[tuple[Score, float]],
        chosen: list[int],
    ) -> None:
        """`base`, `own`: the mask and the scores that a placement changes on its own node alone."""
        nodes = self._nodes
        while len(chosen) < count:
            passed = self._passed(shape, base.copy(), coupled) if coupled else base
            if not passed.any():
                break
            scores = own
            if related:
                scores = own.copy()
                self._add(scores, shape, passed, related)
            slot = int(np.where(passed, scores, -np.inf).argmax())
            nodes.add_pod(nodes.names[slot], shape)
            chosen.append(slot)
            if len(chosen) < count:
                base[slot] = self._still_fits(shape, slot)
                own[slot] = self._again(shape, slot, alone)

    def _place_batch(self, shape: Shape, count: int, base: Mask, scores: Column, chosen: list[int]) -> None:
        nodes, candidates = self._nodes, np.flatnonzero(base)
        if len(candidates) > 4 * count:  # `count` pods can use at most `count` distinct nodes
            best = np.argpartition(-scores[candidates], count)[: count + 1]
            candidates = candidates[best]
        heap = [(-scores[slot], int(slot)) for slot in candidates]
        heapq.heapify(heap)
        while heap and len(chosen) < count:
            slot = heap[0][1]
            nodes.add_pod(nodes.names[slot], shape)
            chosen.append(slot)
            if self._still_fits(shape, slot):
                heapq.heapreplace(heap, (-self._again(shape, slot, self._profile.scores), slot))
            else:
                heapq.heappop(heap)

    def _again(
        self, shape: Shape, slot: int, plugins: list[tuple[Score, float]] | tuple[tuple[Score, float], ...]
    ) -> float:
        total = _JITTER * self._random.random()
        for plugin, weight in plugins:
            total += weight * (plugin.score_one(self._nodes, shape, slot) or 0.0)
        return float(total)

    def _still_fits(self, shape: Shape, slot: int) -> bool:
        """Whether one more fits beside the one that was just placed; filters that couple are asked anew anyway."""
        for plugin in self._profile.filters:
            if plugin.static:
                continue
            fits = getattr(plugin, "fits", None)
            if fits is not None:
                if not fits(self._nodes, shape, slot):
                    return False
            elif plugin not in self._couplers:
                mask = plugin.mask(self._nodes, shape)
                if mask is not None and not mask[slot]:
                    return False
        return True

    # -- explaining

    def explain(self, shape: Shape) -> str:
        """Upstream's FailedScheduling text: per reason how many nodes it kept out, each node by its first failing plugin."""
        return explanation(self.refusals(shape), int(self._nodes.live.sum()))

    def refusals(self, shape: Shape, within: Mask | None = None) -> dict[str, dict[str, int]]:
        """Plugin -> reason -> number of nodes."""
        nodes = self._nodes
        left = nodes.live.copy() if within is None else nodes.live & within
        found: dict[str, dict[str, int]] = {}
        for plugin in self._profile.filters:
            mask = plugin.mask(nodes, shape)
            if mask is None:
                continue
            refused = left & ~mask
            if refused.any():
                found[plugin.name] = plugin.tally(nodes, shape, refused)
            left &= mask
        return found

    def hopeless(self, shape: Shape) -> Mask:
        """True where the going of other pods would not help (upstream: UnschedulableAndUnresolvable)."""
        out = ~self.allowed(shape)
        for plugin in self._profile.filters:
            if (unresolvable := getattr(plugin, "unresolvable", None)) is not None:
                mask = unresolvable(self._nodes, shape)
                if mask is not None:
                    out |= mask
        return out

    def fits(self, shape: Shape, slot: int) -> bool:
        """Whether the pod may go to this one node now."""
        if not self.allowed(shape)[slot]:
            return False
        for plugin in self._profile.filters:
            if plugin.static:
                continue
            fits = getattr(plugin, "fits", None)
            if fits is not None:
                if not fits(self._nodes, shape, slot):
                    return False
                continue
            mask = plugin.mask(self._nodes, shape)
            if mask is not None and not mask[slot]:
                return False
        return True

    def scorecard(self, shape: Shape, feasible: Mask) -> dict[str, Column]:
        """Plugin -> weighted score per node; plugins without a say are left out."""
        found = {}
        for plugin, weight in self._profile.scores:
            column = plugin.score(self._nodes, shape, feasible)
            if column is not None:
                found[plugin.name] = weight * column
        return found

    # -- parts

    def allowed(self, shape: Shape) -> Mask:
        """alive and every static filter; kept per Placement until a node's labels, taints or cordon change. Not to be changed."""
        nodes, placement = self._nodes, shape.placement
        if self._generation != nodes.generation or len(self._static) > _MOST_MEMOISED:
            self._static.clear()
            self._generation = nodes.generation
        kept = self._static.get(id(placement))
        if kept is not None and kept[0] is placement:
            return kept[1]
        passed = self._passed(shape, nodes.live.copy(), [p for p in self._profile.filters if p.static])
        self._static[id(placement)] = (placement, passed)
        return passed

    def _passed(self, shape: Shape, passed: Mask, plugins: list[Filter]) -> Mask:
        for plugin in plugins:
            mask = plugin.mask(self._nodes, shape)
            if mask is not None:
                passed &= mask
        return passed

    def _jitter(self) -> Column:
        if len(self._noise) != self._nodes.size or self._noise_left == 0:
            self._noise = self._random.random(self._nodes.size) * _JITTER
            self._noise_left = _NOISE_REUSED
        self._noise_left -= 1
        # Drawing thousands of numbers for each pod costs more than the scores; turning the row round serves as well.
        return (
            np.roll(self._noise, int(self._random.integers(self._nodes.size)))
            if len(self._noise)
            else self._noise.copy()
        )

    def _add(self, total: Column, shape: Shape, feasible: Mask, plugins: list[tuple[Score, float]]) -> None:
        for plugin, weight in plugins:
            column = plugin.score(self._nodes, shape, feasible)
            if column is not None:
                total += weight * column


def explanation(refusals: dict[str, dict[str, int]], total: int) -> str:
    """`total`: nodes alive."""
    if not total:
        return "no nodes available to schedule pods"
    counts: Counter[str] = Counter()
    for tally in refusals.values():
        counts.update(tally)
    whole = sorted(reason for reason in counts if reason.startswith(_ABOUT_THE_POD))
    parts = ", ".join(whole + sorted(f"{n} {reason}" for reason, n in counts.items() if reason not in whole))
    return f"0/{total} nodes are available: {parts}."
