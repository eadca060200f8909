"""A node for stories: the real API server on the memory store, the real agent, a runtime and a network in memory, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from jota.api.filters.attributes import User
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, PODS
from jota.node.agent import NodeAgent
from jota.node.config import EvictionThresholds, NodeConfig
from jota.node.itself import Itself
from jota.testing.cluster import ApiServer

from .doubles import FakeNetwork, FakeRuntime

Object = dict[str, Any]


def pod(name: str = "web", *containers: Object, **spec: Any) -> Object:
    """A pod bound to the test node."""
    body = {"nodeName": "n1", "terminationGracePeriodSeconds": 5, "containers": list(containers) or [container()]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**body, **spec},
    }


def container(name: str = "c", image: str = "app:1", **fields: Any) -> Object:
    return {"name": name, "image": image, **fields}


class World:
    """`async with World(tmp_path) as w`: an API server and a running agent."""

    def __init__(
        self, directory: Path, *images: str, api: ApiServer | None = None, itself: Itself | None = None, **config: Any
    ) -> None:
        self.api = api or ApiServer(plugins=())
        self.clock: Any = self.api.clock
        self.runtime = FakeRuntime(self.clock, *images)
        self.network = FakeNetwork()
        self.config = NodeConfig(
            name="n1",
            address="10.0.0.1",
            data_dir=str(directory / "data"),
            log_dir=str(directory / "logs"),
            eviction=EvictionThresholds(enabled=False),
            **config,
        )
        self.task: asyncio.Task[None] | None = None
        self.machine: Any = None
        self.itself = itself
        """With it the agent shows itself as a mirror pod, once it is ready."""
        self.user: User | None = None
        """Who the agent is to the API; None: a component that may do anything."""
        self.mirroring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> World:
        await self.api.__aenter__()
        await self.boot()
        return self

    async def boot(self) -> None:
        """Start an agent on the runtime as it stands."""
        self.agent = NodeAgent(
            self.api.client if self.user is None else self.api.client_for(self.user),
            self.runtime,
            self.network,
            config=self.config,
            clock=self.clock,
            random=Random(1),
            machine=self.machine,
            itself=self.itself,
        )
        self.task = asyncio.create_task(self.agent.run())
        await self.until(self.agent.ready.is_set)
        if self.itself is not None:
            self.mirroring = asyncio.create_task(self.agent.mirror.run())

    async def kill(self) -> None:
        """kill -9: every task of the agent ends where it stands; nothing is told to the runtime."""
        assert self.task is not None
        for task in (self.mirroring, self.task):
            if task is not None:
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
        await self.settle()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.task is not None and self.task.done() and not self.task.cancelled():
                self.task.result()
            await self.kill()
        finally:  # a mount that is left behind would fail every later run
            await self.agent.shutdown()
            await self.api.__aexit__(kind, error, trace)

    # -- what tests do

    async def create(self, obj: Object) -> Object:
        return await self.api.client.create(PODS, obj, "default")

    async def get(self, name: str = "web") -> Object:
        return await self.api.client.get(PODS, name, "default")

    async def status(self, name: str = "web") -> Object:
        status: Object = (await self.get(name)).get("status") or {}
        return status

    async def exists(self, name: str = "web") -> bool:
        try:
            await self.get(name)
        except ApiError as e:
            assert e.code == 404
            return False
        return True

    async def events(self, reason: str = "") -> list[str]:
        await self.settle()
        found = (await self.api.client.list(EVENTS, "default"))["items"]
        return [e["message"] for e in found if not reason or e["reason"] == reason]

    async def settle(self) -> None:
        """Let everything run that needs no time, threads included."""
        for _ in range(3):
            await self.api.settle()
            await asyncio.sleep(0.001)

    async def advance(self, seconds: float) -> None:
        await self.settle()
        await self.api.advance(seconds)
        await self.settle()

    async def until(self, holds: Callable[[], Any], *, within: float = 120.0, step: float = 0.25) -> None:
        """Let virtual time pass until `holds()` (a plain or a coroutine function)."""
        end = self.clock.monotonic() + within
        while True:
            await self.settle()
            result = holds()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            assert self.clock.monotonic() < end, f"did not happen within {within} s"
            await self.api.advance(step)

    async def until_phase(self, phase: str, name: str = "web", *, within: float = 120.0) -> Object:
        async def holds() -> bool:
            return (await self.status(name)).get("phase") == phase

        await self.until(holds, within=within)
        return await self.status(name)

    async def until_gone(self, name: str = "web", *, within: float = 120.0) -> None:
        async def holds() -> bool:
            return not await self.exists(name)

        await self.until(holds, within=within)
