"""CEL's standard functions: conversions, sizes, text tests, parts of times and durations, optional values."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, product, regex, traversal
from jota.meta.cel.library.operators import signed, unsigned
from jota.meta.cel.values import (
    MAX_INT,
    MIN_INT,
    NONE,
    SECOND,
    Duration,
    Optional,
    Timestamp,
    TypeValue,
    Uint,
    duration,
    duration_text,
    timestamp,
    timestamp_of,
    timestamp_text,
    type_name,
)
from jota.meta.structural import patterns


def double_text(value: float) -> str:
    """As Go's %g: an exponent from 1e6 on, and below 1e-4."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    sign, digits, exponent = _digits(value)
    if -4 <= exponent < 21 and (exponent < 6 or exponent < len(digits)) and exponent < 6:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        rest = digits[exponent + 1 :]
        return f"{sign}{whole}" + (f".{rest}" if rest else "")
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _digits(value: float) -> tuple[str, str, int]:
    """(sign, shortest digits, decimal exponent of the first)."""
    mantissa, _, power = f"{value!r}".lstrip("-").partition("e")
    whole, _, part = mantissa.partition(".")
    raw = whole + part
    digits = raw.lstrip("0")
    exponent = int(power or "0") + len(whole) - 1 - (len(raw) - len(digits))
    return ("-" if value < 0 else ""), digits.rstrip("0") or "0", exponent


def _int_of_double(value: float) -> int:
    if math.isnan(value) or not MIN_INT < value < MAX_INT:
        raise CelError("integer overflow")
    return int(value)


def _unconvertible(kind: str) -> CelError:
    return CelError(f"type conversion error from 'string' to '{kind}'")


def _int_of_text(text: str) -> int:
    if not text.lstrip("+-").isdecimal() or not text.isascii() or len(text) > 20:
        raise _unconvertible("int")
    return signed(int(text))


def _uint_of_text(text: str) -> Uint:
    if not text.isdecimal() or not text.isascii() or len(text) > 20:
        raise _unconvertible("uint")
    return unsigned(int(text))


def _uint_of_double(value: float) -> Uint:
    if math.isnan(value) or not 0 <= value < 2.0**64:
        raise CelError("unsigned integer overflow")
    return Uint(int(value))


def _double_of_text(text: str) -> float:
    try:
        if text != text.strip() or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise _unconvertible("double") from None


def _bool_of_text(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise _unconvertible("bool")


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


def _matches(text: str, pattern: str) -> bool:
    try:
        return patterns.compile(pattern).search(text) is not None
    except patterns.PatternError as e:
        raise CelError(str(e)) from None


# --- times -------------------------------------------------------------------------------------------------------------


def _moment(value: Timestamp, zone: str = "UTC") -> datetime:
    moment = value.moment()
    if zone in ("", "UTC", "Z"):
        return moment
    if zone[0] in "+-0123456789" and ":" in zone:
        sign = -1 if zone[0] == "-" else 1
        hours, _, minutes = zone.lstrip("+-").partition(":")
        if hours.isdecimal() and minutes.isdecimal() and int(hours) < 24 and int(minutes) < 60:
            return moment.astimezone(timezone(sign * timedelta(hours=int(hours), minutes=int(minutes))))
        raise CelError(f"unknown time zone {zone}")
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {zone}") from None


_PARTS: list[tuple[str, Callable[[datetime], int]]] = [
    ("getFullYear", lambda m: m.year),
    ("getMonth", lambda m: m.month - 1),
    ("getDayOfYear", lambda m: m.timetuple().tm_yday - 1),
    ("getDayOfMonth", lambda m: m.day - 1),
    ("getDate", lambda m: m.day),
    ("getDayOfWeek", lambda m: m.isoweekday() % 7),
    ("getHours", lambda m: m.hour),
    ("getMinutes", lambda m: m.minute),
    ("getSeconds", lambda m: m.second),
    ("getMilliseconds", lambda m: m.microsecond // 1000),
]


def _truncated(value: Duration, unit: int) -> int:
    return abs(value.nanos) // unit * (-1 if value.nanos < 0 else 1)


def _times() -> list[Function]:
    found = []
    for name, part in _PARTS:
        found.append(Function(name, "timestamp.() int", lambda t, f=part: f(_moment(t))))
        found.append(Function(name, "timestamp.(string) int", lambda t, zone, f=part: f(_moment(t, zone))))
    for name, unit in (("getHours", 3600 * SECOND), ("getMinutes", 60 * SECOND), ("getSeconds", SECOND)):
        found.append(Function(name, "duration.() int", lambda d, u=unit: _truncated(d, u)))
    found.append(Function("getMilliseconds", "duration.() int", lambda d: _truncated(d, 10**6)))
    return found


# --- optional values ---------------------------------------------------------------------------------------------------


def _value(wrapped: Optional) -> Any:
    if not wrapped.present:
        raise CelError("optional.none() dereference")
    return wrapped.value


def _zero(value: Any) -> bool:
    if isinstance(value, Timestamp):
        return value.nanos == -62135596800 * SECOND
    if isinstance(value, Duration):
        return value.nanos == 0
    return value is None or (isinstance(value, bool | int | float | str | bytes | list | dict) and not value)


def _unwrapped(items: list[Any]) -> list[Any]:
    return [item.value for item in items if item.present]


_OPTIONALS = [
    Function("optional.of", "(A) optional(A)", Optional),
    Function("optional.none", "() optional(A)", lambda: NONE),
    Function("optional.ofNonZeroValue", "(A) optional(A)", lambda v: NONE if _zero(v) else Optional(v)),
    Function("hasValue", "optional(A).() bool", lambda o: o.present),
    Function("value", "optional(A).() A", _value),
    Function("or", "optional(A).(optional(A)) optional(A)", lambda o, other: o, strict=False),
    Function("orValue", "optional(A).(A) A", lambda o, other: o, strict=False),
    Function("optional.unwrap", "(list(optional(A))) list(A)", _unwrapped),
    Function("unwrapOpt", "list(optional(A)).() list(A)", _unwrapped),
]


def _type_of(value: Any) -> TypeValue:
    return TypeValue(type_name(value))


TABLE = [
    *_times(),
    *_OPTIONALS,
    Function("size", "(string) int", len),
    Function("size", "(bytes) int", len),
    Function("size", "(list(A)) int", len),
    Function("size", "(map(A, B)) int", len),
    Function("size", "string.() int", len),
    Function("size", "bytes.() int", len),
    Function("size", "list(A).() int", len),
    Function("size", "map(A, B).() int", len),
    Function("contains", "string.(string) bool", lambda s, part: part in s, product),
    Function("startsWith", "string.(string) bool", lambda s, p: s.startswith(p), traversal(1)),
    Function("endsWith", "string.(string) bool", lambda s, p: s.endswith(p), traversal(1)),
    Function("matches", "(string, string) bool", _matches, regex),
    Function("matches", "string.(string) bool", _matches, regex),
    Function("int", "(int) int", lambda v: v),
    Function("int", "(uint) int", lambda v: signed(int(v))),
    Function("int", "(double) int", _int_of_double),
    Function("int", "(string) int", _int_of_text),
    Function("int", "(timestamp) int", lambda t: t.nanos // SECOND),
    Function("int", "(duration) int", lambda d: d.nanos),
    Function("uint", "(uint) uint", lambda v: v),
    Function("uint", "(int) uint", lambda v: unsigned(v)),
    Function("uint", "(double) uint", _uint_of_double),
    Function("uint", "(string) uint", _uint_of_text),
    Function("double", "(double) double", lambda v: v),
    Function("double", "(int) double", float),
    Function("double", "(uint) double", float),
    Function("double", "(string) double", _double_of_text),
    Function("bool", "(bool) bool", lambda v: v),
    Function("bool", "(string) bool", _bool_of_text),
    Function("string", "(string) string", lambda v: v),
    Function("string", "(bool) string", lambda v: "true" if v else "false"),
    Function("string", "(int) string", str),
    Function("string", "(uint) string", lambda v: str(int(v))),
    Function("string", "(double) string", double_text),
    Function("string", "(bytes) string", _text_of_bytes, traversal(0)),
    Function("string", "(timestamp) string", timestamp_text),
    Function("string", "(duration) string", duration_text),
    Function("bytes", "(bytes) bytes", lambda v: v),
    Function("bytes", "(string) bytes", str.encode, traversal(0)),
    Function("timestamp", "(timestamp) timestamp", lambda v: v),
    Function("timestamp", "(string) timestamp", timestamp),
    Function("timestamp", "(int) timestamp", lambda v: timestamp_of(v * SECOND)),
    Function("duration", "(duration) duration", lambda v: v),
    Function("duration", "(string) duration", duration),
    Function("dyn", "(A) dyn", lambda v: v),
    Function("type", "(A) type(A)", _type_of),
]
