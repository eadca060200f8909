"""One client connection: requests in, one at a time, answers out in their order. Its reader is reading.py.

Further pipelined requests wait in a short queue. A handler is stepped once without a Task (`wire/step.py`); what it returns
is written at once. After a 101 the socket is handed to the handler's `upgrade` as a `Duplex` (`wire/duplex.py`).

What a connection is doing decides what its `deadline` means:

    IDLE -> HEADER -> BODY -> (queue) -> BUSY: handler -> [STREAM | UPGRADED] -> IDLE
                                                       -> LINGER: answered and half-closed, rest is thrown away
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from ssl import CERT_NONE
from types import CoroutineType
from typing import Any, Protocol, cast

from jota.wire.answer import JOIN, PIECE, TURN, Head, pieces, without_length
from jota.wire.duplex import SocketDuplex
from jota.wire.keepalive import given_up
from jota.wire.limits import NEVER, Limits
from jota.wire.message import Answerer, Made, Part, Peer, Request, Response, Stream, Upgrade, size
from jota.wire.reading import Reader, Refused
from jota.wire.status import refusal
from jota.wire.step import first_step

log = logging.getLogger("jota.wire")

Item = tuple[Request | Response, bool, bool, bool]
"""What waits its turn: a request or a refusal, keep-alive, asks for an upgrade, is HTTP/1.0."""

LINGER = 2.0
"""Seconds that a refused client may go on sending before the socket is closed (an early close would reset its answer)."""
LEFT = 10.0
"""Seconds for an upgraded session to end by itself when its client is gone: it may wait for somebody who does not read."""

TOO_SLOW = refusal(408, "Timeout", "the request was not complete in time")
TOO_MANY = refusal(503, "ServiceUnavailable", "too many connections, please try again", ("Retry-After", "1"))
FAILED = refusal(500, "InternalError", "an internal error occurred; the server's log says more")
NOT_UPGRADABLE = refusal(400, "BadRequest", "this request needs the headers Connection: Upgrade and Upgrade")


class Server(Protocol):
    """What the connections of one server share (http.py)."""

    handler: Answerer
    limits: Limits
    loop: asyncio.AbstractEventLoop
    connections: set[Connection]
    tasks: set[asyncio.Future[Any]]
    closing: bool
    now: float
    """Monotonic seconds, at most a second old."""
    date: bytes
    date_and_close: bytes

    def head(self, status: int, headers: list[tuple[str, str]]) -> Head:
        """Raises ValueError."""
        ...

    def forget(self, conn: Connection) -> None: ...


class _Writer:
    """`Writer` of a streaming response."""

    __slots__ = ("_chunked", "_conn", "sent")

    def __init__(self, conn: Connection, chunked: bool) -> None:
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


class Connection(asyncio.Protocol):
    """One client connection until it is closed or upgraded."""

    __slots__ = (
        "_asks",
        "_done",
        "_drainers",
        "_duplex",
        "_eof",
        "_feed",
        "_keep",
        "_last_buffered",
        "_left",
        "_limits",
        "_lingering",
        "_old",
        "_queue",
        "_queued_bytes",
        "_raw",
        "_reader",
        "_refusal",
        "_request",
        "_server",
        "_stopped",
        "_stream",
        "_task",
        "_tls",
        "_transport",
        "_upgrade",
        "_write_paused",
        "busy",
        "deadline",
        "gone",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._reader = Reader(self, server.limits)
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._task: asyncio.Future[Any] | None = None
        self._request: Request | None = None
        self._duplex: SocketDuplex | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._raw: list[bytes] | None = None
        self._refusal: Response | None = None
        self._keep = True
        self._eof = self._upgrade = self._stream = self._old = False
        self._asks = False
        """The message that comes in waits to be told that its body may follow."""
        self._stopped = self._write_paused = self._lingering = self._done = False
        self._last_buffered = self._left = 0
        self._feed: Iterator[Part] | None = None
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
            self._reader.peer = Peer(address[0], address[1], certificate)
        else:
            self._reader.peer = Peer(certificate=certificate)
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
        try:
            rest = self._reader.feed(data)
        except Refused as refused:
            self._refuse(refused.response)
            return
        if rest is not None:
            self._after_upgrade_request(rest)

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
            if self._task is not None:
                late = self._server.loop.call_later(LEFT, self._task.cancel)
                self._task.add_done_callback(lambda _: late.cancel())
        elif self._task is not None:
            self._task.cancel()
        self._reader.close()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        waiting, self._drainers = self._drainers, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        self._pump()
        if self._queue and not self.busy and not self.gone:
            self._server.loop.call_soon(self._next)
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._stopped and not self._stream and not self.gone and not self._transport.is_closing():
            self._stopped = True
            self._transport.pause_reading()
            self.deadline = min(
                self.deadline, self._server.now + self._limits.header_time
            )  # to look whether it is there

    def _resume_reading(self) -> None:
        if not self._stopped or self.gone or self._write_paused or self._transport.is_closing():
            return
        if len(self._queue) < self._limits.pipelined and self._queued_bytes <= self._limits.body:
            self._stopped = False
            self._transport.resume_reading()

    # -- the reader's side --

    def within(self, seconds: float) -> None:
        self.deadline = self._server.now + seconds

    def take(self, request: Request, keep: bool, upgrade: bool, old: bool) -> None:
        self._asks = False
        if self._done:
            return
        if self.busy or self._queue or self._write_paused:
            self._enqueue((request, keep, upgrade, old))
        else:
            self._begin(request, keep, upgrade, old)

    def go_on(self) -> None:
        if self.busy or self._queue:
            self._asks = True  # it is told when the answers before its own are written
        else:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
        self._keep = keep and not self._eof
        self._upgrade, self._old = upgrade, old
        if isinstance(item, Response):
            self._request = None
            self._respond(item)
            return
        self._request = item
        server = self._server
        try:
            result = server.handler(item)
            if not isinstance(result, (Response, asyncio.Future)):
                coro = result if isinstance(result, CoroutineType) else _as_coroutine(result)
                result = first_step(coro, server.loop, self._answer)
        except Exception:
            log.exception("%s %s: the handler failed", item.method, item.path)
            self._keep = False
            self._respond(FAILED)
            return
        if isinstance(result, Response):
            self._respond(result)
        else:
            self._task = result
            server.tasks.add(result)
            result.add_done_callback(self._handled)

    def _answer(self, response: Response) -> None:
        """In the last step of a handler that had to wait."""
        self._task = None
        if not self.gone:
            self._respond(response)

    def _handled(self, task: asyncio.Future[Response]) -> None:
        """The handler has ended: with an answer, which a task's last step has written, or without one."""
        self._server.tasks.discard(task)
        answered, error = self._task is not task, None if task.cancelled() else task.exception()
        if answered or self.gone:
            if error is not None:
                log.warning("a handler failed after it had answered, or its client had gone: %r", error)
            return
        self._task = None
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
        body, request = response.body, self._request
        if server.closing:
            self._keep = False
        headless = request is not None and request.method == "HEAD"
        usual = head.plain and not headless and not self._old and response.stream is None and response.upgrade is None
        if usual and isinstance(body, bytes) and len(body) <= JOIN:
            date = server.date if self._keep else server.date_and_close
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            self._transport.write(b"".join((head.data, response.own, date, length, body)))
            self._finish()
        else:
            self._respond_at_length(response, head, headless)

    def _respond_at_length(self, response: Response, head: Head, headless: bool) -> None:
        """What is no small body whose length says where it ends."""
        server = self._server
        if response.upgrade is not None:
            self._start_upgrade(response, head)
            return
        if head.close:
            self._keep = False
        start = head.data + response.own + (server.date if self._keep else server.date_and_close)
        if self._old and self._keep:
            start += b"Connection: keep-alive\r\n"
        if response.stream is not None:
            self._start_stream(response, head, start)
            return
        parts = [response.body] if isinstance(response.body, bytes) else response.body
        if not head.bodiless and not headless:
            self._respond_parts(start if head.length is None else without_length(start), parts)
            return
        if not head.bodiless and head.length is None:  # else the handler knows the length of what GET would give
            start += b"Content-Length: %d\r\n" % size(parts)
        self._transport.write(start + b"\r\n")
        self._finish()

    def _respond_parts(self, start: bytes, parts: Sequence[Part] | Made) -> None:
        length = size(parts)
        start += b"Content-Length: %d\r\n\r\n" % length
        if length > PIECE:
            self._start_feeding(start, parts, len(start) + length)
            return
        self.send([start, *parts], length)
        self._finish()

    def _start_feeding(self, start: bytes, parts: Sequence[Part] | Made, left: int) -> None:
        """A large answer: the peer reads while we go on, and only what it has not taken yet is held joined or encrypted."""
        self._left = left
        self._last_buffered = 0
        self.deadline = self._server.now + self._limits.write_time
        self._feed = pieces(start, parts)
        self._pump()

    def _pump(self) -> None:
        """Go on with a large answer, as far as the peer takes it at once and for one turn."""
        feed, until = self._feed, self._left - TURN
        while feed is not None and not self._write_paused and not self.gone:
            if self._left <= until:
                self._server.loop.call_soon(self._pump)
                return
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
        elif self._eof or not self._reader.idle:
            self._idle()
        else:
            self.deadline = self._server.now + self._limits.idle

    def _idle(self) -> None:
        if self._eof:
            self._transport.close()
        elif self._reader.idle:
            self.deadline = self._server.now + self._limits.idle
        elif self._asks:
            self._asks = False
            self.within(self._limits.body_time)
            self.go_on()

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

    def _start_upgrade(self, response: Response, head: Head) -> None:
        if not self._upgrade:
            log.error("a handler upgraded a request that did not ask for it")
            self._respond(NOT_UPGRADABLE)
            return
        assert response.upgrade is not None
        connection = b"" if b"\nconnection:" in head.data.lower() else b"Connection: Upgrade\r\n"
        self._transport.write(head.data + response.own + connection + b"\r\n")
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
        if self._stopped and given_up(self._transport):
            self._transport.abort()  # the loop does not see it while the socket is not read
        elif self.busy and self._feed is None:
            self.deadline = self._server.now + self._limits.header_time  # judged when it has been answered
        elif waiting and waiting != self._last_buffered and not self._lingering:
            self._last_buffered = waiting
            self.deadline = self._server.now + self._limits.write_time  # slow, but it takes something
        elif waiting or self._transport.is_closing():
            self._transport.abort()
        elif not self._lingering and not self._reader.idle:
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


class _Handover(asyncio.Protocol):
    """After an upgrade: everything goes to the duplex, except that the server must learn of the end."""

    def __init__(self, conn: Connection, duplex: SocketDuplex) -> None:
        self._conn = conn
        self.data_received = duplex.data_received  # type: ignore[method-assign]
        self.eof_received = duplex.eof_received  # type: ignore[method-assign]
        self.pause_writing = duplex.pause_writing  # type: ignore[method-assign]
        self.resume_writing = duplex.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._conn.connection_lost(exc)


async def _as_coroutine(awaitable: Awaitable[Response]) -> Response:
    return await awaitable
