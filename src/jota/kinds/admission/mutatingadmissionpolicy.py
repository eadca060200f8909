"""MutatingAdmissionPolicies: changes, written in CEL, that writes get once a binding puts them in force."""

from __future__ import annotations

from jota.kinds.admission import expressions, policies
from jota.kinds.admission.validatingadmissionpolicy import match_defaults
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, parts, put_missing, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
"""patchType -> the field that holds its expression."""
REINVOCATION = ["Never", "IfNeeded"]


def default(policy: Object) -> None:
    spec = attach(policy, "spec")
    put_missing(spec, "failurePolicy", "Fail")
    if isinstance(spec.get("matchConstraints"), dict):
        match_defaults(spec["matchConstraints"])


def validate(policy: Object) -> list[FieldError]:
    spec = part(policy, "spec")
    errors = policies.failure_policy(spec) + policies.param_kind(spec)
    path, match = "spec.matchConstraints", spec.get("matchConstraints")
    if not isinstance(match, dict):
        errors.append(required(path))
    else:
        errors += policies.match_resources(match, path)
        if not parts(match, "resourceRules"):
            errors.append(required(f"{path}.resourceRules"))
        errors += policies.mutating_operations(match, path)
    errors += policies.match_conditions(spec) + policies.variables(spec)
    mutations = parts(spec, "mutations")
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(mutations):
        errors += _mutation(mutation, f"spec.mutations[{i}]")
    reinvocation = text(spec, "reinvocationPolicy")
    if not reinvocation:
        errors.append(required("spec.reinvocationPolicy"))
    elif reinvocation not in REINVOCATION:
        errors.append(not_supported("spec.reinvocationPolicy", reinvocation, REINVOCATION))
    return errors


def _mutation(mutation: Object, path: str) -> list[FieldError]:
    patch = text(mutation, "patchType")
    if not patch:
        return [required(f"{path}.patchType")]
    if patch not in PATCHES:
        return [not_supported(f"{path}.patchType", patch, sorted(PATCHES))]
    errors: list[FieldError] = []
    for field in PATCHES.values():
        at, value = f"{path}.{field}", mutation.get(field)
        if field != PATCHES[patch]:
            if value is not None:
                errors.append(invalid(at, f"{{{field}}}", f"must not be specified when patchType is {patch}"))
        elif not isinstance(value, dict):
            errors.append(required(at, f"must be specified when patchType is {patch}"))
        elif not text(value, "expression").strip():
            errors.append(required(f"{at}.expression", "expression is not specified"))
    return errors


KIND = Kind(
    Resource("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False),
    schema="io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    singular="mutatingadmissionpolicy",
    categories=("api-extensions",),
    default=default,
    validate=validate,
    judge=expressions.changed(expressions.mutating_policy, "spec"),
    columns=(
        NAME,
        plain("Mutations", lambda policy, _now: len(parts(part(policy, "spec"), "mutations")), type="integer"),
        plain("ParamKind", policies.param_kind_cell),
        AGE,
    ),
    generation=True,
)
