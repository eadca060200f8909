"""Validation of where a pod may run: node selectors, affinity, tolerations, topology spread."""

from __future__ import annotations

from jota.kinds import labels, names
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

TOLERATION_OPERATORS = ["Equal", "Exists"]
TAINT_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"]
UNSATISFIABLE = ["DoNotSchedule", "ScheduleAnyway"]
INCLUSION = ["Honor", "Ignore"]
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def validate_placement(spec: Object, path: str, errors: list[FieldError]) -> None:
    if spec.get("nodeSelector"):
        errors += labels.validate_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    affinity = spec.get("affinity")
    if isinstance(affinity, dict):
        _node_affinity(part(affinity, "nodeAffinity"), f"{path}.affinity.nodeAffinity", errors)
        for key in ("podAffinity", "podAntiAffinity"):
            _pod_affinity(part(affinity, key), f"{path}.affinity.{key}", errors)
    for i, toleration in enumerate(parts(spec, "tolerations")):
        _toleration(toleration, f"{path}.tolerations[{i}]", errors)
    if spec.get("topologySpreadConstraints"):
        _spread(parts(spec, "topologySpreadConstraints"), f"{path}.topologySpreadConstraints", errors)


def _node_affinity(affinity: Object, path: str, errors: list[FieldError]) -> None:
    wanted = affinity.get(REQUIRED)
    if isinstance(wanted, dict):
        where = f"{path}.{REQUIRED}.nodeSelectorTerms"
        terms = parts(wanted, "nodeSelectorTerms")
        if not terms:
            errors.append(required(where, "must have at least one node selector term"))
        for i, term in enumerate(terms):
            _node_term(term, f"{where}[{i}]", errors)
    for i, choice in enumerate(parts(affinity, PREFERRED)):
        _weight(choice, f"{path}.{PREFERRED}[{i}]", errors)
        _node_term(part(choice, "preference"), f"{path}.{PREFERRED}[{i}].preference", errors)


def _weight(choice: Object, path: str, errors: list[FieldError]) -> None:
    weight = choice.get("weight")
    if type(weight) is not int or not 1 <= weight <= 100:
        errors.append(invalid(f"{path}.weight", weight, "must be in the range 1-100"))


def _node_term(term: Object, path: str, errors: list[FieldError]) -> None:
    for i, rule in enumerate(parts(term, "matchExpressions")):
        where = f"{path}.matchExpressions[{i}]"
        _node_rule(rule, where, errors)
        key = text(rule, "key")
        errors += [invalid(f"{where}.key", key, problem) for problem in names.qualified_name(key)]
    for i, rule in enumerate(parts(term, "matchFields")):
        where, operator = f"{path}.matchFields[{i}]", text(rule, "operator")
        if operator not in ("In", "NotIn"):
            errors.append(invalid(f"{where}.operator", operator, "not a valid selector operator"))
        elif len(texts(rule, "values")) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{where}.values", detail))
        if text(rule, "key") != "metadata.name":
            errors.append(invalid(f"{where}.key", text(rule, "key"), "not a valid field selector key"))


def _node_rule(rule: Object, path: str, errors: list[FieldError]) -> None:
    operator, values = text(rule, "operator"), texts(rule, "values")
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{path}.values", detail))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{path}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", detail))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))


def _pod_affinity(affinity: Object, path: str, errors: list[FieldError]) -> None:
    for i, term in enumerate(parts(affinity, REQUIRED)):
        _pod_term(term, f"{path}.{REQUIRED}[{i}]", errors)
    for i, choice in enumerate(parts(affinity, PREFERRED)):
        _weight(choice, f"{path}.{PREFERRED}[{i}]", errors)
        _pod_term(part(choice, "podAffinityTerm"), f"{path}.{PREFERRED}[{i}].podAffinityTerm", errors)


def _pod_term(term: Object, path: str, errors: list[FieldError]) -> None:
    errors += labels.validate_selector(term.get("labelSelector"), f"{path}.labelSelector")
    errors += labels.validate_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for i, namespace in enumerate(texts(term, "namespaces")):
        errors += [invalid(f"{path}.namespaces[{i}]", namespace, p) for p in names.dns_label(namespace)]
    key = text(term, "topologyKey")
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    else:
        errors += [invalid(f"{path}.topologyKey", key, problem) for problem in names.qualified_name(key)]


def _toleration(toleration: Object, path: str, errors: list[FieldError]) -> None:
    key, operator, effect = text(toleration, "key"), text(toleration, "operator"), text(toleration, "effect")
    if key:
        errors += [invalid(f"{path}.key", key, problem) for problem in names.qualified_name(key)]
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid(f"{path}.operator", operator, detail))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{path}.effect", effect, detail))
    value = text(toleration, "value")
    if operator in ("", "Equal"):
        errors += [invalid(f"{path}.operator", value, problem) for problem in names.label_value(value)]
    elif operator == "Exists":
        if value:
            errors.append(invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'"))
    else:
        errors.append(not_supported(f"{path}.operator", operator, TOLERATION_OPERATORS))
    if effect and effect not in TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))


def _spread(constraints: list[Object], path: str, errors: list[FieldError]) -> None:
    seen: set[tuple[str, str]] = set()
    for i, constraint in enumerate(constraints):
        where = f"{path}[{i}]"
        skew, key, mode = (
            constraint.get("maxSkew"),
            text(constraint, "topologyKey"),
            text(constraint, "whenUnsatisfiable"),
        )
        if type(skew) is not int or skew <= 0:
            errors.append(invalid(f"{where}.maxSkew", skew, "must be greater than zero"))
        if not key:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        else:
            errors += [invalid(f"{where}.topologyKey", key, problem) for problem in names.qualified_name(key)]
        if mode not in UNSATISFIABLE:
            errors.append(not_supported(f"{where}.whenUnsatisfiable", mode, UNSATISFIABLE))
        if (key, mode) in seen:
            errors.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {mode}}}"))
        seen.add((key, mode))
        _domains(constraint, mode, where, errors)
        errors += labels.validate_selector(constraint.get("labelSelector"), f"{where}.labelSelector")


def _domains(constraint: Object, mode: str, path: str, errors: list[FieldError]) -> None:
    least = constraint.get("minDomains")
    if type(least) is int:
        if least <= 0:
            errors.append(invalid(f"{path}.minDomains", least, "must be greater than zero"))
        if mode != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {mode}"
            errors.append(invalid(f"{path}.minDomains", least, detail))
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = constraint.get(field)
        if policy is not None and policy not in INCLUSION:
            errors.append(not_supported(f"{path}.{field}", policy, INCLUSION))
