"""Faults on demand for whoever must outlive them: refused and late requests, watches that stall, end, break or expire.

In: a wire Handler (an API server's `handle`). Out: the same with faults, for the in-process transport or for a real port:

    faults = Faults(api.api.handle)
    client = Client(InProcess(faults.handle, user))          # or HttpServer(faults.handle, ...), for any client at all
    faults.refuse("/pods", 429, times=3, retry_after=1)      # the next three requests whose path contains "/pods"
    faults.lose("/binding")                                  # the next one is carried out, and its answer lost
    faults.expire("/pods")                                   # open watches end with 410, as after a long absence
    faults.stall("/pods"); ...; faults.resume("/pods")       # open, and silent

What a fault is about is told by a part of the request's path; "" is everything. Lost nodes: `jota hollow set lost=0.1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson

from jota.aio.clock import Clock, SystemClock
from jota.meta.errors import ApiError, expired
from jota.wire.message import Handler, Request, Response, Stream, Writer


@dataclass(slots=True)
class _Rule:
    part: str
    left: int
    act: Callable[[], Awaitable[Response | None]]
    after: bool = False
    """The request is carried out first."""


class Faults:
    def __init__(self, handler: Handler, clock: Clock | None = None) -> None:
        self._handler, self._clock = handler, clock or SystemClock()
        self._rules: list[_Rule] = []
        self._streams: list[_Faulty] = []
        self._stalled: set[str] = set()
        self.requests = 0
        """How many came, refused ones too."""

    async def handle(self, request: Request) -> Response:
        """A wire Handler."""
        self.requests += 1
        rule = next((r for r in self._rules if r.part in request.path), None)
        if rule is not None:
            rule.left -= 1
            if not rule.left:
                self._rules.remove(rule)
            if rule.after:
                await self._handler(request)
            refusal = await rule.act()
            if refusal is not None:
                return refusal
        response = await self._handler(request)
        if response.stream is not None:
            response.stream = self._watched(request.path, response.stream)
        return response

    # -- requests

    def refuse(self, part: str, code: int, *, times: int = 1, reason: str = "", retry_after: int = 0) -> None:
        """Answer the next `times` requests with a Status of this code instead."""
        error = ApiError(code, reason, f"refused on demand: {code}", retry_after=retry_after)
        self._rules.append(_Rule(part, times, _answer(error)))

    def lose(self, part: str, seconds: float = 0.0, *, times: int = 1) -> None:
        """Carry the next `times` requests out and answer, `seconds` later, that time ran out: whether it was done, the client
        cannot know."""
        answer = _answer(ApiError(504, "Timeout", "the answer was lost on demand"))

        async def act() -> Response:
            await self._clock.sleep(seconds)
            return await answer()

        self._rules.append(_Rule(part, times, act, after=True))

    def delay(self, part: str, seconds: float, *, times: int = 1) -> None:
        """Let the next `times` requests wait before they are looked at."""

        async def act() -> None:
            await self._clock.sleep(seconds)

        self._rules.append(_Rule(part, times, act))

    def heal(self) -> None:
        """No more of this for requests to come; streams that are stalled go on."""
        self._rules.clear()
        for part in list(self._stalled):
            self.resume(part)

    # -- watches and other streams

    def stall(self, part: str) -> int:
        """Hold back what open streams, and those to come, write; how many are open."""
        self._stalled.add(part)
        return self._each(part, lambda s: s.hold())

    def resume(self, part: str) -> int:
        """Undo `stall` with the same words: what was held back comes at once, in order."""
        self._stalled.discard(part)
        return self._each(part, lambda s: s.let_go())

    def end(self, part: str) -> int:
        """End open streams cleanly, as a server does at their timeout."""
        return self._each(part, lambda s: s.stop(None))

    def drop(self, part: str) -> int:
        """Break open streams: over a port, the connection is reset."""
        return self._each(part, lambda s: s.stop(ConnectionResetError("dropped on demand")))

    def expire(self, part: str) -> int:
        """End open watches with an ERROR event of 410 Expired: their history is gone, and they must list anew."""
        status = orjson.dumps(expired("too old resource version: expired on demand").status())
        return self._each(part, lambda s: s.stop(None, b'{"type":"ERROR","object":' + status + b"}\n"))

    def _each(self, part: str, act: Callable[[_Faulty], None]) -> int:
        found = [s for s in self._streams if part in s.path]
        for stream in found:
            act(stream)
        return len(found)

    def _watched(self, path: str, stream: Stream) -> Stream:
        async def run(writer: Writer) -> None:
            faulty = _Faulty(path, writer)
            if any(part in path for part in self._stalled):
                faulty.hold()
            self._streams.append(faulty)
            try:
                await faulty.run(stream)
            finally:
                self._streams.remove(faulty)

        return run


def _answer(error: ApiError) -> Callable[[], Awaitable[Response]]:
    headers = [("Content-Type", "application/json")]
    if error.retry_after:
        headers.append(("Retry-After", str(error.retry_after)))

    async def act() -> Response:
        return Response(error.code, list(headers), orjson.dumps(error.status()))

    return act


class _Faulty:
    """The Writer that a stream sees."""

    def __init__(self, path: str, writer: Writer) -> None:
        self.path, self._writer = path, writer
        self._held: list[bytes] | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stream: Stream) -> None:
        """Until the stream ends or is stopped. Raises what it was stopped with."""
        task = asyncio.ensure_future(stream(self))
        try:
            await asyncio.wait((task, self._stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if self._stopped.done():
            self._stopped.result()
        elif not task.cancelled():
            task.result()

    def hold(self) -> None:
        if self._held is None:
            self._held = []

    def let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            self._writer.write(held)

    def stop(self, error: Exception | None, last: bytes = b"") -> None:
        if self._stopped.done():
            return
        if last:
            self._writer.write((last,))
        if error is not None:
            self._stopped.set_exception(error)
        else:
            self._stopped.set_result(None)

    # -- wire.message.Writer

    def write(self, parts: Sequence[bytes]) -> None:
        if self._stopped.done():
            return
        if self._held is not None:
            self._held.extend(parts)
        else:
            self._writer.write(parts)

    @property
    def buffered(self) -> int:
        return self._writer.buffered + sum(map(len, self._held or ()))

    @property
    def closed(self) -> bool:
        return self._writer.closed or self._stopped.done()

    async def drain(self) -> None:
        await self._writer.drain()
