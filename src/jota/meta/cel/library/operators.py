"""CEL's operators on values: arithmetic that overflows loudly, comparison across number types, membership, index."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from itertools import product as every
from typing import Any

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, both, fixed, shorter, size
from jota.meta.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    Duration,
    Uint,
    concatenate,
    contains,
    duration_of,
    equal,
    timestamp_of,
)


def _sum(a: int, b: int) -> int:
    value = a + b
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelError("integer overflow")


def _difference(a: int, b: int) -> int:
    value = a - b
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelError("integer overflow")


def signed(value: int) -> int:
    if not MIN_INT <= value <= MAX_INT:
        raise CelError("integer overflow")
    return value


def unsigned(value: int) -> Uint:
    if not 0 <= value <= MAX_UINT:
        raise CelError("unsigned integer overflow")
    return Uint(value)


def _divided(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _rest(a: int, b: int) -> int:
    if b == 0:
        raise CelError("modulus by zero")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _quotient(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


_SIGNED: dict[str, Callable[[int, int], int]] = {"_+_": _sum, "_-_": _difference}
"""The commonest ones, without a detour."""


def _float(run: Callable[[float, float], float]) -> Callable[[float, float], float]:
    def guarded(a: float, b: float) -> float:
        try:
            return run(a, b)
        except OverflowError:
            return math.inf

    return guarded


_ARITHMETIC = [
    ("_+_", operator.add, operator.add),
    ("_-_", operator.sub, operator.sub),
    ("_*_", operator.mul, operator.mul),
    ("_/_", _divided, _quotient),
    ("_%_", _rest, None),
]


def _arithmetic() -> list[Function]:
    found = []
    for name, whole, real in _ARITHMETIC:
        found.append(Function(name, "(int, int) int", _SIGNED.get(name) or (lambda a, b, f=whole: signed(f(a, b)))))
        found.append(Function(name, "(uint, uint) uint", lambda a, b, f=whole: unsigned(f(int(a), int(b)))))
        if real is not None:
            found.append(Function(name, "(double, double) double", _float(real)))
    return found


_ORDER: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("_<_", operator.lt),
    ("_<=_", operator.le),
    ("_>_", operator.gt),
    ("_>=_", operator.ge),
]


def _comparisons() -> list[Function]:
    found = []
    for name, run in _ORDER:
        for kind in ("bool", "string", "bytes", "timestamp", "duration"):
            cost = shorter if kind in ("string", "bytes") else None
            found.append(Function(name, f"({kind}, {kind}) bool", run, cost))
        for a, b in every(("int", "uint", "double"), repeat=2):
            found.append(Function(name, f"({a}, {b}) bool", run))
    return found


def _at(items: list[Any], index: Any) -> Any:
    if isinstance(index, float) and not index.is_integer():
        raise CelError(f"unsupported index value: {index}")
    if not 0 <= index < len(items):
        raise CelError(f"index out of bounds: {int(index)}")
    return items[int(index)]


def _of(mapping: dict[Any, Any], key: Any) -> Any:
    found = mapping.get(key, _at) if isinstance(key, str | int | float | bool) else _at
    if found is _at:
        raise CelError(f"no such key: {key}")
    return found


def _in_map(key: Any, mapping: dict[Any, Any]) -> bool:
    return isinstance(key, str | int | float | bool) and key in mapping


def _negative(value: Duration) -> Duration:
    return duration_of(-value.nanos)


TABLE = [
    *_arithmetic(),
    *_comparisons(),
    Function("_+_", "(string, string) string", operator.add, both),
    Function("_+_", "(bytes, bytes) bytes", operator.add, both),
    Function("_+_", "(list(A), list(A)) list(A)", concatenate),
    Function("_+_", "(timestamp, duration) timestamp", lambda t, d: timestamp_of(t.nanos + d.nanos)),
    Function("_+_", "(duration, timestamp) timestamp", lambda d, t: timestamp_of(t.nanos + d.nanos)),
    Function("_+_", "(duration, duration) duration", lambda a, b: duration_of(a.nanos + b.nanos)),
    Function("_-_", "(timestamp, timestamp) duration", lambda a, b: duration_of(a.nanos - b.nanos)),
    Function("_-_", "(timestamp, duration) timestamp", lambda t, d: timestamp_of(t.nanos - d.nanos)),
    Function("_-_", "(duration, duration) duration", lambda a, b: duration_of(a.nanos - b.nanos)),
    Function("-_", "(int) int", lambda a: signed(-a)),
    Function("-_", "(double) double", operator.neg),
    Function("-_", "(duration) duration", _negative),
    Function("!_", "(bool) bool", operator.not_),
    Function("_&&_", "(bool, bool) bool", lambda a, b: a and b, fixed(0), strict=False),
    Function("_||_", "(bool, bool) bool", lambda a, b: a or b, fixed(0), strict=False),
    Function("_?_:_", "(bool, A, A) A", lambda c, a, b: a if c else b, fixed(0), strict=False),
    Function("_==_", "(A, A) bool", equal, shorter),
    Function("_!=_", "(A, A) bool", lambda a, b: not equal(a, b), shorter),
    Function("@in", "(A, list(A)) bool", lambda a, items: contains(items, a), lambda args, _: size(args[1])),
    Function("@in", "(A, map(A, B)) bool", _in_map),
    Function("_[_]", "(list(A), int) A", _at),
    Function("_[_]", "(map(A, B), A) B", _of),
    Function("_[_]", "(optional(list(A)), int) optional(A)", _at, strict=False),
    Function("_[_]", "(optional(map(A, B)), A) optional(B)", _of, strict=False),
    Function("_[?_]", "(list(A), int) optional(A)", _at, strict=False),
    Function("_[?_]", "(map(A, B), A) optional(B)", _of, strict=False),
    Function("_[?_]", "(optional(list(A)), int) optional(A)", _at, strict=False),
    Function("_[?_]", "(optional(map(A, B)), A) optional(B)", _of, strict=False),
]
index_list, index_map = _at, _of
