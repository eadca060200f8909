"""Objects inside custom resources (x-kubernetes-embedded-resource): they have apiVersion, kind and a metadata of their own.

In: the outer schema and value. Out: errors with full paths. Their contents are the schema's business.
"""

from __future__ import annotations

from typing import Any

from jota.meta import names
from jota.meta.errors import FieldError, invalid, required

Schema = dict[str, Any]


def check(schema: Schema, value: Any, path: str = "") -> list[FieldError]:
    found: list[FieldError] = []
    if schema.get("x-kubernetes-embedded-resource") and isinstance(value, dict):
        found += _object(value, path)
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, child in value.items():
            rule = properties.get(key, extra)
            if isinstance(rule, dict):
                found += check(rule, child, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            found += check(schema["items"], item, f"{path}[{index}]")
    return found


def _object(value: dict[str, Any], path: str) -> list[FieldError]:
    found = []
    for key in ("apiVersion", "kind"):
        have = value.get(key)
        if not isinstance(have, str) or not have:
            found.append(required(f"{path}.{key}", "must not be empty"))
    kind = value.get("kind")
    if isinstance(kind, str) and kind:
        found += [invalid(f"{path}.kind", kind, detail) for detail in names.dns_1035_label(kind.lower())]
    metadata = value.get("metadata")
    if metadata is None:
        return found
    if not isinstance(metadata, dict):
        return [*found, invalid(f"{path}.metadata", metadata, "must be an object")]
    for key in ("labels", "annotations"):
        have = metadata.get(key)
        if have is not None and not (isinstance(have, dict) and all(isinstance(v, str) for v in have.values())):
            found.append(invalid(f"{path}.metadata.{key}", have, "must be a map of strings"))
        elif have and key == "labels":
            found += names.validate_labels(have, f"{path}.metadata.labels")
    return found
