"""Objects of resource.k8s.io as the scheduler sees them: slices with their devices, classes, claims, and what a claim demands.

In: bytes from the informers. Out: structs, and `demand_of`, which turns a claim's spec into requests that the allocator
works on; what this scheduler does not do is found here and told by name. Next: devices.py keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from jota.meta.quantity import parse

FINALIZER = "resource.kubernetes.io/delete-protection"
MOST_DEVICES = 32
"""Devices that one claim can be given (upstream's AllocationResultsMaxSize)."""
MOST_CONSUMERS = 256
"""Pods that one claim can be reserved for (upstream's ResourceClaimReservedForMaxSize)."""
DeviceId = tuple[str, str, str]
"""(driver, pool, device)"""
CounterId = tuple[str, str, str, str]
"""(driver, pool, counter set, counter)"""


class Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None
    finalizers: list[str] | None = None


class Selector(msgspec.Struct, gc=False):
    cel: dict[str, str] | None = None


class Taint(msgspec.Struct, gc=False):
    key: str = ""
    value: str = ""
    effect: str = ""


class Toleration(msgspec.Struct, gc=False, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    return any(_tolerates(t, taint) for t in tolerations)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return (toleration.operator or "Equal") == "Exists" or (bool(toleration.key) and toleration.value == taint.value)


class Capacity(msgspec.Struct, gc=False):
    value: str | int | float = "0"


class Consumption(msgspec.Struct, gc=False):
    counterSet: str = ""
    counters: dict[str, Capacity] | None = None
    compatibilityGroups: list[str] | None = None


class CounterSet(msgspec.Struct, gc=False):
    """What the devices of a pool share: parts of one card draw on its memory."""

    name: str = ""
    counters: dict[str, Capacity] | None = None


class Device(msgspec.Struct):
    name: str
    attributes: dict[str, dict[str, Any]] | None = None
    capacity: dict[str, Capacity] | None = None
    taints: list[Taint] | None = None
    nodeName: str = ""
    nodeSelector: dict[str, Any] | None = None
    allNodes: bool = False
    consumesCounters: list[Consumption] | None = None
    allowMultipleAllocations: bool = False
    bindingConditions: list[str] | None = None
    nodeAllocatableResources: dict[str, Any] | None = None

    @property
    def beyond_us(self) -> str:
        """The feature that keeps this scheduler from giving the device to anybody; "" for an ordinary one."""
        for name in ("allowMultipleAllocations", "bindingConditions", "nodeAllocatableResources"):
            if getattr(self, name):
                return name
        return "compatibilityGroups" if any(c.compatibilityGroups for c in self.consumesCounters or ()) else ""


class Pool(msgspec.Struct, gc=False):
    name: str
    generation: int = 0
    resourceSliceCount: int = 1


class SliceSpec(msgspec.Struct):
    driver: str
    pool: Pool
    nodeName: str = ""
    nodeSelector: dict[str, Any] | None = None
    allNodes: bool = False
    perDeviceNodeSelection: bool = False
    devices: list[Device] | None = None
    skipNodeOperations: list[str] | None = None
    sharedCounters: list[CounterSet] | None = None


class Slice(msgspec.Struct):
    metadata: Meta
    spec: SliceSpec


class DeviceSelector(msgspec.Struct, gc=False):
    driver: str | None = None
    pool: str | None = None
    device: str | None = None

    def matches(self, id_: DeviceId) -> bool:
        """An empty one matches every device."""
        return all(w is None or w == own for w, own in zip((self.driver, self.pool, self.device), id_, strict=True))


class _RuleSpec(msgspec.Struct):
    taint: Taint
    deviceSelector: DeviceSelector | None = None


class TaintRule(msgspec.Struct):
    """A DeviceTaintRule: a taint that an administrator, not the driver, puts on devices."""

    metadata: Meta
    spec: _RuleSpec

    def concerns(self, id_: DeviceId) -> bool:
        """Without a selector it is about no device."""
        return self.spec.deviceSelector is not None and self.spec.deviceSelector.matches(id_)


class ClassSpec(msgspec.Struct):
    selectors: list[Selector] | None = None
    config: list[dict[str, Any]] | None = None


class DeviceClass(msgspec.Struct):
    metadata: Meta
    spec: ClassSpec = msgspec.field(default_factory=ClassSpec)


class Result(msgspec.Struct, gc=False):
    driver: str
    pool: str
    device: str
    request: str = ""
    adminAccess: bool = False
    tolerations: list[Toleration] | None = None


class _Results(msgspec.Struct, gc=False):
    results: list[Result] | None = None


class Allocation(msgspec.Struct, gc=False):
    devices: _Results | None = None
    nodeSelector: dict[str, Any] | None = None

    @property
    def held(self) -> list[DeviceId]:
        """Devices that nobody else can have; admin access takes none."""
        found = (self.devices.results if self.devices is not None else None) or ()
        return [(r.driver, r.pool, r.device) for r in found if not r.adminAccess]


class Consumer(msgspec.Struct, gc=False):
    name: str = ""
    uid: str = ""
    resource: str = ""


class ClaimStatus(msgspec.Struct):
    allocation: Allocation | None = None
    reservedFor: list[Consumer] | None = None


class Claim(msgspec.Struct):
    metadata: Meta
    spec: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    status: ClaimStatus = msgspec.field(default_factory=ClaimStatus)

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name


# --- what a claim demands --------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Want:
    """One way to satisfy a request."""

    name: str
    """request, or request/subrequest."""
    device_class: str
    selectors: tuple[str, ...] = ()
    count: int = 1
    """0: all devices that match."""
    admin: bool = False
    tolerations: tuple[Toleration, ...] = ()
    capacity: tuple[tuple[str, int], ...] = ()
    """(name, at least this many nano-units)."""
    raw_tolerations: tuple[Any, ...] = field(default=(), compare=False)


@dataclass(slots=True, frozen=True)
class Constraint:
    attribute: str
    requests: frozenset[str]
    """Requests or subrequests that it is about; empty: all."""
    distinct: bool = False

    def concerns(self, want: str) -> bool:
        return not self.requests or want in self.requests or want.partition("/")[0] in self.requests


@dataclass(slots=True, frozen=True)
class Demand:
    requests: tuple[tuple[Want, ...], ...] = ()
    """Per request its alternatives, the best first."""
    constraints: tuple[Constraint, ...] = ()
    config: tuple[Any, ...] = field(default=(), compare=False)
    fault: str = ""
    """What this scheduler cannot do, in words."""


@lru_cache(maxsize=4096)
def demand_of(spec: bytes) -> Demand:
    """Of a claim's spec."""
    devices = msgspec.json.decode(spec).get("devices") or {}
    requests: list[tuple[Want, ...]] = []
    try:
        for request in devices.get("requests") or ():
            name = request["name"]
            if request.get("exactly"):
                requests.append((_want(name, request["exactly"]),))
            else:
                choices = request.get("firstAvailable") or ()
                requests.append(tuple(_want(f"{name}/{c['name']}", c) for c in choices))
        constraints = tuple(_constraint(c) for c in devices.get("constraints") or ())
    except _Unsupported as what:
        return Demand(fault=str(what))
    if sum(min(w.count for w in ways) for ways in requests if ways) > MOST_DEVICES:
        return Demand(fault=f"asks for more than the {MOST_DEVICES} devices that a claim can be given")
    return Demand(tuple(requests), constraints, tuple(devices.get("config") or ()))


class _Unsupported(Exception):
    pass


def _want(name: str, given: dict[str, Any]) -> Want:
    if given.get("derivedAttributes"):
        raise _Unsupported(f'request "{name}": derivedAttributes are not supported')
    mode = given.get("allocationMode") or "ExactCount"
    if mode not in ("ExactCount", "All"):
        raise _Unsupported(f'request "{name}": allocationMode {mode} is not supported')
    raw = tuple(given.get("tolerations") or ())
    capacity = ((given.get("capacity") or {}).get("requests") or {}).items()
    return Want(
        name=name,
        device_class=given.get("deviceClassName") or "",
        selectors=tuple((s.get("cel") or {}).get("expression", "") for s in given.get("selectors") or ()),
        count=0 if mode == "All" else int(given.get("count") or 1),
        admin=bool(given.get("adminAccess")),
        tolerations=tuple(msgspec.convert(raw, list[Toleration])),
        capacity=tuple((k, parse(str(v)).nanos) for k, v in sorted(capacity)),
        raw_tolerations=raw,
    )


def _constraint(given: dict[str, Any]) -> Constraint:
    requests = frozenset(given.get("requests") or ())
    if given.get("matchAttribute"):
        return Constraint(given["matchAttribute"], requests)
    if given.get("distinctAttribute"):
        return Constraint(given["distinctAttribute"], requests, distinct=True)
    raise _Unsupported("has a constraint of a kind that is not supported")
