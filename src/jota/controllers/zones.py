"""How fast pods may be evicted from silent nodes, zone by zone. Pure; in: nodes with their zone and health; out: leave to evict.

One dead machine is a fact; half a zone that falls silent is more likely a broken network, and moving its pods would make it
worse. So each zone has a rate (upstream's node lifecycle controller, its states and its shares):

    normal    fewer than 55 % of the zone's nodes are unhealthy, or no more than two: `rate`
    partial   55 % or more: `secondary_rate` where the zone has more than 50 nodes, else no evictions
    full      all of them: `rate`, unless every zone is so: then nothing is evicted at all, the fault is likely ours

Nodes that fall silent together are found one by one; none of them is judged before SETTLE has passed, so that the state is
that of them all.

Next: nodelifecycle.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

State = Literal["normal", "partial", "full"]
UNHEALTHY_SHARE, FEW = 0.55, 2
SETTLE = 5.0
"""Seconds that a node has been unhealthy before its pods may be evicted."""
LARGE = 50
"""Nodes above which a partly silent zone still evicts, slowly."""
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"


def zone_of(labels: dict[str, str] | None) -> str:
    """Region and zone of a node; nodes without either are one zone."""
    found = labels or {}
    return f"{found.get(REGION, '')}/{found.get(ZONE, '')}"


@dataclass(slots=True)
class _Zone:
    nodes: dict[str, float | None] = field(default_factory=dict)
    """Name -> monotonic time since when it has been unhealthy; None: it is healthy."""
    unhealthy: int = 0
    free_at: float = -math.inf
    """Monotonic time of the next leave to evict."""


class Zones:
    def __init__(self, rate: float, secondary_rate: float) -> None:
        """Nodes per second whose pods may be evicted, per zone."""
        self._rate, self._secondary = rate, secondary_rate
        self._zones: dict[str, _Zone] = {}
        self._where: dict[str, str] = {}

    def put(self, node: str, zone: str, healthy: bool, now: float) -> None:
        known = self._where.get(node)
        if known is not None and known != zone:
            self.drop(node)
        group = self._zones.setdefault(zone, _Zone())
        since = group.nodes.get(node)
        group.unhealthy += (not healthy) - (since is not None)
        group.nodes[node] = None if healthy else now if since is None else since
        self._where[node] = zone

    def drop(self, node: str) -> None:
        zone = self._where.pop(node, None)
        if zone is None:
            return
        group = self._zones[zone]
        group.unhealthy -= group.nodes.pop(node) is not None
        if not group.nodes:
            del self._zones[zone]

    def state(self, zone: str) -> State:
        group = self._zones.get(zone)
        if group is None or not group.unhealthy:
            return "normal"
        if group.unhealthy == len(group.nodes):
            return "full"
        many = group.unhealthy > FEW and group.unhealthy >= UNHEALTHY_SHARE * len(group.nodes)
        return "partial" if many else "normal"

    def healthy(self, node: str) -> bool:
        zone = self._where.get(node)
        return zone is None or self._zones[zone].nodes[node] is None

    def all_silent(self) -> bool:
        """Every zone is fully disrupted: not the nodes are to blame."""
        return bool(self._zones) and all(self.state(zone) == "full" for zone in self._zones)

    def ask(self, node: str, now: float) -> float:
        """Seconds until the node's pods may be evicted: 0 is leave to do it now, and is counted; infinity: not in this state.

        `now` is monotonic."""
        zone = self._where.get(node)
        if zone is None or self.all_silent():
            return math.inf
        group, rate = self._zones[zone], self._rate
        if self.state(zone) == "partial":
            rate = self._secondary if len(group.nodes) > LARGE else 0.0
        if rate <= 0:
            return math.inf
        free_at = max(group.free_at, (group.nodes[node] or 0.0) + SETTLE)
        if free_at > now:
            return free_at - now
        group.free_at = now + 1 / rate
        return 0.0
