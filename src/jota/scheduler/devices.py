"""Which devices there are, where, and who has them. Fed from informers; decisions on their way to the API are assumed here.

In: slices, classes, claims. Out: the candidates of a node in a fixed order, and what each unallocated claim could be given
there (allocator.py). Answers per node are kept until a device of that node changes hands. Next: plugins/dynamic_resources.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from jota.meta.quantity import parse
from jota.scheduler.allocator import Candidate, Grant, allocate
from jota.scheduler.deviceselectors import Selectors
from jota.scheduler.deviceview import (
    Allocation,
    Claim,
    CounterId,
    Device,
    DeviceClass,
    DeviceId,
    Slice,
    Taint,
    TaintRule,
    demand_of,
    tolerates,
)
from jota.scheduler.nodeselector import selector_mask

if TYPE_CHECKING:
    from jota.scheduler.snapshot import Mask, Snapshot

Key = tuple[str, str]
"""(namespace, name) of a claim"""
_MOST_DEMANDS = 256


@dataclass(slots=True)
class Assumed:
    """An allocation that is decided but not seen in the API yet."""

    node: str
    body: dict[str, Any]
    """As status.allocation."""
    allocation: Allocation
    users: int = 0


@dataclass(slots=True)
class _Offer:
    """The devices of all pools, sorted out by where they can be used."""

    local: dict[str, list[Candidate]] = field(default_factory=dict)
    """By node name."""
    wide: list[tuple[dict[str, Any] | None, list[Candidate]]] = field(default_factory=list)
    """(node selector, devices); None: every node."""
    by_id: dict[DeviceId, str] = field(default_factory=dict)
    """Device -> its node; "" for one that several nodes reach."""
    condemned: dict[DeviceId, list[Taint]] = field(default_factory=dict)
    """Devices with NoExecute taints."""
    costs: dict[DeviceId, tuple[tuple[CounterId, int], ...]] = field(default_factory=dict)
    """Of devices that draw on counters of their pool."""
    limits: dict[CounterId, int] = field(default_factory=dict)
    """Nano-units."""


class Devices:
    def __init__(self) -> None:
        self.claims: dict[Key, Claim] = {}
        self.classes: dict[str, DeviceClass] = {}
        self.assumed: dict[Key, Assumed] = {}
        self.synced = False
        self._slices: dict[str, Slice] = {}
        self._rules: dict[str, TaintRule] = {}
        self._held: dict[DeviceId, int] = {}
        self._left: dict[CounterId, int] = {}
        """What held devices leave of counters; kept with `_offer`."""
        self.selectors = Selectors()
        self._offer: _Offer | None = None
        self._answers: dict[tuple[bytes, ...], dict[str | tuple[bool, ...], str]] = {}
        """Demands together -> node, or what it reaches -> why they cannot be met there; "": they can."""
        self._masks: tuple[int, list[Mask | None]] = (-1, [])

    # -- changes

    def put_claim(self, claim: Claim) -> bool:
        """False for one that is older than what we know (our own writes are known before the informer brings them)."""
        known = self.claims.get(claim.key)
        if known is not None and known.metadata.uid == claim.metadata.uid and _older(claim, known):
            return False
        self._count(self.allocation_of(claim.key), -1)
        self.claims[claim.key] = claim
        if claim.status.allocation is not None:
            self.assumed.pop(claim.key, None)
        self._count(self.allocation_of(claim.key), +1)
        return True

    def remove_claim(self, claim: Claim) -> None:
        self._count(self.allocation_of(claim.key), -1)
        self.claims.pop(claim.key, None)
        self.assumed.pop(claim.key, None)

    def put_class(self, name: str, found: DeviceClass | None) -> None:
        if found is None:
            self.classes.pop(name, None)
        else:
            self.classes[name] = found
        self._answers.clear()

    def put_slice(self, name: str, found: Slice | None) -> None:
        if found is None:
            self._slices.pop(name, None)
        else:
            self._slices[name] = found
        self._offer = None
        self._answers.clear()

    def put_rule(self, name: str, found: TaintRule | None) -> None:
        if found is None:
            self._rules.pop(name, None)
        else:
            self._rules[name] = found
        self._offer = None
        self._answers.clear()

    def answered(self) -> None:
        """Selectors that had no answer have one now."""
        self._answers.clear()

    def assume(self, key: Key, grant: Grant) -> None:
        """The claim is as good as allocated."""
        allocation = msgspec.convert(grant.body, Allocation)
        self.assumed[key] = Assumed(grant.node, grant.body, allocation)
        self._count(allocation, +1)

    def unassume(self, key: Key) -> None:
        known = self.assumed.pop(key, None)
        if known is not None:
            self._count(known.allocation, -1)

    def _count(self, allocation: Allocation | None, sign: int) -> None:
        for device in allocation.held if allocation is not None else ():
            offer = self._sorted()
            self._held[device] = self._held.get(device, 0) + sign
            for counter, amount in offer.costs.get(device, ()):
                self._left[counter] = self._left.get(counter, 0) - sign * amount
            if not self._held[device]:
                del self._held[device]
            node = offer.by_id.get(device, "")
            if not node:
                self._answers.clear()
            for answers in self._answers.values():
                answers.pop(node, None)

    # -- answers

    def allocation_of(self, key: Key) -> Allocation | None:
        claim, assumed = self.claims.get(key), self.assumed.get(key)
        if claim is not None and claim.status.allocation is not None:
            return claim.status.allocation
        return assumed.allocation if assumed is not None else None

    def verdicts(self, nodes: Snapshot, keys: tuple[Key, ...]) -> list[str]:
        """Per slot why the unallocated claims `keys` cannot all be allocated there; "" where they can."""
        offer = self._sorted()
        reach = self._reach(nodes, offer)
        demands = tuple(bytes(self.claims[k].spec) for k in keys)
        if demands not in self._answers and len(self._answers) >= _MOST_DEMANDS:
            self._answers.clear()
        answers = self._answers.setdefault(demands, {})
        # Nodes without devices of their own differ only in which of the other devices they reach.
        patterns = list(zip(*(m.tolist() for m in reach if m is not None), strict=True)) or [()] * nodes.size
        out = []
        for slot, name in enumerate(nodes.names):
            kept: str | tuple[bool, ...] = name if name in offer.local else patterns[slot]
            found = answers.get(kept)
            if found is None:
                given = self.grants(nodes, keys, slot)
                found = answers[kept] = given if isinstance(given, str) else ""
            out.append(found)
        return out

    def grants(self, nodes: Snapshot, keys: tuple[Key, ...], slot: int) -> dict[Key, Grant] | str:
        """What each claim would be given on this node, or why not."""
        demands = [(key[1], demand_of(bytes(self.claims[key].spec))) for key in keys]
        candidates, node = self.candidates(nodes, slot), nodes.names[slot]
        found = allocate(demands, candidates, node, self.classes, self._held, self.selectors, self._left)
        return found if isinstance(found, str) else dict(zip(keys, found, strict=True))

    def condemned(self, allocation: Allocation) -> str:
        """A device of the allocation that no further pod may use, because of a NoExecute taint; "" when there is none."""
        bad = self._sorted().condemned
        for r in (allocation.devices.results if allocation.devices is not None else None) or () if bad else ():
            taints = bad.get((r.driver, r.pool, r.device), ())
            if not all(tolerates(r.tolerations or (), t) for t in taints):
                return f"{r.driver}/{r.pool}/{r.device}"
        return ""

    def candidates(self, nodes: Snapshot, slot: int) -> list[Candidate]:
        """The devices that can be used on this node, taken or not."""
        offer = self._sorted()
        out = list(offer.local.get(nodes.names[slot], ()))
        for mask, (_, devices) in zip(self._reach(nodes, offer), offer.wide, strict=True):
            if mask is None or mask[slot]:
                out += devices
        return out

    def _reach(self, nodes: Snapshot, offer: _Offer) -> list[Mask | None]:
        if self._masks[0] != nodes.generation:
            self._answers.clear()
        if self._masks[0] != nodes.generation or len(self._masks[1]) != len(offer.wide):
            self._masks = nodes.generation, [_selected(nodes, selector) for selector, _ in offer.wide]
        return self._masks[1]

    def _sorted(self) -> _Offer:
        if self._offer is None:
            self._offer = _offer_of(list(self._slices.values()), list(self._rules.values()))
            self._masks = (-1, [])
            self._left = dict(self._offer.limits)
            for device, times in self._held.items():
                for counter, amount in self._offer.costs.get(device, ()):
                    self._left[counter] = self._left.get(counter, 0) - times * amount
        return self._offer


def _older(claim: Claim, known: Claim) -> bool:
    mine, theirs = claim.metadata.resourceVersion, known.metadata.resourceVersion
    return mine.isdigit() and theirs.isdigit() and int(mine) < int(theirs)


def _selected(nodes: Snapshot, selector: dict[str, Any] | None) -> Mask | None:
    return None if selector is None else selector_mask(nodes, selector)


def _offer_of(slices: list[Slice], rules: list[TaintRule]) -> _Offer:
    """Of each pool only the newest generation counts, and only when all its slices are here."""
    pools: dict[tuple[str, str], list[Slice]] = {}
    for s in slices:
        pools.setdefault((s.spec.driver, s.spec.pool.name), []).append(s)
    offer = _Offer()
    wide: dict[bytes, tuple[dict[str, Any] | None, list[Candidate]]] = {}
    for (driver, pool), members in sorted(pools.items()):
        newest = max(s.spec.pool.generation for s in members)
        current = sorted((s for s in members if s.spec.pool.generation == newest), key=lambda s: s.metadata.name)
        whole = len(current) >= max(s.spec.pool.resourceSliceCount for s in current)
        names = [d.name for s in current for d in s.spec.devices or ()]
        if not whole or len(names) != len(set(names)):
            continue
        for s in current:
            for shared in s.spec.sharedCounters or ():
                for name, amount in (shared.counters or {}).items():
                    offer.limits[driver, pool, shared.name, name] = parse(str(amount.value)).nanos
            for device in s.spec.devices or ():
                place: Any = device if s.spec.perDeviceNodeSelection else s.spec
                costs, id_ = _costs(driver, pool, device), (driver, pool, device.name)
                taints = (*(device.taints or ()), *(r.spec.taint for r in rules if r.concerns(id_)))
                candidate = Candidate(
                    driver, pool, device, place.nodeName, place.nodeSelector, _skipped(s), costs, taints
                )
                if executing := [t for t in taints if t.effect == "NoExecute"]:
                    offer.condemned[candidate.id] = executing
                if costs:
                    offer.costs[candidate.id] = costs
                offer.by_id[candidate.id] = place.nodeName
                if place.nodeName:
                    offer.local.setdefault(place.nodeName, []).append(candidate)
                elif place.allNodes or place.nodeSelector is not None:
                    selector = None if place.allNodes else place.nodeSelector
                    wide.setdefault(msgspec.json.encode(selector), (selector, []))[1].append(candidate)
    offer.wide = list(wide.values())
    return offer


def _costs(driver: str, pool: str, device: Device) -> tuple[tuple[CounterId, int], ...]:
    return tuple(
        ((driver, pool, taken.counterSet, name), parse(str(amount.value)).nanos)
        for taken in device.consumesCounters or ()
        for name, amount in (taken.counters or {}).items()
    )


def _skipped(found: Slice) -> tuple[str, ...]:
    return tuple(found.spec.skipNodeOperations or ())
