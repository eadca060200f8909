"""What the four RBAC kinds share: policy rules, role references, subjects (pkg/apis/rbac/validation)."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.shape import Object, attach, part, parts, text, texts
from jota.meta.errors import FieldError, invalid, not_supported, required

GROUP = "rbac.authorization.k8s.io"


def validate_rules(role: Object, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, rule in enumerate(parts(role, "rules")):
        errors += _validate_rule(rule, f"rules[{i}]", namespaced)
    return errors


def _validate_rule(rule: Object, path: str, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not texts(rule, "verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls, groups, resources = texts(rule, "nonResourceURLs"), texts(rule, "apiGroups"), texts(rule, "resources")
    if urls:
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        if groups or resources or texts(rule, "resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        return errors
    if not groups:
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not resources:
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def default_binding(binding: Object) -> None:
    _put_group(attach(binding, "roleRef"))
    for subject in parts(binding, "subjects"):
        kind = text(subject, "kind")
        if kind in ("User", "Group"):
            _put_group(subject)


def _put_group(reference: Object) -> None:
    if not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP


def validate_binding(binding: Object, role_kinds: list[str], namespaced: bool) -> list[FieldError]:
    reference = part(binding, "roleRef")
    errors: list[FieldError] = []
    if text(reference, "apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", text(reference, "apiGroup"), [GROUP]))
    if text(reference, "kind") not in role_kinds:
        errors.append(not_supported("roleRef.kind", text(reference, "kind"), role_kinds))
    name = text(reference, "name")
    if not name:
        errors.append(required("roleRef.name"))
    errors += [invalid("roleRef.name", name, p) for p in names.path_segment(name)]
    for i, subject in enumerate(parts(binding, "subjects")):
        errors += _validate_subject(subject, f"subjects[{i}]", namespaced)
    return errors


def _validate_subject(subject: Object, path: str, namespaced: bool) -> list[FieldError]:
    kind, name, group = text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup")
    errors = [] if name else [required(f"{path}.name")]
    if kind == "ServiceAccount":
        errors += [invalid(f"{path}.name", name, p) for p in (names.dns_subdomain(name) if name else ())]
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, [""]))
        if not namespaced and not text(subject, "namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            errors.append(not_supported(f"{path}.apiGroup", group, [GROUP]))
    else:
        errors.append(not_supported(f"{path}.kind", kind, ["Group", "ServiceAccount", "User"]))
    return errors


def same_role(new: Object, old: Object) -> list[FieldError]:
    """What a binding grants may not change: delete it and make another."""
    if part(new, "roleRef") != part(old, "roleRef"):
        return [invalid("roleRef", part(new, "roleRef"), "cannot change roleRef")]
    return []


def role_cell(binding: Object, _now: float) -> str:
    reference = part(binding, "roleRef")
    return f"{text(reference, 'kind')}/{text(reference, 'name')}"


def subjects_cell(kind: str, binding: Object) -> str:
    found = [s for s in parts(binding, "subjects") if s.get("kind") == kind]
    if kind == "ServiceAccount":
        return ", ".join(f"{text(s, 'namespace')}/{text(s, 'name')}" for s in found)
    return ", ".join(text(s, "name") for s in found)
