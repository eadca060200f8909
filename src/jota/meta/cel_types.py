"""What a compiled CEL expression means for typed values: unknown fields and wrong operands, told at compile time.

The evaluator's checker sees values of any shape; their structural schemas are ours. In: its checked expression (protobuf
`cel.expr.CheckedExpr`) and the schemas; out: errors in cel-go's words, the type of the result, the variables used.
A type here is a schema (dict), a scalar's name ("int", "string", ...), or None: anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jota.meta import cel

Schema = dict[str, Any]
Kind = Schema | str | None
_SCALARS = {"integer": "int", "number": "double", "boolean": "bool", "string": "string"}
_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_NUMBERS = ("int", "uint", "double")
_ROOT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
_METADATA = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}


@dataclass(slots=True)
class Found:
    errors: list[str] = field(default_factory=list)
    result: str = ""
    """bool, string, int, double, bytes, list, map; "" when it is not known."""
    uses: frozenset[str] = frozenset()


def examine(checked: bytes, expression: str, variables: Mapping[str, Schema | None]) -> Found:
    message = _fields(_one(_fields(checked), 2, b""))
    walk = _Walk(expression, message)
    found = Found()
    result = walk.expression(_one(message, 4, b""), dict(variables))
    found.errors = walk.errors
    found.result = name_of(result)
    found.uses = frozenset(walk.used & variables.keys())
    return found


def name_of(kind: Kind) -> str:
    """bool, string, int, double, list, map; "" when it is not known."""
    if isinstance(kind, str) or kind is None:
        return kind or ""
    if kind.get("x-kubernetes-int-or-string") or kind.get("nullable"):
        return ""
    if kind.get("format") in ("date-time", "date", "datetime", "duration", "byte"):
        return ""
    type_ = kind.get("type")
    if type_ == "array":
        return "list"
    return "map" if type_ == "object" else _SCALARS.get(type_ or "", "")


# --- protobuf --------------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> dict[int, list[Any]]:
    """Field number -> its values, undecoded."""
    out: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                out.setdefault(tag >> 3, []).append(value)
            case 2:
                size, at = _varint(data, at)
                out.setdefault(tag >> 3, []).append(data[at : at + size])
                at += size
            case 1:
                out.setdefault(tag >> 3, []).append(data[at : at + 8])
                at += 8
            case _:
                out.setdefault(tag >> 3, []).append(data[at : at + 4])
                at += 4
    return out


def _one(fields: dict[int, list[Any]], number: int, default: Any) -> Any:
    return fields[number][-1] if number in fields else default


def _text(fields: dict[int, list[Any]], number: int) -> str:
    return bytes(_one(fields, number, b"")).decode()


# --- the walk --------------------------------------------------------------------------------------------------------

Scope = dict[str, Kind]


class _Walk:
    """Expr: id 2, const 3, ident 4, select 5, call 6, list 7, struct 8, comprehension 9."""

    def __init__(self, source: str, checked: dict[int, list[Any]]) -> None:
        self.source = source
        self.errors: list[str] = []
        self.used: set[str] = set()
        self._types = dict(map(_entry, checked.get(3, ())))
        info = _fields(_one(checked, 5, b""))
        self._positions = {_one(p, 1, 0): _one(p, 2, 0) for p in map(_fields, info.get(4, ()))}

    def expression(self, data: bytes, scope: Scope) -> Kind:
        node = _fields(data)
        id_ = _one(node, 2, 0)
        if 3 in node:
            return self._declared(id_)
        if 4 in node:
            return self._identifier(_text(_fields(node[4][-1]), 1), scope)
        if 5 in node:
            return self._select(_fields(node[5][-1]), id_, scope)
        if 6 in node:
            return self._call(_fields(node[6][-1]), id_, scope)
        if 9 in node:
            return self._comprehension(_fields(node[9][-1]), id_, scope)
        for child in self._children(node):
            self.expression(child, scope)
        return "list" if 7 in node else "map"

    def _children(self, node: dict[int, list[Any]]) -> Iterator[bytes]:
        if 7 in node:
            yield from _fields(node[7][-1]).get(1, ())
        for entry in map(_fields, _fields(_one(node, 8, b"")).get(2, ())):
            yield from (entry[number][-1] for number in (3, 4) if number in entry)

    def _declared(self, id_: int) -> Kind:
        """What the evaluator's own checker found: primitives only."""
        found = _fields(self._types.get(id_, b""))
        return _PRIMITIVES.get(_one(found, 3, 0)) if 3 in found else None

    def _identifier(self, name: str, scope: Scope) -> Kind:
        self.used.add(name)
        return scope.get(name)

    def _error(self, id_: int, text: str) -> None:
        offset = self._positions.get(id_, 0)
        before = self.source[:offset]
        line, column = before.count("\n"), offset - (before.rfind("\n") + 1)
        shown = self.source.split("\n")[line]
        self.errors.append(f"ERROR: <input>:{line + 1}:{column + 1}: {text}\n | {shown}\n | {'.' * column}^")

    def _select(self, node: dict[int, list[Any]], id_: int, scope: Scope) -> Kind:
        operand, name = self.expression(_one(node, 1, b""), scope), _text(node, 2)
        found = self._field(operand, name, id_)
        return "bool" if _one(node, 3, 0) else found

    def _field(self, operand: Kind, name: str, id_: int) -> Kind:
        if operand is None or operand in ("map", "list"):
            return None
        if isinstance(operand, str) or name_of(operand) in ("int", "string", "bool", "double", "list"):
            shown = operand if isinstance(operand, str) else name_of(operand)
            self._error(id_, f"type '{shown}' does not support field selection")
            return None
        if not is_closed(operand):
            return element(operand)
        fields = properties(operand)
        if name not in fields:
            self._error(id_, f"undefined field '{name}'")
            return None
        return fields[name]

    def _call(self, node: dict[int, list[Any]], id_: int, scope: Scope) -> Kind:
        name, args = _text(node, 2), node.get(3, [])
        kinds = [self.expression(arg, scope) for arg in args]
        target = self.expression(node[1][-1], scope) if 1 in node else None
        if name in ("_?._", "_[?_]"):
            return None
        if name == "_[_]" and len(kinds) == 2:
            return element(kinds[0]) if isinstance(kinds[0], dict) else self._declared(id_)
        self._operator(name, kinds, id_)
        if name == "_?_:_" and len(kinds) == 3:
            return kinds[1] if name_of(kinds[1]) == name_of(kinds[2]) else None
        if name == "size" and name_of(target if 1 in node else kinds[0]) in ("int", "bool", "double"):
            self._error(id_, f"found no matching overload for 'size' applied to '({name_of(target or kinds[0])})'")
        return self._declared(id_)

    def _operator(self, name: str, kinds: list[Kind], id_: int) -> None:
        names = [name_of(k) for k in kinds]
        if name in ("_&&_", "_||_", "!_"):
            wrong = any(n and n != "bool" for n in names)
        elif name in ("_+_", "_-_", "_*_", "_/_", "_%_") and all(names):
            wrong = (
                names[0] != names[1]
                or names[0] in ("bool", "map")
                or (names[0] in ("string", "list") and name != "_+_")
            )
        elif name in ("_==_", "_!=_") and all(names):
            wrong = names[0] != names[1]
        elif name in ("_<_", "_<=_", "_>_", "_>=_") and all(names):
            numbers = all(n in _NUMBERS for n in names)
            wrong = not numbers and (names[0] != names[1] or names[0] in ("map", "list"))
        else:
            return
        if wrong:
            self._error(
                id_, f"found no matching overload for '{name}' applied to '({', '.join(n or 'dyn' for n in names)})'"
            )

    def _comprehension(self, node: dict[int, list[Any]], id_: int, scope: Scope) -> Kind:
        over = self.expression(_one(node, 2, b""), scope)
        if name_of(over) in ("int", "string", "bool", "double"):
            shown = name_of(over)
            self._error(
                id_, f"expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
            )
            over = None
        variable, accumulator = _text(node, 1), _text(node, 3)
        inner: Scope = {**scope, variable: _item(over)}
        start = self.expression(_one(node, 4, b""), scope)
        inner[accumulator] = start if accumulator not in ("@result", "__result__") else None
        for number in (5, 6):
            self.expression(_one(node, number, b""), inner)
        self.expression(_one(node, 7, b""), inner)
        self.used -= {accumulator, variable} - scope.keys()
        return self._declared(id_)


def _entry(data: bytes) -> tuple[int, bytes]:
    fields = _fields(data)
    return _one(fields, 1, 0), _one(fields, 2, b"")


# --- schemas as types --------------------------------------------------------------------------------------------------


def is_closed(schema: Schema) -> bool:
    """An object of which every field is known."""
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    if schema.get("type") != "object" or schema.get("additionalProperties"):
        return False
    return not (free and not schema.get("properties"))


def properties(schema: Schema) -> dict[str, Schema]:
    """Fields by the names that rules use."""
    own = {cel.escape(key): value for key, value in (schema.get("properties") or {}).items()}
    own.pop("", None)
    if schema.get("x-kubernetes-embedded-resource") or schema.get("x-jota-root"):
        return {**own, **_ROOT, "metadata": _METADATA}
    return own


def element(kind: Kind) -> Kind:
    """An item of a list or a value of a map."""
    if not isinstance(kind, dict):
        return None
    for key in ("items", "additionalProperties"):
        if isinstance(kind.get(key), dict):
            return kind[key]  # type: ignore[no-any-return]
    return None


def _item(kind: Kind) -> Kind:
    """What a macro's variable is: an item of a list, a key of a map."""
    if isinstance(kind, dict) and kind.get("type") == "object":
        return "string"
    return element(kind) if isinstance(kind, dict) and kind.get("type") == "array" else None
