"""Stories on the real API server in virtual time: controllers, scheduler, a fleet of simulated nodes and the autoscaler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import yaml

from jota.autoscaler.autoscaler import Autoscaler
from jota.autoscaler.provider import Machine, ProviderFault, Template
from jota.autoscaler.providers.hollow import HollowProvider
from jota.autoscaler.settings import GroupSettings, Settings, from_words, parse
from jota.client.client import Client
from jota.controllers.controller import ControllerConfig
from jota.controllers.deployment import DeploymentController
from jota.controllers.nodelifecycle import NodeLifecycleController
from jota.controllers.poddisruptionbudget import PodDisruptionBudgetController
from jota.controllers.podgc import PodGarbageCollector
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.table import run_controllers
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS
from jota.node.hollow.fleet import Fleet, configure
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
CONTROLLERS = (
    DeploymentController,
    ReplicaSetController,
    PodDisruptionBudgetController,
    NodeLifecycleController,
    PodGarbageCollector,
)
QUICK = ("scaleDownUnneededTime=60s", "scaleDownDelayAfterAdd=60s", "scanInterval=10s")


class Scripted:
    """A provider of machines that never become nodes; `fault` makes every change fail, `silent` never ends a list."""

    prefix = "bare-"

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fault = ""
        self.silent = False
        self.calls: list[tuple[str, str]] = []

    async def first(self) -> int:
        return 0

    async def template(self) -> Template:
        return Template({"cpu": "64", "memory": "512Gi", "pods": "110"})

    async def machines(self) -> list[Machine]:
        if self.silent:
            await asyncio.Event().wait()
        return [Machine(n) for n in self.made]

    async def create(self, name: str) -> None:
        self.calls.append(("create", name))
        if self.fault:
            raise ProviderFault(self.fault, "QUOTA_EXCEEDED")
        self.made.append(name)

    async def delete(self, name: str) -> None:
        self.calls.append(("delete", name))
        if self.fault:
            raise ProviderFault(self.fault)
        self.made.remove(name)


class Story:
    """One cluster with an autoscaler that can be killed and started anew."""

    def __init__(self, api: ApiServer, words: tuple[str, ...], client: Callable[[Client], Client]) -> None:
        self.api, self.words, self._wrap = api, words, client
        self.scripted = Scripted()
        self.autoscaler: Autoscaler
        self._task: asyncio.Task[None] | None = None

    def settings(self) -> Settings | None:
        return parse(from_words(self.words)) if self.words else None

    def start(self) -> None:
        client = self._wrap(self.api.client)

        def make(group: GroupSettings) -> Any:
            return HollowProvider(client) if group.provider == "hollow" else self.scripted

        self.autoscaler = Autoscaler(client, self.settings, make, clock=self.api.clock)
        self._task = asyncio.ensure_future(self.autoscaler.run())

    async def kill(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def ended(self) -> None:
        """Until the autoscaler ends by itself."""
        assert self._task is not None
        await self._task

    # -- looking

    async def nodes(self) -> list[str]:
        return sorted(n["metadata"]["name"] for n in (await self.api.client.list(NODES))["items"])

    async def pods(self) -> list[Object]:
        return (await self.api.client.list(PODS, "ns"))["items"]  # type: ignore[no-any-return]

    async def running(self) -> int:
        return sum(
            p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]
            for p in await self.pods()
        )

    async def told(self, reason: str, kind: str = "") -> list[str]:
        """Messages of events, of every namespace."""
        events = (await self.api.client.list(EVENTS))["items"]
        return [e["message"] for e in events if e["reason"] == reason and kind in ("", e["involvedObject"]["kind"])]

    async def status(self) -> Any:
        found = await self.api.client.get(CONFIGMAPS, "cluster-autoscaler-status", "kube-system")
        return yaml.safe_load(found["data"]["status"])

    async def until(self, holds: Callable[[], Any], within: float = 300.0) -> None:
        end = self.api.clock.monotonic() + within
        while not await holds():
            assert self.api.clock.monotonic() < end, f"not within {within} s: {await self.nodes()}"
            await self.api.advance(2)

    # -- doing

    async def deploy(self, replicas: int, cpu: str = "10", name: str = "web", **spec: Any) -> None:
        labels = {"app": name}
        container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **spec}}
        body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        await self.api.client.create(DEPLOYMENTS, {"metadata": {"name": name}, "spec": body}, "ns")

    async def scale(self, replicas: int, name: str = "web") -> None:
        await self.api.client.patch(DEPLOYMENTS, name, "ns", {"spec": {"replicas": replicas}})


@asynccontextmanager
async def telling(
    *words: str, base: int = 1, client: Callable[[Client], Client] = lambda c: c, started: bool = True
) -> AsyncIterator[Story]:
    """A cluster with `base` simulated nodes of 32 CPUs that stay, and an autoscaler with these settings."""
    async with ApiServer() as api:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        await api.client.create(SERVICEACCOUNTS, account, "ns")
        await configure(api.client, {"nodes": str(base)})
        stop = asyncio.Event()
        controllers = run_controllers(
            api.client, api.clock, ControllerConfig(), stop, random=Random(7), controllers=CONTROLLERS
        )
        tasks = [
            asyncio.ensure_future(controllers),
            asyncio.ensure_future(Scheduler(api.client, clock=api.clock, random=Random(5)).run()),
            asyncio.ensure_future(Fleet(api.client, clock=api.clock, random=Random(1)).run()),
        ]
        story = Story(api, (*QUICK, *words), client)
        if started:
            story.start()
        try:
            await api.advance(2)
            yield story
        finally:
            if story._task is not None:
                await story.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
