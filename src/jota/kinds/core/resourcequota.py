"""ResourceQuotas: what a namespace may use in sum. A controller counts, admission refuses."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.quantities import canonical_resources, not_negative_resources
from jota.kinds.shape import Object, attach, part, text, texts
from jota.meta.errors import FieldError, invalid, not_supported
from jota.meta.resource import Resource

SCOPES = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
]
OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def default(quota: Object) -> None:
    canonical_resources(attach(quota, "spec"), "hard")
    canonical_resources(attach(quota, "status"), "hard", "used")


def validate(quota: Object) -> list[FieldError]:
    spec = part(quota, "spec")
    errors = not_negative_resources(spec, "hard", "spec")
    scopes = texts(spec, "scopes")
    for scope in scopes:
        if scope not in SCOPES:
            errors.append(not_supported("spec.scopes", scope, SCOPES))
    if any(a in scopes and b in scopes for a, b in OPPOSITES):
        errors.append(invalid("spec.scopes", scopes, "conflicting scopes"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    scopes = texts(part(new, "spec"), "scopes")
    if sorted(scopes) != sorted(texts(part(old, "spec"), "scopes")):
        return [invalid("spec.scopes", scopes, IMMUTABLE)]
    return []


def _uses(limits: bool, quota: Object) -> str:
    status = part(quota, "status")
    used, hard = part(status, "used"), part(status, "hard")
    shown = [f"{name}: {text(used, name) or '0'}/{hard[name]}" for name in sorted(hard) if _is_limit(name) is limits]
    return ", ".join(shown)


def _is_limit(name: str) -> bool:
    return name.startswith("limits.")


KIND = Kind(
    Resource("", "v1", "resourcequotas", "ResourceQuota"),
    schema="io.k8s.api.core.v1.ResourceQuota",
    singular="resourcequota",
    short_names=("quota",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Request", lambda q, _now: _uses(False, q), about="Used and allowed requests and counts."),
        plain("Limit", lambda q, _now: _uses(True, q), about="Used and allowed limits."),
        AGE,
    ),
    status=True,
)
