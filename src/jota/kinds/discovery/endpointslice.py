"""EndpointSlices: the addresses behind a service, in slices of bounded size."""

from __future__ import annotations

import ipaddress

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain, some
from jota.kinds.core.endpoints import endpoint_address, ordinary_ipv4
from jota.kinds.kind import Kind, Nothing
from jota.kinds.shape import Object, parts, put_missing, text, texts
from jota.meta.errors import FieldError, duplicate, invalid, not_supported, required
from jota.meta.resource import ENDPOINTSLICES

ADDRESS_TYPES = ["FQDN", "IPv4", "IPv6"]
PROTOCOLS = ["SCTP", "TCP", "UDP"]
MAX_ENDPOINTS, MAX_PORTS, MAX_ADDRESSES = 1000, 20000, 100


def default(slice: Object) -> None:
    for port in parts(slice, "ports"):
        put_missing(port, "name", "")
        put_missing(port, "protocol", "TCP")


def validate(slice: Object) -> list[FieldError]:
    type = text(slice, "addressType")
    errors = [] if type in ADDRESS_TYPES else _bad_type(type)
    endpoints, ports = parts(slice, "endpoints"), parts(slice, "ports")
    too_many = [*_too_many("endpoints", len(endpoints), MAX_ENDPOINTS), *_too_many("ports", len(ports), MAX_PORTS)]
    if too_many:
        return errors + too_many  # one by one, they are not looked at
    for i, endpoint in enumerate(endpoints):
        addresses, path = texts(endpoint, "addresses"), f"endpoints[{i}].addresses"
        if not addresses:
            errors.append(required(path, "must contain at least 1 address"))
        errors += _too_many(path, len(addresses), MAX_ADDRESSES)
        for j, address in enumerate(addresses):
            errors += _validate_address(type, address, f"{path}[{j}]")
    seen: set[str] = set()
    for i, port in enumerate(ports):
        errors += _validate_port(port, f"ports[{i}]", seen)
    return errors


def _too_many(path: str, count: int, most: int) -> list[FieldError]:
    if count <= most:
        return []
    return [FieldError("FieldValueTooMany", path, f"Too many: {count}: must have at most {most} items")]


def _bad_type(type: str) -> list[FieldError]:
    return [not_supported("addressType", type, ADDRESS_TYPES) if type else required("addressType")]


def _validate_address(type: str, address: str, path: str) -> list[FieldError]:
    if type == "IPv4" and ordinary_ipv4(address):
        return []
    if type == "FQDN":
        return [invalid(path, address, p) for p in names.dns_subdomain(address)]
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return [invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if f"IPv{version}" != type and type in ADDRESS_TYPES:
        return [invalid(path, address, f"must be an {type} address")]
    return endpoint_address(address, path)


def _validate_port(port: Object, path: str, seen: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name = text(port, "name")
    if name:
        errors += [invalid(f"{path}.name", name, p) for p in names.dns_label(name)]
    if name in seen:
        errors.append(duplicate(f"{path}.name", name))
    seen.add(name)
    if text(port, "protocol") not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", text(port, "protocol"), PROTOCOLS))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


def _ports(slice: Object, _now: float) -> str:
    shown = ["*" if port.get("port") is None else str(port["port"]) for port in parts(slice, "ports")]
    return some(shown, empty="<unset>")


def _endpoints(slice: Object, _now: float) -> str:
    return some([a for e in parts(slice, "endpoints") for a in texts(e, "addresses")], empty="<unset>")


KIND = Kind(
    ENDPOINTSLICES,
    schema="io.k8s.api.discovery.v1.EndpointSlice",
    singular="endpointslice",
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("AddressType", path_cell("addressType", missing="")),
        plain("Ports", _ports),
        plain("Endpoints", _endpoints),
        AGE,
    ),
    generation=True,
    relabelled_from=Nothing,
)
