"""The simulated Node objects: made and removed to match the settings, kept alive by leases, their status kept Ready.

Heartbeats are spread evenly over their interval: one loop renews a slice of the fleet every tenth of a second. A silent
(lost) node gets none, so the node lifecycle controller finds it dead by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec

from jota.aio.clock import Clock, rfc3339, rfc3339_micro
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import LEASES, NODES
from jota.node.hollow.addresses import Addresses, number
from jota.node.hollow.settings import LABEL, Settings, is_lost
from jota.node.nodestatus import conditions
from jota.node.volumes.persistent import LOCAL_ROOT

log = logging.getLogger(__name__)

_TICK = 0.1
_LEASE_NAMESPACE = "kube-node-lease"
_CALM = {"MemoryPressure": False, "DiskPressure": False, "PIDPressure": False}
Object = dict[str, Any]


class _Meta(msgspec.Struct):
    name: str
    uid: str = ""


class _Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class HollowNode(msgspec.Struct):
    """What is read back of a Node."""

    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())


class NodeSet:
    """`changed(node)` is called when a node came or came back; `slots`: of requests in flight."""

    def __init__(
        self,
        client: Client,
        settings: Callable[[], Settings],
        addresses: Addresses,
        *,
        clock: Clock,
        random: Random,
        slots: asyncio.Semaphore,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        self._client, self._settings, self._addresses, self._clock = client, settings, addresses, clock
        self._random, self._changed = random, changed
        self._nodes = Informer(client, NODES, labels=f"{LABEL}=true", type=HollowNode, clock=clock, random=random)
        self._due: dict[str, float] = {}
        """Node -> when its next lease renewal is due (monotonic)."""
        self._report: dict[str, float] = {}
        """Node -> when its next status heartbeat is due."""
        self._present, self._ready = 0, set[str]()
        """How many there are, and the names of those that are Ready."""
        self._look = asyncio.Event()
        self._slots = slots

    def is_mine(self, node: str) -> bool:
        return self._nodes.get(node) is not None and not is_lost(self._settings(), node)

    def names(self) -> list[str]:
        """The nodes that there should be."""
        settings = self._settings()
        return [f"{settings.prefix}-{n}" for n in settings.numbers()]

    def complete(self) -> bool:
        """Every wanted node exists and is Ready, and no other one is left."""
        settings = self._settings()
        wanted = len(settings.numbers()) if settings.extra else settings.nodes
        return self._present == len(self._ready) == wanted and self._ready.issuperset(self.names())

    def look(self) -> None:
        """The settings have changed."""
        self._look.set()

    async def run(self) -> None:
        self._nodes.add_handler(self._seen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run())
            await self._nodes.synced()
            tasks.create_task(self._beat())
            while True:
                self._look.clear()
                await self._match()
                await self._wait(5.0)

    async def _wait(self, seconds: float) -> None:
        """Until something changed; at the latest after `seconds`, so that a missed event is mended."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        look = asyncio.ensure_future(self._look.wait())
        try:
            await asyncio.wait((sleep, look), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            look.cancel()

    def _seen(self, old: HollowNode | None, new: HollowNode | None) -> None:
        self._present += (new is not None) - (old is not None)
        if (node := new or old) is not None:
            ready = new is not None and new.ready
            (self._ready.add if ready else self._ready.discard)(node.metadata.name)
        if new is None:
            assert old is not None
            self._due.pop(old.metadata.name, None)
            self._report.pop(old.metadata.name, None)
            self._look.set()
            return
        name = new.metadata.name
        if old is None or (new.ready and not old.ready):
            if old is None and self._changed is not None:
                self._changed(name)
            now, settings = self._clock.monotonic(), self._settings()
            self._due.setdefault(name, now + self._random.random() * settings.lease_interval)
            self._report.setdefault(name, now + self._random.random() * settings.status_interval)
        elif not new.ready:
            self._look.set()

    # -- existence and status

    async def _match(self) -> None:
        settings, wanted = self._settings(), self.names()
        keep = set(wanted)
        work: list[Callable[[], Awaitable[None]]] = []
        for name in wanted:
            node = self._nodes.get(name)
            if node is None:
                work.append(_call(self._create, name))
            elif not node.ready and not is_lost(settings, name):
                work.append(_call(self._write_status, name))
        for name in list(self._nodes.keys()):
            if name not in keep:
                work.append(_call(self._remove, name))
        await self._all(work)

    async def _create(self, name: str) -> None:
        node = node_object(name, self._settings(), self._addresses, self._clock.now())
        try:
            made = await self._client.create(NODES, node)
        except ApiError as error:
            if error.code != 409:
                raise
            return
        if not (made.get("status") or {}).get("conditions"):
            await self._client.patch(NODES, name, "", {"status": node["status"]}, subresource="status")
        await self._create_lease(name, made["metadata"]["uid"])

    async def _remove(self, name: str) -> None:
        await self._client.delete(NODES, name)

    async def _write_status(self, name: str) -> None:
        now = self._clock.now()
        patch = {"status": {"conditions": conditions((), _CALM, "", now)}}
        await self._client.patch(NODES, name, "", patch, type="strategic", subresource="status", answer=False)

    # -- heartbeats

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(_TICK)
            now, settings = self._clock.monotonic(), self._settings()
            work = []
            for name, due in self._due.items():
                if due <= now:
                    self._due[name] = max(due + settings.lease_interval, now)
                    if not is_lost(settings, name):
                        work.append(_call(self._renew, name))
            for name, due in self._report.items():
                if due <= now:
                    self._report[name] = now + settings.status_interval
                    if not is_lost(settings, name):
                        work.append(_call(self._write_status, name))
            await self._all(work)

    async def _renew(self, name: str) -> None:
        patch = {"spec": {"renewTime": rfc3339_micro(self._clock.now())}}
        try:
            # with the headers of a status's patch: what is like the last message of a connection is not parsed again
            await self._client.patch(LEASES, name, _LEASE_NAMESPACE, patch, type="strategic", answer=False)
        except ApiError as error:
            node = self._nodes.get(name)
            if error.code != 404 or node is None:
                raise
            await self._create_lease(name, node.metadata.uid)

    async def _create_lease(self, name: str, uid: str) -> None:
        seconds = max(40, int(self._settings().lease_interval * 4))
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": _LEASE_NAMESPACE,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
            },
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": seconds,
                "renewTime": rfc3339_micro(self._clock.now()),
            },
        }
        try:
            await self._client.create(LEASES, lease)
        except ApiError as error:
            if error.code != 409:
                raise

    async def _all(self, work: list[Callable[[], Awaitable[None]]]) -> None:
        if not work:
            return
        async with asyncio.TaskGroup() as tasks:
            for call in work:
                await self._slots.acquire()
                tasks.create_task(self._one(call))

    async def _one(self, call: Callable[[], Awaitable[None]]) -> None:
        """One request; what fails is seen and done again by the next look."""
        try:
            await call()
        except ApiError as error:
            if error.code != 404:
                log.warning("%s", error)
        except (ConnectionError, TimeoutError, OSError) as error:
            log.info("the API does not answer: %s", error or "timed out")
        finally:
            self._slots.release()


def _call(function: Callable[[str], Awaitable[None]], name: str) -> Callable[[], Awaitable[None]]:
    return lambda: function(name)


def node_object(name: str, settings: Settings, addresses: Addresses, now: float) -> Object:
    """The whole Node, Ready from its first moment on."""
    n = number(name)
    region = n // settings.zones % settings.regions
    zone = n % settings.zones
    types = settings.types.split(",")
    amounts = {"cpu": settings.cpu, "memory": settings.memory, "pods": settings.pods, "ephemeral-storage": "1Ti"}
    amounts |= dict(part.split("=", 1) for part in settings.resources.split(",") if "=" in part)
    cidr = addresses.cidr(name)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {LOCAL_ROOT: "/var/lib/hollow"},  # so that claims of the default class are provisioned
            "labels": {
                LABEL: "true",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": f"region-{region}",
                "topology.kubernetes.io/zone": f"zone-{region}-{zone}" if settings.regions > 1 else f"zone-{zone}",
                "node.kubernetes.io/instance-type": types[n % len(types)],
            },
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": f"hollow://{name}"},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": conditions((), _CALM, "", now),
            "addresses": [
                {"type": "InternalIP", "address": addresses.host(name)},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "osImage": "hollow",
                "kernelVersion": "hollow",
                "containerRuntimeVersion": "hollow://1",
                "kubeletVersion": "v1.37.0",
                "kubeProxyVersion": "",
                "machineID": name,
                "systemUUID": name,
                "bootID": rfc3339(now),
            },
        },
    }
