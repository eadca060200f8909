"""`Duplex` over an asyncio transport: what a connection becomes after an upgrade, and what `wire/dial.py` returns.

Bounded on both sides: reading pauses above `HIGH` unread bytes, `drain` waits while the transport's buffer is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from jota.wire.keepalive import given_up

HIGH = 256 * 1024
"""Unread bytes above which the socket is no longer read."""
LOOK = 5.0
"""Seconds between looks at whether the peer of a socket that is not read is still there: no event of the loop tells."""


class SocketDuplex(asyncio.Protocol):
    """The Protocol of a raw connection. Make it, then `transport.set_protocol(duplex)` and `attach(transport)`."""

    __slots__ = (
        "_buffer",
        "_drainers",
        "_eof",
        "_looking",
        "_lost",
        "_on_lost",
        "_paused",
        "_reader",
        "_size",
        "_stopped",
        "transport",
    )

    def __init__(self, on_lost: Callable[[], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._eof = self._lost = self._paused = self._stopped = False
        self._reader: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._on_lost = on_lost
        self._looking: asyncio.TimerHandle | None = None

    def attach(
        self, transport: asyncio.Transport, early: bytes = b"", *, eof: bool = False, paused: bool = False
    ) -> None:
        """Take over a transport that another Protocol used; `early` are bytes that it had already received."""
        self.transport = transport
        self._paused = paused
        if early:
            self.data_received(early)
        if eof:
            self.eof_received()
        if not self._stopped and not transport.is_closing():
            transport.resume_reading()

    # -- the loop's side --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer.append(data)
        self._size += len(data)
        if self._size > HIGH and not self._stopped and self.transport is not None:
            self._stopped = True
            self.transport.pause_reading()
            if self._looking is None:
                self._look()
        self._wake()

    def _look(self) -> None:
        """Again and again while nobody reads."""
        self._looking = None
        if not self._stopped or self._lost or self.transport is None:
            return
        if given_up(self.transport):
            self.transport.abort()
        else:
            self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        # TLS has no half-close: there asyncio ignores True and complains
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = self._lost = True
        if self._looking is not None:
            self._looking.cancel()
        self._wake()
        self.resume_writing()
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        waiting, self._drainers = self._drainers, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- the user's side: Duplex --

    async def read(self, limit: int = 65536) -> bytes:
        """At most `limit` bytes; b"" at end of stream or when the connection is gone. One reader at a time."""
        while not self._buffer:
            if self._eof:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._buffer.popleft()
        if len(data) > limit:
            self._buffer.appendleft(data[limit:])
            data = data[:limit]
        self._size -= len(data)
        if self._stopped and self._size <= HIGH // 2 and self.transport is not None and not self._lost:
            self._stopped = False
            self.transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes; silently dropped when the connection is gone (`drain` tells)."""
        if not self._lost and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Raises ConnectionResetError when the peer is gone."""
        if self._paused and not self._lost:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drainers.append(future)
            await future
        if self._lost:
            raise ConnectionResetError("the peer is gone")

    def write_eof(self) -> None:
        transport = self.transport
        if transport is not None and not self._lost and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close without sending what is still buffered."""
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """`abort`, and the peer knows at once, also one that does not read: nothing waits for it any more, not in the kernel."""
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if sock is not None and not self._lost:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    @property
    def buffered(self) -> int:
        return 0 if self._lost or self.transport is None else self.transport.get_write_buffer_size()

    def get_extra_info(self, name: str) -> Any:
        return None if self.transport is None else self.transport.get_extra_info(name)
