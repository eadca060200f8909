"""Routes to the pods of other nodes: Nodes in, one host-gw route per pod CIDR out (net/routes.py).

The gateway is the other node's InternalIP, which must be on a link shared with this node. A node whose gateway cannot be
reached is reported and tried again; routes of nodes that are gone are removed. Nothing is touched before the cache is
whole: a starting agent never takes routes away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable

import msgspec

from jota.aio.clock import Clock
from jota.client.informers import Informers
from jota.meta.resource import NODES
from jota.net.routes import sync_routes
from jota.net.sys import NetworkFault
from jota.node.proxy import within

log = logging.getLogger(__name__)

CHECK = 30.0
"""Seconds between two looks at the kernel's routes."""
RETRY = 2.0


class _Meta(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct):
    podCIDR: str | None = None
    podCIDRs: list[str] | None = None


class _Address(msgspec.Struct):
    type: str
    address: str


class _Status(msgspec.Struct):
    addresses: list[_Address] | None = None


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
        if node.metadata.name == own or not address:
            continue
        for cidr in node.spec.podCIDRs or filter(None, [node.spec.podCIDR]):
            if _v4(cidr):
                routes[cidr] = address
    return routes


async def run_routes(informers: Informers, *, instance: str, node_name: str, clock: Clock) -> None:
    """Keep the routes of this network namespace until cancelled. `informers` are run by the caller."""
    nodes = informers.of(NODES, type=NodeRoute)
    dirty = asyncio.Event()
    nodes.add_handler(lambda _old, _new: dirty.set())
    await nodes.synced()  # no deadline: without the API there is nothing to change
    dirty.set()
    wait = CHECK
    while True:
        await within(dirty, wait)
        dirty.clear()
        wanted = wanted_routes(nodes.list(), node_name)
        try:
            await asyncio.to_thread(sync_routes, instance, wanted)
            wait = CHECK
        except NetworkFault as fault:
            log.warning("routes to other nodes: %s; next attempt in %g s", fault, RETRY)
            wait = RETRY
        await clock.sleep(0.05)


def _v4(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True
