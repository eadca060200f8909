"""Labels and label selectors inside specs: their validation, and whether a selector matches a template.

In: plain JSON. Out: errors in Kubernetes' words (apimachinery `meta/v1/validation`). The API's own selectors of queries are
meta/selectors.py; this file judges what is written in objects and never raises.
"""

from __future__ import annotations

from typing import Any

from jota.kinds import names
from jota.kinds.shape import Object, parts, strings, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, required

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def validate_labels(labels: Any, path: str) -> list[FieldError]:
    """Keys and values of a map of labels."""
    errors: list[FieldError] = []
    if isinstance(labels, dict):
        for key, value in labels.items():
            for problem in names.qualified_name(key):
                errors.append(invalid(path, key, problem))
            if isinstance(value, str):
                for problem in names.label_value(value):
                    errors.append(invalid(path, value, problem))
    return errors


def validate_selector(selector: Any, path: str) -> list[FieldError]:
    """A LabelSelector that may be absent."""
    if not isinstance(selector, dict):
        return []
    errors = validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for i, rule in enumerate(parts(selector, "matchExpressions")):
        errors += _validate_rule(rule, f"{path}.matchExpressions[{i}]")
    return errors


def _validate_rule(rule: Object, path: str) -> list[FieldError]:
    errors = []
    operator, values = text(rule, "operator"), texts(rule, "values")
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in OPERATORS:
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{path}.values", detail))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    errors += [invalid(f"{path}.key", text(rule, "key"), p) for p in names.qualified_name(text(rule, "key"))]
    for i, value in enumerate(values):
        errors += [invalid(f"{path}.values[{i}]", value, p) for p in names.label_value(value)]
    return errors


def is_empty(selector: Any) -> bool:
    """Selects everything."""
    return not (isinstance(selector, dict) and (selector.get("matchLabels") or selector.get("matchExpressions")))


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector matches; rules with unknown operators match nothing."""
    for key, value in strings(selector, "matchLabels").items():
        if labels.get(key) != value:
            return False
    return all(_rule_matches(rule, labels) for rule in parts(selector, "matchExpressions"))


def _rule_matches(rule: Object, labels: dict[str, str]) -> bool:
    value, operator = labels.get(text(rule, "key")), text(rule, "operator")
    if operator == "In":
        return value is not None and value in texts(rule, "values")
    if operator == "NotIn":
        return value is None or value not in texts(rule, "values")
    if operator == "Exists":
        return value is not None
    return operator == "DoesNotExist" and value is None
