"""Validation of services (ValidateService): ports, types, addresses, policies, and what may not change.

In: a defaulted service, addresses and node ports perhaps not handed out yet. Out: errors in upstream's words.
"""

from __future__ import annotations

import ipaddress

from jota.kinds import labels, names
from jota.kinds.core.endpoints import endpoint_address
from jota.kinds.shape import Object, deep, number, part, parts, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

TYPES = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
PROTOCOLS = ["SCTP", "TCP", "UDP"]
TRAFFIC = ["Cluster", "Local"]
DISTRIBUTIONS = ["PreferClose", "PreferSameNode", "PreferSameZone"]
FAMILIES = ["IPv4", "IPv6"]
FAMILY_POLICIES = ["PreferDualStack", "RequireDualStack", "SingleStack"]
KUBELET_PORT = 10250
LONGEST_AFFINITY = 86400
ONLY_BALANCER = "may only be used when `type` is 'LoadBalancer'"
NOT_EXTERNAL_NAME = "may not be set for ExternalName services"
FIXED = "may not change once set"


def validate(service: Object) -> list[FieldError]:
    spec = part(service, "spec")
    type, headless = text(spec, "type"), is_headless(spec)
    errors: list[FieldError] = []
    if not parts(spec, "ports") and not headless and type != "ExternalName":
        errors.append(required("spec.ports"))
    _validate_type(spec, type, headless, errors)
    _validate_ports(parts(spec, "ports"), type, errors)
    errors += labels.validate_labels(spec.get("selector"), "spec.selector")
    _validate_affinity(spec, errors)
    if type != "ExternalName":
        _validate_addresses(spec, errors)
    for i, address in enumerate(texts(spec, "externalIPs")):
        errors += endpoint_address(address, f"spec.externalIPs[{i}]")
    _validate_balancer(spec, type, errors)
    _validate_traffic(spec, type, errors)
    return errors


def is_headless(spec: Object) -> bool:
    return text(spec, "clusterIP") == "None" or texts(spec, "clusterIPs") == ["None"]


def _validate_type(spec: Object, type: str, headless: bool, errors: list[FieldError]) -> None:
    if type not in TYPES:
        errors.append(not_supported("spec.type", type, TYPES) if type else required("spec.type"))
    if headless and type in ("LoadBalancer", "NodePort"):
        detail = f"may not be set to 'None' for {type} services"
        errors.append(invalid("spec.clusterIPs[0]", "None", detail))
    if type == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                errors.append(forbidden_field(f"spec.{field}", NOT_EXTERNAL_NAME))
        host = text(spec, "externalName").removesuffix(".")
        if not host:
            errors.append(required("spec.externalName"))
        else:
            errors += [invalid("spec.externalName", host, problem) for problem in names.dns_subdomain(host)]


def _validate_ports(ports: list[Object], type: str, errors: list[FieldError]) -> None:
    seen_names: set[str] = set()
    seen_ports: set[tuple[str, int]] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for i, port in enumerate(ports):
        path, name, protocol = f"spec.ports[{i}]", text(port, "name"), text(port, "protocol")
        if name:
            errors += [invalid(f"{path}.name", name, problem) for problem in names.dns_label(name)]
            if name in seen_names:
                errors.append(duplicate(f"{path}.name", name))
            seen_names.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{path}.name"))
        _validate_port(port, path, protocol, type, errors)
        key = (protocol, number(port, "port"))
        if key in seen_ports:
            errors.append(duplicate(path, {"protocol": protocol, "port": key[1]}))
        seen_ports.add(key)
        node_port = (protocol, number(port, "nodePort"))
        if node_port[1] and node_port in seen_node_ports:
            errors.append(duplicate(f"{path}.nodePort", node_port[1]))
        seen_node_ports.add(node_port)


def _validate_port(port: Object, path: str, protocol: str, type: str, errors: list[FieldError]) -> None:
    value, target, node_port = port.get("port"), port.get("targetPort"), port.get("nodePort")
    errors += [invalid(f"{path}.port", value, problem) for problem in names.port_number(value)]
    if protocol not in PROTOCOLS:
        unknown = not_supported(f"{path}.protocol", protocol, PROTOCOLS)
        errors.append(unknown if protocol else required(f"{path}.protocol"))
    if target is not None:
        errors += [invalid(f"{path}.targetPort", target, problem) for problem in names.port_ref(target)]
    app = text(port, "appProtocol")
    if app:
        errors += [invalid(f"{path}.appProtocol", app, problem) for problem in names.qualified_name(app)]
    if node_port and type in ("ClusterIP", "ExternalName"):
        errors.append(forbidden_field(f"{path}.nodePort", f"may not be used when `type` is '{type}'"))
    elif node_port:
        errors += [invalid(f"{path}.nodePort", node_port, problem) for problem in names.port_number(node_port)]
    if type == "LoadBalancer" and value == KUBELET_PORT:
        detail = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
        errors.append(invalid(f"{path}.port", value, detail))


def _validate_affinity(spec: Object, errors: list[FieldError]) -> None:
    affinity = text(spec, "sessionAffinity")
    if affinity not in ("ClientIP", "None"):
        unknown = not_supported("spec.sessionAffinity", affinity, ["ClientIP", "None"])
        errors.append(unknown if affinity else required("spec.sessionAffinity"))
    config = spec.get("sessionAffinityConfig")
    if affinity == "None" and config is not None:
        detail = "must not be set when session affinity is None"
        errors.append(forbidden_field("spec.sessionAffinityConfig", detail))
    elif affinity == "ClientIP":
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        seconds = deep(spec, "sessionAffinityConfig", "clientIP").get("timeoutSeconds")
        if type(seconds) is int and not 0 < seconds <= LONGEST_AFFINITY:
            errors.append(invalid(path, seconds, f"must be greater than 0 and less than {LONGEST_AFFINITY}"))


def _validate_addresses(spec: Object, errors: list[FieldError]) -> None:
    first, all_ = text(spec, "clusterIP"), texts(spec, "clusterIPs")
    if not first and all_:
        detail = "must be empty when `clusterIP` is not specified"
        errors.append(invalid("spec.clusterIPs", all_, detail))
    elif first and all_ and all_[0] != first:
        errors.append(invalid("spec.clusterIPs", all_, "first value must match `clusterIP`"))
    if len(all_) > 2:
        errors.append(invalid("spec.clusterIPs", all_, "may only hold up to 2 values"))
    for i, address in enumerate(all_):
        path = f"spec.clusterIPs[{i}]"
        if address == "None":
            if len(all_) > 1:
                errors.append(invalid(path, address, "must be a valid IP address"))
            continue
        try:
            ipaddress.ip_address(address)
        except ValueError:
            detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            errors.append(invalid(path, address, detail))
    families, policy = texts(spec, "ipFamilies"), spec.get("ipFamilyPolicy")
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, FAMILIES))
        elif family in families[:i]:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
    if policy is not None and policy not in FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES))


def _validate_balancer(spec: Object, type: str, errors: list[FieldError]) -> None:
    ranges = texts(spec, "loadBalancerSourceRanges")
    if type != "LoadBalancer":
        if ranges:
            errors.append(forbidden_field("spec.LoadBalancerSourceRanges", ONLY_BALANCER))
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) is not None:
                errors.append(forbidden_field(f"spec.{field}", ONLY_BALANCER))
        return
    for i, cidr in enumerate(ranges):
        try:
            ipaddress.ip_network(cidr.strip(), strict=False)
        except ValueError:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(invalid(f"spec.LoadBalancerSourceRanges[{i}]", cidr, detail))


def _validate_traffic(spec: Object, type: str, errors: list[FieldError]) -> None:
    external, internal = text(spec, "externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    accessible = type in ("NodePort", "LoadBalancer") or (type == "ClusterIP" and bool(texts(spec, "externalIPs")))
    if not accessible:
        if external:
            detail = "may only be set for externally-accessible services"
            errors.append(invalid("spec.externalTrafficPolicy", external, detail))
    elif external not in TRAFFIC:
        unknown = not_supported("spec.externalTrafficPolicy", external, TRAFFIC)
        errors.append(unknown if external else required("spec.externalTrafficPolicy"))
    if internal is not None and internal not in TRAFFIC:
        errors.append(not_supported("spec.internalTrafficPolicy", internal, TRAFFIC))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, DISTRIBUTIONS))
    health = spec.get("healthCheckNodePort")
    if health and not (type == "LoadBalancer" and external == "Local"):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid("spec.healthCheckNodePort", health, detail))


def validate_update(new: Object, old: Object) -> list[FieldError]:
    after, before = part(new, "spec"), part(old, "spec")
    errors: list[FieldError] = []
    if "ExternalName" not in (text(after, "type"), text(before, "type")):
        was, now = texts(before, "clusterIPs"), texts(after, "clusterIPs")
        if was and not now:
            errors.append(invalid("spec.clusterIPs[0]", now, "primary clusterIP can not be unset"))
        elif was and now[0] != was[0]:
            errors.append(invalid("spec.clusterIPs[0]", now, FIXED))
        families, old_families = texts(after, "ipFamilies"), texts(before, "ipFamilies")
        if families and old_families and families[0] != old_families[0]:
            errors.append(invalid("spec.ipFamilies[0]", families, FIXED))
    if text(after, "type") == text(before, "type") == "LoadBalancer":
        cls = after.get("loadBalancerClass")
        if cls != before.get("loadBalancerClass"):
            errors.append(invalid("spec.loadBalancerClass", cls, FIXED))
    return errors


def warnings(service: Object) -> list[str]:
    spec = part(service, "spec")
    found = []
    if is_headless(spec):
        if text(spec, "loadBalancerIP"):
            found.append('spec.loadBalancerIP is ignored when spec.clusterIP is "None"')
        if texts(spec, "externalIPs"):
            found.append('spec.externalIPs is ignored when spec.clusterIP is "None"')
        if text(spec, "sessionAffinity") == "ClientIP":
            found.append("spec.SessionAffinity is ignored for headless services")
    elif text(spec, "loadBalancerIP"):
        found.append("spec.loadBalancerIP: deprecated in v1.24; use annotations of the load balancer's implementation")
    return found
