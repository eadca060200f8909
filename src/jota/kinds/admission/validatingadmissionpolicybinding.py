"""ValidatingAdmissionPolicyBindings: where a policy is in force, with which parameters, and what happens to who breaks it."""

from __future__ import annotations

from jota.kinds.admission import policies
from jota.kinds.admission.validatingadmissionpolicy import match_defaults
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, text, texts
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

ACTIONS = ["Audit", "Deny", "Warn"]


def default(binding: Object) -> None:
    spec = attach(binding, "spec")
    if part(spec, "matchResources"):
        match_defaults(attach(spec, "matchResources"))


def validate(binding: Object) -> list[FieldError]:
    spec = part(binding, "spec")
    errors = policies.policy_name(spec) + policies.param_ref(spec)
    if isinstance(spec.get("matchResources"), dict):
        errors += policies.match_resources(spec["matchResources"], "spec.matchResources")
    actions = texts(spec, "validationActions")
    if not actions:
        errors.append(required("spec.validationActions"))
    errors += [not_supported("spec.validationActions", a, ACTIONS) for a in actions if a not in ACTIONS]
    if "Deny" in actions and "Warn" in actions:
        errors.append(invalid("spec.validationActions", actions, "must not contain both Deny and Warn"))
    return errors


KIND = Kind(
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        False,
    ),
    schema="io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    singular="validatingadmissionpolicybinding",
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
