"""Topology hints: which zones and nodes an endpoint of a service is meant for. Pure. Next: endpointslice.py writes them,
node/proxy.py honours them.

In: a service's slices-to-be of one address family, and how the cluster's CPU is spread over zones. Out: hints put on the
endpoints, or the reason why there are none. Two ways, never both: `spec.trafficDistribution` (each endpoint is for where
it is), and the annotation topology-mode "Auto" (each zone gets a share of endpoints like its share of CPU).

Worked example of Auto: zones a and b have half of the CPU each, and 3 and 1 endpoints: one of a's is hinted for b.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jota.controllers import conditions
from jota.meta.quantity import milli

Object = dict[str, Any]

ZONE = "topology.kubernetes.io/zone"
MODE, OLD_MODE = "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"
NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")
OVERLOAD = 0.2
"""By how much more than its fair share an endpoint may be loaded because of hints."""
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

NO_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
NO_ZONE = "One or more endpoints do not have a zone specified"
TOO_FEW = "Insufficient number of endpoints"
OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"


@dataclass(slots=True)
class Draft:
    """One slice in the making: its endpoints (hints are put on them here) and the hints that it has in the API, by pod uid,
    when nothing but hints could change in it."""

    endpoints: list[Object]
    standing: dict[str, Object | None] | None = None


class Share(NamedTuple):
    """Endpoints of one zone."""

    least: int
    most: int
    desired: float


def automatic(service: Object) -> bool:
    """The annotation asks for hints; then `trafficDistribution` is not looked at."""
    notes = service["metadata"].get("annotations") or {}
    return notes.get(MODE, notes.get(OLD_MODE)) in ("Auto", "auto")


def zone_of(node: Object) -> str:
    return str((node["metadata"].get("labels") or {}).get(ZONE, ""))


def cpu_of(node: Object) -> tuple[str, int] | None:
    """(zone, allocatable CPU in thousandths) of a node that counts; None for control planes and nodes that are not ready."""
    labels = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    ready = conditions.find(status.get("conditions"), "Ready")
    if any(label in labels for label in _CONTROL_PLANE) or ready is None or ready.get("status") != "True":
        return None
    try:
        cpu = milli(str((status.get("allocatable") or {}).get("cpu", "0")))
    except ValueError:
        cpu = 0
    return zone_of(node), cpu


def ratios(nodes: Iterable[Object]) -> dict[str, float] | None:
    """Zone -> its part of the cluster's CPU; None when that cannot be known, or there is one zone only."""
    cpu: Counter[str] = Counter()
    for node in nodes:
        counted = cpu_of(node)
        if counted is None:
            continue
        zone, amount = counted
        if not zone or amount <= 0:
            return None
        cpu[zone] += amount
    total = cpu.total()
    return {zone: amount / total for zone, amount in sorted(cpu.items())} if len(cpu) > 1 else None


def near(distribution: str, drafts: Iterable[Draft]) -> None:
    """Hints for `trafficDistribution`: every ready endpoint is for its own zone and, with PreferSameNode, its own node."""
    if distribution not in NEAR:
        return
    for endpoint in (e for d in drafts for e in d.endpoints if e["conditions"]["ready"]):
        hints: Object = {}
        if zone := endpoint.get("zone"):
            hints["forZones"] = [{"name": zone}]
        if distribution == "PreferSameNode" and (node := endpoint.get("nodeName")):
            hints["forNodes"] = [{"name": node}]
        if hints:
            endpoint["hints"] = hints


def proportional(drafts: list[Draft], spread: Mapping[str, float] | None) -> str:
    """Hints for topology-mode Auto. Returns "" when they were given, else why there are none (upstream's words).

    Slices that stand keep the hints they have as long as no zone gets more than its share: a pod that comes or goes
    rewrites its own slice.
    """
    ready = [e for d in drafts for e in d.endpoints if e["conditions"]["ready"]]
    if spread is None:
        return NO_NODES
    shares, problem = shares_of(len(ready), spread)
    if not problem and any(not e.get("zone") for e in ready):
        problem = NO_ZONE
    if problem:
        return problem
    kept, free = _standing(drafts, shares)
    held = Counter({zone: n for zone, n in kept.items() if n})
    for endpoint in free:
        _hint(endpoint, endpoint["zone"])
        held[endpoint["zone"]] += 1
    _move(free, *_imbalance(shares, held))
    return ""


def shares_of(count: int, spread: Mapping[str, float]) -> tuple[dict[str, Share], str]:
    """Zone -> Share of `count` endpoints; or nothing, and why."""
    numbers = f"({count} endpoints, {len(spread)} zones)"
    if len(spread) > count:
        return {}, f"{TOO_FEW} {numbers}"
    least = {zone: math.ceil(round(ratio * count / (1 + OVERLOAD), 9)) for zone, ratio in spread.items()}
    spare = count - sum(least.values())
    if spare < 0:
        return {}, f"{OVERLOADED} {numbers}"
    return {z: Share(n, n + spare, max(spread[z] * count, float(n))) for z, n in least.items()}, ""


def _standing(drafts: list[Draft], shares: Mapping[str, Share]) -> tuple[Counter[str], list[Object]]:
    """(hints per zone of the slices that stay as they are, ready endpoints of all the others)."""
    kept: Counter[str] = Counter()
    free: list[Object] = []
    for draft in drafts:
        ready = [e for e in draft.endpoints if e["conditions"]["ready"]]
        zones = _zones_held(draft, ready)
        here = Counter(zones or ())
        if zones is None or any(z not in shares or kept[z] + n > shares[z].most for z, n in here.items()):
            free += ready
            continue
        kept += here
        for endpoint, zone in zip(ready, zones, strict=True):
            _hint(endpoint, zone)
    return kept, free


def _zones_held(draft: Draft, ready: list[Object]) -> list[str] | None:
    """The zone that each ready endpoint is hinted for now; None when the slice changes, or one has no hint of ours."""
    if draft.standing is None:
        return None
    zones = []
    for endpoint in ready:
        hints = draft.standing.get(endpoint["targetRef"]["uid"]) or {}
        given: list[Object] = hints.get("forZones") or []
        if len(given) != 1 or hints.get("forNodes"):
            return None
        zones.append(given[0]["name"])
    return zones


def _imbalance(shares: Mapping[str, Share], held: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """(endpoints that zones give away, that zones get). Half an endpoint is worth no move."""
    surplus = {z: held.get(z, 0) - s.desired for z, s in shares.items()}
    giving: Counter[str] = Counter()
    getting: Counter[str] = Counter()
    while True:
        giver = max(surplus, key=lambda z: (surplus[z], z))
        taker = min(surplus, key=lambda z: (surplus[z], z))
        more, less = surplus[giver], -surplus[taker]
        if more < 0.5 or less < 0.5 or (more < 1 and less < 1):
            return giving, getting
        giving[giver] += 1
        getting[taker] += 1
        surplus[giver] -= 1
        surplus[taker] += 1


def _move(free: list[Object], giving: Counter[str], getting: Counter[str]) -> None:
    for endpoint in free:
        taker = next((zone for zone in sorted(getting) if getting[zone] > 0), None)
        if taker is None:
            return
        if giving[endpoint["zone"]] > 0:
            _hint(endpoint, taker)
            giving[endpoint["zone"]] -= 1
            getting[taker] -= 1


def _hint(endpoint: Object, zone: str) -> None:
    endpoint["hints"] = {"forZones": [{"name": zone}]}


@dataclass(slots=True)
class Announcements:
    """What was said about a service's hints, so that nothing is said twice. Lost at a restart, as upstream's."""

    said: dict[str, dict[str, str]] = field(default_factory=dict)
    """Service key -> address family -> "" (enabled) or the problem."""

    def news(self, key: str, found: Mapping[str, str]) -> list[tuple[str, str, str]]:
        """Events (type, reason, message) for a change from what was said. `found`: as `said[key]`; empty when not automatic."""
        before = self.said.get(key, {})
        events = []
        for family, problem in found.items():
            if before.get(family) == problem:
                continue
            if problem:
                events.append(("Warning", "TopologyAwareHintsDisabled", f"{problem}, addressType: {family}"))
            elif "" not in before.values():
                events.append(("Normal", "TopologyAwareHintsEnabled", f"{ENABLED}, addressType: {family}"))
        for family in before.keys() - found.keys():
            if not before[family]:
                events.append(("Warning", "TopologyAwareHintsDisabled", f"{DISABLED}, addressType: {family}"))
        if found:
            self.said[key] = dict(found)
        else:
            self.said.pop(key, None)
        return events
