"""DeviceClasses: selections of devices that claims refer to by name."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Kind
from jota.kinds.resource.requests import validate_config, validate_selectors
from jota.kinds.shape import part, parts
from jota.meta.resource import Resource

KIND = Kind(
    Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", False),
    schema="io.k8s.api.resource.v1.DeviceClass",
    singular="deviceclass",
    validate=lambda found: validate_config(parts(part(found, "spec"), "config"), "spec.config"),
    judge=lambda found, _old, _wrong: validate_selectors(part(found, "spec"), "spec"),
    returns_deleted=True,
    columns=(NAME, AGE),
    generation=True,
)
