"""What the network reads of Services and EndpointSlices, and how these become `ServicePort`s. Pure.

Comes in: the bytes of API objects, decoded into only the fields below. Goes out: `service_ports` for the proxy; dns/zone.py
reads the same shapes. Nulls are allowed wherever the API allows an absent field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import msgspec

from jota.net.protocol import Endpoint, ServicePort

SERVICE_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the Service that it belongs to."""
ZONE_LABEL = "topology.kubernetes.io/zone"
"""On a Node."""
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
NOT_PROXIED = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
"""Labels of Services and EndpointSlices that another proxy, or none, serves (as kube-proxy)."""


class Meta(msgspec.Struct):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None


class NodeMeta(Meta):
    deletionTimestamp: str | None = None


class Taint(msgspec.Struct):
    key: str


class NodeSpec(msgspec.Struct):
    taints: list[Taint] | None = None


class Node(msgspec.Struct):
    metadata: NodeMeta
    spec: NodeSpec | None = None

    @property
    def leaving(self) -> bool:
        """It is deleted, or the cluster autoscaler is about to."""
        taints = (self.spec.taints if self.spec else None) or ()
        return bool(self.metadata.deletionTimestamp) or any(taint.key == LEAVING_TAINT for taint in taints)

    @property
    def zone(self) -> str:
        return (self.metadata.labels or {}).get(ZONE_LABEL, "")


class Port(msgspec.Struct):
    port: int
    name: str | None = None
    protocol: str | None = "TCP"
    nodePort: int | None = None


class ClientIP(msgspec.Struct):
    timeoutSeconds: int | None = None


class AffinityConfig(msgspec.Struct):
    clientIP: ClientIP | None = None


class ServiceSpec(msgspec.Struct):
    type: str | None = "ClusterIP"
    clusterIP: str | None = None
    ports: list[Port] | None = None
    externalIPs: list[str] | None = None
    externalName: str | None = None
    sessionAffinity: str | None = None
    sessionAffinityConfig: AffinityConfig | None = None
    externalTrafficPolicy: str | None = None
    internalTrafficPolicy: str | None = None
    loadBalancerSourceRanges: list[str] | None = None
    healthCheckNodePort: int | None = None


class Ingress(msgspec.Struct):
    ip: str | None = None
    ipMode: str | None = None


class LoadBalancer(msgspec.Struct):
    ingress: list[Ingress] | None = None


class ServiceStatus(msgspec.Struct):
    loadBalancer: LoadBalancer | None = None


class Service(msgspec.Struct):
    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus | None = None


class Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class For(msgspec.Struct):
    """A zone or node that an endpoint is hinted for."""

    name: str


class Hints(msgspec.Struct):
    forZones: list[For] | None = None
    forNodes: list[For] | None = None


class SliceEndpoint(msgspec.Struct):
    addresses: list[str] | None = None
    hints: Hints | None = None
    conditions: Conditions | None = None
    hostname: str | None = None
    nodeName: str | None = None

    @property
    def ready(self) -> bool:
        """Absent means ready (discovery/v1)."""
        return self.conditions is None or self.conditions.ready is not False

    @property
    def leaving(self) -> bool:
        """Serving while terminating: of use when nothing is ready any more."""
        found = self.conditions
        return found is not None and found.terminating is True and found.serving is True


class SlicePort(msgspec.Struct):
    port: int | None = None
    name: str | None = None
    protocol: str | None = "TCP"


class Place(NamedTuple):
    """Where this proxy is."""

    node: str = ""
    zone: str = ""
    """The node's label topology.kubernetes.io/zone; "" without one."""


NOWHERE = Place()


class EndpointSlice(msgspec.Struct):
    metadata: Meta
    addressType: str = "IPv4"
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None

    @property
    def service(self) -> str:
        """Key "namespace/name" of the Service that it belongs to; "" for none."""
        name = (self.metadata.labels or {}).get(SERVICE_LABEL, "")
        return f"{self.metadata.namespace}/{name}" if name else ""


class Served:
    """A slice with its endpoints as the proxy sees them, made once: of a service's hundred slices one changes at a time."""

    def __init__(self, entry: EndpointSlice) -> None:
        self.entry = entry
        self._made: dict[int, tuple[Found, Found]] = {}

    def at(self, port: int) -> tuple[Found, Found]:
        """(the ready ones on this port, those that serve while they leave)."""
        made = self._made.get(port)
        if made is None:
            made = self._made[port] = {}, {}
            for endpoint in self.entry.endpoints or ():
                if endpoint.addresses and (endpoint.ready or endpoint.leaving):
                    ip, ready = endpoint.addresses[0], endpoint.ready
                    one = Endpoint(ip, port, ready, endpoint.nodeName or "")
                    made[0 if ready else 1][ip, port] = one, endpoint.hints
        return made


Found = dict[tuple[str, int], tuple[Endpoint, Hints | None]]


def is_headless(service: Service) -> bool:
    return (service.spec.clusterIP or "None") == "None"


def service_ports(service: Service, slices: Iterable[Served], place: Place = NOWHERE) -> list[ServicePort]:
    """What the proxy at `place` serves for one Service; nothing for headless, ExternalName and otherwise proxied ones."""
    spec, meta = service.spec, service.metadata
    if spec.type == "ExternalName" or is_headless(service) or _left_to_others(meta):
        return []
    ipv4 = [s for s in slices if s.entry.addressType == "IPv4" and not _left_to_others(s.entry.metadata)]
    external = (*(spec.externalIPs or ()), *_load_balancer_addresses(service))
    return [
        ServicePort(
            namespace=meta.namespace,
            name=meta.name,
            port_name=port.name or "",
            protocol=port.protocol or "TCP",
            cluster_ip=spec.clusterIP or "",
            port=port.port,
            node_port=port.nodePort or 0,
            external_ips=tuple(dict.fromkeys(external)),
            affinity_seconds=_affinity(spec),
            local_only=spec.externalTrafficPolicy == "Local",
            internal_local_only=spec.internalTrafficPolicy == "Local",
            endpoints=_endpoints(ipv4, port.name or "", port.protocol or "TCP", place),
        )
        for port in spec.ports or ()
    ]


def _left_to_others(meta: Meta) -> bool:
    labels = meta.labels or {}
    return any(label in labels for label in NOT_PROXIED)


def _endpoints(slices: Iterable[Served], port_name: str, protocol: str, place: Place) -> tuple[Endpoint, ...]:
    parts = [
        one.at(port.port)
        for one in slices
        for port in one.entry.ports or ()
        if (port.name or "") == port_name and (port.protocol or "TCP") == protocol and port.port is not None
    ]
    found: Found = {}
    for _, leaving in parts:
        found.update(leaving)
    for ready, _ in parts:  # while a pod moves from one slice to another it may be in both: the ready entry counts
        found.update(ready)
    far = _far([hints for made, hints in found.values() if made.ready], place)
    if far is None:
        return tuple([made for made, _ in found.values()])
    return tuple([replace(made, near=False) if far(hints) else made for made, hints in found.values()])


def _far(ready: list[Hints | None], place: Place) -> Callable[[Hints | None], bool] | None:
    """Which endpoints are not for this place, by the hints of the ready ones; None: all are.

    Hints count only when every ready endpoint has some and one is for here: nobody may be left without an endpoint. Hints
    for nodes go before hints for zones (as kube-proxy).
    """
    for names, own in ((_nodes, place.node), (_zones, place.zone)):
        if own and ready and all(names(h) for h in ready) and any(own in names(h) for h in ready):
            return lambda hints, names=names, own=own: own not in names(hints)  # type: ignore[misc]
    return None


def _nodes(hints: Hints | None) -> list[str]:
    return [one.name for one in (hints.forNodes if hints else None) or ()]


def _zones(hints: Hints | None) -> list[str]:
    return [one.name for one in (hints.forZones if hints else None) or ()]


def _affinity(spec: ServiceSpec) -> int:
    """Seconds; 10800 is the API's default."""
    if spec.sessionAffinity != "ClientIP":
        return 0
    config = spec.sessionAffinityConfig
    client = config.clientIP if config else None
    return (client.timeoutSeconds if client else None) or 10800


def _load_balancer_addresses(service: Service) -> list[str]:
    """Addresses that a load balancer implementation reported. With source ranges they are left to it: opening them
    here would let everyone in."""
    status = service.status
    if service.spec.loadBalancerSourceRanges or status is None or status.loadBalancer is None:
        return []
    return [i.ip for i in status.loadBalancer.ingress or () if i.ip and i.ipMode != "Proxy"]
