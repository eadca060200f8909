"""Kubernetes' quantities and semantic versions (k8s.io/apiserver/pkg/cel/library: quantity, semver). Both compare in the same words."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jota.meta import quantity
from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, traversal
from jota.meta.cel.library.network import holds
from jota.meta.cel.values import MAX_INT, MIN_INT, Quantity, Semver

_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


@lru_cache(1024)
def quantity_of(text: str) -> Quantity:
    return Quantity(Fraction(quantity.parse(text).nanos, quantity.NANO))


def _is_integer(value: Quantity) -> bool:
    return value.amount.denominator == 1 and MIN_INT <= value.amount <= MAX_INT


def _as_integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _sign(value: Quantity) -> int:
    return (value.amount > 0) - (value.amount < 0)


def _compare(a: Any, b: Any) -> int:
    left, right = _rank(a), _rank(b)
    return int(left > right) - int(left < right)


def _rank(value: Quantity | Semver) -> Any:
    return value.amount if isinstance(value, Quantity) else value.precedence


def semver_of(text: str, normalize: bool = False) -> Semver:
    text = _normal(text) if normalize else text
    found = _SEMVER.fullmatch(text)
    if found is None:
        few = text.count(".") < 2
        raise CelError(
            "No Major.Minor.Patch elements found" if few else f'Invalid character(s) found in version "{text}"'
        )
    return Semver(text, _precedence(found))


def _normal(text: str) -> str:
    """Leading v, missing parts and leading zeros are forgiven."""
    core, dash, rest = text.removeprefix("v").partition("-")
    parts = [p.lstrip("0") or "0" for p in core.split(".")]
    return ".".join([*parts, "0", "0"][: max(3, len(parts))]) + dash + rest


def _precedence(found: re.Match[str]) -> tuple[Any, ...]:
    before = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in found[4].split(".")] if found[4] else []
    return int(found[1]), int(found[2]), int(found[3]), not before, before


def _part(index: int) -> Any:
    return lambda value: value.precedence[index]


TABLE = [
    Function("quantity", "(string) quantity", quantity_of, traversal(0)),
    Function("isQuantity", "(string) bool", holds(quantity_of), traversal(0)),
    Function("sign", "(quantity) int", _sign),
    Function("sign", "quantity.() int", _sign),
    Function("isInteger", "quantity.() bool", _is_integer),
    Function("asInteger", "quantity.() int", _as_integer),
    Function("asApproximateFloat", "quantity.() double", lambda q: float(q.amount)),
    Function("add", "quantity.(quantity) quantity", lambda a, b: Quantity(a.amount + b.amount)),
    Function("add", "quantity.(int) quantity", lambda a, b: Quantity(a.amount + b)),
    Function("sub", "quantity.(quantity) quantity", lambda a, b: Quantity(a.amount - b.amount)),
    Function("sub", "quantity.(int) quantity", lambda a, b: Quantity(a.amount - b)),
    Function("semver", "(string) semver", semver_of, traversal(0)),
    Function("semver", "(string, bool) semver", semver_of, traversal(0)),
    Function("isSemver", "(string) bool", holds(semver_of), traversal(0)),
    Function("isSemver", "(string, bool) bool", lambda t, n: holds(lambda x: semver_of(x, n))(t), traversal(0)),
    Function("major", "semver.() int", _part(0)),
    Function("minor", "semver.() int", _part(1)),
    Function("patch", "semver.() int", _part(2)),
    *(
        function
        for kind in ("quantity", "semver")
        for function in (
            Function("isGreaterThan", f"{kind}.({kind}) bool", lambda a, b: _compare(a, b) > 0),
            Function("isLessThan", f"{kind}.({kind}) bool", lambda a, b: _compare(a, b) < 0),
            Function("compareTo", f"{kind}.({kind}) int", _compare),
        )
    ),
]
