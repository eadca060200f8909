"""Safe looks into JSON objects of doubtful shape: what is missing, null or of another type reads as empty.

The schema check reports wrong types to the client before any kind is asked; these helpers only keep the functions of the
fact sheets from raising on what an old or foreign writer left in the store. Next: common.py, names.py.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def part(obj: Object, key: str) -> Object:
    """The object under `key`, or a new empty one that is not attached."""
    value = obj.get(key)
    return value if isinstance(value, dict) else {}


def deep(obj: Object, *keys: str) -> Object:
    """The object at a path of keys, or an empty one."""
    for key in keys:
        value = obj.get(key)
        if not isinstance(value, dict):
            return {}
        obj = value
    return obj


def parts(obj: Object, key: str) -> list[Object]:
    """The objects in the list under `key`; other elements are skipped."""
    value = obj.get(key)
    if not isinstance(value, list):
        return []
    for element in value:
        if not isinstance(element, dict):
            return [e for e in value if isinstance(e, dict)]
    return value


def texts(obj: Object, key: str) -> list[str]:
    """The strings in the list under `key`."""
    value = obj.get(key)
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def text(obj: Object, key: str) -> str:
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def number(obj: Object, key: str, default: int = 0) -> int:
    """The integer under `key`; booleans and fractions do not count as one."""
    value = obj.get(key)
    return value if type(value) is int else default


def strings(obj: Object, key: str) -> dict[str, str]:
    """The map of strings under `key`: labels, annotations, matchLabels, data."""
    value = obj.get(key)
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, str)}


def meta(obj: Object) -> Object:
    return part(obj, "metadata")


def attach(obj: Object, key: str) -> Object:
    """The object under `key`, made when missing or null: for defaults, which write into it."""
    value = obj.get(key)
    if isinstance(value, dict):
        return value
    made: Object = {}
    if value is None:
        obj[key] = made
    return made


def put_missing(obj: Object, key: str, value: Any) -> None:
    """Set a default: null and absent are the same on the wire."""
    if obj.get(key) is None:
        obj[key] = value
