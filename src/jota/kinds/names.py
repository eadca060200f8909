"""Name rules, with the sentences that Kubernetes answers with (apimachinery `util/validation`).

Each function returns the texts of what is wrong, empty when the value is good.
"""

from __future__ import annotations

import re
from typing import Any

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
PORT_NAME = re.compile(r"[-a-z0-9]+\Z")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character"
)
_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    "with an alphanumeric character"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character"
)


def regex_text(sentence: str, pattern: str, *examples: str) -> str:
    """apimachinery `RegexError`: the sentence, then examples and the pattern in brackets."""
    shown = " or ".join(f"'{e}'," for e in examples)
    shown = f"e.g. {shown} " if examples else ""
    return f"{sentence} ({shown}regex used for validation is '{pattern}')"


LABEL_PATTERN = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN_PATTERN = LABEL_PATTERN + r"(\." + LABEL_PATTERN + ")*"
QUALIFIED_PATTERN = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"


def too_long_text(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def dns_label(value: str) -> list[str]:
    problems = [too_long_text(63)] if len(value) > 63 else []
    if not LABEL.match(value):
        if SUBDOMAIN.match(value):
            problems.append("must not contain dots")
        else:
            problems.append(regex_text(_LABEL_TEXT, LABEL_PATTERN, "my-name", "123-abc"))
    return problems


def dns_1035_label(value: str) -> list[str]:
    problems = [too_long_text(63)] if len(value) > 63 else []
    if not LABEL_1035.match(value):
        problems.append(regex_text(_1035_TEXT, "[a-z]([-a-z0-9]*[a-z0-9])?", "my-name", "abc-123"))
    return problems


def dns_subdomain(value: str) -> list[str]:
    problems = [too_long_text(253)] if len(value) > 253 else []
    if not SUBDOMAIN.match(value):
        problems.append(regex_text(_SUBDOMAIN_TEXT, SUBDOMAIN_PATTERN, "example.com"))
    return problems


def qualified_name(value: str) -> list[str]:
    """A label or annotation key: [prefix/]name."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        pattern = regex_text("a qualified name " + _QUALIFIED_TEXT, QUALIFIED_PATTERN, "MyName", "my.name", "123-abc")
        return [pattern + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    problems = []
    if slash:
        if not prefix:
            problems.append("prefix part must be non-empty")
        else:
            problems += ["prefix part " + text for text in dns_subdomain(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part " + too_long_text(63))
    if not QUALIFIED.match(name):
        problems.append("name part " + regex_text(_QUALIFIED_TEXT, QUALIFIED_PATTERN, "MyName", "my.name", "123-abc"))
    return problems


def label_value(value: str) -> list[str]:
    problems = [too_long_text(63)] if len(value) > 63 else []
    if not LABEL_VALUE.match(value):
        problems.append(regex_text(_VALUE_TEXT, f"({QUALIFIED_PATTERN})?", "MyValue", "my_value", "12345"))
    return problems


def config_map_key(value: str) -> list[str]:
    """A key of ConfigMap or Secret data: a file name that cannot climb."""
    problems = [too_long_text(253)] if len(value) > 253 else []
    if not CONFIG_KEY.match(value):
        sentence = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        problems.append(regex_text(sentence, "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def port_name(value: str) -> list[str]:
    """An IANA service name."""
    problems = []
    if len(value) > 15:
        problems.append("must be no more than 15 characters")
    if not PORT_NAME.match(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= c <= "z" for c in value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(value: Any) -> list[str]:
    if type(value) is int and 1 <= value <= 65535:
        return []
    return ["must be between 1 and 65535, inclusive"]
