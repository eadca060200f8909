"""Services: a stable address for a set of pods. Addresses and node ports are handed out by the API; here are the rules.

In: plain JSON. `prepare_update` keeps what was allocated when an update leaves it out, and drops what a change of type makes
meaningless, as upstream's service registry does. Next: service_rules.py (validation).
"""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, UNKNOWN, labels_text, path_cell, plain
from jota.kinds.core.service_rules import validate, validate_update, warnings
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, number, part, parts, put_missing, strings, text, texts
from jota.meta.resource import SERVICES

CLIENT_IP_SECONDS = 10800


def default(service: Object) -> None:
    spec = attach(service, "spec")
    put_missing(spec, "type", "ClusterIP")
    _session(spec)
    for port in parts(spec, "ports"):
        put_missing(port, "protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if externally_accessible(spec):
        put_missing(spec, "externalTrafficPolicy", "Cluster")
    if needs_cluster_ip(spec):
        put_missing(spec, "internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        put_missing(spec, "allocateLoadBalancerNodePorts", True)
    if text(spec, "clusterIP") and not texts(spec, "clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    attach(attach(service, "status"), "loadBalancer")


def _session(spec: Object) -> None:
    put_missing(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        put_missing(attach(attach(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", CLIENT_IP_SECONDS)


def needs_cluster_ip(spec: Object) -> bool:
    return text(spec, "type") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_port(spec: Object) -> bool:
    """A load balancer's ports get node ports unless that is switched off."""
    if text(spec, "type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return text(spec, "type") == "NodePort"


def externally_accessible(spec: Object) -> bool:
    type = text(spec, "type")
    return type in ("NodePort", "LoadBalancer") or (type == "ClusterIP" and bool(texts(spec, "externalIPs")))


def needs_health_port(spec: Object) -> bool:
    return text(spec, "type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def prepare_create(service: Object) -> None:
    service["status"] = {"loadBalancer": {}}


def prepare_update(new: Object, old: Object) -> None:
    after, before = part(new, "spec"), part(old, "spec")
    _normalise_addresses(after, before)
    _keep_allocated(after, before)
    _drop_by_type(after, before)


def _normalise_addresses(after: Object, before: Object) -> None:
    """A client that writes only the old field `clusterIP` means the list as well."""
    was, now = text(before, "clusterIP"), text(after, "clusterIP")
    if was == now or texts(after, "clusterIPs") != texts(before, "clusterIPs"):
        return
    if now:
        after["clusterIPs"] = [now]
    else:
        after.pop("clusterIPs", None)


def _keep_allocated(after: Object, before: Object) -> None:
    if needs_cluster_ip(after) and needs_cluster_ip(before):
        if not text(after, "clusterIP") and text(before, "clusterIP"):
            after["clusterIP"] = before["clusterIP"]
        if (
            not texts(after, "clusterIPs")
            and after.get("clusterIP") == before.get("clusterIP")
            and "clusterIPs" in before
        ):
            after["clusterIPs"] = list(before["clusterIPs"])
    if needs_node_port(after) and needs_node_port(before):
        known = {(text(p, "protocol"), number(p, "port")): number(p, "nodePort") for p in parts(before, "ports")}
        taken = {number(p, "nodePort") for p in parts(after, "ports")}
        for port in parts(after, "ports"):
            kept = known.get((text(port, "protocol"), number(port, "port")))
            if not port.get("nodePort") and kept and kept not in taken:
                port["nodePort"] = kept
    if needs_health_port(after) and needs_health_port(before) and before.get("healthCheckNodePort"):
        put_missing(after, "healthCheckNodePort", before["healthCheckNodePort"])


def _drop_by_type(after: Object, before: Object) -> None:
    """What the new type has no use for goes away, unless the client changed it in the same write (then validation speaks)."""
    if needs_cluster_ip(before) and not needs_cluster_ip(after):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            _drop_same(after, before, field)
    if needs_node_port(before) and not needs_node_port(after):
        handed_out = {number(p, "nodePort") for p in parts(before, "ports")}
        for port in parts(after, "ports"):
            if "nodePort" in port and number(port, "nodePort") in handed_out:
                port.pop("nodePort")
    if needs_health_port(before) and not needs_health_port(after):
        _drop_same(after, before, "healthCheckNodePort")
    if text(before, "type") == "LoadBalancer" and text(after, "type") != "LoadBalancer":
        _drop_same(after, before, "allocateLoadBalancerNodePorts")
        _drop_same(after, before, "loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(after):
        _drop_same(after, before, "externalTrafficPolicy")


def _drop_same(after: Object, before: Object, field: str) -> None:
    if field in after and after[field] == before.get(field):
        del after[field]


def _external(service: Object, _now: float) -> str:
    spec = part(service, "spec")
    type, fixed = text(spec, "type"), texts(spec, "externalIPs")
    if type in ("ClusterIP", "NodePort"):
        return ",".join(fixed) or NONE
    if type == "LoadBalancer":
        ingress = parts(part(part(service, "status"), "loadBalancer"), "ingress")
        given = sorted({text(i, "ip") or text(i, "hostname") for i in ingress} - {""})
        return ",".join(given + fixed) or "<pending>"
    return text(spec, "externalName") if type == "ExternalName" else UNKNOWN


def _address(service: Object, _now: float) -> str:
    spec = part(service, "spec")
    addresses = texts(spec, "clusterIPs")
    return (addresses[0] if addresses else text(spec, "clusterIP")) or NONE


def _ports(service: Object, _now: float) -> str:
    shown = []
    for port in parts(part(service, "spec"), "ports"):
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node_port}/{port.get('protocol')}")
    return ",".join(shown) or NONE


KIND = Kind(
    SERVICES,
    schema="io.k8s.api.core.v1.Service",
    singular="service",
    short_names=("svc",),
    categories=("all",),
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Type", path_cell("spec", "type", missing=""), about="How the service is exposed."),
        plain("Cluster-IP", _address, about="The address of the service inside the cluster."),
        plain("External-IP", _external, about="Addresses at which the service is reached from outside."),
        plain("Port(s)", _ports, about="The ports that the service exposes."),
        AGE,
        plain("Selector", lambda s, _now: labels_text(strings(part(s, "spec"), "selector")), wide=True),
    ),
    selectable={
        "spec.clusterIP": lambda s: text(part(s, "spec"), "clusterIP"),
        "spec.type": lambda s: text(part(s, "spec"), "type"),
    },
    status=True,
    subresources=("proxy",),
    name_rule="dns-1035-label",
    create_on_update=True,
)
