"""LimitRanges: default and extreme resources of pods, containers and claims in a namespace. Admission applies them."""

from __future__ import annotations

from jota.kinds.common import CREATED, NAME
from jota.kinds.kind import Kind
from jota.kinds.quantities import canonical_resources, nanos, not_negative_resources
from jota.kinds.shape import Object, attach, part, parts, text
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid
from jota.meta.resource import Resource

AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def default(limits: Object) -> None:
    """A container limit nobody set is the maximum; a request nobody set is the limit, else the minimum."""
    for item in parts(part(limits, "spec"), "limits"):
        canonical_resources(item, *AMOUNTS)
        if text(item, "type") != "Container":
            continue
        chains = (("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min"))
        for target, source in chains:
            for name, amount in part(item, source).items():
                attach(item, target).setdefault(name, amount)


def validate(limits: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, item in enumerate(parts(part(limits, "spec"), "limits")):
        path, type = f"spec.limits[{i}]", text(item, "type")
        if type in seen:
            errors.append(duplicate(f"{path}.type", type))
        seen.add(type)
        for field in AMOUNTS:
            errors += not_negative_resources(item, field, path)
        if type == "Pod":
            for field in ("default", "defaultRequest"):
                if part(item, field):
                    errors.append(forbidden_field(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
        errors += _validate_order(item, path)
    return errors


_ORDER = (
    ("min", "max", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "min value {} is greater than default request value {}"),
    ("min", "default", "min value {} is greater than default value {}"),
    ("defaultRequest", "max", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "default request value {} is greater than default limit value {}"),
    ("default", "max", "default value {} is greater than max value {}"),
)


def _validate_order(item: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for lower, upper, detail in _ORDER:
        high = part(item, upper)
        for name, amount in part(item, lower).items():
            low_nanos, high_nanos = nanos(amount), nanos(high.get(name))
            if low_nanos is not None and high_nanos is not None and low_nanos > high_nanos:
                where = f"{path}.{'min' if lower == 'min' else lower}[{name}]"
                errors.append(invalid(where, str(amount), detail.format(amount, high[name])))
    return errors


KIND = Kind(
    Resource("", "v1", "limitranges", "LimitRange"),
    schema="io.k8s.api.core.v1.LimitRange",
    singular="limitrange",
    short_names=("limits",),
    default=default,
    validate=validate,
    columns=(NAME, CREATED),
    create_on_update=True,
)
