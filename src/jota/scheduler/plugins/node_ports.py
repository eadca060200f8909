"""NodePorts: a host port can be taken once per protocol and address; 0.0.0.0 clashes with every address."""

from __future__ import annotations

import numpy as np

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot

_ANY = "0.0.0.0"


class NodePorts:
    name = "NodePorts"
    static = False

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        if not shape.host_ports:
            return None
        passed = np.ones(nodes.size, np.bool_)
        passed[[slot for slot, taken in nodes.ports.items() if taken and _clash(shape, taken)]] = False
        return passed

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        taken = nodes.ports.get(slot)
        return not taken or not shape.host_ports or not _clash(shape, taken)

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        return True

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) didn't have free ports for the requested pod ports": int(refused.sum())}


def _clash(shape: Shape, taken: dict[tuple[str, str, int], int]) -> bool:
    return any(
        protocol == other and port == used and (address == where or _ANY in (address, where))
        for protocol, address, port in shape.host_ports
        for other, where, used in taken
    )
