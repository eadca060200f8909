"""A watch of custom resources whose versions a webhook converts: events wait in order until they are converted.

What the feed delivers is queued; a worker converts what has gathered, in one review, and passes it on as watch.py does. A
bookmark never overtakes events. When the webhook fails the watch ends with its error: the client lists again, and is told there.
"""

from __future__ import annotations

import asyncio
from collections import deque

from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.served import Selection
from jota.api.verbs.watch import INITIAL_END, WatchStream
from jota.meta.errors import ApiError, expired
from jota.store.protocol import Entry

MOST = 10_000
"""Events that may wait for a slow webhook."""
Item = tuple[str, list[Entry], int]
"""("present" | "events", entries, 0) or ("bookmark" | "end of initial events", [], revision)."""


class ConvertedWatch(WatchStream):
    __slots__ = ("_queue", "_waiting", "_wake")

    def __init__(self, engine: Engine, call: Call, selection: Selection) -> None:
        super().__init__(engine, call, selection)
        self._queue: deque[Item] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(self._work(), name="converted watch")
            await super()._live()
            worker.cancel()

    # -- in: synchronous, from the feed

    def deliver(self, entries: list[Entry]) -> None:
        if self._deaf:
            return
        mine = [e for e in entries if e.revision > self._seen and e.key.startswith(self._selection.prefix)]
        if not mine:
            return
        self._waiting += len(mine)
        if self._waiting > MOST:
            self._fail(expired("the conversion webhook is too slow for this watch: too old resource version"))
            return
        self._put("events", mine)

    async def _send_present(self) -> None:
        self._put("present", self._present())
        if self.mark_initial and self.bookmarks:
            self._bookmark(INITIAL_END)

    def _bookmark(self, annotations: dict[str, str] | None = None, revision: int = 0) -> None:
        kind = "end of initial events" if annotations else "bookmark"
        self._put(kind, [], max(self._engine.store.revision, self._seen))

    def _put(self, kind: str, entries: list[Entry], revision: int = 0) -> None:
        self._queue.append((kind, entries, revision))
        self._wake.set()

    # -- out: in order, when converted

    async def _work(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing:
                try:
                    await self._pass_on(*self._queue.popleft())
                except ApiError as problem:
                    self._fail(problem)

    async def _pass_on(self, kind: str, entries: list[Entry], revision: int) -> None:
        """Raises ApiError 500."""
        if kind == "bookmark":
            super()._bookmark(None, revision)
            return
        if kind == "end of initial events":
            super()._bookmark(INITIAL_END, revision)
            return
        while kind == "events" and self._queue and self._queue[0][0] == "events":
            entries = entries + self._queue.popleft()[1]
        converted = await self._call.served.readable(entries)
        if self._closing:
            return
        if kind == "events":
            self._waiting -= len(entries)
            super().deliver(converted)
        else:
            await self._send_added(converted)
