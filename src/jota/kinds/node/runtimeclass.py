"""RuntimeClasses: which runtime handler runs a pod. Admission copies overhead and scheduling into the pod."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.quantities import canonical_resources
from jota.kinds.shape import Object, part, text
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import Resource


def default(cls: Object) -> None:
    canonical_resources(part(cls, "overhead"), "podFixed")


def validate(cls: Object) -> list[FieldError]:
    handler = text(cls, "handler")
    return [invalid("handler", handler, p) for p in names.dns_label(handler)]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    handler = new.get("handler")
    return [] if handler == old.get("handler") else [invalid("handler", handler, IMMUTABLE)]


KIND = Kind(
    Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False),
    schema="io.k8s.api.node.v1.RuntimeClass",
    singular="runtimeclass",
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("Handler", path_cell("handler", missing="")), AGE),
    unconditional_update=False,
)
