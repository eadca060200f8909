"""ResourceClaims: a request for devices, and in its status which ones were given."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.resource.requests import default_devices, validate_devices, validate_request_selectors
from jota.kinds.shape import Object, attach, meta, part, parts
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import Resource


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec = part(new, "spec")
    return [] if spec == part(old, "spec") else [invalid("spec", spec, IMMUTABLE)]


def _state(claim: Object, _now: float) -> str:
    status = part(claim, "status")
    words = ["deleted"] if meta(claim).get("deletionTimestamp") else []
    if not isinstance(status.get("allocation"), dict):
        words += [] if words else ["pending"]
    else:
        words += ["allocated", "reserved"] if parts(status, "reservedFor") else ["allocated"]
    return ",".join(words)


KIND = Kind(
    Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim"),
    schema="io.k8s.api.resource.v1.ResourceClaim",
    singular="resourceclaim",
    default=lambda claim: default_devices(attach(claim, "spec")),
    validate=lambda claim: validate_devices(part(claim, "spec"), "spec"),
    judge=lambda new, old, _: [] if old is not None else validate_request_selectors(part(new, "spec"), "spec"),
    validate_update=validate_update,
    returns_deleted=True,
    columns=(NAME, plain("State", _state, about="pending, allocated, reserved, deleted."), AGE),
    status=True,
)
