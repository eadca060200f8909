"""NetworkPolicies: who may talk to the selected pods, and to whom they may talk."""

from __future__ import annotations

import ipaddress

from jota.kinds import labels, names
from jota.kinds.common import AGE, NAME, plain, selector_text
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, number, part, parts, put_missing, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import Resource

PROTOCOLS = ["SCTP", "TCP", "UDP"]
TYPES = ["Egress", "Ingress"]
SIDES = (("ingress", "from"), ("egress", "to"))


def default(policy: Object) -> None:
    spec = attach(policy, "spec")
    attach(spec, "podSelector")
    for side, _ in SIDES:
        for rule in parts(spec, side):
            for port in parts(rule, "ports"):
                put_missing(port, "protocol", "TCP")
    if not texts(spec, "policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if parts(spec, "egress") else ["Ingress"]


def validate(policy: Object) -> list[FieldError]:
    spec = part(policy, "spec")
    errors = labels.validate_selector(spec.get("podSelector"), "spec.podSelector")
    for side, peers in SIDES:
        for i, rule in enumerate(parts(spec, side)):
            path = f"spec.{side}[{i}]"
            for j, port in enumerate(parts(rule, "ports")):
                errors += _validate_port(port, f"{path}.ports[{j}]")
            for j, peer in enumerate(parts(rule, peers)):
                errors += _validate_peer(peer, f"{path}.{peers}[{j}]")
    types = texts(spec, "policyTypes")
    if len(types) > len(TYPES):
        return [*errors, invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
    for i, type in enumerate(types):
        if type not in TYPES:
            errors.append(not_supported(f"spec.policyTypes[{i}]", type, TYPES))
    return errors


def _validate_port(port: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if text(port, "protocol") not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", text(port, "protocol"), PROTOCOLS))
    first, last = port.get("port"), port.get("endPort")
    if first is None:
        if last is not None:
            errors.append(required(f"{path}.port", "must be specified when `endPort` is defined"))
        return errors
    errors += [invalid(f"{path}.port", first, p) for p in names.port_ref(first)]
    if type(last) is int:
        if isinstance(first, str):
            errors.append(invalid(f"{path}.endPort", last, "may not be specified when `port` is non-numeric"))
        elif last < number(port, "port"):
            errors.append(invalid(f"{path}.endPort", last, "must be greater than or equal to `port`"))
        errors += [invalid(f"{path}.endPort", last, p) for p in names.port_number(last)]
    return errors


def _validate_peer(peer: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    selectors = [key for key in ("podSelector", "namespaceSelector") if isinstance(peer.get(key), dict)]
    for key in selectors:
        errors += labels.validate_selector(peer[key], f"{path}.{key}")
    if isinstance(peer.get("ipBlock"), dict):
        if selectors:
            detail = "may not specify both ipBlock and another peer"
            errors.append(forbidden_field(path, detail))
        errors += _validate_block(peer["ipBlock"], f"{path}.ipBlock")
    elif not selectors:
        errors.append(required(path, "must specify a peer"))
    return errors


def _validate_block(block: Object, path: str) -> list[FieldError]:
    cidr = text(block, "cidr")
    if not cidr:
        return [required(f"{path}.cidr")]
    whole = _network(cidr)
    if whole is None:
        return [invalid(f"{path}.cidr", cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    errors: list[FieldError] = []
    for i, inner in enumerate(texts(block, "except")):
        hole, where = _network(inner), f"{path}.except[{i}]"
        if hole is None:
            errors.append(invalid(where, inner, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
        elif hole.version != whole.version or not _inside(hole, whole):
            errors.append(invalid(where, inner, "must be a strict subset of `cidr`"))
    return errors


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _inside(hole: Network, whole: Network) -> bool:
    return hole.prefixlen > whole.prefixlen and hole.network_address in whole


KIND = Kind(
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    schema="io.k8s.api.networking.v1.NetworkPolicy",
    singular="networkpolicy",
    short_names=("netpol",),
    default=default,
    validate=validate,
    columns=(NAME, plain("Pod-Selector", lambda p, _now: selector_text(part(p, "spec").get("podSelector"))), AGE),
    generation=True,
)
