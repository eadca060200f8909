"""PriorityLevelConfigurations -> how many seats each level has of its own, may lend, and may borrow. Pure.

    nominal = total * shares / all shares           what it has when everybody wants theirs
    minimum = nominal - lendable percent of it      what nobody else can take
    maximum = nominal + borrowing limit             what it gets at most when others are idle

Seats above the minimum that are free go to whoever asks; `level.py` hands them out request by request, so nothing has to
be adjusted by a timer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jota.kinds.kind import Object
from jota.kinds.shape import number, part, text


@dataclass(slots=True, frozen=True)
class Limits:
    """One level's settings."""

    name: str
    uid: str
    exempt: bool
    nominal: int
    minimum: int
    maximum: int
    queues: int
    """0: what finds no seat is refused."""
    hand: int
    length: int
    """Requests that may wait in one queue."""


def plan(levels: Iterable[Object], total: int) -> dict[str, Limits]:
    """By name. `total`: the server's seats."""
    found = [(obj["metadata"], part(obj, "spec")) for obj in levels]
    everything = sum(_shares(spec) for _, spec in found) or 1
    return {meta["name"]: _one(meta["name"], meta.get("uid", ""), spec, total, everything) for meta, spec in found}


def _one(name: str, uid: str, spec: Object, total: int, everything: int) -> Limits:
    shares, own = _shares(spec), _own(spec)
    nominal = -(-total * shares // everything)
    minimum = nominal - round(nominal * number(own, "lendablePercent") / 100)
    borrowing = own.get("borrowingLimitPercent")
    maximum = total if borrowing is None else min(total, nominal + round(nominal * int(borrowing) / 100))
    response = part(own, "limitResponse")
    queuing = part(response, "queuing") if text(response, "type") == "Queue" else {}
    return Limits(
        name,
        uid,
        text(spec, "type") == "Exempt",
        nominal,
        minimum,
        max(maximum, nominal),
        number(queuing, "queues", 64) if text(response, "type") == "Queue" else 0,
        number(queuing, "handSize", 8),
        number(queuing, "queueLengthLimit", 50),
    )


def _own(spec: Object) -> Object:
    return part(spec, "exempt" if text(spec, "type") == "Exempt" else "limited")


def _shares(spec: Object) -> int:
    return number(_own(spec), "nominalConcurrencyShares", 0 if text(spec, "type") == "Exempt" else 30)
