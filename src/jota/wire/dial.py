"""Outbound: a connection as a `Duplex`, and one request passed on to another HTTP server.

`forward` is how the API server reaches kubelets (exec, attach, port-forward, logs) and pods or services (proxy): the answer
streams through as it comes; after a 101 both connections are spliced, whatever is spoken on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from ssl import SSLContext
from typing import Any

import httptools

from jota.wire.duplex import SocketDuplex
from jota.wire.keepalive import keep_alive
from jota.wire.message import Duplex, Part, Request, Response, Writer, joined
from jota.wire.portforward import copy, until_gone

log = logging.getLogger("jota.wire")

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110 7.6.1: they speak about one connection, not about the message."""
MAX_HEAD = 256 * 1024


class BadGateway(ConnectionError):
    """The other server's answer is not HTTP that can be passed on."""


async def dial(
    host: str, port: int, *, ssl: SSLContext | None = None, timeout: float = 30.0, server_hostname: str | None = None
) -> SocketDuplex:
    """Raises OSError (refused, unreachable, ssl.SSLError) or TimeoutError; `timeout` covers the TLS handshake too."""
    if not 0 < port < 65536:
        raise ConnectionError(f"{port} is no port")  # uvloop would take the lower bits for one
    loop = asyncio.get_running_loop()
    tls: dict[str, Any] = {"ssl": ssl, "server_hostname": server_hostname or host} if ssl is not None else {}
    try:
        async with asyncio.timeout(timeout):
            _, duplex = await loop.create_connection(SocketDuplex, host, port, **tls)
    except UnicodeError as problem:  # an empty label, or one of more than 63 bytes: DNS knows no such name
        raise ConnectionError(f"{host!r} cannot be the name of a host: {problem}") from None
    keep_alive(duplex.get_extra_info("socket"))
    return duplex


class _Answer:
    """Parses one response; what follows it is kept aside."""

    def __init__(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.status = 0
        self.done = self.head = self.headless = False
        self.rest = b""
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Raises BadGateway."""
        if not self.head:
            self._size += len(data)
            if self._size > MAX_HEAD + len(data):
                raise BadGateway("the answer's head is too large")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            raise BadGateway(f"the answer is not HTTP: {error}") from error

    def on_message_begin(self) -> None:
        if not self.head:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.head:
            return
        self.status = self._parser.get_status_code()
        if self.status >= 200 or self.status == 101:
            self.head = True
            # an answer without a body says so by its status, or by what was asked
            self.headless = self._method == "HEAD" and self.status not in (204, 304)
            self.done = self.status == 101 or self.status in (204, 304) or self.headless

    def on_body(self, body: bytes) -> None:
        if not self.done:
            self.chunks.append(body)

    def on_message_complete(self) -> None:
        if self.head:
            self.done = True

    def take(self) -> list[bytes]:
        chunks, self.chunks = self.chunks, []
        return chunks

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name), None)


class _Body:
    """The rest of an answer as a stream. Dropped unread, it lets go of the connection."""

    def __init__(self, upstream: SocketDuplex, answer: _Answer, *, to_end: bool) -> None:
        self._upstream, self._answer, self._to_end = upstream, answer, to_end

    async def __call__(self, writer: Writer) -> None:
        upstream, answer = self._upstream, self._answer
        try:
            while True:
                if chunks := answer.take():
                    writer.write(chunks)
                    await writer.drain()
                if answer.done:
                    return
                data = await upstream.read()
                if not data:
                    if self._to_end:
                        return
                    raise ConnectionResetError("the answer was cut off")
                answer.feed(data)
        finally:
            upstream.abort()

    def __del__(self) -> None:
        self._upstream.abort()


class _Splice:
    """Both connections after a 101, until one of them ends: then both do (as upstream's UpgradeAwareHandler; TLS has no
    half-close that would tell the other side). Dropped unused, it lets go of the other side."""

    def __init__(self, upstream: SocketDuplex, early: bytes) -> None:
        self._upstream, self._early = upstream, early

    async def __call__(self, client: Duplex) -> None:
        there = self._upstream
        try:
            if self._early:
                client.write(self._early)
            async with asyncio.TaskGroup() as group:
                ways = [group.create_task(until_gone(way)) for way in (copy(client, there), copy(there, client))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        except asyncio.CancelledError:
            there.reset()  # given up: who does not read must learn it, too
            raise
        finally:
            there.close()

    def __del__(self) -> None:
        self._upstream.close()


def request_head(
    request: Request, host: str, port: int, path: str, headers: Sequence[tuple[str, str]]
) -> tuple[list[bytes], bool]:
    """The lines to send, and whether an upgrade is asked for. `headers` replace the request's own of the same name."""
    named = {token.strip().lower() for token in request.headers.get("connection", "").split(",")}
    upgrade = request.headers.get("upgrade", "") if "upgrade" in named else ""
    replaced = {name.lower() for name, _ in headers}
    drop = HOP_BY_HOP | named | replaced | {"content-length", "expect"}
    lines = [f"{request.method} {path} HTTP/1.1"]
    if "host" not in replaced:
        lines.append(f"Host: {host if ':' not in host else f'[{host}]'}:{port}")
        drop |= {"host"}
    for name, value in request.headers.items():
        if name in drop:
            continue
        # the offers of an upgrade travel as they came, one header; Go's servers split at commas only in some places
        values = value.split(", ") if name == "x-stream-protocol-version" else [value]
        lines += [f"{name}: {v}" for v in values]
    lines += [f"{name}: {value}" for name, value in headers]
    if upgrade:
        lines += ["Connection: Upgrade", f"Upgrade: {upgrade}"]
    else:
        lines.append("Connection: close")
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(request.body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header to be passed on holds a line break")
    return [line.encode("latin-1", "replace") for line in lines], bool(upgrade)


async def forward(
    request: Request,
    *,
    host: str,
    port: int,
    path: str,
    ssl: SSLContext | None = None,
    headers: Sequence[tuple[str, str]] = (),
    timeout: float = 30.0,
    server_hostname: str | None = None,
) -> Response:
    """Pass one request on and its answer back.

    `path` is sent as it is, with its query. `headers` are added, in place of the request's of the same name (drop
    Authorization yourself: it is passed on). `timeout`: seconds to connect. The answer may take as long as the caller waits:
    a proxied request may be a long poll, and what has a deadline has it from the chain or from whoever asks.
    Raises OSError (ConnectionError, BadGateway, ssl.SSLError) or TimeoutError, always before anything was answered.
    """
    lines, upgrade = request_head(request, host, port, path, headers)
    upstream = await dial(host, port, ssl=ssl, timeout=timeout, server_hostname=server_hostname)
    answer = _Answer(request.method)
    try:
        upstream.write(b"\r\n".join(lines) + b"\r\n\r\n" + request.body)
        while not answer.head:  # also while it does not read our body: it may refuse that
            data = await upstream.read()
            if not data:
                raise BadGateway("the server hung up before it answered")
            answer.feed(data)
    except BaseException:
        upstream.abort()
        raise
    return _response(upstream, answer, upgrade)


def _response(upstream: SocketDuplex, answer: _Answer, upgrade: bool) -> Response:
    named = {token.strip().lower() for token in (answer.header("connection") or "").split(",")}
    if answer.status == 101:
        if not upgrade:
            upstream.abort()
            raise BadGateway("the server upgraded a request that did not ask for it")
        kept = [(k, v) for k, v in answer.headers if k.lower() not in ("content-length", "transfer-encoding")]
        return Response(101, kept, upgrade=_Splice(upstream, answer.rest))
    drop = HOP_BY_HOP | (named - {"close", "upgrade"})
    kept = [(k, v) for k, v in answer.headers if k.lower() not in drop]
    if answer.done:
        upstream.abort()
        if answer.headless and answer.header("content-length") is None:
            return Response(answer.status, kept, stream=_nothing)  # HEAD of what has no length: GET's would be a stream
        if answer.header("transfer-encoding") is not None or answer.chunks:
            kept = [(k, v) for k, v in kept if k.lower() != "content-length"]
        return Response(answer.status, kept, answer.take())
    to_end = answer.header("content-length") is None and answer.header("transfer-encoding") is None
    return Response(answer.status, kept, stream=_Body(upstream, answer, to_end=to_end))


async def _nothing(writer: Writer) -> None:
    """The body of an answer to HEAD."""


async def whole(response: Response, largest: int) -> bytes:
    """The body of an answer, read to its end. Raises BadGateway above `largest` bytes, ConnectionError when it is cut off."""
    found = joined(response.body)
    if response.stream is not None:
        collector = _Collector(largest)
        await response.stream(collector)
        found = b"".join(collector.parts)
    if len(found) > largest:
        raise BadGateway(f"the answer is longer than {largest} bytes")
    return found


class _Collector:
    """message.Writer that keeps what is written."""

    def __init__(self, largest: int) -> None:
        self.parts: list[Part] = []
        self.buffered, self.closed = 0, False
        self._largest = largest

    def write(self, parts: Sequence[Part]) -> None:
        self.parts += parts
        self.buffered += sum(map(len, parts))
        if self.buffered > self._largest:
            raise BadGateway(f"the answer is longer than {self._largest} bytes")

    async def drain(self) -> None:
        """Nothing waits."""
