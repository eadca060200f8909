"""FlowSchemas: which requests share a priority level."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, count_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, deep, part, parts, put_missing, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource

LOWEST = 10000


def default(schema: Object) -> None:
    put_missing(attach(schema, "spec"), "matchingPrecedence", 1000)


def validate(schema: Object) -> list[FieldError]:
    spec = part(schema, "spec")
    errors: list[FieldError] = []
    precedence = spec.get("matchingPrecedence")
    if type(precedence) is int and precedence <= 0:
        errors.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
    if type(precedence) is int and precedence > LOWEST:
        errors.append(invalid("spec.matchingPrecedence", precedence, f"must not be greater than {LOWEST}"))
    if not text(part(spec, "priorityLevelConfiguration"), "name"):
        errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    return errors


def _missing(schema: Object, _now: float) -> str:
    for condition in parts(part(schema, "status"), "conditions"):
        if condition.get("type") == "Dangling":
            return text(condition, "status")
    return "?"


KIND = Kind(
    Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", False),
    schema="io.k8s.api.flowcontrol.v1.FlowSchema",
    singular="flowschema",
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("PriorityLevel", lambda f, _now: text(deep(f, "spec", "priorityLevelConfiguration"), "name") or NONE),
        plain("MatchingPrecedence", count_cell("spec", "matchingPrecedence")),
        plain("DistinguisherMethod", lambda f, _now: text(deep(f, "spec", "distinguisherMethod"), "type") or NONE),
        AGE,
        plain("MissingPL", _missing),
    ),
    status=True,
    generation=True,
    name_rule="path-segment",
)
