"""Ranges of service addresses that were added to the first: ServiceCIDRs in, routes over the node's service link out.

The service proxy needs no ranges to serve an address; the routes let the node itself begin to connect to one, and keep what
nobody answers from leaving by the uplink (net/service_table.py). A range counts from the moment it exists until it is gone,
ready or not: Services may have its addresses all the while. Nothing is touched before the cache is whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from jota.aio.clock import Clock
from jota.client.informers import Informers
from jota.meta.resource import SERVICE_CIDRS
from jota.node.standing import keep


class _Meta(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct):
    cidrs: list[str] | None = None


class ServiceRange(msgspec.Struct):
    """What is read of a ServiceCIDR."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


def ranges(objects: Iterable[ServiceRange], first: str) -> list[str]:
    """The IPv4 ranges of all of them, without the one that is always there. Pure."""
    found = {cidr for obj in objects for cidr in obj.spec.cidrs or () if cidr != first and _v4(cidr)}
    return sorted(found)


async def run_service_ranges(
    informers: Informers, route: Callable[[list[str]], Awaitable[int]], *, service_cidr: str, clock: Clock
) -> None:
    """Keep the routes to added ranges until cancelled. `informers` are run by the caller; `route` makes exactly these stand
    (net/links.py) and may raise NetworkFault; `service_cidr` has its route from the start."""
    known = informers.of(SERVICE_CIDRS, type=ServiceRange)
    dirty = asyncio.Event()
    known.add_handler(lambda _old, _new: dirty.set())
    await known.synced()  # no deadline: without the API there is nothing to change
    await keep("routes to service addresses", dirty, lambda: route(ranges(known.list(), service_cidr)), clock)


def _v4(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return True
