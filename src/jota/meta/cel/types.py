"""Types while an expression is checked: scalars, containers, optional and opaque ones, and structs that schemas describe.

In: structural schemas, or the short notation of function tables ("list(A)"). Out: `Type`s, which are compared by
`assignable`. How much a value of a type may hold at most (for estimates of cost) is kept on it. Next: checker.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jota.aio import slices
from jota.meta import schema
from jota.meta.cel import names

Schema = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Type:
    kind: str
    """dyn, null, bool, int, uint, double, string, bytes, timestamp, duration, list, map, optional, type, struct, param,
    or the name of an opaque type (kubernetes.Quantity)."""
    params: tuple[Type, ...] = ()
    name: str = ""
    """Of a struct or a type parameter."""
    fields: Callable[[], dict[str, Type]] | None = None
    """Of a struct; None for one that takes any field (Object{...})."""
    most: int | None = None
    """Bytes, items or entries that a value has at most; None: not known."""
    _fields: dict[str, Type] | None = field(default=None, init=False)

    def field(self, name: str) -> Type | None:
        if self.fields is None:
            return DYN
        if self._fields is None:
            self._fields = self.fields()
        return self._fields.get(name)

    def __str__(self) -> str:
        inner = ", ".join(map(str, self.params))
        match self.kind:
            case "list" | "map":
                return f"{self.kind}({inner})"
            case "optional":
                return f"optional_type({inner})"
            case "type":
                return f"type({inner})" if self.params else "type"
            case "struct" | "param":
                return self.name
        return self.kind


DYN = Type("dyn")
NULL, BOOL, INT, UINT, DOUBLE = Type("null"), Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, TIMESTAMP, DURATION = Type("string"), Type("bytes"), Type("timestamp"), Type("duration")
SCALARS = {t.kind: t for t in (DYN, NULL, BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION)}
OPAQUE = {
    "quantity": "kubernetes.Quantity",
    "url": "kubernetes.URL",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "semver": "kubernetes.Semver",
    "format": "kubernetes.NamedFormat",
    "authorizer": "kubernetes.authorization.Authorizer",
    "pathcheck": "kubernetes.authorization.PathCheck",
    "groupcheck": "kubernetes.authorization.GroupCheck",
    "resourcecheck": "kubernetes.authorization.ResourceCheck",
    "decision": "kubernetes.authorization.Decision",
}
AUTHORIZER = Type(OPAQUE["authorizer"])
NAMES: dict[str, Type] = {
    **{name: SCALARS[name] for name in ("bool", "int", "uint", "double", "string", "bytes")},
    "null_type": NULL,
    "list": Type("list", (DYN,)),
    "map": Type("map", (DYN, DYN)),
    "type": Type("type"),
    "optional_type": Type("optional", (DYN,)),
    "google.protobuf.Timestamp": TIMESTAMP,
    "google.protobuf.Duration": DURATION,
    **{name: Type(name) for name in OPAQUE.values()},
}
"""Types that expressions may name (`type(x) == string`)."""


def list_of(item: Type, most: int | None = None) -> Type:
    return Type("list", (item,), most=most)


def map_of(key: Type, value: Type, most: int | None = None) -> Type:
    return Type("map", (key, value), most=most)


def struct(name: str, fields: Mapping[str, Type]) -> Type:
    return Type("struct", name=name, fields=lambda: dict(fields))


_NOTATION = re.compile(r"\s*([A-Za-z]+)\s*")


@lru_cache(maxsize=512)
def notation(text: str) -> Type:
    """ "list(A)", "map(string, dyn)", "optional(A)", "quantity"."""
    found, at = _notation(text, 0)
    assert at == len(text), text
    return found


def _notation(text: str, at: int) -> tuple[Type, int]:
    match = _NOTATION.match(text, at)
    assert match is not None, text
    word, at = match[1], match.end()
    params: list[Type] = []
    if text[at : at + 1] == "(":
        while text[at] != ")":
            param, at = _notation(text, at + 1)
            params.append(param)
        at = at + 1
    if word in SCALARS:
        return SCALARS[word], at
    if word in OPAQUE:
        return Type(OPAQUE[word]), at
    if word in ("list", "map", "optional", "type"):
        return Type(word, tuple(params)), at
    if word == "JSONPatch":
        return Type("struct", name="JSONPatch"), at
    return Type("param", name=word), at


Bindings = dict[str, Type]


def assignable(wanted: Type, given: Type, bound: Bindings) -> bool:
    """Whether a value of type `given` may stand where `wanted` is; binds type parameters."""
    if wanted.kind == "param":
        known = bound.get(wanted.name)
        if known is None:
            bound[wanted.name] = given
            return True
        if assignable(known, given, bound):
            if given.kind == "dyn":
                bound[wanted.name] = given
            return True
        if assignable(given, known, bound):
            bound[wanted.name] = given
            return True
        return False
    if wanted.kind == "dyn" or given.kind in ("dyn", "param"):
        return True
    if given.kind == "null":
        return wanted.kind in ("null", "struct", "timestamp", "duration", "optional") or "." in wanted.kind
    if wanted.kind != given.kind:
        return False
    if wanted.kind == "struct":
        return wanted.name == given.name
    if wanted.kind == "type" and not (wanted.params and given.params):
        return True
    return all(assignable(w, g, bound) for w, g in zip(wanted.params, given.params, strict=False))


def resolved(type_: Type, bound: Bindings) -> Type:
    if type_.kind == "param":
        return bound.get(type_.name, DYN)
    if type_.params and type_.kind != "struct":
        return Type(type_.kind, tuple(resolved(p, bound) for p in type_.params), type_.name, most=type_.most)
    return type_


def joined(types: list[Type]) -> Type:
    """The type of a literal's items, or of both arms of a condition: dyn when they differ."""
    if not types:
        return Type("param", name="_")
    first = types[0]
    for other in types[1:]:
        if assignable(first, other, {}) and other.kind != "dyn":
            continue
        if assignable(other, first, {}) and first.kind != "dyn":
            first = other
            continue
        return DYN
    return first


# --- structural schemas ------------------------------------------------------------------------------------------------

REQUEST = 3 * 1024 * 1024
"""Bytes of the largest request: no value in it can be larger (upstream's estimate)."""
_TIME_BYTES, _DURATION_BYTES, _DATE_BYTES = 31, 32, 12
_KEY = Type("string", most=0)
"""Of a map. Upstream does not count the length of keys, and definitions rely on it."""


def of_schema(schema: Schema, name: str = "object", *, root: bool = False) -> Type | None:
    """None for what rules cannot see: a value without a type, a list without items."""
    slices.spend(5)
    if schema.get("x-kubernetes-int-or-string"):
        return Type("dyn", most=REQUEST - 2)
    match schema.get("type"):
        case "array":
            return _list_schema(schema, name)
        case "object":
            return _object_schema(schema, name, root)
        case "string":
            return _string_schema(schema)
        case "boolean" | "number" | "integer":
            # upstream's estimate gives them no size, so comparing them is free
            return Type({"boolean": "bool", "number": "double", "integer": "int"}[schema["type"]], most=0)
    return None


def _list_schema(schema: Schema, name: str) -> Type | None:
    items = schema.get("items")
    inner = of_schema(items, f"{name}.@idx") if isinstance(items, Mapping) else None
    if inner is None or not isinstance(items, Mapping):
        return None
    most = schema.get("maxItems")
    return list_of(inner, most if isinstance(most, int) else (REQUEST - 2) // (least_bytes(items) + 1))


def _object_schema(schema: Schema, name: str, root: bool) -> Type | None:
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping) and not schema.get("properties"):
        inner = of_schema(extra, f"{name}.@elem")
        if inner is None:
            return None
        most = schema.get("maxProperties")
        return map_of(_KEY, inner, most if isinstance(most, int) else (REQUEST - 2) // (least_bytes(extra) + 6))
    embedded = root or bool(schema.get("x-kubernetes-embedded-resource"))

    def fields() -> dict[str, Type]:
        found: dict[str, Type] = {}
        for key, child in (schema.get("properties") or {}).items():
            inner = of_schema(child, f"{name}.{key}") if isinstance(child, Mapping) else None
            if inner is not None and names.escape(key):
                found[names.escape(key)] = inner
        return found | (_root_fields(name) if embedded else {})

    return Type("struct", name=name, fields=fields)


def _root_fields(name: str) -> dict[str, Type]:
    text = Type("string", most=REQUEST - 2)
    return {
        "apiVersion": text,
        "kind": text,
        "metadata": struct(f"{name}.metadata", {"name": text, "generateName": text}),
    }


def _string_schema(schema: Schema) -> Type:
    match schema.get("format"):
        case "byte":
            most = schema.get("maxLength")
            return Type("bytes", most=most if isinstance(most, int) else REQUEST - 2)
        case "duration":
            return Type("duration", most=_DURATION_BYTES)
        case "date":
            return Type("timestamp", most=_DATE_BYTES)
        case "date-time":
            return Type("timestamp", most=_TIME_BYTES)
    most, choices = schema.get("maxLength"), schema.get("enum")
    if isinstance(most, int):
        return Type("string", most=4 * max(most, 0))
    if isinstance(choices, list) and choices and all(isinstance(c, str) for c in choices):
        return Type("string", most=max(len(c) for c in choices))
    return Type("string", most=REQUEST - 2)


def least_bytes(schema: Schema) -> int:
    """The fewest bytes that a value of the schema takes as JSON."""
    if schema.get("x-kubernetes-int-or-string"):
        return 1
    match schema.get("type"):
        case "object":
            fields = schema.get("properties") or {}
            named = [k for k in schema.get("required") or () if isinstance(fields.get(k), Mapping)]
            return 2 + sum(len(k) + 4 + least_bytes(fields[k]) for k in named if "default" not in fields[k])
        case "string":
            return {"date": _DATE_BYTES, "date-time": 21, "duration": 4}.get(str(schema.get("format")), 2)
        case "boolean":
            return 4
    return 1 if schema.get("type") in ("integer", "number") else 2


# --- built-in kinds ----------------------------------------------------------------------------------------------------

_SIMPLE = {
    "string": STRING,
    "quantity": STRING,
    "bytes": BYTES,
    "integer": INT,
    "number": DOUBLE,
    "boolean": BOOL,
    "time": TIMESTAMP,
    "micro-time": TIMESTAMP,
}


def of_definition(given: schema.Type, name: str) -> Type:
    """The type of a built-in kind, or of a custom resource's own `schema.Type`."""
    if given.kind in _SIMPLE:
        return _SIMPLE[given.kind]
    inner = given.item or schema.ANY
    if given.kind == "list":
        return list_of(of_definition(inner, f"{name}.@idx"))
    if given.kind == "map":
        return map_of(STRING, of_definition(inner, f"{name}.@elem"))
    if given.kind != "struct" or (given.open and not given.fields):
        return DYN

    def fields() -> dict[str, Type]:
        found = {names.escape(key): (key, child) for key, child in given.fields.items()}
        return {escaped: of_definition(child, f"{name}.{key}") for escaped, (key, child) in found.items() if escaped}

    return Type("struct", name=name, fields=fields)
