"""Keep the Node object: register it, renew its Lease, report its status. In: config, machine, runtime. Out: the API's Node.

Two beats: the Lease every 10 s says "alive" (small, cheap); the status is written when it changed, and every 5 minutes.
"""

from __future__ import annotations

import asyncio
import logging

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock, rfc3339_micro
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.meta.errors import ApiError
from jota.meta.resource import LEASES, NODES
from jota.node import nodestatus
from jota.node.config import NodeConfig
from jota.node.eviction import Pressure
from jota.node.machine import Machine
from jota.node.model import Object
from jota.runtime.protocol import Runtime, RuntimeFault

log = logging.getLogger(__name__)
LEASE_NAMESPACE = "kube-node-lease"


class NodeKeeper:
    """`register` once, then `beat` and `report` for ever."""

    def __init__(
        self,
        client: Client,
        runtime: Runtime,
        machine: Machine,
        config: NodeConfig,
        clock: Clock,
        recorder: EventRecorder,
        pressure: Pressure,
    ) -> None:
        self._client, self._runtime, self._machine = client, runtime, machine
        self._config, self._clock, self._recorder, self._pressure = config, clock, recorder, pressure
        self._info = machine.info()
        self.node: Object = {}
        """As the API last showed it."""
        self.look = asyncio.Event()
        """Set to have the status looked at now."""

    @property
    def allocatable(self) -> dict[str, str]:
        total = nodestatus.capacity(self._config, self._machine.capacity(self._config.max_pods))
        return nodestatus.allocatable(self._config, total)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.node.get("metadata", {}).get("labels") or {})

    @property
    def ready(self) -> bool:
        conditions = (self.node.get("status") or {}).get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def register(self) -> None:
        """Create the Node, or adopt the one that is there; retries until the API answers. Sets Node `node`."""
        retry = Backoff(0.1, 5.0)
        while True:
            try:
                await self._register()
                return
            except (ApiError, OSError, TimeoutError) as e:
                log.warning("node %s: not registered yet: %s", self._config.name, e)
            await self._clock.sleep(retry.next(""))

    async def _register(self) -> None:
        wanted = nodestatus.node_object(self._config, self._info["architecture"])
        wanted["status"] = await self._status({})
        try:
            self.node = await self._client.create(NODES, wanted)
        except ApiError as e:
            if e.code != 409:
                raise
            labels = {"metadata": {"labels": wanted["metadata"]["labels"], "annotations": self._config.annotations}}
            self.node = await self._client.patch(NODES, self._config.name, patch=labels)
        await self._write_status()
        reference = {"apiVersion": "v1", "kind": "Node", "name": self._config.name, "uid": self._config.name}
        self._recorder.event(reference, "Normal", "Starting", "Starting kubelet.")

    # -- the lease

    async def beat(self) -> None:
        """Renew the Lease until cancelled."""
        lease: Object | None = None
        retry = Backoff(0.2, 7.0)
        while True:
            try:
                lease = await self._renew(lease)
                retry.forget("")
                await self._clock.sleep(self._config.lease_interval)
            except (ApiError, OSError, TimeoutError) as e:
                log.info("node %s: lease not renewed: %s", self._config.name, e)
                lease = None
                await self._clock.sleep(retry.next(""))

    async def _renew(self, lease: Object | None) -> Object:
        if lease is None:
            try:
                lease = await self._client.get(LEASES, self._config.name, LEASE_NAMESPACE)
            except ApiError as e:
                if e.code != 404:
                    raise
                return await self._client.create(LEASES, self._lease({}))
        return await self._client.update(LEASES, self._lease(lease))

    def _lease(self, old: Object) -> Object:
        meta = old.get("metadata") or {"name": self._config.name, "namespace": LEASE_NAMESPACE}
        if uid := self.node.get("metadata", {}).get("uid"):
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._config.name, "uid": uid}
            meta = {**meta, "ownerReferences": [owner]}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {
                "holderIdentity": self._config.name,
                "leaseDurationSeconds": self._config.lease_seconds,
                "renewTime": rfc3339_micro(self._clock.now()),
            },
        }

    # -- the status

    async def report(self) -> None:
        """Look at the machine every interval; write what changed, and a heartbeat now and then."""
        written = self._clock.monotonic()
        while True:
            await self._pause(self._config.status_interval)
            try:
                await self._refresh()
                due = self._clock.monotonic() - written >= self._config.status_report
                if await self._write_status(force=due):
                    written = self._clock.monotonic()
            except ApiError as e:
                log.warning("node %s: status refused: %s", self._config.name, e)
                if e.code == 404:
                    await self.register()  # somebody deleted the Node: we are still here
            except (OSError, TimeoutError) as e:
                log.info("node %s: status not written: %s", self._config.name, e)

    async def _refresh(self) -> None:
        """Others write the Node too: one that was silent for a while has been declared Unknown, and must be told anew."""
        try:
            self.node = await self._client.get(NODES, self._config.name)
        except ApiError as e:
            if e.code != 404:  # deleted: whoever did that is given time to stop us, the next write registers again
                raise

    async def look_again(self) -> None:
        """The Node as it is now; what was known before when the API does not answer."""
        try:
            await self._refresh()
        except (ApiError, OSError, TimeoutError) as e:
            log.info("node %s: not read: %s", self._config.name, e)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or less when `look` is set."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        asked = asyncio.ensure_future(self.look.wait())
        try:
            await asyncio.wait((sleep, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            asked.cancel()
            self.look.clear()

    async def _write_status(self, force: bool = True) -> bool:
        old = self.node.get("status") or {}
        new = {**old, **await self._status(old)}
        # Extended resources that others patched into capacity (device plugins, tests) stay.
        for part in ("capacity", "allocatable"):
            new[part] = {**(old.get(part) or {}), **new[part]}
        if not force and not nodestatus.differs(old, new):
            return False
        self.node = await self._client.patch(
            NODES, self._config.name, patch={"status": new}, type="strategic", subresource="status"
        )
        return True

    async def _status(self, old: Object) -> Object:
        problem, images = "", []
        try:
            images = await self._runtime.images.list()
            await self._runtime.containers()
        except (RuntimeFault, OSError) as e:
            problem = f"container runtime is down: {e}"
        now = self._clock.now()
        pressures = self._pressure.conditions(self._machine, now)
        conditions = nodestatus.conditions(old.get("conditions") or [], pressures, problem, now)
        machine = self._machine.capacity(self._config.max_pods)
        return nodestatus.node_status(self._config, machine, self._info, images, conditions)
