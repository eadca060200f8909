"""The schema's facts: which fields a kind has, of what type, and how lists and maps merge.

In: the JSON schema of Kubernetes that the package `kubernetes-validate` carries, or a CRD's structural schema; out: a
tree of `Type`. The file is read on first use (2 MB, 5 ms) and kept as one buffer; a definition is decoded when
somebody asks for it. Next: check.py walks objects along these types; patch/strategic.py and apply.py merge by them.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from jota.meta.check import Problem, check_type, prune_type

VERSION = "1.37.0"
"""The Kubernetes release whose API this is."""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META = _META + "ObjectMeta"
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    _META + "Time": "time",
    _META + "MicroTime": "micro-time",
    _META + "FieldsV1": "any",
    _META + "Patch": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    _CRD + "JSON": "any",
    _CRD + "JSONSchemaPropsOrArray": "props-or-list",
    _CRD + "JSONSchemaPropsOrBool": "props-or-bool",
    _CRD + "JSONSchemaPropsOrStringArray": "props-or-strings",
}
_KEY_DEFAULTS = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}
"""Defaults of list-map keys: the schema file drops them, and a manifest without the key must still find its item."""


class Type:
    """One node of the type tree; treat as frozen.

    `kind`: string | bytes | integer | number | boolean | time | micro-time | quantity | int-or-string | any | list |
    map | struct, and three unions that CRDs use (props-or-list, props-or-bool, props-or-strings).
    """

    __slots__ = (
        "_fields",
        "atomic",
        "defaults",
        "format",
        "item",
        "keys",
        "kind",
        "list_type",
        "merge_key",
        "name",
        "open",
        "required",
        "strategies",
    )

    def __init__(
        self, kind: str, name: str = "", fields: dict[str, Type] | None = None, item: Type | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        """Definition name of a struct, "" for an anonymous one (CRDs)."""
        self._fields = fields
        self.item = item
        """Element type of a list, value type of a map."""
        self.format = ""
        """int32 | int64 | double | ..."""
        self.list_type = "atomic"
        """atomic | set | map: how server-side apply owns and merges a list."""
        self.keys: tuple[str, ...] = ()
        """Keys that identify an item of a map-list."""
        self.defaults: dict[str, Any] = {}
        """Defaults of fields of this struct that serve as list-map keys."""
        self.atomic = False
        """A struct or map that has one owner as a whole."""
        self.merge_key = ""
        """Strategic merge patch: identifies items of a list whose strategy is merge."""
        self.strategies: frozenset[str] = frozenset()
        """Strategic merge patch: merge | replace | retainKeys."""
        self.required: tuple[str, ...] = ()
        self.open = False
        """Unknown fields are kept (x-kubernetes-preserve-unknown-fields)."""

    @property
    def fields(self) -> dict[str, Type]:
        """Fields of a struct by JSON name; {} for anything else."""
        if self._fields is None:
            target = definition(self.name) if self.kind == "struct" and self.name else None
            self._fields = target.fields if target is not None else {}
        return self._fields

    @property
    def go(self) -> str:
        """As Go's errors spell the type: int32, v1.PodSpec, []v1.Container, map[string]string."""
        match self.kind:
            case "integer":
                return self.format or "int64"
            case "number":
                return "float64"
            case "boolean":
                return "bool"
            case "bytes":
                return "[]uint8"
            case "list":
                return "[]" + (self.item.go if self.item else "interface {}")
            case "map":
                return "map[string]" + (self.item.go if self.item else "interface {}")
            case "struct":
                return ".".join(self.name.split(".")[-2:]) or "map[string]interface {}"
            case "quantity":
                return "resource.Quantity"
            case "int-or-string":
                return "intstr.IntOrString"
        return self.kind

    def __repr__(self) -> str:
        return f"<Type {self.kind} {self.name}>"


ANY = Type("any")


# --- the built-in schema ---------------------------------------------------------------------------------------------


class _Document(msgspec.Struct):
    definitions: dict[str, msgspec.Raw] = msgspec.field(name="$defs")


@cache
def _raw() -> dict[str, msgspec.Raw]:
    with open(schema_path(), "rb") as file:
        return msgspec.json.decode(file.read(), type=_Document).definitions


def schema_path() -> str:
    """The file of JSON schema definitions. Raises FileNotFoundError when kubernetes-validate does not carry VERSION."""
    # find_spec does not run the package, whose imports cost 150 ms
    spec = importlib.util.find_spec("kubernetes_validate")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = os.path.join(folder, "kubernetes-json-schema", f"v{VERSION}-local", "_definitions.json")
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"package kubernetes-validate does not carry the schema of Kubernetes {VERSION}")


def names() -> Iterator[str]:
    """Every definition's name."""
    return iter(_raw())


def source(name: str) -> dict[str, Any] | None:
    """A definition as the schema file has it, descriptions included; freshly decoded, not kept. None when unknown."""
    raw = _raw().get(name)
    return None if raw is None else msgspec.json.decode(raw)


_REFERENCE = re.compile(rb'"\$ref":\s*"#/\$defs/([^"]+)"')


def closure(roots: Iterable[str]) -> list[str]:
    """The definitions that these need, themselves included, sorted; unknown names are left out."""
    raw = _raw()
    seen: set[str] = set()
    todo = [name for name in roots if name in raw]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [found.decode() for found in _REFERENCE.findall(bytes(raw[name]))]
    return sorted(seen)


@cache
def find(group: str, version: str, kind: str) -> str:
    """Name of the definition of a GVK, "" when there is none."""
    for name in _raw():
        if name.endswith(f".{version}.{kind}"):
            gvks = (source(name) or {}).get("x-kubernetes-group-version-kind") or ()
            if {"group": group, "version": version, "kind": kind} in gvks:
                return name
    return ""


@cache
def definition(name: str) -> Type | None:
    """The type of a definition, decoded once; None when the schema has no such name."""
    special = _SPECIAL.get(name)
    if special:
        out = Type(special, name)
        if special.startswith("props"):
            out.item = Type("struct", _CRD + "JSONSchemaProps")
        return out
    raw = source(name)
    if raw is None:
        return None
    if "properties" not in raw:
        return Type("any", name) if raw.get("type") is None else _from_schema(raw)
    fields = {key: _from_schema(value) for key, value in raw["properties"].items()}
    out = _with_facts(Type("struct", name, fields), raw)
    out.required = tuple(raw.get("required", ()))
    out.defaults = _KEY_DEFAULTS.get(name, {})
    return out


def _from_schema(raw: dict[str, Any]) -> Type:
    reference = raw.get("$ref")
    if reference:
        return _with_facts(_reference(reference.rpartition("/")[2]), raw)
    kind = raw.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), None)
    if kind == "array":
        return _with_facts(Type("list", item=_from_schema(raw.get("items") or {})), raw)
    if kind == "object":
        values = raw.get("additionalProperties")
        return _with_facts(Type("map", item=_from_schema(values) if isinstance(values, dict) else ANY), raw)
    if kind == "string":
        kind = {"byte": "bytes", "date-time": "time"}.get(raw.get("format", ""), "string")
    out = _with_facts(Type(kind or "any"), raw)
    out.format = raw.get("format", "")
    return out


def _reference(name: str) -> Type:
    """A node of its own for a $ref, since merge facts stand beside it; struct fields are resolved when asked for."""
    if name in _SPECIAL:
        return definition(name) or ANY
    raw = _raw().get(name)
    if raw is None:
        return ANY
    head = msgspec.json.decode(raw, type=_Head)
    if head.properties is msgspec.UNSET:
        return definition(name) or ANY
    out = Type("struct", name)
    out.atomic = head.map_type == "atomic"
    out.required = head.required
    out.defaults = _KEY_DEFAULTS.get(name, {})
    return out


class _Head(msgspec.Struct):
    properties: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    map_type: str = msgspec.field(name="x-kubernetes-map-type", default="")
    required: tuple[str, ...] = ()


def _with_facts(out: Type, raw: dict[str, Any]) -> Type:
    out.list_type = raw.get("x-kubernetes-list-type", out.list_type)
    out.keys = tuple(raw.get("x-kubernetes-list-map-keys", out.keys))
    if "x-kubernetes-map-type" in raw:
        out.atomic = raw["x-kubernetes-map-type"] == "atomic"
    out.merge_key = raw.get("x-kubernetes-patch-merge-key", "")
    strategy = raw.get("x-kubernetes-patch-strategy", "")
    out.strategies = frozenset(strategy.split(",")) if strategy else frozenset()
    return out


# --- custom resources ------------------------------------------------------------------------------------------------


def from_structural(schema: dict[str, Any], *, root: bool = True) -> Type:
    """The type of a CRD version's `openAPIV3Schema`. A root has apiVersion, kind and a full ObjectMeta."""
    out = _from_structural(schema or {})
    if root and out.kind in ("struct", "any", "map"):
        fields = dict(out.fields)
        fields |= {"apiVersion": Type("string"), "kind": Type("string"), "metadata": Type("struct", OBJECT_META)}
        wide_open = out.open or out.kind != "struct"
        out = Type("struct", fields=fields)
        out.open = wide_open
    return out


def _from_structural(raw: dict[str, Any]) -> Type:
    kind = raw.get("type", "")
    if raw.get("x-kubernetes-int-or-string"):
        return Type("int-or-string")
    if kind == "array":
        return _structural_facts(Type("list", item=_from_structural(raw.get("items") or {})), raw)
    if kind == "object" or "properties" in raw:
        return _structural_object(raw)
    out = _structural_facts(Type(kind if kind in ("string", "integer", "number", "boolean") else "any"), raw)
    out.format = raw.get("format", "")
    return out


def _structural_object(raw: dict[str, Any]) -> Type:
    keeps = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    values = raw.get("additionalProperties")
    if values is not None and "properties" not in raw:
        return _structural_facts(Type("map", item=_from_structural(values) if isinstance(values, dict) else ANY), raw)
    fields = {key: _from_structural(value) for key, value in (raw.get("properties") or {}).items()}
    if raw.get("x-kubernetes-embedded-resource"):
        # also where the schema says something of metadata: it may only narrow names
        fields |= {"apiVersion": Type("string"), "kind": Type("string"), "metadata": Type("struct", OBJECT_META)}
    out = _structural_facts(Type("struct", fields=fields), raw)
    out.open = keeps or values is True
    out.required = tuple(raw.get("required", ()))
    out.defaults = {k: v["default"] for k, v in (raw.get("properties") or {}).items() if "default" in v}
    return out


def _structural_facts(out: Type, raw: dict[str, Any]) -> Type:
    out = _with_facts(out, raw)
    out.open = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    return out


# --- looking at objects ----------------------------------------------------------------------------------------------


def check(name: str | Type, obj: Any) -> list[Problem]:
    """Unknown fields and values of the wrong type, in document order. An unknown definition has no problems."""
    root = name if isinstance(name, Type) else definition(name)
    return [] if root is None else check_type(root, obj)


def prune(name: str | Type, obj: Any) -> None:
    """Drop unknown fields and nulls in place, as decoding into a typed object does."""
    root = name if isinstance(name, Type) else definition(name)
    if root is not None:
        prune_type(root, obj)
