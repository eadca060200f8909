"""IngressClasses: which controller serves the ingresses that name them."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, deep, part, put_missing, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

SCOPES = ["Cluster", "Namespace"]


def default(cls: Object) -> None:
    parameters = deep(cls, "spec", "parameters")
    if parameters:
        put_missing(parameters, "scope", "Cluster")


def validate(cls: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    parameters, path = deep(cls, "spec", "parameters"), "spec.parameters"
    if not parameters:
        return errors
    for field in ("kind", "name"):
        if not text(parameters, field):
            errors.append(required(f"{path}.{field}"))
    scope = text(parameters, "scope")
    if scope not in SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, SCOPES))
    elif scope == "Namespace" and not text(parameters, "namespace"):
        detail = "`parameters.scope` is set to 'Namespace'"
        errors.append(required(f"{path}.namespace", detail))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    controller = part(new, "spec").get("controller")
    if controller != part(old, "spec").get("controller"):
        return [invalid("spec.controller", controller, IMMUTABLE)]
    return []


def _parameters(cls: Object, _now: float) -> str:
    parameters = deep(cls, "spec", "parameters")
    if not parameters:
        return NONE
    group = f".{text(parameters, 'apiGroup')}" if text(parameters, "apiGroup") else ""
    return f"{text(parameters, 'kind')}{group}/{text(parameters, 'name')}"


KIND = Kind(
    Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False),
    schema="io.k8s.api.networking.v1.IngressClass",
    singular="ingressclass",
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Controller", path_cell("spec", "controller", missing="")),
        plain("Parameters", _parameters),
        AGE,
    ),
    generation=True,
)
