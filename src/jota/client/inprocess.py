"""The in-process transport: calls the API's handler directly, as a trusted user. No sockets, no second encoding.

A streaming response runs as a task owned by the watch's generator; its Writer is a bounded buffer, and a Receiver: events of
the API's own watches come as they are (meta/watchevent.py), other streams as bytes. Next: client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

from jota.client.transport import EventBatch, EventLines, Reply, error_from
from jota.meta.watchevent import WatchEvent
from jota.wire.message import Alike, Answerer, Peer, Request, Response, Stream, joined

_PEER = Peer("in-process")
_MOST_ALIKE = 64
_HIGH_WATER = 4 << 20
"""Bytes buffered per watch before `drain` blocks the writing side."""


class InProcess:
    """Transport over a wire Answerer (or Handler). `user` is put on each request (the authentication filter trusts it)."""

    several = True

    def __init__(self, handler: Answerer, user: Any) -> None:
        self._handler, self._user = handler, user
        self._alikes: dict[tuple[str, ...], Alike] = {}
        """By method and headers."""

    async def request(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        times: int = 1,
    ) -> Reply:
        # what has no stream has the server's own deadline (api/chain.py)
        response = self._call(method, path, query, body, headers, times)
        if not isinstance(response, Response):
            response = await response
        if response.stream is None:
            return Reply(response.status, _headers(response), joined(response.body))
        writer = _Buffer[bytes]()
        async with asyncio.timeout(timeout):
            await response.stream(writer)
        return Reply(response.status, _headers(response), b"".join(writer.take()))

    async def watch(
        self, path: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[EventBatch, None]:
        response = self._call("GET", path, query, b"", headers)
        if not isinstance(response, Response):
            response = await response
        if response.status != 200:
            raise error_from(response.status, joined(response.body))
        if response.stream is None:
            raise ConnectionError(f"GET {path}?{query}: the answer is not a stream")
        lines = EventLines()
        async for parts in _pump(response.stream):
            batch: EventBatch = []
            for part in parts:
                if isinstance(part, WatchEvent):
                    batch.append(part)
                else:
                    batch += lines.feed(part)
            if batch:
                yield batch

    async def close(self) -> None:
        """Nothing is held open between requests."""

    def _call(
        self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str] | None, times: int = 1
    ) -> Response | Awaitable[Response]:
        own = {**headers} if headers else {}
        alike = self._alike((method, *own, *own.values()))
        return self._handler(Request(method, path, query, own, body, _PEER, self._user, {}, times, alike))

    def _alike(self, key: tuple[str, ...]) -> Alike:
        found = self._alikes.get(key)
        if found is None:
            if len(self._alikes) >= _MOST_ALIKE:
                self._alikes.clear()
            found = self._alikes[key] = Alike()
        return found


async def _pump(stream: Stream) -> AsyncGenerator[list[bytes | WatchEvent], None]:
    """Run `stream` beside the consumer; it is cancelled when the consumer goes away, and its failure is the consumer's."""
    writer = _Events()
    task = asyncio.ensure_future(stream(writer))
    task.add_done_callback(lambda _: writer.end())
    try:
        while parts := await writer.wait():
            yield parts
        await task
    finally:
        writer.closed = True
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # a failure during close has no reader any more


P = TypeVar("P", bytes, bytes | WatchEvent)


class _Buffer(Generic[P]):
    """wire.message.Writer whose peer is in this process."""

    def __init__(self) -> None:
        self._parts: list[P] = []
        self._size = 0
        self._ended = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self.closed = False

    @property
    def buffered(self) -> int:
        return self._size

    def write(self, parts: Sequence[P]) -> None:
        if self.closed:
            return
        self._parts.extend(parts)
        self._size += sum(map(len, parts))
        self._filled.set()

    async def drain(self) -> None:
        while self._size > _HIGH_WATER and not self.closed:
            self._emptied.clear()
            await self._emptied.wait()
        if self.closed:
            raise ConnectionResetError("the reader of this stream is gone")

    def end(self) -> None:
        self._ended = True
        self._filled.set()

    def take(self) -> list[P]:
        parts, self._parts, self._size = self._parts, [], 0
        self._emptied.set()
        return parts

    async def wait(self) -> list[P]:
        """What was written since the last call; waits for some. Empty: the stream ended."""
        while not self._parts and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        return self.take()


class _Events(_Buffer[bytes | WatchEvent]):
    """A Receiver, too."""

    hand_over = _Buffer.write


def _headers(response: Response) -> dict[str, str]:
    return {**_lowered(tuple(response.headers))}


@lru_cache(maxsize=64)
def _lowered(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Nearly all answers have the same."""
    out: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        out[lower] = f"{out[lower]}, {value}" if lower in out else value
    return out
