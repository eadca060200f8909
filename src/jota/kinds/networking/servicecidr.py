"""ServiceCIDRs: ranges that service addresses are taken from. Their rules, and what a range contains (as upstream counts:
its network address never, and of IPv4 not the broadcast address). Next: api/admission/service_ranges.py hands out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, meta, part, parts, text, texts
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import SERVICE_CIDRS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT = "kubernetes"
"""The name of the range that the server is started with."""
READY = "Ready"


def validate(obj: Object) -> list[FieldError]:
    ranges = texts(part(obj, "spec"), "cidrs")
    if not ranges:
        return [required("spec.cidrs", "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid("spec.cidrs", part(obj, "spec"), "may only hold up to 2 values")]
    errors = [
        invalid(f"spec.cidrs[{i}]", cidr, problem) for i, cidr in enumerate(ranges) for problem in _problems(cidr)
    ]
    if not errors and len(ranges) == 2 and len({ipaddress.ip_network(cidr).version for cidr in ranges}) == 1:
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid("spec.cidrs", ranges, detail))
    return errors


def _problems(cidr: str) -> list[str]:
    """Of one CIDR, by apimachinery's IsValidCIDR."""
    try:
        if "/" not in cidr:
            raise ValueError
        interface = ipaddress.ip_interface(cidr)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ipv4_mapped is not None:
        return ["must not have an IPv4-mapped IPv6 address"]
    if interface.ip != interface.network.network_address:
        return ["must not have bits set beyond the prefix length"]
    return [] if str(interface) == cidr else [f'must be in canonical form ("{interface}")']


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """A second family may be added to one; else what is there stays."""
    after, before = texts(part(new, "spec"), "cidrs"), texts(part(old, "spec"), "cidrs")
    if len(after) != len(before) and (len(before), len(after)) != (1, 2):
        return [invalid("spec.cidrs", after, IMMUTABLE)]
    pairs = zip(before, after, strict=False)
    return [invalid(f"spec.cidrs[{i}]", now, IMMUTABLE) for i, (was, now) in enumerate(pairs) if was != now]


def networks(obj: Object) -> list[Network]:
    """Its ranges; what a former version let in and is none is passed over."""
    return [network for cidr in texts(part(obj, "spec"), "cidrs") if (network := _network(cidr)) is not None]


@lru_cache(256)
def _network(cidr: str) -> Network | None:
    try:
        return ipaddress.ip_network(cidr)
    except ValueError:
        return None


def ready(obj: Object) -> bool:
    """Whether addresses may be taken from it: not on its way out, and not said to be unready. No condition at all means
    ready, so that a cluster without controllers works (as upstream's allocators)."""
    conditions = parts(part(obj, "status"), "conditions")
    said = next((text(c, "status") for c in conditions if text(c, "type") == READY), "True")
    return said == "True" and not meta(obj).get("deletionTimestamp")


def contains(network: Network, address: str) -> bool:
    """Whether a Service may have the address by this range. False for what is no address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip not in network or ip == network.network_address:
        return False
    return ip.version == 6 or ip != network.broadcast_address


def containing(objects: Iterable[Object], address: str) -> list[Object]:
    """Those of the ServiceCIDRs with a range that contains the address."""
    return [obj for obj in objects if any(contains(network, address) for network in networks(obj))]


KIND = Kind(
    SERVICE_CIDRS,
    schema="io.k8s.api.networking.v1.ServiceCIDR",
    singular="servicecidr",
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("CIDRs", lambda o, _now: ",".join(texts(part(o, "spec"), "cidrs"))), AGE),
    status=True,
)
