"""NodeAffinity: nodeSelector and node affinity, required as a filter, preferred as a score."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from jota.scheduler.columns import among_all
from jota.scheduler.framework import BEST
from jota.scheduler.nodeselector import term_fits, term_mask
from jota.scheduler.pod import Placement, Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

_MOST_MEMOISED = 64


class NodeAffinity:
    name = "NodeAffinity"
    static = True

    def __init__(self) -> None:
        self._preferred: OrderedDict[int, tuple[int, Placement, Column]] = OrderedDict()
        """Sums of weights, until a node changes."""

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        required = shape.affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        if not shape.selector and not required:
            return None
        passed = np.ones(nodes.size, np.bool_)
        for key, text in shape.selector:
            codes, values = nodes.label(key)
            passed &= codes == values.get(text, -2)
        if required:
            terms = [term_mask(nodes, t) for t in required.get("nodeSelectorTerms") or ()]
            passed &= np.logical_or.reduce(terms) if terms else False
        return passed

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        node = nodes.facts[slot]
        if node is None:
            return False
        labels = node.metadata.labels or {}
        if any(labels.get(key) != text for key, text in shape.selector):
            return False
        required = shape.affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        terms = (required or {}).get("nodeSelectorTerms") or ()
        return not required or any(term_fits(node.metadata.name, labels, t) for t in terms)

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) didn't match Pod's node affinity/selector": int(refused.sum())}

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        preferred = shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
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
        return None if shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") else 0.0
