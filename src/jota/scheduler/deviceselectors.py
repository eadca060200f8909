"""CEL selectors of devices: (expression, device) -> whether it is meant. Answers are kept; the evaluator loads at first use.

An expression sees `device.driver`, `device.attributes["domain"].name` and `device.capacity["domain"].name`. A domain that a
device lacks reads as empty, a name that it lacks is an error, and an error ends the allocation (upstream's rules).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jota.scheduler.deviceview import Device

if TYPE_CHECKING:  # loading it costs every start of the server; few clusters have devices
    from jota.meta.cel import Program

_WORD = re.compile(r"[A-Za-z0-9_]+")
_WHOLE = re.compile(r"\b(?:all|exists|exists_one|map|filter|size|in|transformList|transformMap)\b|\+")
"""In such an expression, names that are not written in it may matter too."""
_DOMAIN = re.compile(r"""\.(?:attributes|capacity)\s*\[\s*["']([^"']*)["']\s*]""")
_MOST_KEPT = 100_000


class SelectorError(ValueError):
    """An expression that cannot be evaluated; the text names it."""


class Selectors:
    """Devices that agree in all that an expression names have one answer: thousands of a model are asked about once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, bool | str] = OrderedDict()

    def matches(self, expression: str, driver: str, device: Device) -> bool:
        """Raises SelectorError."""
        key = (expression, driver, *_facts(expression, driver, device))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _answer(expression, driver, device)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        if isinstance(found, str):
            raise SelectorError(found)
        return found


@dataclass(slots=True, frozen=True)
class _Reading:
    """What an expression may look at."""

    domains: tuple[str, ...]
    words: frozenset[str]
    whole: bool
    """Whether names that are not written in it may matter."""


@lru_cache(maxsize=1024)
def _reading(expression: str) -> _Reading:
    words = frozenset(_WORD.findall(expression))
    return _Reading(tuple(_DOMAIN.findall(expression)), words, bool(_WHOLE.search(expression)))


def _facts(expression: str, driver: str, device: Device) -> list[Any]:
    """All that can decide the answer for this device, hashable."""
    reading = _reading(expression)
    out: list[Any] = [device.allowMultipleAllocations]
    for name, value in (device.attributes or {}).items():
        if reading.whole or split(name, driver)[1] in reading.words:
            out += (name, *((k, tuple(v) if isinstance(v, list) else v) for k, v in value.items()))
    for name, amount in (device.capacity or {}).items():
        if reading.whole or split(name, driver)[1] in reading.words:
            out += (name, amount.value)
    return out


def _answer(expression: str, driver: str, device: Device) -> bool | str:
    from jota.meta.cel import CelCompileError, CelError

    try:
        found = _compiled(expression).evaluate({"device": _shown(driver, device, _reading(expression).domains)})
    except CelCompileError as error:
        return f"selector {expression!r}: {error}"
    except (CelError, ValueError) as error:
        return f"selector {expression!r} failed for device {driver}/{device.name}: {error}"
    return found if isinstance(found, bool) else f"selector {expression!r} does not give true or false"


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Program:
    from jota.meta import cel

    return cel.compile(expression, {"device": None})


def _shown(driver: str, device: Device, domains: tuple[str, ...]) -> dict[str, Any]:
    from jota.meta.cel.library.amounts import quantity_of

    attributes: dict[str, dict[str, Any]] = {d: {} for d in domains}
    capacity: dict[str, dict[str, Any]] = {d: {} for d in domains}
    for name, value in (device.attributes or {}).items():
        domain, plain = split(name, driver)
        attributes.setdefault(domain, {})[plain] = attribute(value)
    for name, amount in (device.capacity or {}).items():
        domain, plain = split(name, driver)
        capacity.setdefault(domain, {})[plain] = quantity_of(str(amount.value))
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": device.allowMultipleAllocations,
    }


def split(name: str, driver: str) -> tuple[str, str]:
    """(domain, name) of a qualified name; the driver is the domain of an unqualified one."""
    domain, slash, plain = name.rpartition("/")
    return (domain, plain) if slash else (driver, name)


def attribute(value: dict[str, Any]) -> Any:
    """As expressions see it."""
    for kind in ("string", "int", "bool"):
        if value.get(kind) is not None:
            return value[kind]
    from jota.meta.cel.library.amounts import semver_of

    if value.get("version") is not None:
        return semver_of(str(value["version"]))
    for kind in ("strings", "ints", "bools"):
        if value.get(kind) is not None:
            return value[kind]
    return [semver_of(str(v)) for v in value.get("versions") or ()]
