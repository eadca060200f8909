"""Names, labels and annotations: what may stand in metadata. In: text or a metadata dict; out: upstream's detail texts.

A rule returns a list of details ([] when fine), as apimachinery's `util/validation` does; `validate_metadata` makes
FieldErrors of them. Next: api/resource.py, which calls `validate_metadata` on every write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jota.meta.errors import FieldError, forbidden_field, invalid, required, too_long

if TYPE_CHECKING:
    from random import Random

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN = _LABEL + "(\\." + _LABEL + ")*"
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE = "((" + _QUALIFIED[1 : -len("?[A-Za-z0-9]")] + "?[A-Za-z0-9])?"
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    + ("and must start and end with an alphanumeric character")
)
_LABEL_RE, _SUBDOMAIN_RE, _LABEL_1035_RE, _QUALIFIED_RE = (
    re.compile(r) for r in (_LABEL, _SUBDOMAIN, _LABEL_1035, _QUALIFIED)
)
ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes of all annotation keys and values of one object together."""


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def _pattern(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{e}', " for e in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_DETAIL = _pattern(_LABEL_MESSAGE, _LABEL, "my-name", "123-abc")
_SUBDOMAIN_DETAIL = _pattern(_SUBDOMAIN_MESSAGE, _SUBDOMAIN, "example.com")
_LABEL_1035_DETAIL = _pattern(_LABEL_1035_MESSAGE, _LABEL_1035, "my-name", "abc-123")


def _bounded(value: str, limit: int, rule: re.Pattern[str], detail: str) -> list[str]:
    out = [_too_long(limit)] if len(value.encode()) > limit else []
    if not rule.fullmatch(value):
        out.append(detail)
    return out


def dns_label(value: str) -> list[str]:
    """RFC 1123 label, at most 63 bytes (namespaces, service ports). When only the dots are wrong, that is what is said."""
    detail = _LABEL_DETAIL
    if "." in value and _SUBDOMAIN_RE.fullmatch(value):
        detail = "must not contain dots"
    return _bounded(value, 63, _LABEL_RE, detail)


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain, at most 253 bytes (the rule for most names)."""
    return _bounded(value, 253, _SUBDOMAIN_RE, _SUBDOMAIN_DETAIL)


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: a DNS label that starts with a letter (Services)."""
    return _bounded(value, 63, _LABEL_1035_RE, _LABEL_1035_DETAIL)


def path_segment(value: str) -> list[str]:
    """Anything that can stand in a URL path (RBAC names)."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in value]


def qualified_name(value: str) -> list[str]:
    """A label or annotation key, a finalizer, a resource name: [subdomain/]name."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [
            "a qualified name "
            + _pattern(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    out: list[str] = []
    if slash and not prefix:
        out.append("prefix part must be non-empty")
    elif slash:
        out += ["prefix part " + detail for detail in dns_subdomain(prefix)]
    if not name:
        out.append("name part must be non-empty")
    elif len(name) > 63:
        out.append("name part " + _too_long(63))
    if not _QUALIFIED_RE.fullmatch(name):
        out.append("name part " + _pattern(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return out


def label_value(value: str) -> list[str]:
    """Empty, or like the name part of a key; at most 63 bytes."""
    out = [_too_long(63)] if len(value) > 63 else []
    if value and not _QUALIFIED_RE.fullmatch(value):
        out.append(_pattern(_LABEL_VALUE_MESSAGE, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return out


RULES: dict[str, Callable[[str], list[str]]] = {
    "dns-subdomain": dns_subdomain,
    "dns-label": dns_label,
    "dns-1035-label": dns_1035_label,
    "path-segment": path_segment,
}
"""By `Kind.name_rule`."""

_RANDOM_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_BASE = 58


def generate_name(base: str, random: Random) -> str:
    """`base` cut to 58 characters plus five random ones without vowels, as upstream's SimpleNameGenerator."""
    return base[:_MAX_BASE] + "".join(random.choices(_RANDOM_ALPHABET, k=5))


# --- metadata --------------------------------------------------------------------------------------------------------


def validate_metadata(
    meta: dict[str, Any], *, namespaced: bool, name_rule: str, path: str = "metadata"
) -> list[FieldError]:
    """Errors of an ObjectMeta after the server has filled in name and namespace.

    `name_rule` is a key of RULES. Values of the wrong JSON type are the decoder's business (`schema.check`)."""
    out = _validate_names(meta, namespaced, RULES[name_rule], path)
    out += validate_labels(meta.get("labels"), f"{path}.labels")
    out += validate_annotations(meta.get("annotations"), f"{path}.annotations")
    out += _validate_owners(meta.get("ownerReferences"), f"{path}.ownerReferences")
    out += _validate_finalizers(meta.get("finalizers"), f"{path}.finalizers")
    return out


def _validate_names(
    meta: dict[str, Any], namespaced: bool, rule: Callable[[str], list[str]], path: str
) -> list[FieldError]:
    out: list[FieldError] = []
    name, prefix, namespace = meta.get("name") or "", meta.get("generateName") or "", meta.get("namespace") or ""
    if prefix:
        masked = prefix[:-1] + "a" if prefix.endswith("-") and len(prefix) > 1 else prefix
        out += [invalid(f"{path}.generateName", prefix, detail) for detail in rule(masked)]
    if not name:
        out.append(required(f"{path}.name", "name or generateName is required"))
    else:
        out += [invalid(f"{path}.name", name, detail) for detail in rule(name)]
    if not namespaced and namespace:
        out.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    elif namespaced and not namespace:
        out.append(required(f"{path}.namespace"))
    elif namespaced:
        out += [invalid(f"{path}.namespace", namespace, detail) for detail in dns_label(namespace)]
    generation = meta.get("generation") or 0
    if isinstance(generation, int) and generation < 0:
        out.append(invalid(f"{path}.generation", generation, "must be greater than or equal to 0"))
    return out


def validate_labels(labels: dict[str, str] | None, path: str) -> list[FieldError]:
    """Also for pod templates and selectors."""
    out: list[FieldError] = []
    for key, value in (labels or {}).items():
        if _is_label(key, value or ""):
            continue
        out += [invalid(path, key, detail) for detail in qualified_name(key)]
        out += [invalid(path, value, detail) for detail in label_value(value or "")]
    return out


@lru_cache(maxsize=8192)
def _is_label(key: str, value: str) -> bool:
    """The same labels come again and again."""
    return not qualified_name(key) and not label_value(value)


def validate_annotations(annotations: dict[str, str] | None, path: str) -> list[FieldError]:
    out: list[FieldError] = []
    total = 0
    for key, value in (annotations or {}).items():
        out += [invalid(path, key, detail) for detail in qualified_name(key.lower())]
        total += len(key.encode()) + len((value or "").encode())
    if total > ANNOTATIONS_LIMIT:
        out.append(too_long(path, ANNOTATIONS_LIMIT))
    return out


def _validate_owners(owners: list[dict[str, Any]] | None, path: str) -> list[FieldError]:
    out: list[FieldError] = []
    controller = ""
    for owner in owners or ():
        group_version = owner.get("apiVersion") or ""
        if not group_version.rpartition("/")[2]:
            out.append(invalid(f"{path}.apiVersion", group_version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                out.append(invalid(f"{path}.{field}", owner.get(field) or "", "must not be empty"))
        if group_version == "v1" and owner.get("kind") == "Event":
            out.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                detail = f'Found "true" in references for {controller} and {owner.get("name")}'
                out.append(invalid(path, owners, f"Only one reference can have Controller set to true. {detail}"))
            controller = owner.get("name") or ""
    return out


def _validate_finalizers(finalizers: list[str] | None, path: str) -> list[FieldError]:
    out: list[FieldError] = []
    for finalizer in finalizers or ():
        out += [invalid(path, finalizer, detail) for detail in qualified_name(finalizer)]
    if finalizers and "orphan" in finalizers and "foregroundDeletion" in finalizers:
        out.append(invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))
    return out


def finalizer_warnings(finalizers: list[str] | None, path: str = "metadata.finalizers") -> list[str]:
    """Texts for Warning headers: finalizers without a domain, other than the standard ones."""
    standard = ("kubernetes", "orphan", "foregroundDeletion")
    return [
        f'{path}: "{f}": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts '
        "with other finalizer writers"
        for f in finalizers or ()
        if "/" not in f and f not in standard
    ]
