"""TaintToleration: NoSchedule and NoExecute taints must be tolerated; PreferNoSchedule ones cost score."""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape, Toleration
from jota.scheduler.snapshot import Column, Mask, Snapshot, Taint

_HARD = ("NoSchedule", "NoExecute")


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    """Upstream's rule: an empty key with Exists matches all keys, an empty effect all effects."""
    return any(_matches(t, taint) for t in tolerations)


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def _first_untolerated(nodes: Snapshot, shape: Shape, slot: int) -> Taint | None:
    node = nodes.facts[slot]
    for taint in (node.spec.taints if node else None) or ():
        if taint.effect in _HARD and not tolerates(shape.tolerations, taint):
            return taint
    return None


class TaintToleration:
    name = "TaintToleration"
    static = True
    weight = 3.0

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        return np.fromiter(
            (_first_untolerated(nodes, shape, s) is None for s in range(nodes.size)), np.bool_, nodes.size
        )

    def reasons(self, nodes: Snapshot, shape: Shape, slot: int) -> list[str]:
        taint = _first_untolerated(nodes, shape, slot)
        return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"] if taint else []

    def score(self, nodes: Snapshot, shape: Shape) -> Column | None:
        counts = {slot: self._soft(nodes, shape, slot) for slot in nodes.softly_tainted}
        most = max(counts.values(), default=0)
        if not most:
            return None
        column = np.full(nodes.size, BEST)
        for slot, count in counts.items():
            column[slot] = BEST * (1.0 - count / most)
        return column

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float:
        column = self.score(nodes, shape)
        return 0.0 if column is None else float(column[slot])

    def _soft(self, nodes: Snapshot, shape: Shape, slot: int) -> int:
        node = nodes.facts[slot]
        taints = (node.spec.taints if node else None) or ()
        return sum(t.effect == "PreferNoSchedule" and not tolerates(shape.tolerations, t) for t in taints)
