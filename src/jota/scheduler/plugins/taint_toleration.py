"""TaintToleration: NoSchedule and NoExecute taints must be tolerated; PreferNoSchedule ones cost score."""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape, Toleration
from jota.scheduler.snapshot import Column, Mask, Snapshot, Taint

_HARD = ("NoSchedule", "NoExecute")
REASON = "node(s) had untolerated taint(s)"


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


def _first_untolerated(taints: tuple[Taint, ...], shape: Shape) -> Taint | None:
    return next((t for t in taints if t.effect in _HARD and not tolerates(shape.tolerations, t)), None)


class TaintToleration:
    name = "TaintToleration"
    static = True

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """Judged once per distinct set of taints."""
        good = [_first_untolerated(taints, shape) is None for taints in nodes.taint_sets]
        return None if all(good) else np.array(good, np.bool_)[nodes.taints]

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        return _first_untolerated(nodes.taint_sets[nodes.taints[slot]], shape) is None

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Which taints, is not told: who may make pods may not see nodes (upstream since 1.34)."""
        return {REASON: int(np.count_nonzero(refused))}

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        if not nodes.softly_tainted:
            return None
        counts = np.array([self._soft(shape, taints) for taints in nodes.taint_sets], np.float64)[nodes.taints]
        most = counts[feasible].max(initial=0.0)
        return BEST - counts * (BEST / most) if most else None

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None if nodes.softly_tainted else 0.0

    def _soft(self, shape: Shape, taints: tuple[Taint, ...]) -> int:
        return sum(t.effect == "PreferNoSchedule" and not tolerates(shape.tolerations, t) for t in taints)
