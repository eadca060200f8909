"""Device requests, shared by ResourceClaims and their templates: exactly one device of a class unless said otherwise."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.shape import Object, attach, part, parts, put_missing, text
from jota.meta.errors import FieldError, duplicate, invalid, required, too_long

_LONGEST_DRIVER = 63
"""Bytes of a driver's name."""


def default_devices(spec: Object) -> None:
    for request in parts(attach(spec, "devices"), "requests"):
        if isinstance(request.get("exactly"), dict):
            _default_one(request["exactly"])
        for choice in parts(request, "firstAvailable"):
            _default_one(choice)


def _default_one(request: Object) -> None:
    put_missing(request, "allocationMode", "ExactCount")
    if request["allocationMode"] == "ExactCount":
        put_missing(request, "count", 1)


def validate_selectors(of: Object, path: str) -> list[FieldError]:
    """Selectors are CEL: one that does not compile is refused here, not at the first pod."""
    from jota.meta.cel import CelCompileError, compile  # the evaluator loads when the first selector comes

    errors: list[FieldError] = []
    for i, selector in enumerate(parts(of, "selectors")):
        where, expression = f"{path}.selectors[{i}].cel.expression", text(part(selector, "cel"), "expression")
        if not expression:
            errors.append(required(where))
            continue
        try:
            compile(expression, {"device": None})
        except CelCompileError as error:
            errors.append(invalid(where, expression, str(error)))
    return errors


def validate_request_selectors(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, request in enumerate(parts(part(spec, "devices"), "requests")):
        where = f"{path}.devices.requests[{i}]"
        errors += validate_selectors(part(request, "exactly"), f"{where}.exactly")
        for n, choice in enumerate(parts(request, "firstAvailable")):
            errors += validate_selectors(choice, f"{where}.firstAvailable[{n}]")
    return errors


def validate_config(configs: list[Object], path: str) -> list[FieldError]:
    """What is said to drivers: to which one, and an object that only it understands."""
    errors: list[FieldError] = []
    for i, config in enumerate(configs):
        where, opaque = f"{path}[{i}].opaque", config.get("opaque")
        if not isinstance(opaque, dict):
            errors.append(required(where))
            continue
        driver, parameters = text(opaque, "driver"), opaque.get("parameters")
        if not driver:
            errors.append(required(f"{where}.driver"))
        elif len(driver) > _LONGEST_DRIVER:
            errors.append(too_long(f"{where}.driver", _LONGEST_DRIVER))
        else:
            errors += [invalid(f"{where}.driver", driver, detail) for detail in names.dns_subdomain(driver)]
        if parameters is None:
            errors.append(required(f"{where}.parameters"))
        elif not isinstance(parameters, dict):
            errors.append(invalid(f"{where}.parameters", "<value omitted>", "parameters must be a valid JSON object"))
    return errors


def validate_devices(spec: Object, path: str) -> list[FieldError]:
    errors = validate_config(parts(part(spec, "devices"), "config"), f"{path}.devices.config")
    seen: set[str] = set()
    for i, request in enumerate(parts(part(spec, "devices"), "requests")):
        where, name = f"{path}.devices.requests[{i}]", text(request, "name")
        if not name:
            errors.append(required(f"{where}.name"))
        if name in seen:
            errors.append(duplicate(f"{where}.name", name))
        seen.add(name)
        exactly = request.get("exactly")
        if isinstance(exactly, dict):
            if not text(exactly, "deviceClassName"):
                errors.append(required(f"{where}.exactly.deviceClassName"))
        elif not parts(request, "firstAvailable"):
            errors.append(required(where, "exactly one of `exactly` or `firstAvailable` is required"))
    return errors
