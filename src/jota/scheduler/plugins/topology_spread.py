"""PodTopologySpread: keep the pods that a selector means evenly spread over zones, hosts, or any node label.

Rules as upstream's plugin. DoNotSchedule: pods in the node's domain, with this one, may exceed the emptiest domain's by
maxSkew at most. ScheduleAnyway: emptier domains score higher, keys with many domains weigh more. Which nodes count follows
nodeAffinityPolicy and nodeTaintsPolicy, and all of a pod's constraints' keys must be on a node for it to count.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.counts import Counts
from jota.scheduler.framework import BEST
from jota.scheduler.plugins.node_affinity import NodeAffinity
from jota.scheduler.plugins.taint_toleration import TaintToleration
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot, all_of
from jota.scheduler.terms import PodSelector, Spread

_MISMATCH = "node(s) didn't match pod topology spread constraints"
_MISSING = f"{_MISMATCH} (missing required label)"
_HOSTNAME = "kubernetes.io/hostname"
_NONE = np.iinfo(np.int64).max >> 1
"""The emptiest of no domains: everything passes, as upstream has it."""
_MOST_MEMOISED = 1024
DEFAULT_CONSTRAINTS = (("topology.kubernetes.io/zone", 3), (_HOSTNAME, 5))
"""Upstream's system default: (topology key, maxSkew), ScheduleAnyway."""


class TopologySpread:
    name = "PodTopologySpread"
    static = False

    def __init__(self, defaults: Sequence[tuple[str, int, bool]] | None = None) -> None:
        """`defaults`: (key, maxSkew, hard) for pods without constraints; None: the system's own."""
        self._system = defaults is None
        self._defaults = [(k, s, False) for k, s in DEFAULT_CONSTRAINTS] if defaults is None else list(defaults)
        self._affinity, self._taints = NodeAffinity(), TaintToleration()
        self._memo: OrderedDict[tuple[int, int], tuple[int, Shape, Mask, bool]] = OrderedDict()

    def constraints(self, nodes: Snapshot, shape: Shape, *, hard: bool) -> list[Spread]:
        """The pod's own constraints; for pods without any, the cluster's defaults over what Services and owners select."""
        if shape.terms.spread:
            return [c for c in shape.terms.spread if c.hard == hard]
        chosen = [d for d in self._defaults if d[2] == hard]
        selector = nodes.workloads.selector_of(shape.group, shape.owner) if chosen else None
        if selector is None:
            return []
        pods = PodSelector(frozenset((shape.group.namespace,)), selector, living=True)
        return [
            Spread(pods, k, skew, hard, matches_self=True, needs_all_keys=not self._system) for k, skew, _ in chosen
        ]

    # -- filter

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        constraints = self.constraints(nodes, shape, hard=True)
        if not constraints:
            return None
        return all_of([self._fits(nodes, shape, constraints, n) for n in range(len(constraints))])

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        missing = self.unresolvable(nodes, shape)
        lacking = 0 if missing is None else int((refused & missing).sum())
        found = {_MISSING: lacking, _MISMATCH: int(refused.sum()) - lacking}
        return {reason: count for reason, count in found.items() if count}

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where a topology key is missing: no other pod's going can help."""
        constraints = self.constraints(nodes, shape, hard=True)
        if not constraints:
            return None
        return ~all_of([nodes.label(c.topology)[0] >= 0 for c in constraints])

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return bool(self.constraints(nodes, shape, hard=True))

    def _fits(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int) -> Mask:
        c = constraints[n]
        codes, values = nodes.label(c.topology)
        counting, all_count = self._counting(nodes, shape, constraints, n)
        sums = self._sums(nodes, c, counting, all_count)
        present = np.zeros(len(values), np.bool_)
        present[codes[counting]] = True
        lowest = sums[present].min(initial=_NONE)
        if present.sum() < c.min_domains:
            lowest = 0
        if not values:
            return np.zeros(nodes.size, np.bool_)
        allowed = sums + c.matches_self - lowest <= c.max_skew
        fits: Mask = allowed[codes] & (codes >= 0)
        return fits

    def _sums(self, nodes: Snapshot, c: Spread, counting: Mask, all_count: bool) -> Counts:
        """Pods per domain, on the nodes that count."""
        count = nodes.pods.selected(c.selector)
        if all_count:
            return nodes.pods.domains(count, c.topology)
        codes, values = nodes.label(c.topology)
        weights = count.slots[: nodes.size][counting]
        return np.bincount(codes[counting], weights=weights, minlength=len(values)).astype(np.int64)

    def _counting(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int) -> tuple[Mask, bool]:
        """The nodes whose pods count for constraint `n`, and whether these are all that have its key."""
        key = (id(shape), n if constraints[n].hard else -1 - n)
        known = self._memo.get(key)
        if known is not None and known[0] == nodes.generation and known[1] is shape:
            return known[2], known[3]
        c = constraints[n]
        keyed = nodes.live & (nodes.label(c.topology)[0] >= 0)
        counting = keyed
        if c.needs_all_keys:
            counting = all_of([keyed, *(nodes.label(o.topology)[0] >= 0 for o in constraints)])
        if c.honor_affinity and (affinity := self._affinity.mask(nodes, shape)) is not None:
            counting = counting & affinity
        if c.honor_taints and (taints := self._taints.mask(nodes, shape)) is not None:
            counting = counting & taints
        all_count = bool(counting.sum() == keyed.sum())
        self._memo[key] = (nodes.generation, shape, counting, all_count)
        if len(self._memo) > _MOST_MEMOISED:
            self._memo.popitem(last=False)
        return counting, all_count

    # -- score

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        constraints = self.constraints(nodes, shape, hard=False)
        if not constraints:
            return None
        ignored = ~feasible
        if constraints[0].needs_all_keys:
            ignored = ~all_of([feasible, *(nodes.label(c.topology)[0] >= 0 for c in constraints)])
        total = np.zeros(nodes.size)
        for n in range(len(constraints)):
            total += self._cost(nodes, shape, constraints, n, ~ignored)
        some = total[~ignored]
        if not len(some):
            return None
        low, high = some.min(), some.max()
        scores = np.full(nodes.size, BEST) if high == 0 else (high + low - total) * (BEST / high)
        scores[ignored] = 0.0
        return scores

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if self.constraints(nodes, shape, hard=False) else 0.0

    def _cost(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int, among: Mask) -> Column:
        """What pods that are there already cost; 0 on nodes without the key. `among`: nodes that are in the running."""
        c = constraints[n]
        codes, values = nodes.label(c.topology)
        keyed = codes >= 0
        if not values:
            return np.zeros(nodes.size)
        if c.topology == _HOSTNAME:
            size = int(among.sum())
            pods: NDArray[np.int64] = nodes.pods.selected(c.selector).slots[: nodes.size]
        else:
            present = np.zeros(len(values), np.bool_)
            present[codes[among & keyed]] = True
            size = int(present.sum())
            sums = self._sums(nodes, c, *self._counting(nodes, shape, constraints, n))
            pods = np.where(present, sums, 0)[codes]
        cost: Column = pods.astype(np.float64)
        cost *= math.log(size + 2)
        cost += c.max_skew - 1
        cost[~keyed] = 0.0
        return cost
