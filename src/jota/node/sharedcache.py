"""One cache of a whole resource for all pods of the node, begun with the first of them that needs it.

In: who wants to hear of what. Out: a synced informer, and calls of those whom a change concerns. What pods name one by one
is in references.py; this is for what they select. It stays until the agent ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from jota.client.informer import Informer
from jota.node.model import Object
from jota.node.references import READ_DEADLINE


class SharedCache:
    """`topics`: what an object is about; a change of it is told to the followers of its old and its new topics."""

    def __init__(
        self, informer: Informer[Object], topics: Callable[[Object], Iterable[str]], group: asyncio.TaskGroup
    ) -> None:
        self._informer, self._topics, self._group = informer, topics, group
        self._followers: dict[str, dict[str, Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> Informer[Object]:
        """The cache, once it was read whole. Raises TimeoutError."""
        if self._task is None:
            self._informer.add_handler(self._changed)
            self._task = self._group.create_task(self._informer.run(), name=f"watch {self._informer.resource.plural}")
        try:
            async with asyncio.timeout(READ_DEADLINE):
                await self._informer.synced()
        except TimeoutError:
            text = f"{self._informer.resource.plural} could not be read in {READ_DEADLINE:.0f} s"
            raise TimeoutError(text) from None
        return self._informer

    def follow(self, user: str, topic: str, changed: Callable[[], None]) -> None:
        """`changed` is called for `user` (a pod uid) when an object about `topic` comes, changes or goes."""
        self._followers.setdefault(topic, {})[user] = changed

    def forget(self, user: str) -> None:
        for topic in [t for t, users in self._followers.items() if users.pop(user, None) and not users]:
            del self._followers[topic]

    def _changed(self, old: Object | None, new: Object | None) -> None:
        topics = {topic for obj in (old, new) if obj is not None for topic in self._topics(obj)}
        concerned = {user: told for topic in topics for user, told in self._followers.get(topic, {}).items()}
        for told in concerned.values():
            told()
