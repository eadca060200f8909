"""What an expression costs at most, before it runs: by the largest values that its variables' types allow.

In: a checked tree. Out: units of cost, saturating at UNBOUNDED. The rules are those of cel-go's checker/cost.go with the
estimates of Kubernetes' library/cost.go; interpreter.py counts what is really spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from jota.aio import slices
from jota.meta.cel.functions import REGEX, TRAVERSAL
from jota.meta.cel.library.authorization import CHECK_COST
from jota.meta.cel.syntax import NODE, Call, Const, Ident, Let, ListNode, Macro, MapNode, Node, Select, StructNode
from jota.meta.cel.types import Type

UNBOUNDED = 2**64 - 1
_SCALARS = {"bool", "int", "uint", "double", "null", "type", "duration", "timestamp"}
_OPAQUE_SIZE = 16
"""Bytes that comparing two addresses, quantities and so on goes through."""
_TURN = {"all": 3, "exists": 4, "exists_one": 2}
_PATTERN = 32
"""What the longest pattern of the named formats costs for each unit of text."""
_COMPARED = {"_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_"}
_ONE_PASS = {"url", "lowerAscii", "upperAscii", "substring", "trim", "cidr", "ip", "isIP", "isCIDR", "isURL"}
_ONE_PASS |= {"quantity", "isQuantity", "semver", "isSemver", "bytes", "strings.quote", "format"}
_TWO_PASSES = {"replace", "split", "ip.isCanonical"}
_LISTS = {"isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"}
_SETS = {"sets.contains", "sets.equivalent", "sets.intersects"}


class Estimate(NamedTuple):
    most: int
    size: int
    """Bytes, items or entries of the result, at most."""


def estimate(node: Node, variables: Mapping[str, Type]) -> Estimate:
    slices.spend(NODE)
    match node:
        case Const():
            return Estimate(0, len(node.value) if isinstance(node.value, str | bytes) else 1)
        case Ident():
            return Estimate(0 if node.type.kind == "type" else 1, largest(node.type))
        case Select() if node.type.kind == "type":
            return Estimate(0, 1)
        case Select() if node.variable:
            return Estimate(1, largest(node.type))
        case Select():
            below = estimate(node.operand, variables)
            return Estimate(_sum(below.most, 0 if node.test else 1), largest(node.type))
        case Call():
            return _call(node, variables)
        case ListNode():
            return Estimate(_sum(10, *(estimate(i, variables).most for i in node.items)), len(node.items))
        case MapNode():
            parts = [estimate(n, variables).most for k, v, _ in node.entries for n in (k, v)]
            return Estimate(_sum(30, *parts), len(node.entries))
        case StructNode():
            return Estimate(_sum(40, *(estimate(v, variables).most for _, v, _ in node.fields)), len(node.fields))
        case Macro():
            return _macro(node, variables)
        case Let():
            body = estimate(node.body, variables)
            return Estimate(_sum(10, estimate(node.value, variables).most, body.most), body.size)
    raise AssertionError(type(node))


def largest(type_: Type) -> int:
    if type_.most is not None:
        return type_.most
    if type_.kind in _SCALARS:
        return 1
    return _OPAQUE_SIZE if "." in type_.kind else UNBOUNDED


def _sum(*parts: int) -> int:
    return min(sum(parts), UNBOUNDED)


def _times(a: int, b: float) -> int:
    return min(math.ceil(a * b), UNBOUNDED) if a < UNBOUNDED or b == 0 else UNBOUNDED


def _macro(node: Macro, variables: Mapping[str, Type]) -> Estimate:
    over = estimate(node.range, variables)
    turn = _TURN.get(node.kind, 12 if node.step is not None else 13)
    for part in (node.condition, node.step):
        turn = _sum(turn, estimate(part, variables).most if part is not None else 0)
    fixed = 1 if node.kind in ("all", "exists") else 2 if node.kind == "exists_one" else 11
    return Estimate(_sum(over.most, fixed, _times(over.size, turn)), over.size if node.kind not in _TURN else 1)


def _call(node: Call, variables: Mapping[str, Type]) -> Estimate:
    nodes = ([node.target] if node.target is not None else []) + node.args
    found = [estimate(n, variables) for n in nodes]
    sizes = [f.size for f in found]
    if node.function == "_?_:_":
        return Estimate(_sum(found[0].most, max(found[1].most, found[2].most)), max(sizes[1:]))
    spent = _sum(*(f.most for f in found))
    if node.function in ("_&&_", "_||_"):
        return Estimate(spent, 1)
    cost, size = _own(node.function, sizes, node)
    return Estimate(_sum(spent, cost), size)


def _own(name: str, sizes: list[int], node: Call) -> tuple[int, int]:
    """(units, size of the result) of one call."""
    known = largest(node.type)
    if name == "check":
        return CHECK_COST, 1
    if name in _COMPARED:
        if name not in ("_==_", "_!=_") and all(n.type.kind not in ("string", "bytes", "dyn") for n in node.args):
            return 1, 1
        return _times(min(sizes), TRAVERSAL), 1
    if name == "_+_" and node.type.kind in ("string", "bytes", "list"):
        total = _sum(*sizes)
        return (1 if node.type.kind == "list" else _times(total, TRAVERSAL)), total
    if name == "@in":
        container = node.args[1].type
        return (sizes[1] if container.kind != "map" else 1), 1
    if name in ("contains", "matches", "find", "findAll"):
        factors = (TRAVERSAL, TRAVERSAL) if name == "contains" else (TRAVERSAL, REGEX)
        text = sizes[0] if name == "contains" else _sum(sizes[0], 1)
        return _times(_times(text, factors[0]), _times(sizes[1], factors[1])), sizes[0] if "find" in name else 1
    if name == "validate":
        return _times(_times(_sum(sizes[1], 1), TRAVERSAL), _PATTERN), 1
    if name in ("startsWith", "endsWith"):
        return _times(sizes[1], TRAVERSAL), 1
    if name in _LISTS:
        target = node.target.type if node.target is not None else node.type
        item = _times(largest(target.params[0]), TRAVERSAL) if target.kind == "list" else 0
        textual = target.kind == "list" and target.params[0].kind in ("string", "bytes")
        return _times(sizes[0], 1 + (item if textual else 0) if target.kind == "list" else TRAVERSAL), known
    if name in ("distinct", "sort"):
        return _times(sizes[0], sizes[0]), sizes[0]
    if name in ("slice", "flatten", "reverse"):
        return _sum(sizes[0], 10), sizes[0] if name != "flatten" else UNBOUNDED
    if name == "lists.range":
        bound = node.args[0].value if isinstance(node.args[0], Const) else UNBOUNDED
        return _sum(bound, 10), bound
    if name in _SETS:
        return _times(sizes[0], sizes[1]), 1
    return _text(name, sizes, known)


def _text(name: str, sizes: list[int], known: int) -> tuple[int, int]:
    if name in _ONE_PASS:
        return _times(sizes[0], TRAVERSAL), sizes[0]
    if name in _TWO_PASSES:
        grown = sizes[0] if name != "replace" else _times(_sum(sizes[0], 1), max(1, sizes[2]))
        return _times(sizes[0], 2 * TRAVERSAL), grown
    if name == "join":
        return _times(known, TRAVERSAL), known
    if name == "string":
        return 1, known if known < UNBOUNDED else sizes[0] if sizes else known
    return 1, known


LIMIT, TOTAL_LIMIT = 10_000_000, 100_000_000
"""Units that one rule, and all rules of one definition, may cost by estimate."""


def exceeded(name: str, cost: int, limit: int) -> str:
    """Upstream's words for an estimate beyond its limit."""
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    elif factor < 1.5:
        shown = f"{factor:.6f}x"
    else:
        shown = f"{factor:.1f}x"
    advice = (
        "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings"
    )
    return f"{name} exceeds budget by factor of {shown} ({advice} are declared)"
