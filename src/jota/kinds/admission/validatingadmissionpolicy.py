"""ValidatingAdmissionPolicies: rules in CEL that writes must meet, once a binding puts them in force."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.admission import expressions, policies
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, parts, put_missing, text
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required
from jota.meta.resource import Resource

REASONS = ["Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"]
MOST_ANNOTATIONS = 20


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
    errors = policies.failure_policy(spec) + policies.param_kind(spec)
    path, match = "spec.matchConstraints", spec.get("matchConstraints")
    if not isinstance(match, dict) or not match:
        errors.append(required(path))
    else:
        errors += policies.match_resources(match, path)
        if not parts(match, "resourceRules"):
            errors.append(required(f"{path}.resourceRules"))
    errors += policies.match_conditions(spec) + policies.variables(spec)
    if not parts(spec, "validations") and not parts(spec, "auditAnnotations"):
        detail = "validations or auditAnnotations must contain at least one item"
        errors += [required("spec.validations", detail), required("spec.auditAnnotations", detail)]
    for i, rule in enumerate(parts(spec, "validations")):
        errors += _rule(rule, f"spec.validations[{i}]")
    return errors + _annotations(policy)


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    expression, message = text(rule, "expression").strip(), text(rule, "message")
    if not expression:
        errors.append(required(f"{path}.expression", "expression is not specified"))
    if "messageExpression" in rule and not text(rule, "messageExpression").strip():
        detail = "must be non-empty if specified"
        errors.append(invalid(f"{path}.messageExpression", rule["messageExpression"], detail))
    if message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in expression and not message:
        errors.append(required(f"{path}.message", "message must be specified if expression contains line breaks"))
    if text(rule, "reason") and text(rule, "reason") not in REASONS:
        errors.append(not_supported(f"{path}.reason", text(rule, "reason"), REASONS))
    return errors


def _annotations(policy: Object) -> list[FieldError]:
    annotations = parts(part(policy, "spec"), "auditAnnotations")
    errors: list[FieldError] = []
    if len(annotations) > MOST_ANNOTATIONS:
        detail = f"must not have more than {MOST_ANNOTATIONS} auditAnnotations"
        errors.append(invalid("spec.auditAnnotations", f"{len(annotations)} items", detail))
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{i}]", text(annotation, "key")
        if not key:
            errors.append(required(f"{path}.key"))
        else:
            full = f"{text(part(policy, 'metadata'), 'name')}/{key}"
            errors += [invalid(f"{path}.key", key, problem) for problem in names.qualified_name(full)]
        if key in seen:
            errors.append(duplicate(f"{path}.key", key))
        seen.add(key)
        if not text(annotation, "valueExpression").strip():
            errors.append(required(f"{path}.valueExpression", "valueExpression is not specified"))
    return errors


KIND = Kind(
    Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False),
    schema="io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    singular="validatingadmissionpolicy",
    categories=("api-extensions",),
    default=default,
    validate=validate,
    judge=expressions.changed(expressions.validating_policy, "spec"),
    columns=(
        NAME,
        plain("Validations", lambda policy, _now: len(parts(part(policy, "spec"), "validations")), type="integer"),
        plain("ParamKind", policies.param_kind_cell),
        AGE,
    ),
    status=True,
    generation=True,
)
