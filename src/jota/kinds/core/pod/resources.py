"""Validation of resource requirements: amounts, names, and requests within limits."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.quantities import nanos
from jota.kinds.shape import Object, part
from jota.meta.errors import FieldError, invalid, required
from jota.meta.quantity import FORMAT_ERROR, NANO

STANDARD = frozenset(("cpu", "memory", "ephemeral-storage"))


def validate_resources(resources: Object, path: str, errors: list[FieldError]) -> None:
    limits, requests = part(resources, "limits"), part(resources, "requests")
    for side, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if name not in STANDARD:
                _name(name, f"{path}.{side}", errors)
            _amount(name, amount, f"{path}.{side}[{name}]", errors)
    for name, amount in requests.items():
        if name in limits:
            _within(name, amount, limits[name], f"{path}.requests", errors)
        elif not overcommittable(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))


def overcommittable(name: str) -> bool:
    """Whether a request may be below its limit: not for huge pages nor for extended resources."""
    return name in STANDARD or ("/" not in name and not name.startswith("hugepages-"))


def is_extended(name: str) -> bool:
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _name(name: str, path: str, errors: list[FieldError]) -> None:
    problems = names.qualified_name(name)
    errors += [invalid(path, name, problem) for problem in problems]
    if not problems and "/" not in name and not name.startswith("hugepages-"):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
        errors.append(invalid(path, name, "must be a standard resource for containers"))


def _amount(name: str, amount: object, path: str, errors: list[FieldError]) -> None:
    units = nanos(amount)
    if units is None:
        errors.append(invalid(path, amount, FORMAT_ERROR))
    elif units < 0:
        errors.append(invalid(path, str(amount), "must be greater than or equal to 0"))
    elif units % NANO and is_extended(name):
        errors.append(invalid(path, str(amount), "must be an integer"))


def _within(name: str, request: object, limit: object, path: str, errors: list[FieldError]) -> None:
    asked, most = nanos(request), nanos(limit)
    if asked is None or most is None or asked == most:
        return
    if not overcommittable(name):
        errors.append(invalid(path, str(request), f"must be equal to {name} limit of {limit}"))
    elif asked > most:
        errors.append(invalid(path, str(request), f"must be less than or equal to {name} limit of {limit}"))
