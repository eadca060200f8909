"""Cluster DNS on a node: Services, EndpointSlices and Namespaces in, a name server on the cluster's DNS address out.

The address is the ClusterIP of kube-system/kube-dns; links.py puts it on the node's service link, so each node answers
its own pods. If someone gives that Service endpoints (an own CoreDNS), the proxy leads there before we ever see a packet.
Next: net/dns/zone.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from jota.aio.clock import Clock
from jota.client.informer import Informer
from jota.client.informers import Informers
from jota.meta.resource import ENDPOINTSLICES, NAMESPACES, SERVICES
from jota.net.dns.forward import Forwarder, read_servers
from jota.net.dns.server import Server
from jota.net.dns.zone import Zone
from jota.net.objects import EndpointSlice, Service

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between attempts to bind the address (it comes with the pod network)."""


class ZoneFeed:
    """Keeps a zone equal to three caches. Handlers run on the event loop, between questions."""

    def __init__(self, zone: Zone, services: Informer[Service], slices: Informer[EndpointSlice]) -> None:
        self._zone, self._services, self._slices = zone, services, slices
        slices.add_index("service", lambda entry: [entry.service] if entry.service else [])
        services.add_handler(self._on_service)
        slices.add_handler(self._on_slice)

    def on_namespace(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        self._zone.set_namespace(name, new is not None)

    def _on_service(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        assert service is not None
        key = f"{service.metadata.namespace}/{service.metadata.name}"
        if new is None:
            self._zone.remove_service(key)
        else:
            self._zone.set_service(new, self._slices.by_index("service", key))

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if old is not None and old.service and (new is None or new.service != old.service):
            self._zone.remove_slice(old.service, old.metadata.name)
        if new is not None and (service := self._services.get(new.service)) is not None:
            self._zone.set_slice(service, new)


async def run_dns(
    informers: Informers,
    *,
    address: str,
    domain: str,
    clock: Clock,
    port: int = 53,
    servers: Callable[[], list[str]] | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Answer on `address` until cancelled. `informers` are run by the caller; `servers`: upstream (default: the
    machine's resolv.conf). Questions are answered once the caches are whole: before that a name that exists would get
    NXDOMAIN, which clients remember. `ready` is set when both sockets listen."""
    zone = Zone(domain, address=address)
    feed = ZoneFeed(zone, informers.of(SERVICES, type=Service), informers.of(ENDPOINTSLICES, type=EndpointSlice))
    namespaces = informers.of(NAMESPACES, metadata=True)
    namespaces.add_handler(feed.on_namespace)
    for informer in (informers.of(SERVICES, type=Service), informers.of(ENDPOINTSLICES, type=EndpointSlice)):
        await informer.synced()
    await namespaces.synced()
    forwarder = Forwarder(servers or (lambda: read_servers(own=[address])), clock=clock)
    server = Server(zone, forwarder)
    while True:
        try:
            await server.run(address, port, ready=ready)
        except* OSError as group:
            log.warning("DNS on %s:%d: %s; next attempt in %g s", address, port, group.exceptions[0], RETRY)
        await clock.sleep(RETRY)
