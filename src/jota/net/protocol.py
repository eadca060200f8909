"""The network's contract towards `node/`: addresses for pods, routes to other nodes, services and DNS as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True, frozen=True)
class HostPort:
    protocol: str
    host_ip: str
    host_port: int
    container_port: int


class PodNetwork(Protocol):
    async def start(self) -> None:
        """Make the node's own parts (forwarding, tables, routes), recover leases of addresses from the links that stand."""
        ...

    async def attach(self, pod_uid: str, netns: str, host_ports: list[HostPort] | None = None) -> str:
        """Give the pinned namespace an eth0 and an address; returns the IPv4 address. Idempotent per pod_uid."""
        ...

    async def detach(self, pod_uid: str) -> None:
        """Release the address and host ports; the link goes with its namespace. Idempotent."""
        ...

    def addresses(self) -> dict[str, str]:
        """pod uid -> IPv4 address."""
        ...

    async def close(self) -> None: ...

    async def shutdown(self) -> None:
        """Remove every link, route and table of this node (jota down)."""
        ...


@dataclass(slots=True, frozen=True)
class Endpoint:
    ip: str
    port: int
    ready: bool = True
    node: str = ""
    near: bool = True
    """Meant for clients on this node, by topology hints; endpoints that are not are used by Local traffic policies only."""


@dataclass(slots=True, frozen=True)
class ServicePort:
    """One port of one service, compiled from a Service and its EndpointSlices."""

    namespace: str
    name: str
    port_name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    affinity_seconds: int = 0
    """0: none; else ClientIP stickiness."""
    local_only: bool = False
    """externalTrafficPolicy: Local (node ports, load balancer addresses)."""
    internal_local_only: bool = False
    endpoints: tuple[Endpoint, ...] = field(default_factory=tuple)


class ServiceProxy(Protocol):
    async def apply(self, ports: list[ServicePort]) -> None:
        """Make the kernel serve exactly these. Computes and applies only the difference to what it did last."""
        ...

    async def shutdown(self) -> None: ...
