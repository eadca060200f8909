"""Defaults of a structural schema: filled in where a field is absent, in place, as upstream's `defaulting` does.

A null stands for "absent" where the schema does not allow null: it gets the default, or goes when there is none.
Idempotent. Worked example, with `{"properties": {"a": {"default": 1}, "b": {"nullable": true, "default": 2}}}`:
{"a": null, "b": null} -> {"a": 1, "b": null}
"""

from __future__ import annotations

import copy
from typing import Any

Schema = dict[str, Any]


def fill(schema: Schema, value: Any) -> None:
    """Raises nothing."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        for key, child in properties.items():
            nullable = bool(child.get("nullable"))
            absent = key not in value or (value[key] is None and not nullable)
            if absent and "default" in child and (child["default"] is not None or nullable):
                value[key] = copy.deepcopy(child["default"])
        extra = schema.get("additionalProperties")
        for key in list(value):
            child = properties.get(key, extra if isinstance(extra, dict) else None)
            if child is None:
                continue
            if value[key] is None and not child.get("nullable"):
                _null(value, key, child, declared=key in properties)
            else:
                fill(child, value[key])
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            if item is None and "default" in schema["items"] and not schema["items"].get("nullable"):
                value[index] = copy.deepcopy(schema["items"]["default"])
            fill(schema["items"], value[index])


def _null(value: dict[str, Any], key: str, schema: Schema, *, declared: bool) -> None:
    """A null where none may be: the default of additionalProperties, or nothing at all."""
    if "default" in schema and schema["default"] is not None:
        value[key] = copy.deepcopy(schema["default"])
    elif declared:
        del value[key]
