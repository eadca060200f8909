"""EvictionRequests: somebody wants a pod to go, gracefully. controllers/evictionrequest.py makes an Eviction of them."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.lifecycle.participants import validate_intent, validate_name, validate_target
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, deep, part, text
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import EVICTION_REQUESTS


def validate(request: Object) -> list[FieldError]:
    spec = part(request, "spec")
    errors = validate_target(part(spec, "target"), "spec.target")
    errors += validate_name(spec.get("requester"), "spec.requester", foreign=True)
    return errors + validate_intent(spec.get("intent"), "spec.intent")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec, was = part(new, "spec"), part(old, "spec")
    return [
        invalid(f"spec.{field}", spec.get(field), IMMUTABLE)
        for field in ("target", "requester")
        if spec.get(field) != was.get(field)
    ]


KIND = Kind(
    EVICTION_REQUESTS,
    schema="io.k8s.api.lifecycle.v1alpha1.EvictionRequest",
    singular="evictionrequest",
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Pod", lambda r, _now: text(deep(r, "spec", "target", "pod"), "name")),
        plain("Requester", path_cell("spec", "requester", missing="")),
        plain("Intent", path_cell("spec", "intent", missing="")),
        AGE,
    ),
    status=True,
    generation=True,
    stability="alpha",
)
