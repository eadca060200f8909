"""The base of controllers: a key is never lost, never in two hands, and never looked at before the caches show our own writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.informers import Informers
from jota.client.inprocess import InProcess
from jota.controllers import controller
from jota.controllers.controller import Context, Controller, ControllerConfig
from jota.meta.resource import CONFIGMAPS, SECRETS
from jota.testing.cluster import ApiServer
from jota.testing.faults import Faults


class Writer(Controller):
    """Writes a ConfigMap and a Secret when it is asked to; fails as often as it is told."""

    name = "writer"
    resync = 1e9

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.maps = self.watch(CONFIGMAPS)
        self.secrets = self.watch(SECRETS)
        self.looks: list[tuple[bool, bool]] = []
        """At each look: whether the ConfigMap `made` and the Secret `made` were in the caches."""
        self.failures = 0
        self.writes = False
        self.at_work = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def reconcile(self, key: str) -> float | None:
        assert not self.at_work, "one key, two hands"
        self.at_work += 1
        try:
            await self.hold.wait()
            self.looks.append(("default/made" in self.maps.keys(), "default/made" in self.secrets.keys()))  # noqa: SIM118
            if self.failures:
                self.failures -= 1
                raise ValueError("a mistake")
            if self.writes:
                self.writes = False
                for resource, informer in ((CONFIGMAPS, self.maps), (SECRETS, self.secrets)):
                    meta = {"name": "made", "namespace": "default"}
                    made = await self.client.create(
                        resource, {"apiVersion": "v1", "kind": resource.kind, "metadata": meta}
                    )
                    self.wrote(key, informer, made)
        finally:
            self.at_work -= 1
        return None


@asynccontextmanager
async def working() -> AsyncIterator[tuple[ApiServer, Faults, Writer]]:
    async with ApiServer() as api:
        faults = Faults(api.api.handle, api.clock)
        client = Client(InProcess(faults.handle, COMPONENT))
        informers = Informers(client, api.clock)
        one = Writer(Context(client, api.clock, ControllerConfig(), informers))
        tasks = [asyncio.ensure_future(informers.run()), asyncio.ensure_future(one.run())]
        await api.advance(1)
        one.looks.clear()
        try:
            yield api, faults, one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_a_key_is_looked_at_only_when_every_cache_shows_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "CATCH_UP_SECONDS", 0.001)

    async def story() -> None:
        async with working() as (api, faults, one):
            for plural in ("/configmaps", "/secrets"):
                faults.stall(plural)
            one.writes = True
            one.queue.add("k")
            await api.settle()
            assert len(one.looks) == 1
            one.queue.add("k")
            await asyncio.sleep(0.05)  # the patience of `caught_up`, the only real time here
            await api.advance(0)
            faults.resume("/configmaps")
            for _ in range(3):
                await api.advance(60)
                await asyncio.sleep(0.05)
            assert len(one.looks) == 1, "the Secret is not there yet"
            faults.resume("/secrets")
            await api.advance(60)
            assert one.looks[1:]
            assert set(one.looks[1:]) == {(True, True)}

    asyncio.run(story())


def test_a_key_that_is_added_while_it_is_at_work_and_fails_comes_again() -> None:
    async def story() -> None:
        async with working() as (api, _, one):
            one.hold.clear()
            one.failures = 3
            one.queue.add("k")
            await api.settle()
            one.queue.add("k")
            one.hold.set()
            await api.advance(60)
            assert one.failures == 0
            assert len(one.looks) == 4
            assert one.queue.idle()
            one.queue.add("k")
            await api.advance(0)
            assert len(one.looks) == 5

    asyncio.run(story())
