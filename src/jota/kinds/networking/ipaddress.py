"""IPAddresses: one object per service address in use, named by the address."""

from __future__ import annotations

import ipaddress

from jota.kinds.common import NAME, NONE, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, deep, meta, part, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource


def validate(obj: Object) -> list[FieldError]:
    name = text(meta(obj), "name")
    errors: list[FieldError] = []
    try:
        canonical = str(ipaddress.ip_address(name))
    except ValueError:
        canonical = ""
    if canonical != name:
        errors.append(invalid("metadata.name", name, "must be a valid address in canonical form"))
    parent = deep(obj, "spec", "parentRef")
    if not parent:
        return [*errors, required("spec.parentRef")]
    return errors + [required(f"spec.parentRef.{field}") for field in ("resource", "name") if not text(parent, field)]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    parent = part(new, "spec").get("parentRef")
    return (
        []
        if parent == part(old, "spec").get("parentRef")
        else [invalid("spec.parentRef", parent, "field is immutable")]
    )


def _parent(obj: Object, _now: float) -> str:
    parent = deep(obj, "spec", "parentRef")
    if not parent:
        return NONE
    resource = text(parent, "resource") + (f".{text(parent, 'group')}" if text(parent, "group") else "")
    return "/".join(word for word in (resource.lower(), text(parent, "namespace"), text(parent, "name")) if word)


KIND = Kind(
    Resource("networking.k8s.io", "v1", "ipaddresses", "IPAddress", False),
    schema="io.k8s.api.networking.v1.IPAddress",
    singular="ipaddress",
    short_names=("ip",),
    name_rule="path-segment",  # colons of IPv6; `validate` says the rest
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("ParentRef", _parent, about="The object that uses the address.")),
)
