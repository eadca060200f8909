"""Routes to the pods of other nodes: Nodes in, one host-gw route per pod CIDR out (net/routes.py).

The gateway is the other node's InternalIP, which must be on a link shared with this node. A node whose gateway cannot be
reached is reported and tried again; routes of nodes that are gone are removed. Nothing is touched before the cache is
whole: a starting agent never takes routes away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable

import msgspec

from jota.aio.clock import Clock
from jota.client.informers import Informers
from jota.meta.resource import NODES, SERVICE_CIDRS
from jota.net.routes import sync_routes
from jota.node.serviceranges import ServiceRange, ranges
from jota.node.standing import keep

log = logging.getLogger(__name__)

KNOWN = 5.0
"""Seconds to wait for the ServiceCIDRs."""


class _Meta(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct):
    podCIDR: str | None = None
    podCIDRs: list[str] | None = None
    providerID: str = ""

    @property
    def simulated(self) -> bool:
        """A hollow node: nothing answers at its addresses."""
        return self.providerID.startswith("hollow://")


class _Address(msgspec.Struct):
    type: str = ""
    address: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct):
    addresses: list[_Address] | None = None
    conditions: list[_Condition] | None = None


class NodeRoute(msgspec.Struct):
    """What is read of a Node."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


def wanted_routes(nodes: Iterable[NodeRoute], own: str) -> dict[str, str]:
    """Pod CIDR -> InternalIP of every node but our own. Nodes that have not both yet are passed over. Pure."""
    routes: dict[str, str] = {}
    for node in nodes:
        address = next(
            (a.address for a in node.status.addresses or () if a.type == "InternalIP" and _v4(a.address)), ""
        )
        if node.metadata.name == own or not address or node.spec.simulated:
            continue
        for cidr in node.spec.podCIDRs or filter(None, [node.spec.podCIDR]):
            if _v4(cidr):
                routes[cidr] = address
    return routes


def wanted_host_routes(nodes: Iterable[NodeRoute], services: Iterable[str]) -> dict[str, str]:
    """For a host that is no node but has nodes beside it: all pods, and services by way of one node. Pure.

    `services`: all ranges of service addresses.

    The first ready node by name serves; when none is ready the first one, whose kernel may still serve without its agent.
    """
    known = sorted(
        (node for node in nodes if _internal_ip(node) and not node.spec.simulated), key=lambda node: node.metadata.name
    )
    routes = wanted_routes(known, "")
    servers = [node for node in known if _ready(node)] or known
    for cidr in services if servers else ():
        routes[cidr] = _internal_ip(servers[0])
    return routes


async def run_routes(informers: Informers, *, instance: str, node_name: str, clock: Clock) -> None:
    """Keep a node's routes in its network namespace until cancelled. `informers` are run by the caller."""
    await _run(informers, instance, clock, lambda nodes: wanted_routes(nodes, node_name))


async def run_host_routes(informers: Informers, *, instance: str, service_cidr: str, clock: Clock) -> None:
    """Keep the host's routes to simulated nodes (`jota up --nodes`) until cancelled: pods and services answer from the
    host too. For a process in the host's own namespace. `informers` are run by the caller; `service_cidr` is the range that
    is always there."""
    cidrs = informers.of(SERVICE_CIDRS, type=ServiceRange)
    dirty = asyncio.Event()
    cidrs.add_handler(lambda _old, _new: dirty.set())
    try:
        async with asyncio.timeout(KNOWN):  # where they are not served, the first range is all there is
            await cidrs.synced()
    except TimeoutError:
        log.warning("ServiceCIDRs cannot be read: of service addresses, only %s is routed", service_cidr)

    def want(nodes: list[NodeRoute]) -> dict[str, str]:
        return wanted_host_routes(nodes, [service_cidr, *ranges(cidrs.list(), service_cidr)])

    await _run(informers, instance, clock, want, dirty)


async def _run(
    informers: Informers,
    instance: str,
    clock: Clock,
    want: Callable[[list[NodeRoute]], dict[str, str]],
    dirty: asyncio.Event | None = None,
) -> None:
    """`dirty`: set by whatever else than a Node may change what is wanted."""
    nodes = informers.of(NODES, type=NodeRoute)
    dirty = dirty or asyncio.Event()
    nodes.add_handler(lambda _old, _new: dirty.set())
    await nodes.synced()  # no deadline: without the API there is nothing to change

    async def apply() -> None:
        await asyncio.to_thread(sync_routes, instance, want(nodes.list()))

    await keep("routes to other nodes", dirty, apply, clock)


def _internal_ip(node: NodeRoute) -> str:
    return next((a.address for a in node.status.addresses or () if a.type == "InternalIP" and _v4(a.address)), "")


def _ready(node: NodeRoute) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())


def _v4(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True
