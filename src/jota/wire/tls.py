"""TLS for servers over any plain transport, on `ssl.MemoryBIO`. In: a plain connection. Out: an inner protocol that sees bytes.

asyncio's and uvloop's own TLS transports do not tell how much is waiting for the kernel: they count what is not encrypted
yet, or hide the transport below. A server that must cut off slow watchers needs the true number, and here it is simply the
plain transport's. Everything else behaves like a transport of asyncio. Next: http.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

_RECORDS = 128 * 1024
"""Small writes are joined up to this size: each SSL write makes records of its own, at least one. More than this at once
leaves the processor's caches: 19 MB take a third longer in one piece."""
_READ = 16 * 1024
"""One record: no read gives more."""


class TlsProtocol(asyncio.Protocol):
    """The protocol on the plain transport; makes the inner one when the handshake is done."""

    def __init__(
        self,
        context: ssl.SSLContext,
        inner: Callable[[], asyncio.Protocol],
        handshake_timeout: float,
        unfinished: set[TlsProtocol] | None = None,
    ) -> None:
        """`unfinished` holds this connection until its handshake is done or it is gone."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # an SSLObject's read and write are Python functions around those of the object within
        self._records: Any = getattr(self._tls, "_sslobj", self._tls)
        self._make = inner
        self.inner: Any = None
        """A Protocol, once the handshake is done."""
        self._timeout = handshake_timeout
        self._unfinished: set[TlsProtocol] = set() if unfinished is None else unfinished
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._ended = False
        self._late_end = False
        """The peer has ended the connection while its last bytes wait here for a reader that has paused."""
        self._plain: asyncio.Transport
        self._transport: TlsTransport

    # -- the plain transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast(asyncio.Transport, transport)
        self._transport = TlsTransport(self, self._plain, self._tls, self._records, self._outgoing)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._plain.abort)
        self._unfinished.add(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if self.inner is None and not self._handshake():
                return
            self._deliver()
        except ssl.SSLError:
            self._flush()  # the alert that tells the peer why
            self._plain.close()

    def eof_received(self) -> bool:
        """TLS has no half-close that HTTP could use: an end of file ends the connection."""
        if self.inner is not None and not self._ended:
            if not self._reading and self._incoming.pending:
                self._late_end = True
                return True
            self._ended = True
            self.inner.eof_received()
        return False

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        if self.inner is not None:
            self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unfinished.discard(self)
        if self.inner is not None:
            self.inner.connection_lost(exc)

    # -- records

    def _handshake(self) -> bool:
        """Whether it is done; then the inner protocol is connected. Raises SSLError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._unfinished.discard(self)
        self.inner = self._make()
        self.inner.connection_made(self._transport)
        return True

    def _deliver(self) -> None:
        """Hand on what is decrypted, as long as the inner protocol reads. Raises SSLError."""
        records, incoming = self._records, self._incoming
        while self._reading and not self._ended and not self._plain.is_closing():
            # what is decrypted is never longer than it was, and a read allocates what it asks for
            size = min(incoming.pending, _READ) or _READ
            try:
                data = records.read(size)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            if data:
                self.inner.data_received(data)
                if len(data) < size and not incoming.pending:
                    break  # a read stops short only where nothing is decrypted and waits
            elif not self._ended:
                self._ended = True
                if not self.inner.eof_received():
                    self._transport.close()
        if self._outgoing.pending:
            self._flush()  # what TLS itself has to say (key updates)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._plain.write(data)

    # -- what the inner transport asks for

    def goodbye(self) -> None:
        """close_notify, where the connection still can."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the peer's own close_notify is not waited for
        self._flush()

    def pause(self) -> None:
        self._reading = False
        self._plain.pause_reading()

    def resume(self) -> None:
        if self._reading:
            return
        self._reading = True
        asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        """First what is held here, then the socket: else each pause would hold a socket's fill more."""
        if not self._reading or self._plain.is_closing():
            return
        self.data_received(b"")
        if not self._reading or self._plain.is_closing():
            return
        if self._late_end:
            self.eof_received()
            self._plain.close()
        else:
            self._plain.resume_reading()

    def abort(self) -> None:
        self._plain.abort()

    @property
    def reading(self) -> bool:
        return self._reading


class TlsTransport(asyncio.Transport):
    """What the inner protocol writes to. Its buffer is the plain transport's."""

    def __init__(
        self, protocol: TlsProtocol, plain: asyncio.Transport, tls: ssl.SSLObject, records: Any, outgoing: ssl.MemoryBIO
    ) -> None:
        super().__init__()
        self._protocol, self._plain, self._tls = protocol, plain, tls
        self._records, self._outgoing = records, outgoing
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        return self._plain.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        plain = self._plain
        if not data or self._closing or plain.is_closing():
            return
        try:
            self._records.write(data)
        except ssl.SSLError:  # nothing can be said on it any more; the writer learns it as from any lost connection
            plain.abort()
            return
        plain.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._closing or self._plain.is_closing():
            return
        batch: list[bytes | bytearray | memoryview] = []
        size = 0
        for data in list_of_data:
            batch.append(data)
            size += len(data)
            if size >= _RECORDS:
                self.write(b"".join(batch))
                batch, size = [], 0
        if size:
            self.write(b"".join(batch))

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._plain.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._protocol.pause()

    def resume_reading(self) -> None:
        self._protocol.resume()

    def is_reading(self) -> bool:
        return self._protocol.reading and not self.is_closing()

    def is_closing(self) -> bool:
        return self._closing or self._plain.is_closing()

    def can_write_eof(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol.inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        inner: asyncio.BaseProtocol = self._protocol.inner
        return inner

    def close(self) -> None:
        if not self._closing and not self._plain.is_closing():
            self._closing = True
            self._protocol.goodbye()
        self._plain.close()

    def abort(self) -> None:
        self._closing = True
        self._plain.abort()
