"""IPAddresses: one object per service address in use, named by the address. Rules, and the object of a Service's address.

Who writes those: the API, with the Service (api/admission/service_ip.py); controllers/ipaddressrepair.py puts right.
"""

from __future__ import annotations

import ipaddress

from jota.kinds.common import NAME, NONE, plain
from jota.kinds.kind import Kind
from jota.kinds.names import dns_subdomain, path_segment
from jota.kinds.shape import Object, deep, meta, part, strings, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import IP_ADDRESSES

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
"""Value of MANAGED_BY on addresses of Services."""


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
    for field, rule in (
        ("group", dns_subdomain),
        ("resource", path_segment),
        ("name", path_segment),
        ("namespace", path_segment),
    ):
        value = text(parent, field)
        if value:
            errors += [invalid(f"spec.parentRef.{field}", value, detail) for detail in rule(value)]
        elif field in ("resource", "name"):
            errors.append(required(f"spec.parentRef.{field}"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    parent = part(new, "spec").get("parentRef")
    return (
        []
        if parent == part(old, "spec").get("parentRef")
        else [invalid("spec.parentRef", parent, "field is immutable")]
    )


def family(address: str) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in address else "IPv4"


def of_service(address: str, namespace: str, name: str) -> Object:
    """The IPAddress of one address of a Service."""
    labels = {FAMILY: family(address), MANAGED_BY: ALLOCATOR}
    parent = {"group": "", "resource": "services", "namespace": namespace, "name": name}
    kind = {"apiVersion": IP_ADDRESSES.api_version, "kind": IP_ADDRESSES.kind}
    return {**kind, "metadata": {"name": address, "labels": labels}, "spec": {"parentRef": parent}}


def service_of(obj: Object) -> str:
    """ "namespace/name" of the Service that it refers to; "" when it refers to something else."""
    parent = deep(obj, "spec", "parentRef")
    if text(parent, "group") or text(parent, "resource") != "services":
        return ""
    return f"{text(parent, 'namespace')}/{text(parent, 'name')}"


def managed(obj: Object) -> bool:
    """Whether it is the service allocator's own."""
    return strings(meta(obj), "labels").get(MANAGED_BY) == ALLOCATOR


def labelled(obj: Object) -> bool:
    """Whether it has the labels of an address of a Service."""
    return managed(obj) and strings(meta(obj), "labels").get(FAMILY) == family(text(meta(obj), "name"))


def _parent(obj: Object, _now: float) -> str:
    parent = deep(obj, "spec", "parentRef")
    if not parent:
        return NONE
    resource = text(parent, "resource") + (f".{text(parent, 'group')}" if text(parent, "group") else "")
    return "/".join(word for word in (resource.lower(), text(parent, "namespace"), text(parent, "name")) if word)


KIND = Kind(
    IP_ADDRESSES,
    schema="io.k8s.api.networking.v1.IPAddress",
    singular="ipaddress",
    short_names=("ip",),
    name_rule="path-segment",  # colons of IPv6; `validate` says the rest
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("ParentRef", _parent, about="The object that uses the address.")),
)
