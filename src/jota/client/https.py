"""The HTTPS transport of agents and tools: HTTP/1.1 over TLS on asyncio and httptools, kept lean (no aiohttp: 150 ms to import).

In: requests. Out: replies from a pool of kept-alive connections; one connection per watch. The identity is a client
certificate, a bearer token, or both, and may be rotated while running. Next: client.py.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools

from jota.client.transport import EventBatch, EventLines, Reply, error_from

CONNECT_SECONDS = 10.0
HEADERS_SECONDS = 30.0
"""How long a watch may take to answer its headers."""
IDLE_CONNECTIONS = 8
"""Kept open for reuse; more are closed after use."""
_HIGH_WATER, _LOW_WATER = 1 << 20, 1 << 18
"""Unread bytes of one response at which the socket stops and starts being read."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Https:
    """Transport to `url` ("https://host:port"; "http://" without TLS is for tests).

    `ca` is PEM text or a path; `certificate` and `key` are paths; `token` is asked before every request, so that it may
    be a rotated file's content. Without `ca` the machine's trust store is used. `verify=False` trusts anybody: only for
    fetching what is then checked against a known hash (joining a cluster). `idle`: connections kept open for reuse.
    """

    several = False

    def __init__(
        self,
        url: str,
        *,
        ca: str | bytes | Path = "",
        certificate: str | Path = "",
        key: str | Path = "",
        token: Callable[[], str] | None = None,
        server_name: str = "",
        verify: bool = True,
        idle: int = IDLE_CONNECTIONS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._server_name = server_name or self._host
        self._base = parts.path.rstrip("/")
        self._ca, self._token, self._verify, self._most_idle = ca, token, verify, idle
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._context = self._tls_context(certificate, key)

    def reload(self, certificate: str | Path, key: str | Path) -> None:
        """Use a new identity: new connections have it at once, old ones are closed (watches then resume by themselves)."""
        self._context = self._tls_context(certificate, key)
        self._drop_all()

    async def close(self) -> None:
        self._drop_all()

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
        message = self._message(method, path, query, body, headers)
        async with asyncio.timeout(timeout):
            connection, reused = await self._take()
            try:
                return await self._exchange(connection, message, method)
            except ConnectionError:
                # A kept-alive connection may have been closed by the server in the instant of our use. Nothing of an
                # answer was seen, so what is safe to repeat is sent once more on a fresh connection.
                if not reused or connection.answered or method not in _IDEMPOTENT:
                    raise
            return await self._exchange(await self._connect(), message, method)

    async def watch(
        self, path: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[EventBatch, None]:
        message = self._message("GET", path, query, b"", headers)
        connection = await self._connect()
        try:
            connection.send(message, "GET")
            async with asyncio.timeout(HEADERS_SECONDS):
                status, _ = await connection.head()
                if status != 200:
                    raise error_from(status, await connection.body())
            lines = EventLines()
            # No deadline from here: a watch may be silent for long; TCP keep-alive notices a dead peer.
            while chunk := await connection.chunk():
                if batch := lines.feed(chunk):
                    yield batch
        finally:
            self._discard(connection)

    # -- connections

    async def _exchange(self, connection: _Connection, message: bytes, method: str) -> Reply:
        keep = False
        try:
            connection.send(message, method)
            status, headers = await connection.head()
            body = await connection.body()
            keep = connection.reusable
            return Reply(status, headers, body)
        finally:
            if keep and len(self._idle) < self._most_idle and connection in self._open:
                self._idle.append(connection)
            else:
                self._discard(connection)

    async def _take(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection, True
            self._discard(connection)
        return await self._connect(), False

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                _Connection,
                self._host,
                self._port,
                ssl=self._context,
                server_hostname=self._server_name if self._tls else None,
            )
        self._open.add(connection)
        return connection

    def _discard(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    def _drop_all(self) -> None:
        self._idle.clear()
        for connection in list(self._open):
            self._discard(connection)

    def _tls_context(self, certificate: str | Path, key: str | Path) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        context = ssl.create_default_context()
        if self._ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            text = self._ca.decode() if isinstance(self._ca, bytes) else str(self._ca)
            if "-----BEGIN" in text:
                context.load_verify_locations(cadata=text)
            else:
                context.load_verify_locations(cafile=text)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self._verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, key or None)
        return context

    # -- messages

    def _message(self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str] | None) -> bytes:
        """In one piece: what is written in two is encrypted, decrypted and parsed in two."""
        target = f"{self._base}{path}?{query}" if query else self._base + path
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._authority}"]
        if self._token is not None and (token := self._token()):
            lines.append(f"authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class _Connection(asyncio.Protocol):
    """One connection and the one response that is being read from it (no pipelining)."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._changed = asyncio.Event()
        self._busy = False
        self._reset("GET")

    def _reset(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._no_body = method == "HEAD"
        self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._complete = False
        self._keep = False
        self.answered = False
        """True once any byte of the answer has arrived."""

    # -- the owner's side

    @property
    def reusable(self) -> bool:
        return self._lost is None and self._keep and self._transport is not None and not self._transport.is_closing()

    def send(self, message: bytes, method: str) -> None:
        if self._transport is None or self._lost is not None:
            raise self._failure()
        self._reset(method)
        self._busy = True
        self._transport.write(message)

    async def head(self) -> tuple[int, dict[str, str]]:
        while not self._status:
            await self._more()
        return self._status, self._headers

    async def body(self) -> bytes:
        parts = []
        while chunk := await self.chunk():
            parts.append(chunk)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        """What has arrived of the body; b"" at its end."""
        while not self._chunks and not self._complete:
            await self._more()
        taken, self._chunks, self._size = b"".join(self._chunks), [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return taken

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._lost is None:
            self._lost = ConnectionResetError("the connection was closed on this side")
        self._changed.set()

    async def _more(self) -> None:
        if self._lost is not None:
            raise self._failure()
        self._changed.clear()
        await self._changed.wait()

    def _failure(self) -> ConnectionError:
        lost = self._lost
        return lost if isinstance(lost, ConnectionError) else ConnectionError(f"the connection broke: {lost}")

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's TLS transport is one without inheriting from it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, seconds in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self._keep = False  # bytes that nobody asked for: not a connection to reuse
            return
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            self._lost = ConnectionError(f"not HTTP: {e}")
            if self._transport is not None:
                self._transport.abort()
        if self._size > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            self._lost = exc or ConnectionResetError("the server closed the connection")
        self._changed.set()

    # -- httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and the like precede the answer
            self._headers = {}
            return
        self._status = status
        if self._no_body:
            self._complete = True  # the parser would wait for the announced body; the connection is not kept

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if not self._status:
            return
        self._complete = True
        self._busy = False
        self._keep = self._parser.should_keep_alive() and not self._no_body
