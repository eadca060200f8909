"""Macros: calls that are not calls. A parsed tree in, the same tree with Macro and Let nodes out. Raises Issue.

has, all, exists, exists_one, map, filter, sortBy; their two-variable forms, transformList, transformMap, transformMapEntry;
cel.bind; optMap, optFlatMap. A name with another number of arguments is an ordinary call, as in cel-go.
"""

from __future__ import annotations

from jota.meta.cel.errors import Issue
from jota.meta.cel.syntax import Call, Ident, Let, ListNode, Macro, MapNode, Node, Select, StructNode

ACCUMULATORS = {"__result__", "@result"}
_JUDGES = {"all": "all", "exists": "exists", "exists_one": "exists_one", "existsOne": "exists_one"}
_TRANSFORMS = {"transformList", "transformMap", "transformMapEntry"}


def expand(node: Node) -> Node:
    match node:
        case Select():
            node.operand = expand(node.operand)
        case Call():
            return _call(node)
        case ListNode():
            node.items = [expand(item) for item in node.items]
        case MapNode():
            node.entries = [(expand(k), expand(v), optional) for k, v, optional in node.entries]
        case StructNode():
            node.fields = [(name, expand(v), optional) for name, v, optional in node.fields]
    return node


def _call(node: Call) -> Node:
    if node.target is None and node.function == "has" and len(node.args) == 1:
        return _has(node)
    target = expand(node.target) if node.target is not None else None
    args = [expand(arg) for arg in node.args]
    node.target, node.args = target, args
    if target is None:
        return node
    if isinstance(target, Ident) and target.name == "cel" and node.function == "bind" and len(args) == 3:
        return Let(node.at, _variable(args[0]), args[1], args[2])
    if node.function in ("optMap", "optFlatMap") and len(args) == 2:
        kind = "map" if node.function == "optMap" else "flatmap"
        return Let(node.at, _variable(args[0]), target, args[1], kind)
    return _comprehension(node, target, args) or node


def _has(node: Call) -> Node:
    argument = expand(node.args[0])
    if not isinstance(argument, Select):
        raise Issue(node.args[0].at, "invalid argument to has() macro")
    argument.test = True
    return argument


def _comprehension(node: Call, target: Node, args: list[Node]) -> Macro | None:
    name, count = node.function, len(args)
    if name in _JUDGES and count in (2, 3) and not (name == "existsOne" and count == 2):
        return Macro(node.at, _JUDGES[name], target, _variables(args[:-1]), args[-1], None)
    if name == "map" and count in (2, 3):
        return Macro(node.at, "map", target, _variables(args[:1]), args[1] if count == 3 else None, args[-1])
    if name == "filter" and count == 2:
        return Macro(node.at, "filter", target, _variables(args[:1]), args[1], None)
    if name == "sortBy" and count == 2:
        return Macro(node.at, "sortBy", target, _variables(args[:1]), None, args[1])
    if name in _TRANSFORMS and count in (3, 4):
        return Macro(node.at, name, target, _variables(args[:2]), args[2] if count == 4 else None, args[-1])
    return None


def _variables(nodes: list[Node]) -> tuple[str, ...]:
    names = tuple(_variable(node) for node in nodes)
    if len(set(names)) != len(names):
        raise Issue(nodes[-1].at, f"duplicate variable name: {names[-1]}")
    return names


def _variable(node: Node) -> str:
    if not isinstance(node, Ident):
        raise Issue(node.at, "argument must be a simple name")
    if node.name in ACCUMULATORS:
        raise Issue(node.at, f"iteration variable overwrites accumulator variable: {node.name}")
    return node.name
