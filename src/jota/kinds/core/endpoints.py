"""Endpoints: the older form of EndpointSlices, one object per service."""

from __future__ import annotations

import ipaddress
import socket

from jota.kinds import names
from jota.kinds.common import AGE, NAME, plain, some
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, parts, put_missing, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import ENDPOINTS

PROTOCOLS = ["SCTP", "TCP", "UDP"]
_LINK_LOCAL = bytes((169, 254))


def default(endpoints: Object) -> None:
    for subset in parts(endpoints, "subsets"):
        for port in parts(subset, "ports"):
            put_missing(port, "protocol", "TCP")


def validate(endpoints: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, subset in enumerate(parts(endpoints, "subsets")):
        path = f"subsets[{i}]"
        if not parts(subset, "addresses") and not parts(subset, "notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(parts(subset, field)):
                errors += endpoint_address(text(address, "ip"), f"{path}.{field}[{j}].ip")
        for j, port in enumerate(parts(subset, "ports")):
            errors += _validate_port(port, f"{path}.ports[{j}]", len(parts(subset, "ports")) > 1)
    return errors


def endpoint_address(value: str, path: str) -> list[FieldError]:
    """An address that traffic can be sent to: not loopback, link-local, multicast or unspecified."""
    if ordinary_ipv4(value):
        return []
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return [invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified:
        return [invalid(path, value, f"may not be unspecified ({value})")]
    if address.is_loopback:
        return [invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if address.is_multicast:
        return [invalid(path, value, "may not be in the multicast range (224.0.0.0/4, ff00::/8)")]
    return []


def ordinary_ipv4(value: str) -> bool:
    """An IPv4 address that traffic can be sent to: nearly all are, and there may be a thousand in one object."""
    try:
        packed = socket.inet_pton(socket.AF_INET, value)
    except (OSError, ValueError):
        return False
    return 0 < packed[0] < 224 and packed[0] != 127 and packed[:2] != _LINK_LOCAL


def _validate_port(port: Object, path: str, several: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name = text(port, "name")
    if several and not name:
        errors.append(required(f"{path}.name"))
    elif name:
        errors += [invalid(f"{path}.name", name, p) for p in names.dns_label(name)]
    errors += [invalid(f"{path}.port", port.get("port"), p) for p in names.port_number(port.get("port"))]
    if text(port, "protocol") not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", text(port, "protocol"), PROTOCOLS))
    return errors


def _shown(endpoints: Object, _now: float) -> str:
    found: list[str] = []
    for subset in parts(endpoints, "subsets"):
        addresses = [text(a, "ip") for a in parts(subset, "addresses")]
        ports = parts(subset, "ports")
        if not ports:
            found += addresses
        for port in ports:
            found += [f"[{a}]:{port.get('port')}" if ":" in a else f"{a}:{port.get('port')}" for a in addresses]
    return some(found)


KIND = Kind(
    ENDPOINTS,
    schema="io.k8s.api.core.v1.Endpoints",
    singular="endpoints",
    short_names=("ep",),
    default=default,
    validate=validate,
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    columns=(NAME, plain("Endpoints", _shown, about="Addresses and ports that traffic goes to."), AGE),
    create_on_update=True,
)
