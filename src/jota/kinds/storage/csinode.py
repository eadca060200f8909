"""CSINodes: which storage drivers run on a node."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, duplicate, required
from jota.meta.resource import Resource


def validate(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, driver in enumerate(parts(part(node, "spec"), "drivers")):
        name = text(driver, "name")
        if not name:
            errors.append(required(f"spec.drivers[{i}].name"))
        if not text(driver, "nodeID"):
            errors.append(required(f"spec.drivers[{i}].nodeID"))
        if name in seen:
            errors.append(duplicate(f"spec.drivers[{i}].name", name))
        seen.add(name)
    return errors


KIND = Kind(
    Resource("storage.k8s.io", "v1", "csinodes", "CSINode", False),
    schema="io.k8s.api.storage.v1.CSINode",
    singular="csinode",
    validate=validate,
    returns_deleted=True,
    columns=(NAME, plain("Drivers", lambda n, _now: len(parts(part(n, "spec"), "drivers")), "integer"), AGE),
    status=True,
    unconditional_update=False,
)
