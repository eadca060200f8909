"""Whether a schema has a certain extension anywhere. Most have none, which their bytes tell sooner than a walk."""

from __future__ import annotations

from typing import Any

import orjson


def mentions(schema: Any, key: str) -> bool:
    """Whether `key` is there with a value that is not empty (nor false)."""
    return f'"{key}":'.encode() in orjson.dumps(schema) and _has(schema, key)


def _has(schema: Any, key: str) -> bool:
    if isinstance(schema, dict):
        return bool(schema.get(key)) or any(_has(child, key) for child in schema.values())
    return isinstance(schema, list) and any(_has(child, key) for child in schema)
