"""ResourceSlices: devices that a driver offers, mostly on one node."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, deep, part, text
from jota.meta.errors import FieldError, required
from jota.meta.resource import Resource


def validate(slice: Object) -> list[FieldError]:
    errors = [] if text(part(slice, "spec"), "driver") else [required("spec.driver")]
    return errors if text(deep(slice, "spec", "pool"), "name") else [*errors, required("spec.pool.name")]


KIND = Kind(
    Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False),
    schema="io.k8s.api.resource.v1.ResourceSlice",
    singular="resourceslice",
    validate=validate,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Node", path_cell("spec", "nodeName", missing="<unset>")),
        plain("Driver", path_cell("spec", "driver", missing="")),
        plain("Pool", lambda s, _now: text(deep(s, "spec", "pool"), "name")),
        AGE,
    ),
    selectable={
        "spec.nodeName": lambda s: text(part(s, "spec"), "nodeName"),
        "spec.driver": lambda s: text(part(s, "spec"), "driver"),
    },
    generation=True,
)
