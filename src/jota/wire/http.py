"""The HTTP/1.1 edge: bytes from sockets become a `Request` for the handler, its `Response` becomes bytes again.

Own Protocol on httptools, on whatever loop runs. One connection handles one request at a time; further pipelined requests
wait in a short queue, so answers keep their order. A handler is stepped once without a Task (`wire/step.py`); what it
returns is written at once. After a 101 the socket is handed to the handler's `upgrade` as a `Duplex` (`wire/duplex.py`).

What a connection is doing decides what its `deadline` means:

    IDLE -> HEADER -> BODY -> (queue) -> BUSY: handler -> [STREAM | UPGRADED] -> IDLE
                                                       -> LINGER: answered and half-closed, rest is thrown away

The server's one timer sweeps the deadlines once a second, and renews the Date header.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from ssl import CERT_NONE, SSLContext
from types import CoroutineType
from typing import Any, cast

import httptools

from jota.aio.clock import Clock
from jota.wire.duplex import SocketDuplex
from jota.wire.message import Handler, Part, Peer, Request, Response, Stream, Upgrade
from jota.wire.status import refusal
from jota.wire.step import first_step
from jota.wire.tls import TlsProtocol

log = logging.getLogger("jota.wire")

Item = tuple[Request | Response, bool, bool, bool]
"""What waits its turn: a request or a refusal, keep-alive, asks for an upgrade, is HTTP/1.0."""

NEVER = float("inf")
LINGER = 2.0
"""Seconds that a refused client may go on sending before the socket is closed (an early close would reset its answer)."""
JOIN = 64 * 1024
"""Bodies up to this many bytes are joined with their head into one buffer."""
_LOOK = 0.02
"""Seconds between two looks whether everybody has gone, at a stop."""
PIECE = 256 * 1024
"""Larger answers are handed over in pieces of about this many bytes, as the peer takes them."""


@dataclass(slots=True, frozen=True)
class Limits:
    """What a client may cost. Bytes and seconds."""

    header: int = 64 * 1024
    """Request line and headers. Go's servers take 1 MiB; nothing a Kubernetes client sends comes near this."""
    headers: int = 200
    body: int = 3 * 1024 * 1024
    """As the API server's own limit (3 MiB)."""
    connections: int = 10_000
    header_time: float = 15.0
    body_time: float = 60.0
    idle: float = 180.0
    write_time: float = 60.0
    """How long a peer may take nothing of an answer that waits for it."""
    pipelined: int = 8
    """Waiting requests above which the socket is not read."""
    handshake: float = 15.0


BAD_REQUEST = refusal(400, "BadRequest", "malformed HTTP request")
HEADER_TOO_LARGE = refusal(431, "BadRequest", "request header fields too large")
TOO_SLOW = refusal(408, "Timeout", "the request was not complete in time")
TOO_MANY = refusal(503, "ServiceUnavailable", "too many connections, please try again", ("Retry-After", "1"))
EXPECTATION = refusal(417, "BadRequest", "unknown expectation")
FAILED = refusal(500, "InternalError", "an internal error occurred; the server's log says more")
NOT_UPGRADABLE = refusal(400, "BadRequest", "this request needs the headers Connection: Upgrade and Upgrade")

_METHODS = {m.encode(): m for m in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_PHRASES = {s.value: s.phrase.encode() for s in HTTPStatus}
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "date"))
_NAMES: dict[bytes, str] = {}
"""Header names seen, decoded and lowered; bounded."""


def _name(raw: bytes) -> str:
    name = raw.decode("latin-1").lower()
    if len(_NAMES) < 512:
        _NAMES[raw] = name
    return name


@dataclass(slots=True, frozen=True)
class Head:
    """Prebuilt bytes of a status line and headers, without Date and without what frames the body."""

    data: bytes
    length: int | None
    """The Content-Length that the handler gave itself."""
    close: bool
    """The handler asked to close the connection."""


def build_head(status: int, headers: Sequence[tuple[str, str]]) -> Head:
    """Raises ValueError for a header that would break out of its line."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"Unknown"))]
    length: int | None = None
    close = False
    for name, value in headers:
        lower = name.lower()
        if lower == "connection" and "close" in value.lower():
            close = True
        if lower in _HOP_BY_HOP and not (status == 101 and lower == "connection"):
            continue
        if lower == "content-length":
            length = int(value)
        line = f"{name}: {value}"
        if not name or "\r" in line or "\n" in line or "\0" in line:
            raise ValueError(f"header {name!r} has a value that cannot be sent: {value!r}")
        try:
            lines.append(line.encode("latin-1") + b"\r\n")
        except UnicodeEncodeError:
            lines.append(line.encode() + b"\r\n")
    return Head(b"".join(lines), length, close)


class _Writer:
    """`Writer` of a streaming response."""

    __slots__ = ("_chunked", "_conn", "sent")

    def __init__(self, conn: _Connection, chunked: bool) -> None:
        self._conn, self._chunked, self.sent = conn, chunked, 0

    def write(self, parts: Sequence[bytes]) -> None:
        size = sum(map(len, parts))
        if size == 0 or self._conn.gone:
            return  # an empty chunk would end the body
        self.sent += size
        if self._chunked:
            self._conn.send([b"%x\r\n" % size, *parts, b"\r\n"], size + 12)
        else:
            self._conn.send(parts, size)

    @property
    def buffered(self) -> int:
        return self._conn.buffered()

    @property
    def closed(self) -> bool:
        return self._conn.gone

    async def drain(self) -> None:
        await self._conn.drain()


class _Connection(asyncio.Protocol):
    """One client connection until it is closed or upgraded."""

    __slots__ = (
        "_body",
        "_body_size",
        "_done",
        "_drainers",
        "_duplex",
        "_eof",
        "_feed",
        "_fresh",
        "_head_size",
        "_headers",
        "_in_body",
        "_in_header",
        "_keep",
        "_last_buffered",
        "_left",
        "_limits",
        "_lingering",
        "_old",
        "_parser",
        "_peer",
        "_queue",
        "_queued_bytes",
        "_raw",
        "_refusal",
        "_request",
        "_server",
        "_stopped",
        "_stream",
        "_task",
        "_tls",
        "_transport",
        "_upgrade",
        "_url",
        "_write_paused",
        "busy",
        "deadline",
        "gone",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._task: asyncio.Task[Any] | None = None
        self._request: Request | None = None
        self._duplex: SocketDuplex | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._raw: list[bytes] | None = None
        self._refusal: Response | None = None
        self._keep = True
        self._in_header = self._in_body = self._eof = self._upgrade = self._stream = self._old = False
        self._stopped = self._write_paused = self._lingering = self._done = False
        self._head_size = self._fresh = self._last_buffered = self._left = 0
        self._feed: Iterator[bytes] | None = None
        self.busy = self.gone = False
        self.deadline = NEVER

    # -- the loop's side --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        server = self._server
        tls = transport.get_extra_info("ssl_object")
        self._tls = tls is not None
        certificate = None
        if tls is not None and tls.context.verify_mode != CERT_NONE:
            certificate = tls.getpeercert(True)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self._peer = Peer(address[0], address[1], certificate)
        else:
            self._peer = Peer(certificate=certificate)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connections.add(self)
        self.deadline = server.now + self._limits.header_time
        if len(server.connections) > self._limits.connections or server.closing:
            self._refuse(TOO_MANY)

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._hold(data)
            return
        if self._done or self._refusal is not None:
            return
        self._fresh = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade_request(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or BAD_REQUEST)
            return
        if self._in_header:
            self._head_size += self._fresh
            if self._head_size == self._fresh:
                self.deadline = self._server.now + self._limits.header_time
            elif self._head_size > self._limits.header:
                self._refuse(HEADER_TOO_LARGE)

    def eof_received(self) -> bool:
        self._eof = True
        if self._duplex is not None:
            return self._duplex.eof_received()
        if self._stream or not (self.busy or self._queue):
            return False  # nothing more to say to it: the transport closes, connection_lost follows
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._server.forget(self)
        self._queue.clear()
        self.resume_writing()
        if self._duplex is not None:
            self._duplex.connection_lost(exc)
        elif self._task is not None:
            self._task.cancel()
        self._parser = None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        waiting, self._drainers = self._drainers, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if self._feed is not None:
            self._pump(self._feed)
        if self._queue and not self.busy and not self.gone:
            self._server.loop.call_soon(self._next)
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._stopped and not self._stream and not self.gone and not self._transport.is_closing():
            self._stopped = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._stopped or self.gone or self._write_paused or self._transport.is_closing():
            return
        if len(self._queue) < self._limits.pipelined and self._queued_bytes <= self._limits.body:
            self._stopped = False
            self._transport.resume_reading()

    # -- the parser's side --

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | list[bytes] = b""
        self._body_size = self._head_size = 0
        self._in_header = True

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_header:
            return  # trailers of a chunked body carry nothing that we use
        headers = self._headers
        key = _NAMES.get(name) or _name(name)
        text = value.decode("latin-1")
        if key not in headers:
            headers[key] = text
            if len(headers) > self._limits.headers:
                self._abort_parse(HEADER_TOO_LARGE)
        else:
            headers[key] = self._repeated(key, headers[key], text)

    def _repeated(self, key: str, old: str, new: str) -> str:
        if key in ("host", "content-length"):
            self._abort_parse(BAD_REQUEST)
        if len(old) + len(new) > self._limits.header:
            self._abort_parse(HEADER_TOO_LARGE)
        if key.startswith("x-remote-"):
            return f"{old}\n{new}"  # names of users and groups may hold commas: these lines stay apart
        return f"{old}; {new}" if key == "cookie" else f"{old}, {new}"

    def on_headers_complete(self) -> None:
        self._in_header = False
        limits, headers = self._limits, self._headers
        if self._head_size + self._fresh > limits.header:
            size = len(self._url) + sum(len(k) + len(v) + 4 for k, v in headers.items())
            if size > limits.header:
                self._abort_parse(HEADER_TOO_LARGE)
        length = headers.get("content-length")
        if (length is not None and length != "0") or "transfer-encoding" in headers:
            self._in_body = True
            self.deadline = self._server.now + limits.body_time
            if length is not None and int(length) > limits.body:
                self._abort_parse(self._too_large())
            if "expect" in headers:
                self._expect(headers["expect"])
        else:
            self.deadline = NEVER

    def _expect(self, expectation: str) -> None:
        if expectation.lower() != "100-continue":
            self._abort_parse(EXPECTATION)
        if not self.busy and self._parser.get_http_version() == "1.1":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size > self._limits.body:
            self._abort_parse(self._too_large())
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytes):
            self._body = [self._body, data]
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        self._in_body = False
        self.deadline = NEVER
        if self._done:
            return
        parser, raw, body = self._parser, self._url, self._body
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._abort_parse(BAD_REQUEST)  # the parser also lets HTTP/0.9 and 2.0 in
        path, _, query = raw.decode("latin-1").partition("?")
        if not path.startswith("/"):
            path, query = self._absolute_form(path, query)
        method = parser.get_method()
        request = Request(
            _METHODS.get(method) or method.decode("latin-1"),
            path,
            query,
            self._headers,
            body if isinstance(body, bytes) else b"".join(body),
            self._peer,
        )
        item = (request, parser.should_keep_alive(), parser.should_upgrade(), version == "1.0")
        if self.busy or self._queue or self._write_paused:
            self._enqueue(item)
        else:
            self._begin(*item)

    def _absolute_form(self, path: str, query: str) -> tuple[str, str]:
        """`GET http://host/path` (RFC 9112 3.2.2); `OPTIONS *` stays as it is."""
        if path == "*":
            return path, query
        scheme, found, rest = path.partition("://")
        if not found or scheme.lower() not in ("http", "https"):
            self._abort_parse(BAD_REQUEST)
        return "/" + rest.partition("/")[2], query

    def _too_large(self) -> Response:
        text = f"Request entity too large: limit is {self._limits.body}"
        return refusal(413, "RequestEntityTooLarge", text)

    def _abort_parse(self, response: Response) -> None:
        """Make the parser stop; `data_received` sends the refusal."""
        self._refusal = response
        raise ValueError("refused")

    # -- one request after the other --

    def _enqueue(self, item: Item) -> None:
        self._queue.append(item)
        if isinstance(item[0], Request):
            self._queued_bytes += len(item[0].body)
        if len(self._queue) >= self._limits.pipelined or self._queued_bytes > self._limits.body:
            self._pause_reading()

    def _refuse(self, response: Response) -> None:
        """Answer and close, after the answers that are still owed."""
        self._refusal = response
        self.deadline = NEVER
        if self.busy or self._queue:
            self._enqueue((response, False, False, False))
        else:
            self._begin(response, False, False, False)

    def _begin(self, item: Request | Response, keep: bool, upgrade: bool, old: bool) -> None:
        """Start on one request. Called from loop callbacks only: a first step cannot nest in a Task."""
        self.busy = True
        self._keep = keep and not self._eof and not self._server.closing
        self._upgrade, self._old = upgrade, old
        if isinstance(item, Response):
            self._request = None
            self._respond(item)
            return
        self._request = item
        server = self._server
        try:
            coro = server.handler(item)
            if not isinstance(coro, CoroutineType):
                coro = _as_coroutine(coro)
            result = first_step(coro, server.loop)
        except Exception:
            log.exception("%s %s: the handler failed", item.method, item.path)
            self._keep = False
            self._respond(FAILED)
            return
        if isinstance(result, asyncio.Task):
            self._task = result
            server.tasks.add(result)
            result.add_done_callback(self._handled)
        else:
            self._respond(result)

    def _handled(self, task: asyncio.Task[Response]) -> None:
        self._server.tasks.discard(task)
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self.gone:
            if error is not None:
                log.warning("the handler failed after its client had gone: %r", error)
            return
        if task.cancelled():
            self._transport.abort()
        elif error is not None:
            request = cast(Request, self._request)
            log.error("%s %s: the handler failed", request.method, request.path, exc_info=error)
            self._keep = False
            self._respond(FAILED)
        else:
            self._respond(task.result())

    def _respond(self, response: Response) -> None:
        server = self._server
        try:
            head = server.head(response.status, response.headers)
        except ValueError as error:
            log.error("a handler's response cannot be sent: %s", error)
            response, self._keep = FAILED, False
            head = server.head(response.status, response.headers)
        own = b"".join(
            b"%b: %b\r\n" % (name.encode(), value.encode())
            for name, value in response.own
            if value.isascii() and value.isprintable()
        )
        if response.upgrade is not None:
            self._start_upgrade(response, head, own)
            return
        if head.close or server.closing:
            self._keep = False
        start = head.data + own + (server.date if self._keep else server.date_and_close)
        request = self._request
        if self._old and self._keep:
            start += b"Connection: keep-alive\r\n"
        if response.stream is not None:
            self._start_stream(response, head, start)
            return
        body, status = response.body, response.status
        size = len(body) if isinstance(body, bytes) else sum(map(len, body))
        bodiless = status == 204 or status == 304 or status < 200
        if not bodiless:
            if head.length is not None and request is not None and request.method == "HEAD":
                start += b"\r\n"  # the handler knows the length of what GET would give
            else:
                start = b"%bContent-Length: %d\r\n\r\n" % (start if head.length is None else _no_length(start), size)
        else:
            start += b"\r\n"
        if bodiless or size == 0 or (request is not None and request.method == "HEAD"):
            self._transport.write(start)
        else:
            parts: list[Part] = [start, body] if isinstance(body, bytes) else [start, *body]
            if size > PIECE:
                self._start_feeding(parts, len(start) + size)
                return
            self.send(parts, size)
        self._finish()

    def _start_feeding(self, parts: Sequence[Part], size: int) -> None:
        """A large answer: the peer reads while we go on, and only what it has not taken yet is held joined or encrypted."""
        self._left = size
        self._last_buffered = 0
        self.deadline = self._server.now + self._limits.write_time
        self._feed = _pieces(parts)
        self._pump(self._feed)

    def _pump(self, feed: Iterator[bytes]) -> None:
        while not self._write_paused and not self.gone:
            piece = next(feed, None)
            if piece is None:
                self._feed, self._left = None, 0
                self._finish()
                return
            self._left -= len(piece)
            self._transport.write(piece)

    def send(self, parts: Sequence[Part], size: int) -> None:
        """Small: one buffer; large: handed over as they are."""
        if size <= JOIN:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def _finish(self) -> None:
        """The answer is written: go on to the next request, wait for one, or close."""
        self.busy = self._stream = False
        self._request = None
        if self.gone:
            return
        if not self._keep:
            self._close_after_answer()
        elif self._queue:
            self._server.loop.call_soon(self._next)
        elif self._raw is not None:
            self._server.loop.call_soon(self._unhold)
        else:
            self._idle()

    def _idle(self) -> None:
        if self._eof:
            self._transport.close()
        elif not self._in_header and not self._in_body:
            self.deadline = self._server.now + self._limits.idle

    def _next(self) -> None:
        if self.busy or self.gone or not self._queue:
            return
        if self._write_paused:
            self.deadline = self._server.now + self._limits.write_time
            return  # resume_writing comes back here
        item, keep, upgrade, old = self._queue.popleft()
        if isinstance(item, Request):
            self._queued_bytes -= len(item.body)
        self._resume_reading()
        self._begin(item, keep, upgrade, old)

    def _close_after_answer(self) -> None:
        """Close at once when nothing can be unread, else let the client finish what it is sending: to close before that
        would reset the connection, and our answer with it. TLS cannot be half-closed; there the answer's length tells."""
        self._queue.clear()
        self._done = True
        if self._refusal is None or self._eof:
            self.deadline = self._server.now + self._limits.write_time
            self._transport.close()
            return
        self._lingering = True
        self._resume_reading()
        if not self._tls and self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline = self._server.now + LINGER

    # -- streams --

    def buffered(self) -> int:
        if self.gone:
            return 0
        return self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        if self._write_paused and not self.gone:
            future: asyncio.Future[None] = self._server.loop.create_future()
            self._drainers.append(future)
            await future
        if self.gone:
            raise ConnectionResetError("the peer is gone")

    def _start_stream(self, response: Response, head: Head, start: bytes) -> None:
        request = self._request
        chunked = head.length is None and not self._old
        if chunked:
            start += b"Transfer-Encoding: chunked\r\n"
        elif head.length is None and self._keep:
            self._keep = False  # HTTP/1.0: the end of the connection ends the body
            start = start.replace(b"Connection: keep-alive\r\n", b"Connection: close\r\n")
        self._transport.write(start + b"\r\n")
        if request is not None and request.method == "HEAD":
            self._finish()
            return
        if self._eof:
            self._transport.close()  # nobody is there to read on
            return
        self._stream = True
        if self._stopped and not self._write_paused:
            self._stopped = False
            self._transport.resume_reading()  # or the peer's going away would not be seen
        assert response.stream is not None
        self._run(self._streaming(response.stream, _Writer(self, chunked), head.length))

    async def _streaming(self, stream: Stream, writer: _Writer, length: int | None) -> None:
        try:
            await stream(writer)
            if length is not None and writer.sent != length:
                raise RuntimeError(f"Content-Length was {length}, but {writer.sent} bytes were written")
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except ConnectionError:
            self._transport.abort()
            return
        except Exception:
            request = self._request
            log.exception("%s: the stream failed", request.path if request else "")
            self._transport.abort()  # a cut body tells the client that it is not complete
            return
        if self.gone:
            return
        if length is None and not self._old:
            self._transport.write(b"0\r\n\r\n")
        self._task = None
        self._finish()

    def _run(self, coro: Coroutine[Any, Any, None]) -> None:
        task = self._server.loop.create_task(coro)
        self._task = task
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    # -- upgrades --

    def _after_upgrade_request(self, rest: bytes) -> None:
        """What follows a request to upgrade is held back until the handler has decided."""
        if self._duplex is not None:
            if rest:
                self._duplex.data_received(rest)
        elif self.busy or self._queue:
            self._raw = []
            self._hold(rest)
        elif rest and not self.gone:
            self.data_received(rest)  # refused already: it is plain HTTP again

    def _hold(self, data: bytes) -> None:
        assert self._raw is not None
        self._raw.append(data)
        if sum(map(len, self._raw)) > JOIN:
            self._pause_reading()

    def _unhold(self) -> None:
        """The upgrade was not granted: what was held back is plain HTTP."""
        held, self._raw = b"".join(self._raw or ()), None
        self._resume_reading()
        self._idle()
        if held and not self.gone:
            self.data_received(held)

    def _start_upgrade(self, response: Response, head: Head, own: bytes) -> None:
        if not self._upgrade:
            log.error("a handler upgraded a request that did not ask for it")
            self._respond(NOT_UPGRADABLE)
            return
        assert response.upgrade is not None
        connection = b"" if b"\nconnection:" in head.data.lower() else b"Connection: Upgrade\r\n"
        self._transport.write(head.data + own + connection + b"\r\n")
        self._duplex = duplex = SocketDuplex()
        held, self._raw = b"".join(self._raw or ()), None
        self.deadline = NEVER
        self._run(self._upgraded(response.upgrade, duplex))
        duplex.attach(self._transport, held, eof=self._eof, paused=self._write_paused)
        self._transport.set_protocol(_Handover(self, duplex))

    async def _upgraded(self, upgrade: Upgrade, duplex: SocketDuplex) -> None:
        try:
            await upgrade(duplex)
        except ConnectionError as error:
            log.debug("an upgraded connection ended: %s", error)
        except Exception:
            request = self._request
            log.exception("%s: the upgraded session failed", request.path if request else "")
        finally:
            duplex.close()
            self.deadline = self._server.now + self._limits.write_time

    # -- the server's side --

    def expired(self) -> None:
        """The deadline has passed."""
        waiting = self.buffered() + self._left
        if self.busy and self._feed is None:
            self.deadline = self._server.now + self._limits.header_time  # judged when it has been answered
        elif waiting and waiting != self._last_buffered and not self._lingering:
            self._last_buffered = waiting
            self.deadline = self._server.now + self._limits.write_time  # slow, but it takes something
        elif waiting or self._transport.is_closing():
            self._transport.abort()
        elif not self._lingering and (self._in_header or self._in_body):
            self._refuse(TOO_SLOW)
        else:
            self._transport.close()
            self.deadline = self._server.now + self._limits.write_time

    def last_call(self) -> None:
        """The next answer is the last one."""
        self._keep = False

    def shut(self) -> None:
        """Finish what is begun, take nothing new."""
        if not self.busy and not self._queue:
            self._transport.close()
        else:
            self._keep = False

    def kill(self) -> None:
        self._transport.abort()


class _Refused(asyncio.Protocol):
    """A connection that is not even shaken hands with: so many have begun and do not go on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class _Handover(asyncio.Protocol):
    """After an upgrade: everything goes to the duplex, except that the server must learn of the end."""

    def __init__(self, conn: _Connection, duplex: SocketDuplex) -> None:
        self._conn = conn
        self.data_received = duplex.data_received  # type: ignore[method-assign]
        self.eof_received = duplex.eof_received  # type: ignore[method-assign]
        self.pause_writing = duplex.pause_writing  # type: ignore[method-assign]
        self.resume_writing = duplex.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._conn.connection_lost(exc)


def _pieces(parts: Sequence[Part]) -> Iterator[bytes]:
    """The same bytes, joined or cut to pieces of about PIECE."""
    group: list[Part] = []
    size = 0
    for part in parts:
        for at in range(0, len(part), PIECE):
            cut = part if len(part) <= PIECE else part[at : at + PIECE]
            group.append(cut)
            size += len(cut)
            if size >= PIECE:
                yield b"".join(group)
                group, size = [], 0
    if group:
        yield b"".join(group)


def _no_length(start: bytes) -> bytes:
    """Without the handler's Content-Length: the body's own length is the truth."""
    lines = start.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"content-length:"))


async def _as_coroutine(awaitable: Awaitable[Response]) -> Response:
    return await awaitable


class HttpServer:
    """Serves one handler on any number of addresses.

    `ssl`: a server-side context; client certificates are passed on only if its verify_mode asks for them.
    """

    def __init__(
        self, handler: Handler, *, ssl: SSLContext | None = None, limits: Limits | None = None, clock: Clock
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.connections: set[_Connection] = set()
        self.unfinished: set[TlsProtocol] = set()
        """TLS connections whose handshake is not done."""
        self.tasks: set[asyncio.Task[Any]] = set()
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
        name = server.sockets[0].getsockname()
        if not self.port and isinstance(name, tuple):
            self.port = name[1]

    def _connection(self) -> asyncio.Protocol:
        if self._ssl is None:
            return _Connection(self)
        if self.closing or len(self.unfinished) >= self.limits.connections:
            return _Refused()
        return TlsProtocol(self._ssl, lambda: _Connection(self), self.limits.handshake, self.unfinished)

    def forget(self, conn: _Connection) -> None:
        self.connections.discard(conn)
        if not self.connections and self._empty is not None:
            self._empty.set()

    def head(self, status: int, headers: list[tuple[str, str]]) -> Head:
        """Prebuilt head, remembered: most answers share a few. Raises ValueError."""
        key = (status, tuple(headers))
        found = self._heads.get(key)
        if found is None:
            found = build_head(status, headers)
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
