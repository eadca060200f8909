"""A value against a structural schema: every violation, in the words of kube-openapi. Schema and value in, errors out.

Paths are `spec.list[0].field`; messages repeat them as "spec.list[0].field in body should ...". Never raises, whatever the
schema or the value. Next: lists.py for sets and maps; api/custom calls both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeGuard

from jota.meta.errors import FieldError, invalid, not_supported, required, too_long
from jota.meta.structural import formats, patterns

Schema = dict[str, Any]
ROOT = "<nil>"
"""How upstream spells a path that it does not know."""
MOST = 100
"""Errors of one object; more help nobody."""


UNKNOWN: Any = object()
"""No old value to compare with."""


def check(schema: Schema, value: Any, path: str = "", old: Any = None) -> list[FieldError]:
    """Every violation, at most MOST. Parts that equal those of `old` (None: there is none) are not judged again."""
    found: list[FieldError] = []
    _value(schema, value, path, found, UNKNOWN if old is None else old)
    return found[:MOST]


def type_name(value: Any) -> str:
    """JSON's word for a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _body(path: str) -> str:
    return f"{path} in body" if path else " in body"


def _bad(path: str, value: Any, text: str) -> FieldError:
    return invalid(path or ROOT, value, f"{_body(path)} {text}")


def _value(schema: Schema, value: Any, path: str, found: list[FieldError], old: Any = UNKNOWN) -> None:
    if len(found) > MOST or (old is not UNKNOWN and same(value, old)):
        return
    if value is None and (schema.get("nullable") or not schema.get("type")):
        return
    wrong = _type(schema, value, path)
    if wrong is not None:
        found.append(wrong)
        return
    _enum(schema, value, path, found)
    if isinstance(value, str):
        _string(schema, value, path, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(schema, value, path, found)
    elif isinstance(value, list):
        _list(schema, value, path, found, old)
    elif isinstance(value, dict):
        _object(schema, value, path, found, old)
    _combined(schema, value, path, found)


def _type(schema: Schema, value: Any, path: str) -> FieldError | None:
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return None
        wanted = "integer,string"
    have = type_name(value)
    if not wanted or have == wanted:
        return None
    if wanted == "number" and have == "integer":
        return None
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return None
    text = f'{_body(path)} must be of type {wanted}: "{have}"'
    return FieldError("FieldValueTypeInvalid", path or ROOT, f'Invalid value: "{have}": {text}')


def _enum(schema: Schema, value: Any, path: str, found: list[FieldError]) -> None:
    choices = schema.get("enum")
    if isinstance(choices, list) and choices and not any(same(value, choice) for choice in choices):
        found.append(not_supported(path or ROOT, value, [c if isinstance(c, str) else _json(c) for c in choices]))


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), default=str)


def _string(schema: Schema, value: str, path: str, found: list[FieldError]) -> None:
    most, least, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if isinstance(most, int) and len(value) > most:
        found.append(too_long(path or ROOT, most))
    if isinstance(least, int) and len(value) < least:
        found.append(_bad(path, value, f"should be at least {least} chars long"))
    if isinstance(pattern, str) and pattern and not patterns.matches(pattern, value):
        found.append(_bad(path, value, f"should match '{pattern}'"))
    form = schema.get("format")
    if isinstance(form, str) and not formats.holds(form, value):
        text = f'{_body(path)} must be of type {form}: "{value}"'
        found.append(FieldError("FieldValueInvalid", path or ROOT, f"Invalid value: {_json(value)}: {text}"))


_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1)}


def _number(schema: Schema, value: int | float, path: str, found: list[FieldError]) -> None:
    least, most, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    if _is_number(least):
        if schema.get("exclusiveMinimum") and value <= least:
            found.append(_bad(path, value, f"should be greater than {_plain(least)}"))
        elif value < least:
            found.append(_bad(path, value, f"should be greater than or equal to {_plain(least)}"))
    if _is_number(most):
        if schema.get("exclusiveMaximum") and value >= most:
            found.append(_bad(path, value, f"should be less than {_plain(most)}"))
        elif value > most:
            found.append(_bad(path, value, f"should be less than or equal to {_plain(most)}"))
    if _is_number(step) and step > 0 and not _multiple(value, step):
        found.append(_bad(path, value, f"should be a multiple of {_plain(step)}"))
    bounds = _RANGES.get(str(schema.get("format"))) if schema.get("type") == "integer" else None
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        text = f"Checked value must be of type integer with format {schema['format']} in {path}"
        found.append(invalid(path or ROOT, value, text))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _multiple(value: int | float, step: int | float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        ratio = value / step
    except OverflowError:
        return False
    return math.isfinite(ratio) and math.isclose(ratio, round(ratio), rel_tol=0, abs_tol=1e-9)


def _plain(value: int | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else str(value)


def _list(schema: Schema, value: list[Any], path: str, found: list[FieldError], old: Any) -> None:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if isinstance(most, int) and len(value) > most:
        found.append(_too_many(path, len(value), most))
    if isinstance(least, int) and len(value) < least:
        found.append(_bad(path, len(value), f"should have at least {least} items"))
    if schema.get("uniqueItems") and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
        found.append(_bad(path, "", "shouldn't contain duplicates"))
    items = schema.get("items")
    if isinstance(items, dict):
        partner = correlated(schema, old)
        for index, item in enumerate(value):
            _value(items, item, f"{path}[{index}]", found, partner(item))


def correlated(schema: Schema, old: Any) -> Callable[[Any], Any]:
    """item of a list -> the item that it was before (UNKNOWN: none): only lists of type map know."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not keys:
        return lambda _: UNKNOWN
    before = {_json([item.get(k) for k in keys]): item for item in old if isinstance(item, dict)}
    return lambda item: before.get(_json([item.get(k) for k in keys]), UNKNOWN) if isinstance(item, dict) else UNKNOWN


def _too_many(path: str, have: int, most: int) -> FieldError:
    return FieldError("FieldValueTooMany", path or ROOT, f"Too many: {have}: must have at most {most} items")


def _object(schema: Schema, value: dict[str, Any], path: str, found: list[FieldError], old: Any) -> None:
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if isinstance(most, int) and len(value) > most:
        found.append(_too_many(path, len(value), most))
    if isinstance(least, int) and len(value) < least:
        found.append(_bad(path, len(value), f"should have at least {least} properties"))
    for name in schema.get("required") or ():
        if name not in value:
            found.append(required(f"{path}.{name}" if path else str(name)))
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    for key, child in value.items():
        rule = properties.get(key, extra)
        if isinstance(rule, dict):
            was = old.get(key, UNKNOWN) if isinstance(old, dict) else UNKNOWN
            _value(rule, child, f"{path}.{key}" if path else key, found, was)


def _combined(schema: Schema, value: Any, path: str, found: list[FieldError]) -> None:
    """allOf, anyOf, oneOf, not."""
    where = path or "."
    for part in schema.get("allOf") or ():
        _value(part, value, path, found)
    choices = schema.get("anyOf")
    if choices:
        results = [check(choice, value, path) for choice in choices]
        if all(results):
            found.append(invalid(ROOT, "", f'"{where}" must validate at least one schema (anyOf)'))
            found += _nearest(results)
    choices = schema.get("oneOf")
    if choices:
        results = [check(choice, value, path) for choice in choices]
        good = sum(not r for r in results)
        if good != 1:
            text = "Found none valid" if not good else f"Found {good} valid alternatives"
            found.append(invalid(ROOT, "", f'"{where}" must validate one and only one schema (oneOf). {text}'))
            if not good:
                found += _nearest(results)
    refused = schema.get("not")
    if isinstance(refused, dict) and not check(refused, value, path):
        found.append(invalid(ROOT, "", f'"{where}" must not validate the schema (not)'))


def _nearest(results: list[list[FieldError]]) -> list[FieldError]:
    """Of the choices that all fail, the one that was probably meant."""
    return min(results, key=len)
