"""InterPodAffinity: near which pods, and far from which, a pod may or would rather run.

Rules as upstream's plugin: required terms of the pod, required anti-affinity of pods that are there already (it binds
newcomers too), preferences of both sides, and a small pull (weight 1) from the required affinity of pods that are there.
The first pod of a group that wants its own kind near may go anywhere that has the topology keys.
"""

from __future__ import annotations

import numpy as np

from jota.scheduler.counts import Count
from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot, all_of, none_of

_AFFINITY = "node(s) didn't match pod affinity rules"
_ANTI = "node(s) didn't match pod anti-affinity rules"
_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"


class InterPodAffinity:
    name = "InterPodAffinity"
    static = False

    def __init__(self, hard_weight: int = 1, ignore_existing_preferences: bool = False) -> None:
        """`hardPodAffinityWeight` and `ignorePreferredTermsOfExistingPods` of InterPodAffinityArgs."""
        self._hard_weight, self._ignore_existing = hard_weight, ignore_existing_preferences

    # -- filter

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        parts = [self._near(nodes, shape), self._far(nodes, shape), self._unwelcome(nodes, shape)]
        given = [p for p in parts if p is not None]
        return all_of(given) if given else None

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
        own = (*terms.affinity, *terms.anti_affinity, *terms.preferred)
        return any(nodes.pods.matches(t.selector, shape.group) for t in own) or bool(terms.affinity)

    def _near(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Nodes whose domains hold a pod that matches all required terms, for each term's key."""
        terms = shape.terms.affinity
        if not terms:
            return None
        counts = nodes.pods
        count = counts.selected(*(t.selector for t in terms))
        labelled = [nodes.label(t.topology)[0] >= 0 for t in terms]
        found = [counts.per_node(count, t.topology) > 0 for t in terms]
        if not any(f.any() for f in found) and all(counts.matches(t.selector, shape.group) for t in terms):
            return all_of(labelled)
        return all_of(found)

    def _far(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        terms = shape.terms.anti_affinity
        if not terms:
            return None
        counts = nodes.pods
        taken = [counts.per_node(counts.selected(t.selector), t.topology) > 0 for t in terms]
        return none_of(taken)

    def _unwelcome(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        counts = nodes.pods
        carried = [(t, c) for kind, t, c in counts.carried(shape.group) if kind == "anti"]
        if not carried:
            return None
        return none_of([counts.per_node(c, t.topology) > 0 for t, c in carried])

    # -- score

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        total = self._raw(nodes, shape)
        if total is None:
            return None
        some = total[feasible]
        if not len(some):
            return None
        low, high = some.min(), some.max()
        return (total - low) * (BEST / (high - low)) if high > low else None

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return 0.0 if not shape.terms.preferred and not shape.terms.affinity and not self._pulls(nodes, shape) else None

    def _raw(self, nodes: Snapshot, shape: Shape) -> Column | None:
        counts, pulls = nodes.pods, self._pulls(nodes, shape)
        if not shape.terms.preferred and not pulls:
            return None
        total = np.zeros(nodes.size)
        for t in shape.terms.preferred:
            total += t.weight * counts.per_node(counts.selected(t.selector), t.topology)
        for weight, key, count in pulls:
            total += weight * counts.per_node(count, key)
        return total

    def _pulls(self, nodes: Snapshot, shape: Shape) -> list[tuple[int, str, Count]]:
        """(weight, topology key, carriers) of existing pods' terms that match this pod."""
        found = []
        for kind, term, count in nodes.pods.carried(shape.group):
            if kind == "soft" and not self._ignore_existing:
                found.append((term.weight, term.topology, count))
            elif kind == "hard" and self._hard_weight:
                found.append((self._hard_weight, term.topology, count))
        return found
