"""Quantities ("500m", "1Gi", "2e3"): text in; exact integers, canonical text and arithmetic out. Everything is cached.

A quantity is a whole number of nano-units, as upstream (`apimachinery/pkg/api/resource`) keeps nothing finer and rounds
away from zero. Next: kinds/ canonicalise on write; the scheduler and quota add up `milli` and `value`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

NANO = 10**9
_LIMIT = (2**63 - 1) * NANO
"""Larger values are capped, as upstream."""
_FORM = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,9})?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_MAX_TEXT = 64
"""Nobody writes longer ones; bounds the work on hostile text."""


class Quantity(NamedTuple):
    """`nanos` is the exact amount times 10**9; `format` is DecimalSI, BinarySI or DecimalExponent."""

    nanos: int
    format: str = "DecimalSI"

    def __str__(self) -> str:
        return _render(self.nanos, self.format)

    @property
    def milli(self) -> int:
        """In thousandths, rounded up."""
        return -(-self.nanos // 10**6)

    @property
    def value(self) -> int:
        """In units, rounded up."""
        return -(-self.nanos // NANO)


@lru_cache(maxsize=8192)
def parse(text: str | int | float) -> Quantity:
    """Exact value of a quantity; JSON numbers count as their text. Raises ValueError with upstream's words."""
    source = str(text).strip() if not isinstance(text, bool) else ""
    form = _FORM.fullmatch(source) if len(source) <= _MAX_TEXT else None
    if form is None:
        raise ValueError(FORMAT_ERROR)
    sign, whole, part, bare, suffix = form.groups(default="")
    fraction = part or bare
    digits = int((whole + fraction) or "0")
    nanos, kind = _scaled(digits, len(fraction), suffix)
    nanos = min(nanos, _LIMIT)
    if kind == "BinarySI" and 0 < nanos < NANO:
        kind = "DecimalSI"
    return Quantity(-nanos if sign == "-" else nanos, kind)


def _scaled(digits: int, decimals: int, suffix: str) -> tuple[int, str]:
    """(nanos rounded away from zero, format) of digits * 10**-decimals * suffix."""
    if suffix in _BINARY:
        top, bottom = digits * NANO << (10 * _BINARY[suffix]), 10**decimals
        return -(-top // bottom), "BinarySI"
    kind = "DecimalSI" if suffix in _DECIMAL else "DecimalExponent"
    power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    power += 9 - decimals
    if digits == 0:
        return 0, kind
    if power > 100:
        return _LIMIT, kind
    if power < -200:
        return 1, kind
    return (digits * 10**power, kind) if power >= 0 else (-(-digits // 10**-power), kind)


def _render(nanos: int, kind: str) -> str:
    if nanos == 0:
        return "0"
    if kind == "BinarySI" and abs(nanos) >= 1024 * NANO and nanos % NANO == 0:
        return _render_binary(nanos // NANO)
    power = -9
    while nanos % 1000 == 0 and (power < 18 or kind == "DecimalExponent"):
        nanos //= 1000
        power += 3
    if kind == "DecimalExponent":
        return f"{nanos}e{power}" if power else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIX[power]}"


def _render_binary(units: int) -> str:
    power = 0
    while units % 1024 == 0 and power < 6:
        units //= 1024
        power += 1
    return f"{units}{_BINARY_SUFFIX[power] if power else ''}"


@lru_cache(maxsize=8192)
def canonical(text: str | int | float) -> str:
    """As the server stores it: no fraction, the largest suffix that loses nothing. Raises ValueError."""
    return str(parse(text))


@lru_cache(maxsize=8192)
def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: CPU arithmetic. Raises ValueError."""
    return parse(text).milli


@lru_cache(maxsize=8192)
def value(text: str | int | float) -> int:
    """Units, rounded up: bytes, counts. Raises ValueError."""
    return parse(text).value


def compare(a: str | int | float, b: str | int | float) -> int:
    """-1, 0 or 1. Raises ValueError."""
    left, right = parse(a).nanos, parse(b).nanos
    return (left > right) - (left < right)


def add(*terms: str | int | float) -> str:
    """The canonical sum, in the format of the first term that is not zero. Raises ValueError."""
    return _sum([parse(t) for t in terms])


def subtract(a: str | int | float, b: str | int | float) -> str:
    """The canonical difference, in the format of `a` (of `b` when `a` is zero). Raises ValueError."""
    right = parse(b)
    return _sum([parse(a), Quantity(-right.nanos, right.format)])


def _sum(terms: list[Quantity]) -> str:
    kind = next((t.format for t in terms if t.nanos), "DecimalSI")
    return _render(sum(t.nanos for t in terms), kind)
