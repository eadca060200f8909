"""ValidatingAdmissionPolicies: rules in CEL that writes must meet, once a binding puts them in force."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, deep, part, parts, put_missing, text
from jota.meta.errors import FieldError, not_supported, required
from jota.meta.resource import Resource

REASONS = ["Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"]


def match_defaults(resources: Object) -> None:
    put_missing(resources, "matchPolicy", "Equivalent")
    put_missing(resources, "namespaceSelector", {})
    put_missing(resources, "objectSelector", {})
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in parts(resources, field):
            put_missing(rule, "scope", "*")


def default(policy: Object) -> None:
    spec = attach(policy, "spec")
    put_missing(spec, "failurePolicy", "Fail")
    if part(spec, "matchConstraints"):
        match_defaults(attach(spec, "matchConstraints"))


def validate(policy: Object) -> list[FieldError]:
    spec = part(policy, "spec")
    errors: list[FieldError] = []
    if not part(spec, "matchConstraints"):
        errors.append(required("spec.matchConstraints"))
    elif not parts(part(spec, "matchConstraints"), "resourceRules"):
        errors.append(required("spec.matchConstraints.resourceRules"))
    if not parts(spec, "validations") and not parts(spec, "auditAnnotations"):
        detail = "validations or auditAnnotations must contain at least one item"
        errors += [required("spec.validations", detail), required("spec.auditAnnotations", detail)]
    for i, rule in enumerate(parts(spec, "validations")):
        path = f"spec.validations[{i}]"
        if not text(rule, "expression").strip():
            errors.append(required(f"{path}.expression", "expression is not specified"))
        if text(rule, "reason") and text(rule, "reason") not in REASONS:
            errors.append(not_supported(f"{path}.reason", text(rule, "reason"), REASONS))
    if text(spec, "failurePolicy") not in ("Fail", "Ignore"):
        errors.append(not_supported("spec.failurePolicy", text(spec, "failurePolicy"), ["Fail", "Ignore"]))
    return errors


KIND = Kind(
    Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False),
    schema="io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    singular="validatingadmissionpolicy",
    categories=("api-extensions",),
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("Validations", lambda policy, _now: len(parts(part(policy, "spec"), "validations")), type="integer"),
        plain("ParamKind", lambda policy, _now: text(deep(policy, "spec", "paramKind"), "kind") or "<unset>"),
        AGE,
    ),
    status=True,
    generation=True,
)
