"""Kubernetes' named formats: `format.dns1123Label().validate(text)` is optional.none() or the list of what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jota.meta import names
from jota.meta.cel.functions import REGEX, TRAVERSAL, Function
from jota.meta.cel.values import NONE, Format, Optional
from jota.meta.structural import formats

Rule = Callable[[str], list[str]]


def _prefix(rule: Rule) -> Rule:
    """Of a generateName: a dash at the end is followed by more."""
    return lambda text: rule(text[:-1] + "a" if text.endswith("-") else text)


def _format(name: str, wrong: str) -> Rule:
    return lambda text: [] if formats.holds(name, text) else [wrong]


def _uri(text: str) -> list[str]:
    if formats.holds("uri", text):
        return []
    return ["parse error: empty url" if not text else f'parse "{text}": invalid URI for request']


RULES: dict[str, Rule] = {
    "dns1123Label": names.dns_label,
    "dns1123Subdomain": names.dns_subdomain,
    "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.qualified_name,
    "dns1123LabelPrefix": _prefix(names.dns_label),
    "dns1123SubdomainPrefix": _prefix(names.dns_subdomain),
    "dns1035LabelPrefix": _prefix(names.dns_1035_label),
    "labelValue": names.label_value,
    "uri": _uri,
    "uuid": _format("uuid", "does not match the UUID format"),
    "byte": _format("byte", "invalid base64"),
    "date": _format("date", "invalid date"),
    "datetime": _format("date-time", "invalid datetime"),
}


_PATTERN = {"dns1123Subdomain": 60, "dns1123SubdomainPrefix": 60, "qualifiedName": 60, "labelValue": 40, "uuid": 70}
_PATTERN |= {"date": 70, "datetime": 70, "byte": 90, "uri": 128}
"""Characters of the pattern that each format is judged by, where it is not 30: for its cost."""


def _cost(args: tuple[Any, ...], _: Any) -> int:
    pattern = _PATTERN.get(args[0].name, 30)
    return math.ceil((1 + len(args[1])) * TRAVERSAL) * math.ceil(pattern * REGEX)


def _named(name: str) -> Optional:
    return Optional(Format(name)) if name in RULES else NONE


def _validate(form: Format, text: str) -> Optional:
    found = RULES[form.name](text)
    return Optional(found) if found else NONE


TABLE = [
    Function("format.named", "(string) optional(format)", _named),
    *(Function(f"format.{name}", "() format", lambda n=name: Format(n)) for name in RULES),
    Function("validate", "format.(string) optional(list(string))", _validate, _cost),
]
