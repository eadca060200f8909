"""Definitions of an OpenAPI document: the schema file's JSON schema rewritten as OpenAPI v2 or v3. Pure.

Comes from meta/schema.py one definition at a time, so that no document is ever held as dicts as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jota.api.openapi import customschema
from jota.api.openapi.customschema import TYPE_META
from jota.kinds.kind import Kind
from jota.meta import schema

Custom = Mapping[tuple[str, str, str], dict[str, Any]]
"""(group, version, kind) -> openAPIV3Schema, for custom resources."""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
COMMON = (_META + "DeleteOptions", _META + "Status", _META + "Patch", _META + "WatchEvent", _META + "APIResourceList")
OBJECT_META, LIST_META = _META + "ObjectMeta", _META + "ListMeta"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_DROPPED = frozenset(("enum", "$schema", "$id", "x-kubernetes-unions"))
"""In the schema file; `enum` stands there only on apiVersion and kind, where upstream's documents have none."""


def name_of(kind: Kind) -> str:
    """The definition's name: the schema's, or for custom resources the reversed group, version and kind."""
    if kind.schema:
        return kind.schema
    group = ".".join(reversed((kind.resource.group or "core").split(".")))
    return f"{group}.{kind.resource.version}.{kind.resource.kind}"


def definitions(kinds: Iterable[Kind], custom: Custom, version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, definition) of all that the kinds need, sorted; `version` 2 or 3 decides the dialect."""
    members = list(kinds)
    built_in = [name for k in members for name in (k.schema, k.schema + "List") if k.schema]
    extra = {name: body for k in members if not k.schema for name, body in _custom(k, custom, version)}
    names = set(schema.closure([*built_in, *COMMON, OBJECT_META, LIST_META, *_bodies(members)]))
    for name in sorted(names | extra.keys()):
        if name in extra:
            yield name, _rewrite(extra[name], version, frozenset())
        else:
            yield name, _definition(name, schema.source(name) or {}, version)


def _bodies(kinds: Iterable[Kind]) -> Iterator[str]:
    """Definitions that only sub-resources use."""
    for kind in kinds:
        if kind.scale is not None:
            yield "io.k8s.api.autoscaling.v1.Scale"
        if "eviction" in kind.subresources:
            yield "io.k8s.api.policy.v1.Eviction"
        if "binding" in kind.subresources:
            yield "io.k8s.api.core.v1.Binding"
        if "token" in kind.subresources:
            yield "io.k8s.api.authentication.v1.TokenRequest"


def _custom(kind: Kind, custom: Custom, version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A custom resource's definition and its list's, with the metadata that a CRD leaves out; nothing but its type where any
    field listed would make v2 clients refuse the others."""
    resource = kind.resource
    gvk = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    given = custom.get((resource.group, resource.version, resource.kind))
    body: dict[str, Any] = {"type": "object"}
    if given and not (version == 2 and given.get(customschema.FREE)):
        metadata = {"$ref": f"#/$defs/{OBJECT_META}", "description": "Standard object's metadata."}
        body = customschema.shown(given, version, metadata)
        body["properties"] = {**(body.get("properties") or {}), **TYPE_META, "metadata": metadata}
    body["x-kubernetes-group-version-kind"] = [gvk]
    name = name_of(kind)
    yield name, body
    items = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "description": f"List of {resource.plural}."}
    yield (
        name + "List",
        {
            "type": "object",
            "description": f"{resource.kind}List is a list of {resource.kind}",
            "required": ["items"],
            "properties": {**TYPE_META, "metadata": {"$ref": f"#/$defs/{LIST_META}"}, "items": items},
            "x-kubernetes-group-version-kind": [{**gvk, "kind": resource.kind + "List"}],
        },
    )


def _definition(name: str, source: dict[str, Any], version: int) -> dict[str, Any]:
    if name == _INT_OR_STRING:
        description = "IntOrString is a type that can hold an int32 or a string."
        choice = {"oneOf": [{"type": "integer"}, {"type": "string"}]} if version == 3 else {"type": "string"}
        return {"description": description, "format": "int-or-string", **choice}
    if name == _QUANTITY:
        description = "Quantity is a fixed-point representation of a number, such as 500m, 1.5 or 2Gi."
        choice = {"oneOf": [{"type": "string"}, {"type": "number"}]} if version == 3 else {"type": "string"}
        return {"description": description, **choice}
    return _rewrite(source, version, _DROPPED)


def _rewrite(node: dict[str, Any], version: int, dropped: frozenset[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in dropped:
            continue
        if key == "$ref":
            _refer(out, value.rpartition("/")[2], len(node) > 1, version)
        elif key == "type" and isinstance(value, list):
            out["type"] = next((t for t in value if t != "null"), "object")
        elif key == "properties":
            out[key] = {name: _rewrite(child, version, dropped) for name, child in value.items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            out[key] = _rewrite(value, version, dropped)
        elif key in ("oneOf", "anyOf", "allOf", "nullable") and version == 2:
            continue  # OpenAPI v2 has none of these
        else:
            out[key] = value
    return out


def _refer(out: dict[str, Any], name: str, siblings: bool, version: int) -> None:
    if version == 2:
        out["$ref"] = f"#/definitions/{name}"
    elif siblings:
        # OpenAPI v3.0 ignores what stands beside a $ref
        out["allOf"] = [{"$ref": f"#/components/schemas/{name}"}]
    else:
        out["$ref"] = f"#/components/schemas/{name}"
