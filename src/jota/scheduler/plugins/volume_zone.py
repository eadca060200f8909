"""VolumeZone: a volume that is labelled with a zone or region is used on nodes of the same one (older cloud volumes)."""

from __future__ import annotations

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot

ZONE_KEYS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
_SEPARATOR = "__"
"""Between the zones of a volume that spans several."""


class VolumeZone:
    name = "VolumeZone"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        out: Mask | None = None
        for name in shape.volumes.claims:
            claim = nodes.storage.claims.get((shape.group.namespace, name))
            volume = nodes.storage.volumes.get(claim.spec.volumeName) if claim is not None else None
            for key, text in ((volume.metadata.labels if volume else None) or {}).items():
                if key in ZONE_KEYS:
                    codes, values = nodes.label(key)
                    wanted = [values[v] for v in text.split(_SEPARATOR) if v in values]
                    # Nodes that know no zones at all are let through, as upstream does.
                    fits = np.isin(codes, wanted) | ~self._zoned(nodes)
                    out = fits if out is None else out & fits
        return out

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        return False

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) had no available volume zone": int(refused.sum())}

    def unresolvable(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        mask = self.mask(nodes, shape)
        return None if mask is None else ~mask

    def _zoned(self, nodes: Snapshot) -> Mask:
        out = np.zeros(nodes.size, np.bool_)
        for key in ZONE_KEYS:
            out |= nodes.label(key)[0] >= 0
        return out
