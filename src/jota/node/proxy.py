"""The service proxy's loop on a node: Services and EndpointSlices in, `ServiceProxy.apply` out.

Events only say which service to look at. A change is applied at once when the proxy is idle, and under load together with
all that came meanwhile. A failure is retried with the next change or after a while; now and then the
kernel's table is checked, in case someone else emptied it. Next: net/nft_proxy.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from jota.aio.clock import Clock
from jota.client.informers import Informers
from jota.meta.resource import ENDPOINTSLICES, NODES, SERVICES
from jota.net.objects import EndpointSlice, Node, Place, Served, Service, service_ports
from jota.net.protocol import ServicePort
from jota.node.proxyhealth import Check, ProxyHealth

log = logging.getLogger(__name__)

SHORT_GAP, GAP = 0.005, 0.02
"""Seconds between two applications under load: twice what the last one took, within these bounds."""
CHECK = 30.0
"""Seconds between two looks at the kernel's table, and between attempts after a failure that no change follows."""
RETRY = 1.0


class CheckedProxy(Protocol):
    """What the loop needs of a ServiceProxy."""

    async def apply(self, ports: list[ServicePort]) -> None: ...

    async def check(self) -> bool: ...


class ServiceIndex:
    """ServicePorts of every service, recomputed only where something changed. Fed by informers' handlers. Pure state."""

    def __init__(self, node: str = "") -> None:
        """`node`: this one's name."""
        self.dirty = asyncio.Event()
        self._place = Place(node)
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, Served]] = {}
        """Service key -> slice key -> slice."""
        self._changed: set[str] = set()
        self._ports: dict[str, list[ServicePort]] = {}
        self.checks: dict[str, Check] = {}
        """Service key -> what its healthCheckNodePort answers, as of the last `ports`."""
        self.leaving = False
        """This node is about to be deleted."""

    def on_service(self, old: Service | None, new: Service | None) -> None:
        for service in (old, new):
            if service is not None:
                key = f"{service.metadata.namespace}/{service.metadata.name}"
                self._services.pop(key, None)
                self._mark(key)
        if new is not None:
            self._services[f"{new.metadata.namespace}/{new.metadata.name}"] = new

    def on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if new is not None and new.service:  # in its place: the order of the others stays
            self._slices.setdefault(new.service, {})[f"{new.metadata.namespace}/{new.metadata.name}"] = Served(new)
            self._mark(new.service)
        if old is not None and old.service and (new is None or new.service != old.service):
            held = self._slices.get(old.service, {})
            held.pop(f"{old.metadata.namespace}/{old.metadata.name}", None)
            if not held:
                self._slices.pop(old.service, None)
            self._mark(old.service)

    def on_node(self, _old: Node | None, new: Node | None) -> None:
        """Of this node: what topology hints mean depends on its zone."""
        leaving = new is None or new.leaving
        if leaving != self.leaving:
            self.leaving = leaving
            self.dirty.set()
        zone = new.zone if new is not None else ""
        if zone != self._place.zone:
            self._place = Place(self._place.node, zone)
            for key in self._services:
                self._mark(key)

    def ports(self) -> list[ServicePort]:
        """All ports now; unchanged services give the same objects as last time."""
        self.dirty.clear()
        changed, self._changed = self._changed, set()
        for key in changed:
            service = self._services.get(key)
            self.checks.pop(key, None)
            if service is None:
                self._ports.pop(key, None)
                continue
            ports = self._ports[key] = service_ports(service, self._slices.get(key, {}).values(), self._place)
            if service.spec.healthCheckNodePort and ports:
                here = {e.ip for port in ports for e in port.endpoints if e.ready and e.node == self._place.node}
                meta = service.metadata
                self.checks[key] = Check(service.spec.healthCheckNodePort, meta.namespace, meta.name, len(here))
        return [port for ports in self._ports.values() for port in ports]

    def _mark(self, key: str) -> None:
        self._changed.add(key)
        self.dirty.set()


async def run_proxy(
    informers: Informers,
    proxy: CheckedProxy,
    *,
    clock: Clock,
    node: str = "",
    local_addresses: Sequence[str] = (),
    health: ProxyHealth | None = None,
) -> None:
    """Keep the proxy equal to the API until cancelled. `informers` are run by the caller; `node` is this one's name.

    `local_addresses`: service addresses that this node answers itself (cluster DNS); they are left to it for as long as
    their Service has no endpoints. `health`: is told how it goes.

    Nothing is applied before both caches are whole, so that a starting agent never takes services away.
    """
    index = ServiceIndex(node)
    services = informers.of(SERVICES, type=Service)
    slices = informers.of(ENDPOINTSLICES, type=EndpointSlice)
    services.add_handler(index.on_service)
    slices.add_handler(index.on_slice)
    if node:
        informers.of(NODES, type=Node, fields=f"metadata.name={node}").add_handler(index.on_node)
    # No deadline: without the API there is nothing to change, and what stands goes on working.
    await services.synced()
    await slices.synced()
    index.dirty.set()
    try:
        await _keep(index, proxy, clock, local_addresses, health)
    finally:
        if health is not None:
            await health.close()


async def _keep(
    index: ServiceIndex, proxy: CheckedProxy, clock: Clock, local_addresses: Sequence[str], health: ProxyHealth | None
) -> None:
    wait = CHECK
    while True:
        changed = await within(index.dirty, wait)
        if changed or wait != CHECK or not await _standing(proxy):
            if health is not None:
                health.waits()
            began = clock.monotonic()
            try:
                await proxy.apply([p for p in index.ports() if p.endpoints or p.cluster_ip not in local_addresses])
                wait = CHECK
                if health is not None:
                    health.applied()
            except (
                Exception
            ) as error:  # nft's and the kernel's errors differ by version; the loop must outlive them all
                log.error("services: %s (next attempt in %g s)", error, RETRY)
                wait = RETRY
            await clock.sleep(max(SHORT_GAP, min(GAP, 2 * (clock.monotonic() - began))))
        if health is not None:
            health.eligible = not index.leaving
            await health.serve(index.checks.values())


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event at most so long; was it set?"""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _standing(proxy: CheckedProxy) -> bool:
    try:
        return await proxy.check()
    except Exception as error:
        log.error("services: cannot read the table: %s", error)
        return False
