"""Lists of type set and map hold each item, or each key, once (x-kubernetes-list-type). Schema and value in, errors out."""

from __future__ import annotations

from typing import Any

import orjson

from jota.meta.errors import FieldError, duplicate

Schema = dict[str, Any]


def check(schema: Schema, value: Any, path: str = "") -> list[FieldError]:
    """Duplicates anywhere in `value`."""
    found: list[FieldError] = []
    _walk(schema, value, path, found)
    return found


def _walk(schema: Schema, value: Any, path: str, found: list[FieldError]) -> None:
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        for key, child in value.items():
            rule = properties.get(key, extra)
            if isinstance(rule, dict) and isinstance(child, dict | list):
                _walk(rule, child, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        _unique(schema, value, path, found)
        for index, item in enumerate(value):
            _walk(schema["items"], item, f"{path}[{index}]", found)


def _unique(schema: Schema, items: list[Any], path: str, found: list[FieldError]) -> None:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: set[bytes] = set()
    for index, item in enumerate(items):
        if kind == "map":
            if not isinstance(item, dict):
                continue
            item = {key: item[key] for key in keys if key in item}
        token = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
        if token in seen:
            found.append(duplicate(f"{path}[{index}]", item))
        seen.add(token)
