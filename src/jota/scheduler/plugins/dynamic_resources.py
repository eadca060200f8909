"""DynamicResources: devices are not allocated here yet, so pods that claim some are refused in plain words, never misplaced."""

from __future__ import annotations

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot


class DynamicResources:
    name = "DynamicResources"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        return np.zeros(nodes.size, np.bool_) if shape.devices else None

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"pod has resource claims, which this scheduler does not allocate": int(refused.sum())}

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        return np.ones(nodes.size, np.bool_) if shape.devices else None
