"""DeviceTaintRules: a taint for devices that drivers did not taint themselves."""

from __future__ import annotations

from jota.kinds import conditions, names
from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, deep, part, parts, text
from jota.kinds.status import only_status
from jota.meta.errors import FieldError, invalid, not_supported, required, too_long
from jota.meta.resource import Resource

EFFECTS = ["NoExecute", "NoSchedule", "None"]
MOST_CONDITIONS = 8
_LONGEST_DRIVER, _LONGEST_POOL = 63, 253


def validate(rule: Object) -> list[FieldError]:
    return _selector(deep(rule, "spec", "deviceSelector"), "spec.deviceSelector") + _taint(
        deep(rule, "spec", "taint"), "spec.taint"
    )


def _selector(selector: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    driver, pool, device = selector.get("driver"), selector.get("pool"), selector.get("device")
    if isinstance(driver, str):
        errors += _name(driver, f"{path}.driver", _LONGEST_DRIVER)
    if isinstance(pool, str):
        where = f"{path}.pool"
        if not pool:
            errors.append(required(where))
        elif len(pool) > _LONGEST_POOL:
            errors.append(too_long(where, _LONGEST_POOL))
        else:
            errors += [invalid(where, pool, p) for piece in pool.split("/") for p in names.dns_subdomain(piece)]
    if isinstance(device, str):
        errors += [invalid(f"{path}.device", device, problem) for problem in names.dns_label(device)]
    return errors


def _name(driver: str, path: str, longest: int) -> list[FieldError]:
    if not driver:
        return [required(path)]
    errors = [too_long(path, longest)] if len(driver) > longest else []
    return errors + [invalid(path, driver, problem) for problem in names.dns_subdomain(driver.lower())]


def _taint(taint: Object, path: str) -> list[FieldError]:
    key, value, effect = text(taint, "key"), text(taint, "value"), text(taint, "effect")
    errors = [invalid(f"{path}.key", key, problem) for problem in names.qualified_name(key)]
    errors += [invalid(f"{path}.value", value, problem) for problem in names.label_value(value)]
    if not effect:
        errors.append(required(f"{path}.effect"))
    elif effect not in EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, EFFECTS))
    return errors


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    status = part(new, "status")
    errors, count = conditions.validate(status), len(parts(status, "conditions"))
    if count > MOST_CONDITIONS:
        detail = f"Too many: {count}: must have at most {MOST_CONDITIONS} items"
        errors.append(FieldError("FieldValueTooMany", "status.conditions", detail))
    return errors


KIND = Kind(
    Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False),
    schema="io.k8s.api.resource.v1.DeviceTaintRule",
    singular="devicetaintrule",
    validate=validate,
    validate_status=validate_status,
    prepare_status=only_status,
    columns=(NAME, AGE),
    status=True,
    generation=True,
)
