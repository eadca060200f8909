"""The ConfigMaps and Secrets that this node's pods refer to, each watched by name. In: who needs what. Out: cached objects.

A node may only read objects that its pods refer to, so there is one informer per object, shared by its users and dropped
with the last of them. Next: env.py and volumes/ read through `lookup`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.resource import Resource
from jota.node.model import Object

Wanted = tuple[Resource, str, str]
"""(resource, namespace, name)"""
READ_DEADLINE = 10.0
"""Seconds that the first read of an object may take before the pod is told why it waits."""


@dataclass(slots=True)
class _Watched:
    informer: Informer[Object]
    task: asyncio.Task[None]
    users: dict[str, Callable[[], None]] = field(default_factory=dict)


class References:
    """Reference-counted watches. `group` owns their tasks."""

    def __init__(self, client: Client, clock: Clock, random: Random, group: asyncio.TaskGroup) -> None:
        self._client, self._clock, self._random, self._group = client, clock, random, group
        self._watched: dict[Wanted, _Watched] = {}

    def want(self, user: str, wanted: Iterable[Wanted], changed: Callable[[], None]) -> None:
        """`user` (a pod uid) needs exactly these from now on; `changed` is called when one of them changes."""
        needed = set(wanted)
        for key in needed:
            entry = self._watched.get(key) or self._open(key)
            entry.users[user] = changed
        for key in [k for k, e in self._watched.items() if user in e.users and k not in needed]:
            self._leave(key, user)

    def release(self, user: str) -> None:
        self.want(user, (), lambda: None)

    async def ready(self, user: str) -> None:
        """Wait until everything `user` needs was read once. Raises TimeoutError naming what is missing."""
        for (resource, namespace, name), entry in list(self._watched.items()):
            if user in entry.users and not entry.informer.has_synced:
                try:
                    async with asyncio.timeout(READ_DEADLINE):
                        await entry.informer.synced()
                except TimeoutError:
                    text = f"{resource.kind.lower()} {namespace}/{name} could not be read in {READ_DEADLINE:.0f} s"
                    raise TimeoutError(text) from None

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        entry = self._watched.get((resource, namespace, name))
        return entry.informer.get(f"{namespace}/{name}") if entry else None

    def _open(self, key: Wanted) -> _Watched:
        resource, namespace, name = key
        informer: Informer[Object] = Informer(
            self._client,
            resource,
            namespace=namespace,
            fields=f"metadata.name={name}",
            clock=self._clock,
            random=self._random,
        )
        task = self._group.create_task(informer.run(), name=f"watch {resource.plural} {namespace}/{name}")
        entry = self._watched[key] = _Watched(informer, task)
        informer.add_handler(lambda old, new: self._changed(entry))
        return entry

    @staticmethod
    def _changed(entry: _Watched) -> None:
        for notify in list(entry.users.values()):
            notify()

    def _leave(self, key: Wanted, user: str) -> None:
        entry = self._watched[key]
        entry.users.pop(user, None)
        if not entry.users:
            entry.task.cancel()
            del self._watched[key]
