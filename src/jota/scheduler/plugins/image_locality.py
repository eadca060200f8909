"""ImageLocality: prefer nodes that have the pod's images already, large ones above all.

An image counts with its size times the share of nodes that have it, so that one lucky node does not draw every pod
(upstream: between 23 MB and 1000 MB per container).
"""

from __future__ import annotations

import numpy as np

from jota.scheduler.framework import BEST
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

_LEAST = 23 * 1024 * 1024
_MOST = 1000 * 1024 * 1024


class ImageLocality:
    name = "ImageLocality"
    own = True

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        if not any(image in nodes.images for image in shape.images):
            return None
        total, live = np.zeros(nodes.size), int(nodes.live.sum())
        for image in shape.images:
            held = nodes.images.get(image)
            if held:
                total[list(held)] += np.fromiter(held.values(), np.float64, len(held)) * (len(held) / live)
        span = _MOST * len(shape.images) - _LEAST
        return (np.clip(total, _LEAST, _LEAST + span) - _LEAST) * (BEST / span)

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        column = self.score(nodes, shape, nodes.live)
        return 0.0 if column is None else float(column[slot])
