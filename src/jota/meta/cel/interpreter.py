"""A checked tree as nested closures: values in, a value out, and what it cost, counted as cel-go counts.

Every closure takes the frame (frame.py). Selecting and naming costs one unit, calls what their table says (calls.py), lists 10,
maps 30, objects 40; steps of macros cost what cel-go's expansion of them does (comprehensions.py). Errors are CelError; `&&`,
`||`, all and exists absorb them. What runs most often (names, fields, comparisons, loops) is written out.
"""

from __future__ import annotations

from typing import Any

from jota.aio import slices
from jota.meta.cel import types
from jota.meta.cel.calls import call, paid, step_cost, within, wrapped
from jota.meta.cel.comprehensions import LIST_COST, comprehension, let
from jota.meta.cel.errors import CelError
from jota.meta.cel.frame import MISSING, Frame, Run, variable
from jota.meta.cel.syntax import (
    NODE,
    Call,
    Const,
    Ident,
    Let,
    ListNode,
    Macro,
    MapNode,
    Node,
    Select,
    StructNode,
    qualified,
)
from jota.meta.cel.values import NONE, ObjectValue, Optional, TypeValue

MAP_COST, OBJECT_COST = 30, 40


def build(node: Node, locals_: frozenset[str] = frozenset()) -> Run:
    slices.spend(NODE)
    match node:
        case Const():
            value = node.value
            return lambda _: value
        case Ident():
            return _ident(node, locals_)
        case Select():
            return _select(node, locals_)
        case Call():
            nodes = ([node.target] if node.target is not None else []) + node.args
            return call(node, nodes, [build(n, locals_) for n in nodes])
        case ListNode():
            return _list(node, locals_)
        case MapNode():
            return _map(node, locals_)
        case StructNode():
            return _struct(node, locals_)
        case Macro():
            over, inner = build(node.range, locals_), locals_ | set(node.variables)
            test = None if node.condition is None else build(node.condition, inner)
            step = None if node.step is None else build(node.step, inner)
            return comprehension(node, over, test, step)
        case Let():
            return let(node, build(node.value, locals_), build(node.body, locals_ | {node.name}))
    raise AssertionError(type(node))


def _ident(node: Ident, locals_: frozenset[str]) -> Run:
    name = node.name
    if node.type.kind == "type" and node.type.params and name in types.NAMES and name not in locals_:
        value = TypeValue(name)
        return lambda _: value
    return variable(name)


def _select(node: Select, locals_: frozenset[str]) -> Run:
    full = qualified(node)
    if node.type.kind == "type" and full in types.NAMES:
        constant = TypeValue(full)
        return lambda _: constant
    if node.variable:
        return variable(full)
    operand, name, optional = build(node.operand, locals_), node.name, node.optional
    cost = step_cost(node.operand)
    if node.test:
        return lambda frame: _has(operand(frame), name)

    def run(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is dict and not optional:
            frame.cost += cost
            try:
                return value[name]
            except KeyError:
                raise CelError(f"no such key: {name}") from None
        if isinstance(value, dict):
            found = value.get(name, MISSING)
            if optional and found is MISSING:
                return NONE
            frame.cost += cost
            if optional:
                return Optional(found)
            if found is MISSING:
                raise CelError(f"no such key: {name}")
            return found
        if isinstance(value, Optional):
            return paid(frame, within(value, name))
        if optional and value is None:
            return NONE
        raise CelError(f"no such key: {name}")

    return run


def _has(value: Any, name: str) -> bool:
    if isinstance(value, Optional):
        return value.present and _has(value.value, name)
    if not isinstance(value, dict):
        raise CelError("no such overload")
    return name in value


# --- literals ----------------------------------------------------------------------------------------------------------


def _constant(node: Node) -> bool:
    """Literals of literals are made once, and cost nothing."""
    match node:
        case Const():
            return True
        case ListNode():
            return not node.optional and all(map(_constant, node.items))
        case MapNode():
            return all(not optional and isinstance(k, Const) and _constant(v) for k, v, optional in node.entries)
    return False


def _value(node: Node) -> Any:
    match node:
        case ListNode():
            return [_value(item) for item in node.items]
        case MapNode():
            return {_value(k): _value(v) for k, v, _ in node.entries}
    assert isinstance(node, Const)
    return node.value


def _list(node: ListNode, locals_: frozenset[str]) -> Run:
    if _constant(node):
        constant = [_value(item) for item in node.items]
        return lambda _: constant
    items, optional = [build(item, locals_) for item in node.items], node.optional

    def run(frame: Frame) -> list[Any]:
        frame.cost += LIST_COST
        if not optional:
            return [item(frame) for item in items]
        made: list[Any] = []
        for index, item in enumerate(items):
            value = item(frame)
            if index not in optional:
                made.append(value)
            elif wrapped(value).present:
                made.append(value.value)
        return made

    return run


def _map(node: MapNode, locals_: frozenset[str]) -> Run:
    keys = [k.value for k, _, _ in node.entries if isinstance(k, Const)]
    if _constant(node) and all(isinstance(k, str | int | float) for k in keys):
        constant = _value(node)
        return lambda _: constant
    entries = [(build(k, locals_), build(v, locals_), optional) for k, v, optional in node.entries]

    def run(frame: Frame) -> dict[Any, Any]:
        frame.cost += MAP_COST
        made: dict[Any, Any] = {}
        for key, value, optional in entries:
            k, v = key(frame), value(frame)
            if optional:
                if not wrapped(v).present:
                    continue
                v = v.value
            _insert(made, k, v)
        return made

    return run


def _insert(made: dict[Any, Any], key: Any, value: Any) -> None:
    if not isinstance(key, str | bool | int | float):
        raise CelError("unsupported key type")
    made[key] = value


def _struct(node: StructNode, locals_: frozenset[str]) -> Run:
    name, fields = node.name, [(key, build(v, locals_), optional) for key, v, optional in node.fields]

    def run(frame: Frame) -> ObjectValue:
        frame.cost += OBJECT_COST
        made: dict[str, Any] = {}
        for key, value, optional in fields:
            v = value(frame)
            if optional:
                if not wrapped(v).present:
                    continue
                v = v.value
            made[key] = v
        return ObjectValue(name, made)

    return run
