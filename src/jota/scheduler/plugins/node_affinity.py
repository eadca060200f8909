"""NodeAffinity: nodeSelector and node affinity, required as a filter, preferred as a score."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from jota.scheduler.columns import among_all
from jota.scheduler.framework import BEST
from jota.scheduler.nodeselector import term_fits, term_mask
from jota.scheduler.pod import Placement, Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

_MOST_MEMOISED = 64
_MISMATCH = "node(s) didn't match Pod's node affinity/selector"
_ENFORCED = "node(s) didn't match scheduler-enforced node affinity"


class NodeAffinity:
    name = "NodeAffinity"
    static = True

    def __init__(self, added: Mapping[str, Any] | None = None) -> None:
        """`addedAffinity` of NodeAffinityArgs: a NodeAffinity that holds for every pod of the profile, beside its own."""
        self._added = dict(added or {})
        self._preferred: OrderedDict[int, tuple[int, Placement, Column]] = OrderedDict()
        """Sums of weights, until a node changes."""

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        required = shape.affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        added = self._added.get("requiredDuringSchedulingIgnoredDuringExecution")
        if not shape.selector and not required and not added:
            return None
        passed = np.ones(nodes.size, np.bool_)
        for key, text in shape.selector:
            codes, values = nodes.label(key)
            passed &= codes == values.get(text, -2)
        for selector in (required, added):
            if selector:
                passed &= _any_of(nodes, selector)
        return passed

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        node = nodes.facts[slot]
        if node is None:
            return False
        labels = node.metadata.labels or {}
        if any(labels.get(key) != text for key, text in shape.selector):
            return False
        return all(
            any(term_fits(node.metadata.name, labels, t) for t in required.get("nodeSelectorTerms") or ())
            for part in (shape.affinity, self._added)
            if (required := part.get("requiredDuringSchedulingIgnoredDuringExecution"))
        )

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Each node by the profile's own affinity first, as upstream judges it."""
        added = self._added.get("requiredDuringSchedulingIgnoredDuringExecution")
        enforced = int((refused & ~_any_of(nodes, added)).sum()) if added else 0
        found = {_ENFORCED: enforced, _MISMATCH: int(refused.sum()) - enforced}
        return {reason: count for reason, count in found.items() if count}

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        preferred = self._wishes(shape)
        if not preferred:
            return None
        total = self._weights(nodes, shape, preferred)
        most = among_all(total, feasible).max(initial=0.0)
        return total * (BEST / most) if most else None

    def _weights(self, nodes: Snapshot, shape: Shape, preferred: list[dict[str, Any]]) -> Column:
        placement = shape.placement
        known = self._preferred.get(id(placement))
        if known is not None and known[0] == nodes.generation and known[1] is placement:
            return known[2]
        total = np.zeros(nodes.size)
        for entry in preferred:
            total += float(entry.get("weight", 0)) * term_mask(nodes, entry.get("preference") or {})
        self._preferred[id(placement)] = (nodes.generation, placement, total)
        if len(self._preferred) > _MOST_MEMOISED:
            self._preferred.popitem(last=False)
        return total

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if self._wishes(shape) else 0.0

    def _wishes(self, shape: Shape) -> list[dict[str, Any]]:
        mine: list[dict[str, Any]] = shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        added = self._added.get("preferredDuringSchedulingIgnoredDuringExecution")
        return [*mine, *added] if added else mine


def _any_of(nodes: Snapshot, selector: Mapping[str, Any]) -> Mask:
    terms = [term_mask(nodes, t) for t in selector.get("nodeSelectorTerms") or ()]
    return np.logical_or.reduce(terms) if terms else np.zeros(nodes.size, np.bool_)
