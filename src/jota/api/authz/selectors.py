"""Selectors of a request as authorization.k8s.io writes them: FieldSelectorAttributes and LabelSelectorAttributes, both ways.

A selector only narrows what is asked for: a requirement that cannot be read or told is left out, and who decides sees a wider
question (upstream's rule).
"""

from __future__ import annotations

from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta.errors import ApiError, FieldError, invalid, not_supported, required
from jota.meta.selectors import FieldRequirement, FieldSelector, from_object, parse_fields, parse_labels

_FIELD = {"In": "=", "NotIn": "!="}
_LABEL = {"=": "In", "in": "In", "!=": "NotIn", "notin": "NotIn", "exists": "Exists", "!": "DoesNotExist"}
_OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"]


def field_requirements(selector: str) -> list[Object]:
    """Of a `fieldSelector` query text."""
    try:
        found = parse_fields(selector).requirements if selector else []
    except ApiError:
        return []
    return [{"key": r.field, "operator": "In" if r.op == "=" else "NotIn", "values": [r.value]} for r in found]


def label_requirements(selector: str) -> list[Object]:
    """Of a `labelSelector` query text; comparisons of numbers have no form here."""
    try:
        found = parse_labels(selector).requirements if selector else ()
    except ApiError:
        return []
    told: list[Object] = []
    for requirement in found:
        operator = _LABEL.get(requirement.op)
        if operator is not None:
            values = {"values": list(requirement.values)} if operator in ("In", "NotIn") else {}
            told.append({"key": requirement.key, "operator": operator, **values})
    return told


def validate(attributes: Object, path: str) -> list[FieldError]:
    """Of a review's resourceAttributes."""
    errors = []
    for name in ("fieldSelector", "labelSelector"):
        if name not in attributes:
            continue
        given, at = part(attributes, name), f"{path}.{name}"
        raw, listed = text(given, "rawSelector"), parts(given, "requirements")
        if raw and listed:
            errors.append(invalid(f"{at}.rawSelector", raw, "may not specified at the same time as requirements"))
        if not raw and not listed:
            errors.append(
                required(f"{at}.requirements", f"when {at} is specified, requirements or rawSelector is required")
            )
        for n, requirement in enumerate(listed):
            here, operator, values = (
                f"{at}.requirements[{n}]",
                text(requirement, "operator"),
                texts(requirement, "values"),
            )
            if not text(requirement, "key"):
                errors.append(required(f"{here}.key", "must be specified"))
            if operator in ("In", "NotIn") and not values:
                errors.append(required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
            if operator in ("Exists", "DoesNotExist") and values:
                errors.append(
                    invalid(
                        f"{here}.values", values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
                )
            if operator not in _OPERATORS:
                errors.append(not_supported(f"{here}.operator", operator, _OPERATORS))
    return errors


def field_text(attributes: Object) -> tuple[str, str]:
    """(query text, what of it cannot be read) of a review's resourceAttributes."""
    given = part(attributes, "fieldSelector")
    raw = text(given, "rawSelector")
    if raw:
        try:
            parse_fields(raw)
        except ApiError as problem:
            return "", f"fieldSelector.rawSelector ignored: {problem}"
        return raw, ""
    found, ignored = [], ""
    for requirement in parts(given, "requirements"):
        operator, values = text(requirement, "operator"), texts(requirement, "values")
        if operator in _FIELD and len(values) == 1:
            found.append(FieldRequirement(text(requirement, "key"), _FIELD[operator], values[0]))
        else:
            ignored = "fieldSelector.requirements: only In and NotIn with one value are understood; others are ignored"
    return str(FieldSelector(found)), ignored


def label_text(attributes: Object) -> tuple[str, str]:
    given = part(attributes, "labelSelector")
    raw = text(given, "rawSelector")
    try:
        if raw:
            parse_labels(raw)
            return raw, ""
        return str(from_object({"matchExpressions": parts(given, "requirements")})), ""
    except ApiError as problem:
        return "", f"labelSelector ignored: {problem}"
