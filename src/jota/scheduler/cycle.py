"""One scheduling decision: (nodes, shape, how many) -> slots. Pure but for the snapshot, where placed pods are assumed.

A single pod takes one masked argmax over all nodes. A batch of one shape is scored once; then a heap holds the best nodes
and only the node that was just chosen is scored again. The result is that of placing the pods one by one.
"""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.pod import Shape
from jota.scheduler.profile import Profile
from jota.scheduler.snapshot import Column, Mask, Snapshot

Slots = NDArray[np.intp]
_JITTER = 1e-3
"""Breaks ties at random without ever outweighing a real difference in score."""
_MOST_MEMOISED = 4096


class Cycle:
    def __init__(self, profile: Profile, nodes: Snapshot, seed: int) -> None:
        self._profile, self._nodes = profile, nodes
        self._random = np.random.default_rng(seed)
        self._static: dict[int, tuple[Shape, Mask]] = {}
        self._generation = -1

    def feasible(self, shape: Shape) -> Mask:
        """Where the pod may go now."""
        passed = self._static_mask(shape).copy()
        for plugin in self._profile.filters:
            if not plugin.static:
                mask = plugin.mask(self._nodes, shape)
                if mask is not None:
                    passed &= mask
        return passed

    def place(self, shape: Shape, count: int) -> list[int]:
        """Slots for up to `count` pods of one shape, best first; fewer when the nodes are full. Assumes them."""
        nodes = self._nodes
        passed = self.feasible(shape)
        candidates = np.flatnonzero(passed)
        if not len(candidates):
            return []
        scores = self._scores(shape)
        if count == 1:
            slot = int(candidates[scores[candidates].argmax()])
            nodes.add_pod(nodes.names[slot], shape)
            return [slot]
        return self._place_batch(shape, count, candidates, scores)

    def _place_batch(self, shape: Shape, count: int, candidates: Slots, scores: Column) -> list[int]:
        nodes = self._nodes
        if len(candidates) > 4 * count:  # `count` pods can use at most `count` distinct nodes
            best = np.argpartition(-scores[candidates], count)[: count + 1]
            candidates = candidates[best]
        heap = [(-scores[slot], int(slot)) for slot in candidates]
        heapq.heapify(heap)
        chosen: list[int] = []
        while heap and len(chosen) < count:
            slot = heap[0][1]
            nodes.add_pod(nodes.names[slot], shape)
            chosen.append(slot)
            if self._still_fits(shape, slot):
                again = sum(p.weight * p.score_one(nodes, shape, slot) for p in self._profile.scores)
                heapq.heapreplace(heap, (-(again + _JITTER * self._random.random()), slot))
            else:
                heapq.heappop(heap)
        return chosen

    def _still_fits(self, shape: Shape, slot: int) -> bool:
        if shape.host_ports:
            return False
        nodes = self._nodes
        return all(nodes.used(r)[slot] + a <= nodes.allocatable(r)[slot] for r, a in shape.requests.items())

    def explain(self, shape: Shape) -> str:
        """Upstream's FailedScheduling text: per reason how many nodes it kept out, each node by its first failing plugin."""
        nodes = self._nodes
        counts: Counter[str] = Counter()
        left = nodes.alive[: nodes.size].copy()
        total = int(left.sum())
        if not total:
            return "no nodes available to schedule pods"
        for plugin in self._profile.filters:
            mask = plugin.mask(nodes, shape)
            if mask is None:
                continue
            for slot in np.flatnonzero(left & ~mask):
                counts.update(plugin.reasons(nodes, shape, int(slot)))
            left &= mask
        parts = ", ".join(sorted(f"{n} {reason}" for reason, n in counts.items()))
        return f"{int(left.sum())}/{total} nodes are available: {parts}."

    def _static_mask(self, shape: Shape) -> Mask:
        """alive and every static filter; kept per shape until a node's labels, taints or cordon change."""
        nodes = self._nodes
        if self._generation != nodes.generation or len(self._static) > _MOST_MEMOISED:
            self._static.clear()
            self._generation = nodes.generation
        kept = self._static.get(id(shape))
        if kept is not None and kept[0] is shape:
            return kept[1]
        passed = nodes.alive[: nodes.size].copy()
        for plugin in self._profile.filters:
            if plugin.static:
                mask = plugin.mask(nodes, shape)
                if mask is not None:
                    passed &= mask
        self._static[id(shape)] = (shape, passed)
        return passed

    def _scores(self, shape: Shape) -> Column:
        nodes = self._nodes
        total = self._random.random(nodes.size)
        total *= _JITTER
        for plugin in self._profile.scores:
            column = plugin.score(nodes, shape)
            if column is not None:
                total += plugin.weight * column
        return total
