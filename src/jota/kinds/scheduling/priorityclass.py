"""PriorityClasses: named priorities of pods. Their meaning is frozen: pods have copied the number."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, count_cell, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, meta, number, put_missing, text
from jota.meta.errors import FieldError, forbidden_field, not_supported
from jota.meta.resource import Resource

HIGHEST_USER = 1_000_000_000
SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
POLICIES = ["Never", "PreemptLowerPriority"]


def default(cls: Object) -> None:
    put_missing(cls, "preemptionPolicy", "PreemptLowerPriority")


def validate(cls: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    name, value = text(meta(cls), "name"), number(cls, "value")
    if name.startswith("system-"):
        if SYSTEM.get(name) != value:
            detail = "priority class names with 'system-' prefix are reserved for system use only"
            errors.append(forbidden_field("metadata.name", detail))
    elif value > HIGHEST_USER:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER}"
        errors.append(forbidden_field("value", detail))
    policy = text(cls, "preemptionPolicy")
    if policy not in POLICIES:
        errors.append(not_supported("preemptionPolicy", policy, POLICIES))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    fields = ("value", "preemptionPolicy")
    return [forbidden_field(f, "may not be changed in an update.") for f in fields if new.get(f) != old.get(f)]


KIND = Kind(
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
    schema="io.k8s.api.scheduling.v1.PriorityClass",
    singular="priorityclass",
    short_names=("pc",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Value", count_cell("value"), "integer"),
        plain("Global-Default", lambda c, _now: c.get("globalDefault") is True, "boolean"),
        AGE,
        plain("PreemptionPolicy", path_cell("preemptionPolicy", missing="")),
    ),
    generation=True,
)
