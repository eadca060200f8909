"""Kubernetes' own CEL functions, in Python: quantities, URLs, addresses, versions, lists, regular expressions, sets.

The evaluator knows no foreign types, so a quantity, an address and so on is a map with its kind under "@" and a canonical
form beside it: equal ones are equal maps. A ValueError becomes the evaluation's error. Next: cel.py declares them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jota.meta import quantity
from jota.meta.structural import formats

Opaque = dict[str, Any]


def declarations() -> list[Any]:
    """FunctionDecls for cel-expr-python."""
    from cel_expr_python import cel

    type_ = cel.Type
    types = {
        "s": type_.STRING,
        "i": type_.INT,
        "b": type_.BOOL,
        "d": type_.DOUBLE,
        "*": type_.DYN,
        "L": type_.List(type_.DYN),
        "S": type_.List(type_.STRING),
        "M": type_.Map(type_.STRING, type_.DYN),
    }
    by_name: dict[str, list[Any]] = {}
    for number, (name, signature, function) in enumerate(_table()):
        arguments, _, result = signature.partition(">")
        member = arguments.startswith(".")
        parameters = [types[a] for a in arguments.lstrip(".")]
        overload = cel.Overload(f"k8s_{number}", types[result], parameters, member, function)
        by_name.setdefault(name, []).append(overload)
    return [cel.FunctionDecl(name, overloads) for name, overloads in by_name.items()]


def _table() -> list[tuple[str, str, Callable[..., Any]]]:
    """(name, signature, function); a signature is ".M i>b": a method of a map with an int, giving a bool."""
    return [*_QUANTITIES, *_URLS, *_ADDRESSES, *_VERSIONS, *_LISTS, *_TEXTS, *_SETS]


def _is(build: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            build(text)
        except (ValueError, ArithmeticError):
            return False
        return True

    return check


def _kind(value: Opaque, kind: str) -> Any:
    if value.get("@") != kind:
        raise ValueError("no such overload")
    return value["v"]


# --- quantity ----------------------------------------------------------------------------------------------------------


def _quantity(text: str) -> Opaque:
    return _from_fraction(Fraction(quantity.parse(text).nanos, quantity.NANO))


def _from_fraction(value: Fraction) -> Opaque:
    return {"@": "quantity", "v": str(value)}


def _number(value: Opaque) -> Fraction:
    return Fraction(_kind(value, "quantity"))


def _as_integer(value: Opaque) -> int:
    number = _number(value)
    if number.denominator != 1 or not -(2**63) <= number < 2**63:
        raise ValueError("cannot convert value to integer")
    return int(number)


def _is_integer(value: Opaque) -> bool:
    number = _number(value)
    return number.denominator == 1 and -(2**63) <= number < 2**63


def _compare(a: Opaque, b: Opaque) -> int:
    if a.get("@") == "semver":
        left, right = _precedence(_kind(a, "semver")), _precedence(_kind(b, "semver"))
        return (left > right) - (left < right)
    x, y = _number(a), _number(b)
    return (x > y) - (x < y)


def _sign(value: Opaque) -> int:
    number = _number(value)
    return (number > 0) - (number < 0)


_QUANTITIES: list[tuple[str, str, Callable[..., Any]]] = [
    ("quantity", "s>M", _quantity),
    ("isQuantity", "s>b", _is(_quantity)),
    ("sign", ".M>i", _sign),
    ("isInteger", ".M>b", _is_integer),
    ("asInteger", ".M>i", _as_integer),
    ("asApproximateFloat", ".M>d", lambda q: float(_number(q))),
    ("add", ".MM>M", lambda a, b: _from_fraction(_number(a) + _number(b))),
    ("add", ".Mi>M", lambda a, b: _from_fraction(_number(a) + b)),
    ("sub", ".MM>M", lambda a, b: _from_fraction(_number(a) - _number(b))),
    ("sub", ".Mi>M", lambda a, b: _from_fraction(_number(a) - b)),
    ("isGreaterThan", ".MM>b", lambda a, b: _compare(a, b) > 0),
    ("isLessThan", ".MM>b", lambda a, b: _compare(a, b) < 0),
    ("compareTo", ".MM>i", _compare),
]


# --- url -----------------------------------------------------------------------------------------------------------------


def _url(text: str) -> Opaque:
    if not formats.holds("uri", text):
        raise ValueError(f"URL parse error during conversion from string: {text}")
    urlsplit(text).port  # noqa: B018 - raises for a bad port
    return {"@": "url", "v": text}


def _split(value: Opaque) -> Any:
    return urlsplit(_kind(value, "url"))


def _hostname(value: Opaque) -> str:
    host = re.sub(r":\d*$", "", _split(value).netloc.rpartition("@")[2])
    return host.strip("[]")


_URLS: list[tuple[str, str, Callable[..., Any]]] = [
    ("url", "s>M", _url),
    ("isURL", "s>b", _is(_url)),
    ("getScheme", ".M>s", lambda u: _split(u).scheme),
    ("getHost", ".M>s", lambda u: _split(u).netloc.rpartition("@")[2]),
    ("getHostname", ".M>s", _hostname),
    ("getPort", ".M>s", lambda u: str(_split(u).port or "")),
    ("getEscapedPath", ".M>s", lambda u: _split(u).path),
    ("getQuery", ".M>M", lambda u: parse_qs(_split(u).query, keep_blank_values=True)),
]


# --- ip, cidr ------------------------------------------------------------------------------------------------------------


def _ip(text: str) -> Opaque:
    if "%" in text:
        raise ValueError(f'IP Address with zone value is not allowed: "{text}"')
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'IP Address "{text}" parse error during conversion from string') from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f'IPv4-mapped IPv6 address is not allowed: "{text}"')
    return {"@": "ip", "v": str(found)}


def _cidr(text: str) -> Opaque:
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal():
        raise ValueError(f'CIDR "{text}" parse error during conversion from string')
    _ip(address)
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f'CIDR "{text}" parse error during conversion from string') from None
    return {"@": "cidr", "v": str(found)}


def _address(value: Opaque) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if value.get("@") == "cidr":
        return ipaddress.ip_interface(value["v"]).ip
    return ipaddress.ip_address(_kind(value, "ip"))


def _network(value: Opaque) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_interface(_kind(value, "cidr")).network


def _contains_ip(value: Opaque, other: Any) -> bool:
    return _address(_ip(other) if isinstance(other, str) else other) in _network(value)


def _contains_cidr(value: Opaque, other: Any) -> bool:
    outer, inner = _network(value), _network(_cidr(other) if isinstance(other, str) else other)
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _global_unicast(value: Opaque) -> bool:
    """Go's: not unspecified, loopback, multicast, link-local or broadcast; private ones count."""
    found = _address(value)
    plain = not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)
    return plain and str(found) != "255.255.255.255"


def _link_local_multicast(value: Opaque) -> bool:
    found = _address(value)
    if found.version == 4:
        return found in ipaddress.ip_network("224.0.0.0/24")
    return found.is_multicast and found.packed[1] & 0x0F == 2


_ADDRESSES: list[tuple[str, str, Callable[..., Any]]] = [
    ("ip", "s>M", _ip),
    ("isIP", "s>b", _is(_ip)),
    ("ip.isCanonical", "s>b", lambda text: _ip(text)["v"] == text),
    ("family", ".M>i", lambda v: _address(v).version),
    ("isUnspecified", ".M>b", lambda v: _address(v).is_unspecified),
    ("isLoopback", ".M>b", lambda v: _address(v).is_loopback),
    ("isLinkLocalMulticast", ".M>b", _link_local_multicast),
    ("isLinkLocalUnicast", ".M>b", lambda v: _address(v).is_link_local),
    ("isGlobalUnicast", ".M>b", _global_unicast),
    ("cidr", "s>M", _cidr),
    ("isCIDR", "s>b", _is(_cidr)),
    ("ip", ".M>M", lambda v: {"@": "ip", "v": str(_address(v))}),
    ("masked", ".M>M", lambda v: {"@": "cidr", "v": str(_network(v))}),
    ("prefixLength", ".M>i", lambda v: _network(v).prefixlen),
    ("containsIP", ".Ms>b", _contains_ip),
    ("containsIP", ".MM>b", _contains_ip),
    ("containsCIDR", ".Ms>b", _contains_cidr),
    ("containsCIDR", ".MM>b", _contains_cidr),
]


# --- semver --------------------------------------------------------------------------------------------------------------

_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


def _semver(text: str) -> Opaque:
    if not _SEMVER.fullmatch(text):
        raise ValueError(f"Invalid character(s) found in version: {text}")
    return {"@": "semver", "v": text}


def _normal(text: str) -> str:
    """Leading v, missing parts and leading zeros are forgiven."""
    core, dash, rest = text.removeprefix("v").partition("-")
    parts = [p.lstrip("0") or "0" for p in core.split(".")]
    return ".".join([*parts, "0", "0"][: max(3, len(parts))]) + dash + rest


def _lenient(text: str, normalize: Any) -> Opaque:
    return _semver(_normal(text) if normalize else text)


def _precedence(text: str) -> tuple[Any, ...]:
    found = _SEMVER.fullmatch(text)
    assert found is not None, "checked when it was made"
    before = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in (found[4] or "").split(".")] if found[4] else []
    return int(found[1]), int(found[2]), int(found[3]), not before, before


_VERSIONS: list[tuple[str, str, Callable[..., Any]]] = [
    ("semver", "s>M", _semver),
    ("semver", "sb>M", _lenient),
    ("isSemver", "s>b", _is(_semver)),
    ("isSemver", "sb>b", lambda text, normalize: _is(lambda t: _lenient(t, normalize))(text)),
    ("major", ".M>i", lambda v: _precedence(_kind(v, "semver"))[0]),
    ("minor", ".M>i", lambda v: _precedence(_kind(v, "semver"))[1]),
    ("patch", ".M>i", lambda v: _precedence(_kind(v, "semver"))[2]),
]


# --- lists ---------------------------------------------------------------------------------------------------------------


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def _index(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if _same(item, wanted)), -1)


def _last_index(items: list[Any], wanted: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if _same(items[i], wanted)), -1)


def _sum(items: list[Any]) -> Any:
    if items and isinstance(items[0], timedelta):
        return sum(items, timedelta())
    return sum(items)


def _extreme(choose: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def pick(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        try:
            return choose(items)
        except TypeError:
            raise ValueError("no such overload") from None

    return pick


def _sorted(items: list[Any]) -> bool:
    try:
        return all(a <= b for a, b in pairwise(items))
    except TypeError:
        raise ValueError("no such overload") from None


_LISTS: list[tuple[str, str, Callable[..., Any]]] = [
    ("sum", ".L>*", _sum),
    ("min", ".L>*", _extreme(min, "min")),
    ("max", ".L>*", _extreme(max, "max")),
    ("isSorted", ".L>b", _sorted),
    ("indexOf", ".L*>i", _index),
    ("lastIndexOf", ".L*>i", _last_index),
]


# --- regular expressions -------------------------------------------------------------------------------------------------


def _pattern(text: str) -> re.Pattern[str]:
    from jota.meta.structural import patterns

    return patterns.compile(text)


def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in _pattern(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


_TEXTS: list[tuple[str, str, Callable[..., Any]]] = [
    ("find", ".ss>s", _find),
    ("findAll", ".ss>S", _find_all),
    ("findAll", ".ssi>S", _find_all),
]


# --- sets ----------------------------------------------------------------------------------------------------------------


def _within(outer: list[Any], inner: list[Any]) -> bool:
    return all(_index(outer, item) >= 0 for item in inner)


_SETS: list[tuple[str, str, Callable[..., Any]]] = [
    ("sets.contains", "LL>b", _within),
    ("sets.equivalent", "LL>b", lambda a, b: _within(a, b) and _within(b, a)),
    ("sets.intersects", "LL>b", lambda a, b: any(_index(a, item) >= 0 for item in b)),
]
