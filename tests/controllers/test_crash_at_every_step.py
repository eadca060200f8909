"""A crash between any two API calls converges to the same end: the process dies at its n-th write, for every n."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from jota.client.client import Client
from jota.client.transport import Reply
from jota.controllers.controller import ControllerConfig
from jota.controllers.deployment import DeploymentController
from jota.controllers.endpoints import EndpointsController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.storageversionmigrator import StorageVersionMigrator
from jota.controllers.table import CONTROLLERS, run_controllers
from jota.meta.resource import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    PODS,
    REPLICASETS,
    SERVICES,
)
from jota.testing.cluster import ApiServer

from .builders import CA_PEM
from .stories import Kubelet, exists, names, web
from .test_storageversionmigrator import CRDS, MIGRATIONS, V2, migration, read, state, stored, widgets

Story = Callable[[ApiServer, Kubelet, Callable[[], Awaitable[None]]], Awaitable[Any]]


class Dying:
    """A transport whose process dies at its n-th write: before it is sent, or after it was carried out."""

    several = True

    def __init__(self, inner: Any, at: int, after: bool) -> None:
        self.inner, self.left, self.after, self.dead = inner, at, after, False

    async def request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Reply:
        if self.dead:
            raise ConnectionError("this process is dead")
        if method != "GET" and not path.endswith("/events"):
            self.left -= 1
            if self.left == 0:
                if self.after:
                    await self.inner.request(method, path, *args, **kwargs)
                self.dead = True
                raise ConnectionError("died here")
        return await self.inner.request(method, path, *args, **kwargs)

    def watch(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.watch(*args, **kwargs)

    async def close(self) -> None:
        await self.inner.close()


class Process:
    """The controllers of one process, started again after its death."""

    def __init__(
        self, api: ApiServer, at: int, after: bool, controllers: Any, config: ControllerConfig | None = None
    ) -> None:
        self.controllers, self.config = controllers, config or ControllerConfig(ca_pem=CA_PEM)
        self.api, self.transport = api, Dying(api.client.transport, at, after)
        self.died = False
        self.start()

    def start(self) -> None:
        self.stop = asyncio.Event()
        client, random, clock = Client(self.transport), Random(3), self.api.clock
        work = run_controllers(client, clock, self.config, self.stop, random=random, controllers=self.controllers)
        self.task = asyncio.ensure_future(work)

    async def revive(self) -> None:
        if self.transport.dead:
            self.died = True
            await self.end()
            self.transport = Dying(self.api.client.transport, -1, False)
            self.start()

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def told(story: Story, at: int, after: bool) -> tuple[Any, bool]:
    """(the end state of the story, whether the process died on the way)."""
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process, kubelet = Process(api, at, after, WORKING.get(story, CONTROLLERS)), Kubelet(api)

        async def rest() -> None:
            await kubelet.settle()
            if process.transport.dead:
                await process.revive()
                await kubelet.settle()

        try:
            await rest()
            end = await story(api, kubelet, rest)
        finally:
            await process.end()
        return end, process.died


async def rollout(api: ApiServer, kubelet: Kubelet, rest: Callable[[], Awaitable[None]]) -> Any:
    """Create, roll, scale down; the end state, with what is random taken out."""
    await api.client.create(DEPLOYMENTS, web(3))
    service = {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    await api.client.create(SERVICES, service)
    await rest()
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:2"}]
    await api.client.patch(DEPLOYMENTS, "web", "ns", image, "json")
    await rest()
    await api.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 2}})
    await rest()
    sets = (await api.client.list(REPLICASETS, "ns"))["items"]
    pods = (await api.client.list(PODS, "ns"))["items"]
    slices = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
    status = (await api.client.get(DEPLOYMENTS, "web", "ns"))["status"]
    endpoints = await api.client.get(ENDPOINTS, "web", "ns")
    return {
        "sets": sorted((s["metadata"]["name"], s["spec"]["replicas"], s["status"]["replicas"]) for s in sets),
        "revisions": sorted(s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for s in sets),
        "images": [p["spec"]["containers"][0]["image"] for p in pods],
        "endpoints": [len(s["endpoints"]) for s in slices],
        "addresses": [len(s["addresses"]) for s in endpoints["subsets"]],
        "status": {k: v for k, v in status.items() if k.endswith("eplicas")},
        "reasons": sorted(c["reason"] for c in status["conditions"]),
    }


async def endings(api: ApiServer, kubelet: Kubelet, rest: Callable[[], Awaitable[None]]) -> Any:
    """Orphaned, foreground and background deletes, then the namespace's own."""
    await api.client.create(DEPLOYMENTS, web(2))
    await rest()
    await api.client.delete(DEPLOYMENTS, "web", "ns", propagation="Orphan")
    await rest()
    orphaned = len(await names(api, REPLICASETS)), len(await names(api, PODS))
    owner = (await api.client.list(REPLICASETS, "ns"))["items"][0]
    assert not owner["metadata"].get("ownerReferences")
    await api.client.delete(REPLICASETS, owner["metadata"]["name"], "ns", propagation="Foreground")
    await rest()
    await api.advance(20)
    left = len(await names(api, REPLICASETS)), len(await names(api, PODS))
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    await api.client.delete(NAMESPACES, "ns")
    await rest()
    await api.advance(20)
    await rest()
    return orphaned, left, await exists(api, NAMESPACES, "ns"), await names(api, CONFIGMAPS)


async def migrating(api: ApiServer, kubelet: Kubelet, rest: Callable[[], Awaitable[None]]) -> Any:
    """Two migrations of ten objects to another storage version."""
    await widgets(api, 10)
    for name in ("a", "b"):
        await api.client.create(MIGRATIONS, migration(name))
        await rest()
        await api.advance(10)
        await rest()
    crd = await api.client.get(CRDS, "widgets.example.com")
    generations = [i["metadata"]["generation"] for i in (await api.client.list(V2))["items"]]
    ends = [state(await read(api, name)) for name in ("a", "b")]
    marks = {c["type"]: c["reason"] for c in crd["status"]["conditions"]}
    return stored(api), generations, ends, crd["status"]["storedVersions"], marks


WORKING: dict[Any, Any] = {
    migrating: (StorageVersionMigrator,),
    rollout: (DeploymentController, ReplicaSetController, EndpointSliceController, EndpointsController),
}
"""Who runs in a story; all, when it is not listed."""


@pytest.mark.fault
@pytest.mark.parametrize("story", [rollout, endings, migrating])
@pytest.mark.parametrize("after", [False, True])
def test_the_end_is_the_same_wherever_the_process_dies(story: Story, after: bool) -> None:
    async def tell() -> None:
        wanted, _ = await told(story, -1, False)
        deaths = 0
        for at in range(1, 200):
            end, died = await told(story, at, after)
            assert end == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
            if not died:
                break
            deaths += 1
        assert deaths > 10

    asyncio.run(tell())
