"""One informer per resource for all who read it in this process. In: requests for caches. Out: running informers.

async with asyncio.TaskGroup() as group:
    group.create_task(informers.run())
    pods = informers.of(PODS)
    await informers.synced()
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from random import Random
from typing import Any, TypeVar, overload

from jota.aio.clock import Clock, SystemClock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.resource import Resource

T = TypeVar("T")


class Informers:
    """The factory. Readers with the same resource, selectors and type share one cache and one watch."""

    def __init__(self, client: Client, clock: Clock | None = None, random: Random | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._made: dict[Hashable, Informer[Any]] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._new = asyncio.Event()

    @overload
    def of(self, resource: Resource, *, type: type[T], metadata: bool = False, fields: str = "") -> Informer[T]: ...
    @overload
    def of(self, resource: Resource, *, metadata: bool = False, fields: str = "") -> Informer[dict[str, Any]]: ...
    def of(self, resource: Resource, *, type: Any = None, metadata: bool = False, fields: str = "") -> Informer[Any]:
        """The shared informer; it starts with `run`, or at once when `run` is already running."""
        key = (resource, type, metadata, fields)
        if key not in self._made:
            self._made[key] = Informer(
                self._client,
                resource,
                type=type,
                metadata=metadata,
                fields=fields,
                clock=self._clock,
                random=self._random,
            )
            self._new.set()
        return self._made[key]

    def drop(self, informer: Informer[Any]) -> None:
        """Stop and forget an informer (its resource is gone)."""
        for key in [k for k, made in self._made.items() if made is informer]:
            del self._made[key]
            if task := self._tasks.pop(key, None):
                task.cancel()

    async def synced(self) -> None:
        """Wait until every cache asked for so far is whole. The caller sets a deadline."""
        for informer in list(self._made.values()):
            await informer.synced()

    async def run(self) -> None:
        """Run all informers, also those asked for later, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._new.clear()
                for key, informer in self._made.items():
                    if key not in self._tasks:
                        self._tasks[key] = group.create_task(
                            informer.run(), name=f"informer {informer.resource.plural}"
                        )
                await self._new.wait()
