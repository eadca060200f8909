"""ServiceCIDRs: ranges that service addresses are taken from."""

from __future__ import annotations

import ipaddress

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, part, texts
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource


def validate(obj: Object) -> list[FieldError]:
    ranges = texts(part(obj, "spec"), "cidrs")
    if not ranges:
        return [required("spec.cidrs", "at least one CIDR required")]
    errors: list[FieldError] = []
    if len(ranges) > 2:
        errors.append(invalid("spec", part(obj, "spec"), "may only hold up to 2 values"))
    for i, cidr in enumerate(ranges):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(invalid(f"spec.cidrs[{i}]", cidr, detail))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """A second family may be added; what is there stays."""
    after, before = texts(part(new, "spec"), "cidrs"), texts(part(old, "spec"), "cidrs")
    return [] if after[: len(before)] == before else [invalid("spec.cidrs", after, IMMUTABLE)]


KIND = Kind(
    Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False),
    schema="io.k8s.api.networking.v1.ServiceCIDR",
    singular="servicecidr",
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("CIDRs", lambda o, _now: ",".join(texts(part(o, "spec"), "cidrs"))), AGE),
    status=True,
)
