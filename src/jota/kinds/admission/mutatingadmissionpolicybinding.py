"""MutatingAdmissionPolicyBindings: where a mutating policy is in force, and with which parameters."""

from __future__ import annotations

from jota.kinds.admission import policies
from jota.kinds.admission.validatingadmissionpolicy import match_defaults
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, text
from jota.meta.errors import FieldError
from jota.meta.resource import Resource


def default(binding: Object) -> None:
    spec = attach(binding, "spec")
    if isinstance(spec.get("matchResources"), dict):
        match_defaults(spec["matchResources"])


def validate(binding: Object) -> list[FieldError]:
    spec = part(binding, "spec")
    errors = policies.policy_name(spec) + policies.param_ref(spec)
    match = spec.get("matchResources")
    if isinstance(match, dict):
        errors += policies.match_resources(match, "spec.matchResources")
        errors += policies.mutating_operations(match, "spec.matchResources")
    return errors


KIND = Kind(
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        False,
    ),
    schema="io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    singular="mutatingadmissionpolicybinding",
    categories=("api-extensions",),
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("PolicyName", lambda binding, _now: text(part(binding, "spec"), "policyName")),
        plain("ParamRef", policies.param_ref_cell),
        AGE,
    ),
    generation=True,
)
