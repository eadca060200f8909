"""FlowSchemas: which requests share a priority level."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, count_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, deep, part, parts, put_missing, text, texts
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required
from jota.meta.resource import Resource

LOWEST = 10000
METHODS = ["ByNamespace", "ByUser"]
SUBJECTS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}
NOUNS = {"apiGroups": "api groups"}


def default(schema: Object) -> None:
    put_missing(attach(schema, "spec"), "matchingPrecedence", 1000)


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    """Of both kinds of this group: each condition has a type of its own."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, condition in enumerate(parts(part(new, "status"), "conditions")):
        where, type_ = f"status.conditions[{i}].type", text(condition, "type")
        if not type_:
            errors.append(required(where, "must not be empty"))
        elif type_ in seen:
            errors.append(duplicate(where, type_))
        seen.add(type_)
    return errors


def validate(schema: Object) -> list[FieldError]:
    spec = part(schema, "spec")
    errors: list[FieldError] = []
    precedence = spec.get("matchingPrecedence")
    if type(precedence) is int and precedence <= 0:
        errors.append(invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
    if type(precedence) is int and precedence > LOWEST:
        errors.append(invalid("spec.matchingPrecedence", precedence, f"must not be greater than {LOWEST}"))
    if not text(part(spec, "priorityLevelConfiguration"), "name"):
        errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    method = part(spec, "distinguisherMethod").get("type")
    if method is not None and method not in METHODS:
        errors.append(not_supported("spec.distinguisherMethod.type", str(method), METHODS))
    for i, rule in enumerate(parts(spec, "rules")):
        errors += _rule(rule, f"spec.rules[{i}]")
    return errors


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not parts(rule, "subjects"):
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    if not parts(rule, "resourceRules") and not parts(rule, "nonResourceRules"):
        detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
        errors.append(required(path, detail))
    for i, subject in enumerate(parts(rule, "subjects")):
        errors += _subject(subject, f"{path}.subjects[{i}]")
    for i, one in enumerate(parts(rule, "resourceRules")):
        where = f"{path}.resourceRules[{i}]"
        errors += _listed(one, where, ("verbs", "apiGroups", "resources"))
        if not one.get("namespaces") and not one.get("clusterScope"):
            detail = "resource rules that are not cluster scoped must supply at least one namespace"
            errors.append(required(f"{where}.namespaces", detail))
    for i, one in enumerate(parts(rule, "nonResourceRules")):
        errors += _listed(one, f"{path}.nonResourceRules[{i}]", ("verbs", "nonResourceURLs"))
    return errors


def _listed(rule: Object, path: str, fields: tuple[str, ...]) -> list[FieldError]:
    errors = []
    for field in fields:
        values = texts(rule, field)
        if not values:
            errors.append(required(f"{path}.{field}", f"{field} must contain at least one value"))
        elif len(values) > 1 and "*" in values:
            what = "nonResourceURLs" if field == "nonResourceURLs" else NOUNS.get(field, field)
            errors.append(invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {what}"))
    return errors


def _subject(subject: Object, path: str) -> list[FieldError]:
    kind = text(subject, "kind")
    if kind not in SUBJECTS:
        return [not_supported(f"{path}.kind", kind, sorted(SUBJECTS))]
    field = SUBJECTS[kind]
    if not isinstance(subject.get(field), dict):
        return [required(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'")]
    needed = ("namespace", "name") if kind == "ServiceAccount" else ("name",)
    return [required(f"{path}.{field}.{n}") for n in needed if not text(part(subject, field), n)]


def _missing(schema: Object, _now: float) -> str:
    for condition in parts(part(schema, "status"), "conditions"):
        if condition.get("type") == "Dangling":
            return text(condition, "status")
    return "?"


KIND = Kind(
    Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", False),
    schema="io.k8s.api.flowcontrol.v1.FlowSchema",
    singular="flowschema",
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        plain("PriorityLevel", lambda f, _now: text(deep(f, "spec", "priorityLevelConfiguration"), "name") or NONE),
        plain("MatchingPrecedence", count_cell("spec", "matchingPrecedence")),
        plain("DistinguisherMethod", lambda f, _now: text(deep(f, "spec", "distinguisherMethod"), "type") or NONE),
        AGE,
        plain("MissingPL", _missing),
    ),
    status=True,
    generation=True,
)
