"""Give devices to claims on one node: a depth-first search over requests and devices. Pure.

In: what the claims demand, the node's devices in order, which are taken. Out: a Grant per claim, or why there is none. The
first devices that meet everything are taken, as upstream; the search is bounded, so a puzzle of constraints cannot hold
up the scheduler.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from jota.meta.quantity import parse
from jota.scheduler.deviceselectors import SelectorError, Selectors, Unanswered, attribute, split
from jota.scheduler.deviceview import (
    MOST_DEVICES,
    Constraint,
    CounterId,
    Demand,
    Device,
    DeviceClass,
    DeviceId,
    Taint,
    Want,
    tolerates,
)

_MOST_STEPS = 20_000


@dataclass(slots=True, frozen=True, eq=False)
class Candidate:
    driver: str
    pool: str
    device: Device
    node: str = ""
    """Where it is; "" for one that several nodes reach."""
    selector: dict[str, Any] | None = None
    """Which nodes reach it; None and no node: all."""
    skips: tuple[str, ...] = ()
    """Operations on the node that it does not need."""
    costs: tuple[tuple[CounterId, int], ...] = ()
    """What it takes from the counters of its pool, in nano-units."""
    taints: tuple[Taint, ...] = ()
    """Its own, and those that rules put on it."""

    @property
    def id(self) -> DeviceId:
        return self.driver, self.pool, self.device.name


@dataclass(slots=True)
class Grant:
    node: str
    body: dict[str, Any]
    """As status.allocation."""


@dataclass(slots=True)
class _Request:
    claim: int
    ways: tuple[Want, ...]


class _TooHard(Exception):
    pass


def allocate(
    claims: Sequence[tuple[str, Demand]],
    candidates: Sequence[Candidate],
    node: str,
    classes: Mapping[str, DeviceClass],
    held: Container[DeviceId],
    selectors: Selectors,
    left: Mapping[CounterId, int] = MappingProxyType({}),
) -> list[Grant] | str:
    """`claims`: (name, demand) in the order of the pod. `held`: devices that other claims have. `left`: of counters."""
    search = _Search(claims, candidates, classes, held, selectors, left)
    try:
        found = search.solve(0)
    except SelectorError as error:
        return str(error)
    except _TooHard:
        return f"no allocation was found in {_MOST_STEPS} steps"
    if not found:
        return search.explain()
    return [search.grant(n, node) for n in range(len(claims))]


@dataclass(slots=True)
class _Search:
    claims: Sequence[tuple[str, Demand]]
    candidates: Sequence[Candidate]
    classes: Mapping[str, DeviceClass]
    held: Container[DeviceId]
    selectors: Selectors
    left: Mapping[CounterId, int]
    requests: list[_Request] = field(init=False)
    chosen: list[tuple[int, Want, Candidate]] = field(default_factory=list)
    """(claim, way, device)"""
    taken: set[DeviceId] = field(default_factory=set)
    spent: dict[CounterId, int] = field(default_factory=dict)
    """By the chosen devices."""
    steps: int = 0
    _meant: dict[Want, list[Candidate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests = [_Request(n, ways) for n, (_, demand) in enumerate(self.claims) for ways in demand.requests]

    def solve(self, at: int) -> bool:
        """Satisfy the requests from `at` on."""
        if at == len(self.requests):
            return True
        request = self.requests[at]
        for want in request.ways:
            meant = self.meant(want)
            if want.count == 0:
                if meant and self._take_all(at, want, meant):
                    return True
            elif len(meant) >= want.count and self._take_some(at, want, meant, want.count, 0):
                return True
        return False

    def _take_all(self, at: int, want: Want, meant: list[Candidate]) -> bool:
        """Every device that is meant, or none."""
        claim, before = self.requests[at].claim, len(self.chosen)
        for candidate in meant:
            if not self.free(want, candidate) or not self._allowed(claim, want, candidate):
                break
            self._take(claim, want, candidate)
        else:
            if self.solve(at + 1):
                return True
        while len(self.chosen) > before:
            self._give_back()
        return False

    def _take_some(self, at: int, want: Want, meant: list[Candidate], left: int, start: int) -> bool:
        if left == 0:
            return self.solve(at + 1)
        claim = self.requests[at].claim
        for n in range(start, len(meant) - left + 1):
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise _TooHard
            if self.free(want, meant[n]) and self._allowed(claim, want, meant[n]):
                self._take(claim, want, meant[n])
                if self._take_some(at, want, meant, left - 1, n + 1):
                    return True
                self._give_back()
        return False

    def _take(self, claim: int, want: Want, candidate: Candidate) -> None:
        self.chosen.append((claim, want, candidate))
        if not want.admin:
            self.taken.add(candidate.id)
            self._spend(candidate, +1)

    def _give_back(self) -> None:
        _, want, candidate = self.chosen.pop()
        if not want.admin:
            self.taken.discard(candidate.id)
            self._spend(candidate, -1)

    def _spend(self, candidate: Candidate, sign: int) -> None:
        for counter, amount in candidate.costs:
            self.spent[counter] = self.spent.get(counter, 0) + sign * amount

    # -- what may be taken

    def meant(self, want: Want) -> list[Candidate]:
        """Devices that the class, the selectors and the capacity of the request allow. Raises SelectorError."""
        known = self._meant.get(want)
        if known is None:
            known, unanswered = [], None
            for candidate in self.candidates:
                try:
                    if self._selected(want, candidate):
                        known.append(candidate)
                except Unanswered as error:
                    unanswered = error  # the questions about the others are asked along with it
            if unanswered is not None:
                raise unanswered
            self._meant[want] = known
        return known

    def _selected(self, want: Want, candidate: Candidate) -> bool:
        found = self.classes.get(want.device_class)
        if found is None:
            return False
        expressions = [(s.cel or {}).get("expression", "") for s in found.spec.selectors or ()]
        for expression in (*expressions, *want.selectors):
            if not self.selectors.matches(expression, candidate.driver, candidate.device):
                return False
        return all(_capacity(candidate, name) >= amount for name, amount in want.capacity)

    def free(self, want: Want, candidate: Candidate) -> bool:
        if candidate.device.beyond_us:
            return False
        if any(
            t.effect in ("NoSchedule", "NoExecute") and not tolerates(want.tolerations, t) for t in candidate.taints
        ):
            return False
        # Admin access sees a device whoever has it.
        if want.admin:
            return True
        if candidate.id in self.held or candidate.id in self.taken:
            return False
        return all(amount + self.spent.get(c, 0) <= self.left.get(c, 0) for c, amount in candidate.costs)

    def _allowed(self, claim: int, want: Want, candidate: Candidate) -> bool:
        """Whether the claim's constraints hold with this device beside those chosen, and it is not one too many."""
        mine = [(w, c) for n, w, c in self.chosen if n == claim]
        if len(mine) >= MOST_DEVICES:
            return False
        for constraint in self.claims[claim][1].constraints:
            if constraint.concerns(want.name):
                value = _value(candidate, constraint)
                others = [_value(c, constraint) for w, c in mine if constraint.concerns(w.name)]
                if value is None or any((value == o) == constraint.distinct for o in others):
                    return False
        return True

    # -- results

    def grant(self, claim: int, node: str) -> Grant:
        mine = [(w, c) for n, w, c in self.chosen if n == claim]
        results = []
        for want, c in mine:
            result: dict[str, Any] = {"request": want.name, "driver": c.driver, "pool": c.pool, "device": c.device.name}
            if want.admin:
                result["adminAccess"] = True
            if want.raw_tolerations:
                result["tolerations"] = list(want.raw_tolerations)
            if c.skips:
                result["skipNodeOperations"] = list(c.skips)
            results.append(result)
        devices: dict[str, Any] = {"results": results}
        config = self._config(self.claims[claim][1], [w for w, _ in mine])
        if config:
            devices["config"] = config
        body: dict[str, Any] = {"devices": devices}
        selector = _reach(node, [c for _, c in mine])
        if selector is not None:
            body["nodeSelector"] = selector
        return Grant(node, body)

    def _config(self, demand: Demand, wants: list[Want]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for want in dict.fromkeys(wants):
            found = self.classes.get(want.device_class)
            for config in (found.spec.config if found is not None else None) or ():
                out.append({"source": "FromClass", "requests": [want.name], **config})
        names = {w.name for w in wants} | {w.name.partition("/")[0] for w in wants}
        for config in demand.config:
            if not config.get("requests") or names & set(config["requests"]):
                out.append({"source": "FromClaim", **config})
        return out

    def explain(self) -> str:
        """The first request that cannot be met even by itself, or what is left: the requests together."""
        for request in self.requests:
            problem = ""
            for want in request.ways:
                meant = self.meant(want)
                free = [c for c in meant if self.free(want, c)]
                if (free and len(free) == len(meant)) if want.count == 0 else len(free) >= want.count:
                    problem = ""
                    break
                problem = problem or _shortage(self.claims[request.claim][0], want, meant, len(free))
            if problem:
                return problem
        constrained = any(demand.constraints for _, demand in self.claims)
        return (
            "no set of free devices meets all requests" + (" and constraints" if constrained else "") + " of the claims"
        )


def _shortage(claim: str, want: Want, meant: list[Candidate], free: int) -> str:
    where = f'resource claim "{claim}", request "{want.name}": '
    if not meant:
        return where + f"no device of class {want.device_class} matches"
    features = sorted({c.device.beyond_us for c in meant} - {""})
    drained = sum(bool(c.costs) for c in meant)
    tainted = sum(any(not tolerates(want.tolerations, t) for t in c.taints) for c in meant)
    why = f" ({', '.join(features)}: not supported)" if features else f" ({tainted} tainted)" if tainted else ""
    why = why or (" (their pool's counters are used up)" if drained and free < len(meant) else "")
    asked = f"all {len(meant)}" if want.count == 0 else str(want.count)
    return where + f"{asked} device(s) of class {want.device_class} wanted, {free} of {len(meant)} free{why}"


def _capacity(candidate: Candidate, name: str) -> int:
    """Nano-units; -1 when the device has none of that name."""
    wanted = split(name, candidate.driver)
    for own, amount in (candidate.device.capacity or {}).items():
        if split(own, candidate.driver) == wanted:
            return parse(str(amount.value)).nanos
    return -1


def _value(candidate: Candidate, constraint: Constraint) -> tuple[str, Any] | None:
    """The attribute with its type; None when the device lacks it."""
    wanted = split(constraint.attribute, candidate.driver)
    for own, value in (candidate.device.attributes or {}).items():
        if split(own, candidate.driver) == wanted:
            kind = next((k for k, v in value.items() if v is not None), "")
            return kind, attribute(value)
    return None


def _reach(node: str, candidates: list[Candidate]) -> dict[str, Any] | None:
    """Where all of them can be used: this node if one is local, else what their selectors ask for together."""
    if any(c.node for c in candidates):
        here = {"key": "metadata.name", "operator": "In", "values": [node]}
        return {"nodeSelectorTerms": [{"matchFields": [here]}]}
    expressions: list[Any] = []
    fields: list[Any] = []
    for c in candidates:
        for term in (c.selector or {}).get("nodeSelectorTerms") or ():
            expressions += [e for e in term.get("matchExpressions") or () if e not in expressions]
            fields += [e for e in term.get("matchFields") or () if e not in fields]
    term = {k: v for k, v in (("matchExpressions", expressions), ("matchFields", fields)) if v}
    return {"nodeSelectorTerms": [term]} if term else None
