"""The HTTP/1.1 edge: bytes from sockets become a `Request` for the handler, its `Response` becomes bytes again.

Own Protocol on httptools, on whatever loop runs: the server (here), one connection (connection.py), requests from bytes
(reading.py), answers to bytes (answer.py), what a client may cost (limits.py), TLS beneath (tls.py). The server's one timer
sweeps the deadlines of its connections once a second, and renews the Date header.
"""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from ssl import SSLContext
from typing import Any, cast

from jota.aio.clock import Clock
from jota.wire.answer import Head, build_head
from jota.wire.connection import Connection
from jota.wire.keepalive import keep_alive
from jota.wire.limits import Limits
from jota.wire.message import Answerer
from jota.wire.tls import TlsProtocol

_LONGEST_HEAD = 2048
"""Bytes of a head that is remembered: those of other servers, which are passed on, may have a quarter of a megabyte each."""
_LOOK = 0.02
"""Seconds between two looks whether everybody has gone, at a stop."""


class _Refused(asyncio.Protocol):
    """A connection that is not even shaken hands with: so many have begun and do not go on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class HttpServer:
    """Serves one handler on any number of addresses.

    `ssl`: a server-side context; client certificates are passed on only if its verify_mode asks for them.
    """

    def __init__(
        self, handler: Answerer, *, ssl: SSLContext | None = None, limits: Limits | None = None, clock: Clock
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.unfinished: set[TlsProtocol] = set()
        """TLS connections whose handshake is not done."""
        self.tasks: set[asyncio.Future[Any]] = set()
        self.closing = False
        self.now = clock.monotonic()
        self.date = self.date_and_close = b""
        self.port = 0
        """The port of the first address started (useful after asking for port 0)."""
        self._ssl, self._clock = ssl, clock
        self._servers: list[asyncio.Server] = []
        self._heads: dict[tuple[int, tuple[tuple[str, str], ...]], Head] = {}
        self._timer: asyncio.Task[None] | None = None
        self._empty: asyncio.Event | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on one more address. Raises OSError."""
        loop = self._prepare()
        self._listen(await loop.create_server(self._connection, host, port, backlog=1024))

    async def start_socket(self, sock: socket.socket) -> None:
        """Listen on a bound socket (TCP or Unix); it is owned from here on."""
        loop = self._prepare()
        self._listen(await loop.create_server(self._connection, sock=sock, backlog=1024))

    def stop_listening(self) -> None:
        """Take no new connections. Those that are open go on; each is closed with its next answer."""
        self.closing = True
        for server in self._servers:
            server.close()

    async def close(self, grace: float, last_call: float = 0.0) -> None:
        """Stop listening, let requests in progress finish, cancel what is left after `grace` seconds.

        `last_call`: seconds in which idle connections stay open, so that a request that is on its way is answered (and told
        that the connection closes) instead of being reset; likewise handshakes that have begun.
        """
        self.stop_listening()
        for conn in list(self.connections):
            conn.last_call()
        end = self._clock.monotonic() + min(last_call, grace)
        while (self.connections or self.unfinished) and self._clock.monotonic() < end:
            await self._clock.sleep(_LOOK)
        for handshake in list(self.unfinished):
            handshake.abort()
        for conn in list(self.connections):
            conn.shut()
        if self.connections and grace > last_call:
            await self._drained(grace - last_call)
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5.0)
        for conn in list(self.connections):
            conn.kill()
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])
        await asyncio.sleep(0)  # aborted transports report their end in the loop's next turn

    async def _drained(self, grace: float) -> None:
        assert self._empty is not None
        self._empty.clear()
        async with asyncio.TaskGroup() as group:
            empty = group.create_task(self._empty.wait())
            late = group.create_task(self._clock.sleep(grace))
            await asyncio.wait((empty, late), return_when=asyncio.FIRST_COMPLETED)
            empty.cancel()
            late.cancel()

    def _prepare(self) -> asyncio.AbstractEventLoop:
        self.loop = asyncio.get_running_loop()
        if self._timer is None:
            self._empty = asyncio.Event()
            self._tick()
            self._timer = self.loop.create_task(self._sweep(), name="http-deadlines")
        return self.loop

    def _listen(self, server: asyncio.Server) -> None:
        self._servers.append(server)
        for sock in server.sockets:
            keep_alive(sock)
        name = server.sockets[0].getsockname()
        if not self.port and isinstance(name, tuple):
            self.port = name[1]

    def _connection(self) -> asyncio.Protocol:
        if self._ssl is None:
            return Connection(self)
        if self.closing or len(self.unfinished) >= self.limits.connections:
            return _Refused()
        return TlsProtocol(self._ssl, lambda: Connection(self), self.limits.handshake, self.unfinished)

    def forget(self, conn: Connection) -> None:
        self.connections.discard(conn)
        if not self.connections and self._empty is not None:
            self._empty.set()

    def head(self, status: int, headers: list[tuple[str, str]]) -> Head:
        """Prebuilt head, remembered: most answers share a few. Raises ValueError."""
        key = (status, tuple(headers))
        found = self._heads.get(key)
        if found is None:
            found = build_head(status, headers)
            if len(found.data) > _LONGEST_HEAD:
                return found
            if len(self._heads) >= 1024:
                self._heads.clear()
            self._heads[key] = found
        return found

    def _tick(self) -> None:
        self.now = self._clock.monotonic()
        self.date = b"Date: " + formatdate(self._clock.now(), usegmt=True).encode() + b"\r\n"
        self.date_and_close = self.date + b"Connection: close\r\n"

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(1.0)
            self._tick()
            for conn in [c for c in self.connections if c.deadline < self.now]:
                conn.expired()
