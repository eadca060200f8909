"""PodTopologySpread: keep the pods that a selector means evenly spread over zones, hosts, or any node label.

Rules as upstream's plugin. DoNotSchedule: pods in the node's domain, with this one, may exceed the emptiest domain's by
maxSkew at most. ScheduleAnyway: emptier domains score higher, keys with many domains weigh more. Which nodes count follows
nodeAffinityPolicy and nodeTaintsPolicy, and all of a pod's constraints' keys must be on a node for it to count.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jota.meta.selectors import LabelSelector
from jota.scheduler import related
from jota.scheduler.counts import Counts
from jota.scheduler.framework import BEST
from jota.scheduler.plugins.node_affinity import NodeAffinity
from jota.scheduler.plugins.taint_toleration import TaintToleration
from jota.scheduler.pod import Shape
from jota.scheduler.related import Raw
from jota.scheduler.snapshot import Column, Mask, Snapshot, all_of
from jota.scheduler.terms import Group, PodSelector, Spread
from jota.scheduler.topology import Topology

_MISMATCH = "node(s) didn't match pod topology spread constraints"
_MISSING = f"{_MISMATCH} (missing required label)"
_HOSTNAME = "kubernetes.io/hostname"
_MOST_MEMOISED = 1024
DEFAULT_CONSTRAINTS = (("topology.kubernetes.io/zone", 3), (_HOSTNAME, 5))
"""Upstream's system default: (topology key, maxSkew), ScheduleAnyway."""


@dataclass(slots=True, frozen=True)
class _Counting:
    """The nodes whose pods count for one constraint of a shape."""

    generation: int
    shape: Shape
    nodes: Mask
    everywhere: bool
    """All that have the topology key."""
    present: Mask
    """Per domain and a last False: whether a node that counts is in it."""
    domains: int
    """How many are present."""


class _Costs:
    """Of one constraint."""

    def __init__(
        self, column: Column, each: float, topology: Topology, counted: Mask | None, alone: bool = False
    ) -> None:
        """`each`: what one more pod costs, if it is on one of the `counted` nodes; on its own node alone, or all of its domain."""
        self.column, self.each, self.alone, self.codes = column, each, alone, topology.codes
        self._counted = counted
        self._members: dict[int, NDArray[np.intp]] = {}

    def counts(self, slot: int) -> bool:
        return self._counted is not None and bool(self._counted[slot])

    def counts_on(self, nodes: Mask) -> bool | None:
        if self._counted is None:
            return False
        some = self._counted[nodes]
        return True if some.all() else None

    def beside(self, slot: int) -> int | NDArray[np.intp]:
        """The nodes for which a pod there costs."""
        if self.alone:
            return slot
        code = int(self.codes[slot])
        known = self._members.get(code)
        if known is None:
            known = self._members[code] = np.flatnonzero(self.codes == code)
        return known


class TopologySpread:
    name = "PodTopologySpread"
    static = False

    def __init__(self, defaults: Sequence[tuple[str, int, bool]] | None = None) -> None:
        """`defaults`: (key, maxSkew, hard) for pods without constraints; None: the system's own."""
        self._system = defaults is None
        self._defaults = [(k, s, False) for k, s in DEFAULT_CONSTRAINTS] if defaults is None else list(defaults)
        self._affinity, self._taints = NodeAffinity(), TaintToleration()
        self._memo: OrderedDict[tuple[int, int], _Counting] = OrderedDict()
        self._made: dict[tuple[Group, LabelSelector], tuple[Spread, ...]] = {}

    def constraints(self, nodes: Snapshot, shape: Shape, *, hard: bool) -> list[Spread]:
        """The pod's own constraints; for pods without any, the cluster's defaults over what Services and owners select."""
        if shape.terms.spread:
            return [c for c in shape.terms.spread if c.hard == hard]
        if not any(d[2] == hard for d in self._defaults):
            return []
        selector = nodes.workloads.selector_of(shape.group, shape.owner)
        return [c for c in self._default(shape.group, selector) if c.hard == hard] if selector is not None else []

    def _default(self, group: Group, selector: LabelSelector) -> tuple[Spread, ...]:
        made = self._made.get((group, selector))
        if made is None:
            pods = PodSelector(frozenset((group.namespace,)), selector, living=True)
            made = tuple(
                Spread(pods, key, skew, hard, matches_self=True, needs_all_keys=not self._system)
                for key, skew, hard in self._defaults
            )
            if len(self._made) > _MOST_MEMOISED:
                self._made.clear()
            self._made[group, selector] = made
        return made

    # -- filter

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        constraints = self.constraints(nodes, shape, hard=True)
        if not constraints:
            return None
        masks = [self._fits(nodes, shape, constraints, n) for n in range(len(constraints))]
        partial = [mask for mask in masks if mask is not None]
        return all_of(partial) if partial else None

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
        return ~all_of([nodes.topology(c.topology).keyed for c in constraints])

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return bool(self.constraints(nodes, shape, hard=True))

    def _fits(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int) -> Mask | None:
        c = constraints[n]
        topology = nodes.topology(c.topology)
        counting = self._counting(nodes, shape, constraints, n)
        if topology.lone and topology.everywhere:
            return self._fits_alone(nodes, c, counting)
        sums = self._sums(nodes, c, topology, counting)
        lowest = sums[counting.present].min(initial=np.inf)
        if counting.domains < c.min_domains:
            lowest = 0.0
        allowed: Mask = sums <= c.max_skew - c.matches_self + lowest
        allowed[-1] = False
        if topology.everywhere and int(np.count_nonzero(allowed)) == topology.domains:
            return None
        return allowed.take(topology.codes, mode="wrap")

    def _fits_alone(self, nodes: Snapshot, c: Spread, counting: _Counting) -> Mask | None:
        """The same where each node is a domain."""
        pods = nodes.pods.selected(c.selector).slots[: nodes.size]
        lowest = pods.min(initial=np.inf, where=counting.nodes) if counting.domains >= c.min_domains else 0.0
        allowed: Mask = pods <= c.max_skew - c.matches_self + lowest
        if not counting.everywhere:
            allowed |= ~counting.nodes  # the pods there do not count
        return None if allowed.all() else allowed

    def _sums(self, nodes: Snapshot, c: Spread, topology: Topology, counting: _Counting) -> Counts:
        """Pods per domain, on the nodes that count; and a last 0."""
        count = nodes.pods.selected(c.selector)
        if counting.everywhere:
            return nodes.pods.domains(count, c.topology)
        return nodes.pods.sums(count, topology, counting.nodes)

    def _counting(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int) -> _Counting:
        key = (id(shape), n if constraints[n].hard else -1 - n)
        known = self._memo.get(key)
        if known is not None and known.generation == nodes.generation and known.shape is shape:
            return known
        c = constraints[n]
        topology = nodes.topology(c.topology)
        counting = topology.keyed
        if c.needs_all_keys:
            counting = all_of([nodes.topology(o.topology).keyed for o in constraints])
        if c.honor_affinity and (affinity := self._affinity.mask(nodes, shape)) is not None:
            counting = counting & affinity
        if c.honor_taints and (taints := self._taints.mask(nodes, shape)) is not None:
            counting = counting & taints
        present = np.zeros(topology.domains + 1, np.bool_)
        present[topology.codes[counting]] = True
        everywhere = int(np.count_nonzero(counting)) == topology.keyed_count
        domains = int(np.count_nonzero(present))
        found = self._memo[key] = _Counting(nodes.generation, shape, counting, everywhere, present, domains)
        if len(self._memo) > _MOST_MEMOISED:
            self._memo.popitem(last=False)
        return found

    # -- score

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        return related.score(self, nodes, shape, feasible)

    def raw(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Raw | None:
        """What pods that are there already cost."""
        constraints = self.constraints(nodes, shape, hard=False)
        if not constraints:
            return None
        among = feasible
        if constraints[0].needs_all_keys:
            partial = [t.keyed for c in constraints if not (t := nodes.topology(c.topology)).everywhere]
            among = all_of([feasible, *partial]) if partial else feasible
        parts = [self._costs(nodes, shape, constraints, n, among) for n in range(len(constraints))]
        column = parts[0].column
        for part in parts[1:]:
            column += part.column

        def follow(slot: int) -> bool:
            for part in parts:
                if part.counts(slot):
                    column[part.beside(slot)] += part.each
            return True

        return Raw(column, among, follow, parts)

    def line(self, low: float, high: float) -> tuple[float, float] | None:
        return (-BEST / high, (high + low) * (BEST / high)) if high else (0.0, BEST)

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if self.constraints(nodes, shape, hard=False) else 0.0

    def _costs(self, nodes: Snapshot, shape: Shape, constraints: list[Spread], n: int, among: Mask) -> _Costs:
        """0 on nodes without the key. `among`: nodes that are in the running."""
        c = constraints[n]
        topology = nodes.topology(c.topology)
        counts = c.matches_self and not shape.group.terminating
        if c.topology == _HOSTNAME:
            each = math.log(int(np.count_nonzero(among)) + 2)
            column = nodes.pods.selected(c.selector).slots[: nodes.size] * each
            column += c.max_skew - 1
            if not topology.everywhere:
                column[~topology.keyed] = 0.0
            return _Costs(column, each, topology, topology.keyed if counts else None, alone=True)
        counting = self._counting(nodes, shape, constraints, n)
        each = math.log(_domains(topology, among) + 2)
        per_domain = self._sums(nodes, c, topology, counting) * each + (c.max_skew - 1)
        per_domain[-1] = 0.0
        column = per_domain.take(topology.codes, mode="wrap")
        return _Costs(column, each, topology, counting.nodes if counts else None)


def _domains(topology: Topology, among: Mask) -> int:
    """How many domains these nodes are in."""
    here = among & topology.keyed
    if int(np.count_nonzero(here)) == topology.keyed_count:
        return topology.present
    there = np.zeros(topology.domains, np.bool_)
    there[topology.codes[here]] = True
    return int(np.count_nonzero(there))
