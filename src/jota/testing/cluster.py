"""The test kit's API server: the real engine on the memory store, in this process, on virtual or real time.

    async with ApiServer() as api:
        await api.client.create(PODS, pod("web"), "default")
        await api.advance(30)                 # virtual time
        assert (await api.client.get(PODS, "web", "default"))["status"]["phase"] == "Pending"

A failing run is repeated with the seed that it prints: every uid, name and timeout comes from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from types import TracebackType
from typing import Any, TypeVar

from jota.aio.clock import Clock, SystemClock
from jota.api.admission.plugin import Plugin
from jota.api.config import ApiConfig
from jota.api.filters.attributes import COMPONENT, Authenticator, Authorizer, User
from jota.api.server import Api
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.kinds.kind import Kind
from jota.kinds.table import KINDS
from jota.store.drivers.memory import MemoryStore
from jota.store.protocol import Store
from jota.testing.virtual import VirtualClock
from jota.wire.message import Request, Response

W = TypeVar("W")
Test = Callable[[], None]


class ApiServer:
    """An API server for tests; use as `async with`."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        store: Store | None = None,
        kinds: Iterable[Kind] = KINDS,
        authenticator: Authenticator | None = None,
        authorizer: Authorizer | None = None,
        config: ApiConfig | None = None,
        plugins: Sequence[Plugin] | None = None,
    ) -> None:
        """Virtual time unless a clock is given (`SystemClock()` for real time)."""
        self.clock: Clock = clock or VirtualClock()
        self.store: Store = store or MemoryStore()
        self.api = Api(
            self.store,
            kinds=kinds,
            clock=self.clock,
            random=Random(seed),
            authenticator=authenticator,
            authorizer=authorizer,
            config=config,
            plugins=plugins,
        )
        self.seed = seed
        self.client = self.client_for(COMPONENT)

    def client_for(self, user: User, *, manager: str = "") -> Client:
        """A client that acts as `user`, past authentication but not past authorization."""
        return Client(InProcess(self.api.reply, user), user_agent="test", manager=manager)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | list[Any] = b"",
        *,
        query: str = "",
        user: User | None = COMPONENT,
        **headers: str,
    ) -> Response:
        """One raw request; `content_type="..."` becomes the header content-type."""
        import orjson

        path, _, inline = path.partition("?")
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.api.handle(Request(method, path, query or inline, named, data, user=user))

    async def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        assert isinstance(self.clock, VirtualClock), "only virtual time can be moved"
        await self.clock.advance(seconds)

    async def settle(self) -> None:
        """Let everything run that can run at this moment."""
        if isinstance(self.clock, VirtualClock):
            await self.clock.settle()
        else:
            await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], bool], *, within: float = 60.0, step: float = 0.5) -> None:
        """Let time pass until `holds()`. Raises AssertionError after `within` seconds."""
        end = self.clock.monotonic() + within
        while not holds():
            assert self.clock.monotonic() < end, f"did not happen within {within} s (seed {self.seed})"
            if isinstance(self.clock, SystemClock):
                await asyncio.sleep(0.01)
            else:
                await self.advance(step)

    async def __aenter__(self) -> ApiServer:
        await self.api.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.api.close()
        await self.store.close()


def story_in(world: Callable[[], AbstractAsyncContextManager[W]]) -> Callable[[Callable[[W], Awaitable[None]]], Test]:
    """Decorator: run `async def test(w)` in a fresh `world()`."""

    def story(test: Callable[[W], Awaitable[None]]) -> Test:
        def run() -> None:
            async def main() -> None:
                async with world() as w:
                    await test(w)

            asyncio.run(main())

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return story


story = story_in(ApiServer)
"""Of an API server on virtual time: `async def test(api)`."""


class Watching:
    """A watch that collects its events: `(type, object)` in order, whatever the form."""

    def __init__(self, api: ApiServer, path: str, **headers: str) -> None:
        self._api, self._path, self._headers = api, path, headers
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.writes = 0
        """How many times the stream wrote: events of one commit batch share one."""
        self.status = 0
        self.closed = False
        self.buffered = 0
        self.task: asyncio.Task[None] | None = None
        """The stream at work."""

    @property
    def ended(self) -> bool:
        return self.task is None or self.task.done()

    def names(self) -> list[tuple[str, str]]:
        """(type, metadata.name) of each event but bookmarks."""
        return [(t, o["metadata"]["name"]) for t, o in self.events if t not in ("BOOKMARK", "ERROR")]

    def write(self, parts: Sequence[bytes]) -> None:
        import orjson

        self.writes += 1
        for line in b"".join(parts).splitlines():
            event = orjson.loads(line)
            self.events.append((event["type"], event["object"]))

    async def drain(self) -> None:
        """Nothing waits: events are taken as they come."""

    async def __aenter__(self) -> Watching:
        path, _, query = self._path.partition("?")
        response = await self._api.api.handle(Request("GET", path, query, dict(self._headers), user=COMPONENT))
        self.status = response.status
        assert response.stream is not None, (response.status, response.body)
        self.task = asyncio.ensure_future(response.stream(self))
        await self._api.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled() and (error := self.task.exception()):
            raise error
