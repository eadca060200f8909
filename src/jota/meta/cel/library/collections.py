"""Kubernetes' list functions, cel-go's lists, sets and math. In: lists and numbers. Raises CelError."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, items, pairs
from jota.meta.cel.library.operators import signed
from jota.meta.cel.values import Duration, Timestamp, Uint, contains, duration_of, equal, work


def _sum(values: list[Any]) -> Any:
    if values and isinstance(values[0], Duration):
        return duration_of(sum(v.nanos for v in values))
    _only(values, (int, float, Uint))
    if values and all(isinstance(v, Uint) for v in values):
        return Uint(sum(values))
    return float(sum(values)) if any(isinstance(v, float) for v in values) else signed(sum(values))


_ORDERED = (int, float, Uint, str, bytes, bool, Timestamp, Duration)


def _only(values: list[Any], classes: tuple[type, ...]) -> None:
    if any(type(v) not in classes for v in values):
        raise CelError("no such overload")


def _extreme(choose: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def pick(values: list[Any]) -> Any:
        if not values:
            raise CelError(f"{name} called on empty list")
        _only(values, _ORDERED)
        return _ordered(lambda: choose(values))

    return pick


def _ordered(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except TypeError:
        raise CelError("no such overload") from None


def _is_sorted(values: list[Any]) -> bool:
    _only(values, _ORDERED)
    return bool(_ordered(lambda: all(a <= b for a, b in pairwise(values))))


def _index(values: list[Any], wanted: Any) -> int:
    return next((i for i, v in enumerate(values) if equal(v, wanted)), -1)


def _last(values: list[Any], wanted: Any) -> int:
    return next((i for i in range(len(values) - 1, -1, -1) if equal(values[i], wanted)), -1)


def _within(outer: list[Any], inner: list[Any]) -> bool:
    return all(contains(outer, item) for item in inner)


# --- cel-go's lists, version 3 -------------------------------------------------------------------------------------------

MOST_RANGE = 1_000_000


def sorted_by(keys: list[Any], values: list[Any]) -> list[Any]:
    """`values` in the order of their `keys`, which must be of one type that has an order."""
    _only(keys, _ORDERED)
    if len({type(key) for key in keys}) > 1:
        raise CelError("list elements must have the same type")
    return [values[i] for i in sorted(range(len(keys)), key=keys.__getitem__)]


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(values):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


def _flatten(values: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    found: list[Any] = []
    for value in values:
        found += _flatten(value, depth - 1) if isinstance(value, list) and depth else [value]
        work.spend(1 + len(value) if isinstance(value, list) else 1)
    return found


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not contains(found, value):
            found.append(value)
    return found


def _range(count: int) -> list[int]:
    if count > MOST_RANGE:
        raise CelError(f"range size {count} exceeds maximum allowed {MOST_RANGE}")
    return list(range(count))


def _squared(args: tuple[Any, ...], _: Any) -> int:
    return 11 + 2 * len(args[0]) ** 2


def _made(_args: tuple[Any, ...], result: Any) -> int:
    return 11 + len(result)


# --- math --------------------------------------------------------------------------------------------------------------


def _shift_left(value: int, by: int) -> int:
    if by < 0:
        raise CelError(f"math.bitShiftLeft() negative offset: {by}")
    shifted = (value << by) & (2**64 - 1) if by < 64 else 0
    return shifted - 2**64 if shifted >= 2**63 else shifted


def _shift_right(value: int, by: int) -> int:
    if by < 0:
        raise CelError(f"math.bitShiftRight() negative offset: {by}")
    return (value & (2**64 - 1)) >> by if by < 64 else 0


def _round(value: float) -> float:
    return math.copysign(math.floor(abs(value) + 0.5), value) if math.isfinite(value) else value


def _whole(run: Callable[[float], float]) -> Callable[[float], float]:
    return lambda value: float(run(value)) if math.isfinite(value) else value


def _choices(name: str, choose: Callable[..., Any]) -> list[Function]:
    def pick(*values: Any) -> Any:
        given = values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)
        if not given:
            raise CelError(f"{name}(list) argument must not be empty")
        _only(given, (int, float, Uint))
        return choose(given)

    return [Function(name, f"({', '.join(['dyn'] * count)}) dyn", pick) for count in range(1, 9)]


TABLE = [
    Function("sum", "list(A).() A", _sum, items(0)),
    Function("min", "list(A).() A", _extreme(min, "min"), items(0)),
    Function("max", "list(A).() A", _extreme(max, "max"), items(0)),
    Function("isSorted", "list(A).() bool", _is_sorted, items(0)),
    Function("indexOf", "list(A).(A) int", _index, items(0)),
    Function("lastIndexOf", "list(A).(A) int", _last, items(0)),
    Function("sets.contains", "(list(A), list(A)) bool", _within, pairs),
    Function("sets.equivalent", "(list(A), list(A)) bool", lambda a, b: _within(a, b) and _within(b, a), pairs),
    Function("sets.intersects", "(list(A), list(A)) bool", lambda a, b: any(contains(a, v) for v in b), pairs),
    Function("slice", "list(A).(int, int) list(A)", _slice, _made),
    Function("flatten", "list(A).() list(dyn)", _flatten, lambda _, result: 10 + len(result)),
    Function("flatten", "list(A).(int) list(dyn)", _flatten, lambda _, result: 10 + len(result)),
    Function("distinct", "list(A).() list(A)", _distinct, _squared),
    Function("reverse", "list(A).() list(A)", lambda values: values[::-1], _made),
    Function("sort", "list(A).() list(A)", lambda values: sorted_by(values, values), _squared),
    Function("lists.range", "(int) list(int)", _range, _made),
    *_choices("math.greatest", max),
    *_choices("math.least", min),
    Function("math.abs", "(int) int", lambda v: signed(abs(v))),
    Function("math.abs", "(double) double", abs),
    Function("math.sign", "(int) int", lambda v: (v > 0) - (v < 0)),
    Function("math.sign", "(double) double", lambda v: float((v > 0) - (v < 0))),
    Function("math.ceil", "(double) double", _whole(math.ceil)),
    Function("math.floor", "(double) double", _whole(math.floor)),
    Function("math.trunc", "(double) double", _whole(math.trunc)),
    Function("math.round", "(double) double", _round),
    Function("math.sqrt", "(double) double", lambda v: math.sqrt(v) if v >= 0 else math.nan),
    Function("math.isNaN", "(double) bool", math.isnan),
    Function("math.isInf", "(double) bool", math.isinf),
    Function("math.isFinite", "(double) bool", math.isfinite),
    Function("math.bitAnd", "(int, int) int", lambda a, b: a & b),
    Function("math.bitOr", "(int, int) int", lambda a, b: a | b),
    Function("math.bitXor", "(int, int) int", lambda a, b: a ^ b),
    Function("math.bitNot", "(int) int", lambda a: ~a),
    Function("math.bitShiftLeft", "(int, int) int", _shift_left),
    Function("math.bitShiftRight", "(int, int) int", _shift_right),
]
