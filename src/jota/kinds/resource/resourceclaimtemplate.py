"""ResourceClaimTemplates: claims that are made for each pod that names them."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.resource.requests import default_devices, validate_devices, validate_request_selectors
from jota.kinds.shape import Object, attach, deep, part
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import Resource


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec = part(new, "spec")
    return [] if spec == part(old, "spec") else [invalid("spec", spec, IMMUTABLE)]


KIND = Kind(
    Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate"),
    schema="io.k8s.api.resource.v1.ResourceClaimTemplate",
    singular="resourceclaimtemplate",
    default=lambda template: default_devices(attach(attach(template, "spec"), "spec")),
    validate=lambda template: validate_devices(deep(template, "spec", "spec"), "spec.spec"),
    judge=lambda new, old, _: (
        [] if old is not None else validate_request_selectors(deep(new, "spec", "spec"), "spec.spec")
    ),
    validate_update=validate_update,
    returns_deleted=True,
    columns=(NAME, AGE),
)
