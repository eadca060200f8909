"""Rules for names inside specs, beyond those of metadata (meta/names.py), cached: the same few names come again and again.

In: text. Out: the details of what is wrong, () when fine (apimachinery `util/validation`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from jota.meta import names as rules

Details = tuple[str, ...]

_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"[-a-z0-9]+")


@lru_cache(8192)
def dns_label(value: str) -> Details:
    return tuple(rules.dns_label(value))


@lru_cache(1024)
def dns_1035_label(value: str) -> Details:
    return tuple(rules.dns_1035_label(value))


@lru_cache(8192)
def dns_subdomain(value: str) -> Details:
    return tuple(rules.dns_subdomain(value))


@lru_cache(8192)
def qualified_name(value: str) -> Details:
    return tuple(rules.qualified_name(value))


@lru_cache(8192)
def label_value(value: str) -> Details:
    return tuple(rules.label_value(value))


@lru_cache(1024)
def path_segment(value: str) -> Details:
    return tuple(rules.path_segment(value))


@lru_cache(8192)
def config_map_key(value: str) -> Details:
    """A key of ConfigMap or Secret data: a file name that cannot climb."""
    problems = ["must be no more than 253 bytes"] if len(value) > 253 else []
    if not _CONFIG_KEY.fullmatch(value):
        sentence = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
        pattern = "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        problems.append(sentence + pattern)
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return tuple(problems)


@lru_cache(4096)
def env_name(value: str) -> Details:
    """Any printable ASCII except "=": the relaxed rule since Kubernetes 1.32."""
    if value and all(" " <= c <= "~" and c != "=" for c in value):
        return ()
    return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)


@lru_cache(1024)
def port_name(value: str) -> Details:
    """An IANA service name."""
    problems = []
    if len(value) > 15:
        problems.append("must be no more than 15 characters")
    if not _PORT_NAME.fullmatch(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= c <= "z" for c in value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        problems.append("must not begin or end with a hyphen")
    return tuple(problems)


def port_number(value: Any) -> Details:
    if type(value) is int and 1 <= value <= 65535:
        return ()
    return ("must be between 1 and 65535, inclusive",)


def port_ref(value: Any) -> Details:
    """A port by number or by name."""
    return port_name(value) if isinstance(value, str) else port_number(value)
