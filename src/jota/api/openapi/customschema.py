"""A custom resource's structural schema as OpenAPI documents show it. Pure. In: openAPIV3Schema. Out: a new schema.

v3 can say all of it. v2 has no junctors and no null, and its clients (kubectl) refuse what is not listed wherever something is,
so that what they could not read is left open (apiextensions-apiserver's rules). Next: definitions.py, which adds the rest.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

EMBEDDED, FREE = "x-kubernetes-embedded-resource", "x-kubernetes-preserve-unknown-fields"
_UNSAYABLE = ("allOf", "oneOf", "anyOf", "not", "nullable")
# kubectl explain shows these; upstream's suite looks for their first words
TYPE_META: dict[str, Schema] = {
    "apiVersion": {
        "type": "string",
        "description": "APIVersion defines the group and version of this object's schema.",
    },
    "kind": {"type": "string", "description": "Kind is the REST resource that this object represents, in CamelCase."},
}


def shown(schema: Schema, version: int, object_meta: Schema) -> Schema:
    """The schema in the dialect of `version` (2 or 3); `object_meta` is what embedded resources refer to."""
    out = _simple(schema) if version == 2 else dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = shown(out[key], version, object_meta)
    if "properties" in out:
        out["properties"] = {name: shown(child, version, object_meta) for name, child in out["properties"].items()}
    if out.get(EMBEDDED) and not (version == 2 and out.get(FREE)):
        out["properties"] = {**(out.get("properties") or {}), **TYPE_META, "metadata": object_meta}
        required = out.get("required") or []
        out["required"] = [*required, *(name for name in ("kind", "apiVersion") if name not in required)]
    return out


def _simple(schema: Schema) -> Schema:
    """One level of it without what v2 cannot say."""
    out = {key: value for key, value in schema.items() if key not in _UNSAYABLE}
    if schema.get("nullable"):
        out.pop("type", None)
    if schema.get("nullable") or schema.get(FREE):
        out.pop("items", None)
        out.pop("properties", None)
    if (out.get("type") == "array" and not out.get("items")) or (out.get("type") == "object" and schema.get(FREE)):
        del out["type"]
    nullable = {name for name, child in (schema.get("properties") or {}).items() if child.get("nullable")}
    values = schema.get("additionalProperties")
    required = [name for name in out.pop("required", None) or () if name not in nullable]
    if required and not (isinstance(values, dict) and values.get("nullable")):
        out["required"] = required
    return out
