"""CEL selectors of devices: (expression, device) -> whether it is meant. Answers are kept; the evaluator loads at first use.

An expression sees `device.driver`, `device.attributes["domain"].name` and `device.capacity["domain"].name`. A domain that a
device lacks reads as empty, a name that it lacks is an error, and an error ends the allocation (upstream's rules).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from jota.meta import cel, cel_functions
from jota.meta.cel import CelCompileError, CelError
from jota.scheduler.deviceview import Device

_DOMAIN = re.compile(r"""\.(?:attributes|capacity)\s*\[\s*["']([^"']*)["']\s*]""")
_MOST_KEPT = 100_000


class SelectorError(ValueError):
    """An expression that cannot be evaluated; the text names it."""


class Selectors:
    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], tuple[Device, bool | str]] = OrderedDict()

    def matches(self, expression: str, driver: str, device: Device) -> bool:
        """Raises SelectorError."""
        key = (expression, id(device))
        kept = self._known.get(key)
        if kept is None or kept[0] is not device:
            kept = self._known[key] = device, _answer(expression, driver, device)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        if isinstance(kept[1], str):
            raise SelectorError(kept[1])
        return kept[1]


def _answer(expression: str, driver: str, device: Device) -> bool | str:
    try:
        program, domains = _compiled(expression)
        found = program.evaluate({"device": _shown(driver, device, domains)})
    except CelCompileError as error:
        return f"selector {expression!r}: {error}"
    except (CelError, ValueError) as error:
        return f"selector {expression!r} failed for device {driver}/{device.name}: {error}"
    return found if isinstance(found, bool) else f"selector {expression!r} does not give true or false"


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> tuple[cel.Program, tuple[str, ...]]:
    return cel.compile(expression, {"device": None}), tuple(_DOMAIN.findall(expression))


def _shown(driver: str, device: Device, domains: tuple[str, ...]) -> dict[str, Any]:
    attributes: dict[str, dict[str, Any]] = {d: {} for d in domains}
    capacity: dict[str, dict[str, Any]] = {d: {} for d in domains}
    for name, value in (device.attributes or {}).items():
        domain, plain = split(name, driver)
        attributes.setdefault(domain, {})[plain] = attribute(value)
    for name, amount in (device.capacity or {}).items():
        domain, plain = split(name, driver)
        capacity.setdefault(domain, {})[plain] = cel_functions.quantity_value(str(amount.value))
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
    if value.get("version") is not None:
        return cel_functions.semver_value(str(value["version"]))
    for kind in ("strings", "ints", "bools"):
        if value.get(kind) is not None:
            return value[kind]
    return [cel_functions.semver_value(str(v)) for v in value.get("versions") or ()]
