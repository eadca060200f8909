"""Kubernetes' URLs, addresses and networks (k8s.io/apiserver/pkg/cel/library: urls, ip, cidr). Text in; values, parts, tests out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, traversal
from jota.meta.cel.values import Cidr, Ip, Url, remembered, work
from jota.meta.structural import formats

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def holds(make: Callable[[str], Any]) -> Callable[[str], bool]:
    """Whether a text can be made a value."""

    def check(text: str) -> bool:
        try:
            make(text)
        except (ValueError, ArithmeticError):
            return False
        return True

    return check


# --- url -----------------------------------------------------------------------------------------------------------------


def _url(text: str) -> Url:
    error = CelError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    if not formats.holds("uri", text):
        raise error
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a bad one
    except ValueError:
        raise error from None
    return Url(text, parts)


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    return re.sub(r":\d*$", "", _host(url)).strip("[]")


def _port(url: Url) -> str:
    return str(url.parts.port or "")


def _query(url: Url) -> dict[str, list[str]]:
    query = url.parts.query
    work.spend(len(query))
    return parse_qs(query, keep_blank_values=True)


_URLS = [
    Function("url", "(string) url", _url, traversal(0)),
    Function("url", "(url) url", lambda u: u),
    Function("isURL", "(string) bool", holds(_url), traversal(0)),
    Function("getScheme", "url.() string", lambda u: u.parts.scheme),
    Function("getHost", "url.() string", _host),
    Function("getHostname", "url.() string", _hostname),
    Function("getPort", "url.() string", _port),
    Function("getEscapedPath", "url.() string", lambda u: u.parts.path),
    Function("getQuery", "url.() map(string, list(string))", _query),
]


# --- ip, cidr ------------------------------------------------------------------------------------------------------------


@remembered
def _ip(text: str) -> Ip:
    if "%" in text:
        raise CelError(f'IP Address "{text}" with zone value is not allowed')
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        detail = f'ParseAddr("{text}"): unable to parse IP'
        raise CelError(f'IP Address "{text}" parse error during conversion from string: {detail}') from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Ip(found)


@remembered
def _cidr(text: str) -> Cidr:
    address, slash, length = text.partition("/")
    error = CelError(f'network address parse error during conversion from string: netip.ParsePrefix("{text}"): invalid')
    if not slash or not length.isdecimal() or (length != "0" and length.startswith("0")):
        raise error
    try:
        _ip(address)
        return Cidr(ipaddress.ip_interface(text))
    except (CelError, ValueError):
        raise error from None


def _address(value: Ip | Cidr) -> Address:
    return value.interface.ip if isinstance(value, Cidr) else value.address


def _network(value: Cidr) -> Network:
    return value.interface.network


def _contains_ip(value: Cidr, other: Ip | str) -> bool:
    return _address(_ip(other) if isinstance(other, str) else other) in _network(value)


def _contains_cidr(value: Cidr, other: Cidr | str) -> bool:
    outer, inner = _network(value), _network(_cidr(other) if isinstance(other, str) else other)
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _global_unicast(value: Ip) -> bool:
    """Go's: not unspecified, loopback, multicast, link-local or broadcast; private ones count."""
    found = _address(value)
    plain = not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)
    return plain and str(found) != "255.255.255.255"


def _link_local_multicast(value: Ip) -> bool:
    found = _address(value)
    if found.version == 4:
        return found in ipaddress.ip_network("224.0.0.0/24")
    return found.is_multicast and found.packed[1] & 0x0F == 2


def _prefix_cost(args: tuple[Any, ...], _: Any) -> int:
    width = len(_address(args[0]).packed)
    parsed = -(-len(args[1]) // 10) if isinstance(args[1], str) else 0
    return -(-2 * width // 10) + parsed


_ADDRESSES = [
    Function("ip", "(string) ip", _ip, traversal(0)),
    Function("isIP", "(string) bool", holds(_ip), traversal(0)),
    Function("ip.isCanonical", "(string) bool", lambda text: _ip(text).text == text, traversal(0, 0.2)),
    Function("family", "ip.() int", lambda v: _address(v).version),
    Function("isUnspecified", "ip.() bool", lambda v: _address(v).is_unspecified),
    Function("isLoopback", "ip.() bool", lambda v: _address(v).is_loopback),
    Function("isLinkLocalMulticast", "ip.() bool", _link_local_multicast),
    Function("isLinkLocalUnicast", "ip.() bool", lambda v: _address(v).is_link_local),
    Function("isGlobalUnicast", "ip.() bool", _global_unicast),
    Function("string", "(ip) string", lambda v: v.text),
    Function("cidr", "(string) cidr", _cidr, traversal(0)),
    Function("isCIDR", "(string) bool", holds(_cidr), traversal(0)),
    Function("ip", "cidr.() ip", lambda v: Ip(_address(v))),
    Function("masked", "cidr.() cidr", lambda v: Cidr(ipaddress.ip_interface(_network(v)))),
    Function("prefixLength", "cidr.() int", lambda v: _network(v).prefixlen),
    Function("containsIP", "cidr.(string) bool", _contains_ip, _prefix_cost),
    Function("containsIP", "cidr.(ip) bool", _contains_ip, _prefix_cost),
    Function("containsCIDR", "cidr.(string) bool", _contains_cidr, _prefix_cost),
    Function("containsCIDR", "cidr.(cidr) bool", _contains_cidr, _prefix_cost),
    Function("string", "(cidr) string", lambda v: v.text),
]
TABLE = [*_URLS, *_ADDRESSES]
