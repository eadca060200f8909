"""InterPodAffinity: near which pods, and far from which, a pod may or would rather run.

Rules as upstream's plugin: required terms of the pod, required anti-affinity of pods that are there already (it binds
newcomers too), preferences of both sides, and a small pull (weight 1) from the required affinity of pods that are there.
The first pod of a group that wants its own kind near may go anywhere that has the topology keys.
"""

from __future__ import annotations

import numpy as np

from jota.scheduler import related
from jota.scheduler.counts import Count
from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.related import Raw, cannot_follow
from jota.scheduler.snapshot import Column, Mask, Snapshot, all_of

_AFFINITY = "node(s) didn't match pod affinity rules"
_ANTI = "node(s) didn't match pod anti-affinity rules"
_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"


class InterPodAffinity:
    name = "InterPodAffinity"
    static = False

    def __init__(self, hard_weight: int = 1, ignore_existing_preferences: bool = False) -> None:
        """`hardPodAffinityWeight` and `ignorePreferredTermsOfExistingPods` of InterPodAffinityArgs.

        The latter: for pods without preferences of their own there is no score at all (upstream).
        """
        self._hard_weight, self._ignore_existing = hard_weight, ignore_existing_preferences

    # -- filter

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        passed = self._near(nodes, shape)
        for part in (self._far(nodes, shape), self._unwelcome(nodes, shape)):
            if part is not None:
                passed = part if passed is None else passed & part
        return passed

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return not shape.terms.affinity

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Each node by the first rule that keeps it out."""
        found, left = {}, refused
        for part, reason in ((self._near, _AFFINITY), (self._far, _ANTI), (self._unwelcome, _EXISTING)):
            mask = part(nodes, shape)
            if mask is not None:
                if count := int((left & ~mask).sum()):
                    found[reason] = count
                left = left & mask
        return found

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where removing pods cannot help: required affinity wants pods, not their absence."""
        near = self._near(nodes, shape)
        return None if near is None else ~near

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        terms = shape.terms
        return bool(terms.affinity) or any(nodes.pods.matches(t.selector, shape.group) for t in terms.anti_affinity)

    def _near(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Nodes whose domains hold a pod that matches all required terms, for each term's key."""
        terms = shape.terms.affinity
        if not terms:
            return None
        counts = nodes.pods
        count = counts.selected(*(t.selector for t in terms))
        if not any(counts.anywhere(count, t.topology) for t in terms) and all(
            counts.matches(t.selector, shape.group) for t in terms
        ):
            return all_of([nodes.topology(t.topology).keyed for t in terms])
        partial = [t.topology for t in terms if not counts.in_every_domain(count, t.topology)]
        return all_of([counts.per_node(count, key) > 0 for key in partial]) if partial else None

    def _far(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Nodes whose domains hold no pod that a term of the pod's own anti-affinity means."""
        counts = nodes.pods
        return _empty(nodes, [(counts.selected(t.selector), t.topology) for t in shape.terms.anti_affinity])

    def _unwelcome(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Nodes whose domains hold no pod whose anti-affinity means this one."""
        return _empty(nodes, [(c, t.topology) for kind, t, c in nodes.pods.carried(shape.group) if kind == "anti"])

    # -- score

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        return related.score(self, nodes, shape, feasible)

    def raw(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Raw | None:
        """Pods in the node's domain that pull the pod there, less those that push it away."""
        if self._ignore_existing and not shape.terms.preferred:
            return None
        pods, carried = nodes.pods, nodes.pods.carried(shape.group)
        parts = self._pulls(nodes, shape)
        parts += [(t.weight, t.topology, pods.selected(t.selector)) for t in shape.terms.preferred]
        telling = [(w, key, c) for (key, c), w in _merged(parts) if w and not nodes.topology(key).whole]
        present = [part for part in telling if part[2].total]
        if not present:
            return None
        column = np.zeros(nodes.size)
        for weight, key, count in present:
            column += weight * pods.per_node(count, key)

        def follow(slot: int) -> bool:
            if pods.carried(shape.group) is not carried:
                return False
            column[slot] = sum(weight * count.slots[slot] for weight, _, count in telling)
            return True

        topologies = [nodes.topology(key) for _, key, _ in telling]
        return Raw(column, feasible, follow if all(t.lone and t.everywhere for t in topologies) else cannot_follow)

    def line(self, low: float, high: float) -> tuple[float, float] | None:
        if low == high:
            return None
        factor = BEST / (high - low)
        return factor, -low * factor

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        terms = shape.terms
        if self._ignore_existing and not terms.preferred:
            return 0.0
        # Its own required affinity pulls the next of its kind, also when nobody is there yet.
        return None if terms.preferred or terms.affinity or self._pulls(nodes, shape) else 0.0

    def _pulls(self, nodes: Snapshot, shape: Shape) -> list[tuple[int, str, Count]]:
        """(weight, topology key, carriers) of existing pods' terms that match this pod."""
        found = []
        for kind, term, count in nodes.pods.carried(shape.group):
            if kind == "soft":
                found.append((term.weight, term.topology, count))
            elif kind == "hard" and self._hard_weight:
                found.append((self._hard_weight, term.topology, count))
        return found


def _empty(nodes: Snapshot, parts: list[tuple[Count, str]]) -> Mask | None:
    """Where none of these pods is in the node's domain; None: everywhere."""
    passed: Mask | None = None
    for count, key in parts:
        if count.total:
            free = nodes.pods.per_node(count, key) == 0
            passed = free if passed is None else passed & free
    return passed


def _merged(parts: list[tuple[int, str, Count]]) -> list[tuple[tuple[str, Count], int]]:
    """Weights of the same pods in the same topology added up."""
    found: dict[tuple[str, Count], int] = {}
    for weight, key, count in parts:
        found[key, count] = found.get((key, count), 0) + weight
    return list(found.items())
