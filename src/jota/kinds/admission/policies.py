"""Rules and cells that the policies in CEL and their bindings share (upstream's admissionregistration validation).

In: parts of policies and bindings. Out: field errors, cells. Expressions are only looked at for being there: whether they
compile is for expressions.py.
"""

from __future__ import annotations

import re

from jota.kinds import names
from jota.kinds.admission.webhooks import OPERATIONS
from jota.kinds.common import selector_text
from jota.kinds.labels import validate_selector
from jota.kinds.shape import Object, deep, part, parts, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

MUTATING_OPERATIONS = ["*", "CONNECT", "CREATE", "UPDATE"]
MAX_CONDITIONS = 64
_SCOPES = ["*", "Cluster", "Namespaced"]
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = {
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
}
_RESERVED |= {"let", "loop", "package", "namespace", "return", "var", "void", "while"}
"""Words of CEL that name no variable."""


def failure_policy(spec: Object) -> list[FieldError]:
    policy = text(spec, "failurePolicy")
    return [] if policy in ("Fail", "Ignore") else [not_supported("spec.failurePolicy", policy, ["Fail", "Ignore"])]


def param_kind(spec: Object) -> list[FieldError]:
    kind = spec.get("paramKind")
    if not isinstance(kind, dict):
        return []
    errors: list[FieldError] = []
    path, version, name = "spec.paramKind", text(kind, "apiVersion"), text(kind, "kind")
    group, _, last = version.rpartition("/")
    if not version:
        errors.append(required(f"{path}.apiVersion"))
    elif version.count("/") > 1:
        errors.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    elif not last:
        errors.append(invalid(f"{path}.apiVersion", version, "version must be specified"))
    else:
        problems = [(group, p) for p in names.dns_subdomain(group)] if group else []
        problems += [(last, p) for p in names.dns_1035_label(last)]
        errors += [invalid(f"{path}.apiVersion", value, problem) for value, problem in problems]
    if not name:
        errors.append(required(f"{path}.kind"))
    elif problem := ",".join(names.dns_1035_label(name.lower())):
        detail = f"may have mixed case, but should otherwise match: {problem}"
        errors.append(invalid(f"{path}.kind", name, detail))
    return errors


def match_resources(match: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = text(match, "matchPolicy")
    if policy not in ("Equivalent", "Exact"):
        errors.append(not_supported(f"{path}.matchPolicy", policy, ["Equivalent", "Exact"]))
    for field in ("namespaceSelector", "objectSelector"):
        errors += validate_selector(match.get(field), f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(parts(match, field)):
            errors += _rule(rule, f"{path}.{field}[{i}]")
    return errors


def mutating_operations(match: Object, path: str) -> list[FieldError]:
    """What is deleted cannot be changed any more."""
    return [
        not_supported(f"{path}.resourceRules.operations", operation, MUTATING_OPERATIONS)
        for rule in parts(match, "resourceRules")
        for operation in texts(rule, "operations")
        if operation not in MUTATING_OPERATIONS
    ]


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, name in enumerate(texts(rule, "resourceNames")):
        at = f"{path}.resourceNames[{i}]"
        errors += [invalid(at, name, problem) for problem in names.path_segment(name)]
        if name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    others = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        values = texts(rule, field)
        if not values:
            errors.append(required(f"{path}.{field}"))
        elif "*" in values and len(values) > 1 and field in others:
            detail = f"if '*' is present, must not specify other {others[field]}"
            errors.append(invalid(f"{path}.{field}", values, detail))
        if field in ("apiVersions", "resources"):
            errors += [required(f"{path}.{field}[{i}]") for i, value in enumerate(values) if not value]
    for i, operation in enumerate(texts(rule, "operations")):
        if operation not in OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{i}]", operation, sorted(OPERATIONS)))
    resources = texts(rule, "resources")
    if "*/*" in resources and len(resources) > 1:
        detail = "if '*/*' is present, must not specify other resources"
        errors.append(invalid(f"{path}.resources", resources, detail))
    if "*" in resources and any(r and r != "*" and "/" not in r for r in resources):
        detail = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(f"{path}.resources", resources, detail))
    if text(rule, "scope") not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", text(rule, "scope"), _SCOPES))
    return errors


def match_conditions(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    conditions = parts(spec, "matchConditions")
    if len(conditions) > MAX_CONDITIONS:
        detail = f"Too many: {len(conditions)}: must have at most {MAX_CONDITIONS} items"
        errors.append(FieldError("FieldValueTooMany", "spec.matchConditions", detail))
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        path, name = f"spec.matchConditions[{i}]", text(condition, "name")
        if not text(condition, "expression").strip():
            errors.append(required(f"{path}.expression"))
        if not name:
            errors.append(required(f"{path}.name"))
            continue
        errors += [invalid(f"{path}.name", name, problem) for problem in names.qualified_name(name)]
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    return errors


def variables(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, variable in enumerate(parts(spec, "variables")):
        path, name = f"spec.variables[{i}]", text(variable, "name")
        if not name.strip():
            errors.append(required(f"{path}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            errors.append(invalid(f"{path}.name", name, "name is not a valid CEL identifier"))
        if not text(variable, "expression").strip():
            errors.append(required(f"{path}.expression", "expression is not specified"))
    return errors


def policy_name(spec: Object) -> list[FieldError]:
    name = text(spec, "policyName")
    if not name:
        return [required("spec.policyName")]
    return [invalid("spec.policyName", name, problem) for problem in names.dns_subdomain(name)]


def param_ref(spec: Object) -> list[FieldError]:
    ref = spec.get("paramRef")
    if not isinstance(ref, dict):
        return []
    errors: list[FieldError] = []
    path, name, selector = "spec.paramRef", text(ref, "name"), ref.get("selector")
    errors += [invalid(f"{path}.name", name, problem) for problem in (names.path_segment(name) if name else ())]
    if name and selector is not None:
        errors.append(forbidden_field(f"{path}.name", "name and selector are mutually exclusive"))
    errors += validate_selector(selector, f"{path}.selector")
    if name and selector is not None:
        errors.append(forbidden_field(f"{path}.selector", "name and selector are mutually exclusive"))
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    action = text(ref, "parameterNotFoundAction")
    if not action:
        errors.append(required(f"{path}.parameterNotFoundAction"))
    elif action not in ("Allow", "Deny"):
        errors.append(not_supported(f"{path}.parameterNotFoundAction", action, ["Deny", "Allow"]))
    return errors


def param_kind_cell(policy: Object, _now: float) -> str:
    kind = deep(policy, "spec", "paramKind")
    return f"{text(kind, 'apiVersion')}/{text(kind, 'kind')}" if kind else "<unset>"


def param_ref_cell(binding: Object, _now: float) -> str:
    ref = deep(binding, "spec", "paramRef")
    if name := text(ref, "name"):
        return f"{text(ref, 'namespace')}/{name}" if text(ref, "namespace") else name
    return selector_text(part(ref, "selector")) if isinstance(ref.get("selector"), dict) else "<unset>"
