"""NodeAffinity: nodeSelector and node affinity, required as a filter, preferred as a score."""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.nodeselector import term_mask
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


class NodeAffinity:
    name = "NodeAffinity"
    static = True

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

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) didn't match Pod's node affinity/selector": int(refused.sum())}

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        preferred = shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if not preferred:
            return None
        total = np.zeros(nodes.size)
        for entry in preferred:
            total += float(entry.get("weight", 0)) * term_mask(nodes, entry.get("preference") or {})
        most = total[feasible].max(initial=0.0)
        return total * (BEST / most) if most else None

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if shape.affinity.get("preferredDuringSchedulingIgnoredDuringExecution") else 0.0
