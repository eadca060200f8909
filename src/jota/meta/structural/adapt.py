"""A value as its structural schema makes CEL see it: properties under the names that rules write, whole numbers of type
number as doubles, times, durations and bytes as such, lists that are sets or maps as these. Schema and value in, value out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from jota.aio import slices
from jota.meta.cel.errors import CelError
from jota.meta.cel.names import escape
from jota.meta.cel.values import MapList, SetList, date, duration, timestamp

Schema = dict[str, Any]


def adapt(schema: Schema, value: Any) -> Any:
    """The value itself when nothing has to change."""
    if isinstance(value, dict):
        return _object(schema, value)
    if isinstance(value, list):
        return _list(schema, value)
    if isinstance(value, str):
        make = _FORMATS.get(str(schema.get("format"))) if schema.get("type") == "string" else None
        return value if make is None else _made(make, value)
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _object(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    slices.spend(1 + len(value))
    if schema.get("x-jota-root") or schema.get("x-kubernetes-embedded-resource"):
        value = _narrowed(value)
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    out: dict[str, Any] = {}
    for key, child in value.items():
        rule = properties.get(key)
        if rule is None and isinstance(extra, dict):
            rule = extra
        name = (escape(key) or key) if key in properties else key
        out[name] = adapt(rule, child) if isinstance(rule, dict) else child
    return out


def _list(schema: Schema, value: list[Any]) -> list[Any]:
    items = schema.get("items")
    slices.spend(1 + len(value) // 4)
    made = [adapt(items, item) for item in value] if isinstance(items, dict) else value
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return SetList(made)
        case "map":
            return MapList(made, tuple(escape(k) or k for k in schema.get("x-kubernetes-list-map-keys") or ()))
    return made


def _narrowed(value: dict[str, Any]) -> dict[str, Any]:
    """Of metadata, rules see the names alone."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    return {**value, "metadata": {k: metadata[k] for k in ("name", "generateName") if k in metadata}}


def _made(make: Callable[[str], Any], text: str) -> Any:
    """A text that is not what its format says stays one, and rules that need more fail."""
    try:
        return make(text)
    except (CelError, binascii.Error, ValueError):
        return text


_FORMATS: dict[str, Callable[[str], Any]] = {
    "date-time": timestamp,
    "date": date,
    "duration": duration,
    "byte": lambda text: base64.b64decode(text, validate=True),
}
