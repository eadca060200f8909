"""WebSocket (RFC 6455) over a `Duplex`: the handshake from a Request, then whole messages in and out.

Framing is wsproto's; here are the choice of the sub-protocol, pings, the closing handshake and the bound on messages.
Used by remote commands, port forwarding, logs and watches.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jota.wire.message import Duplex, Request

if TYPE_CHECKING:
    from wsproto.events import Event

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE = 4 * 1024 * 1024
NORMAL, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1007, 1009, 1011


class HandshakeError(Exception):
    """Not a WebSocket handshake that we can take: answer 400 with the text."""


def wanted(request: Request) -> bool:
    """The client asks for a WebSocket."""
    headers = request.headers
    return headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers.get("connection", "").lower()


def offered(request: Request) -> list[str]:
    return [p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",") if p.strip()]


def handshake(request: Request, supported: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """The chosen sub-protocol ("" when the client offered none) and the headers of the 101. Raises HandshakeError.

    The first of the client's offers that we support wins, as in Kubernetes' own server.
    """
    headers = request.headers
    if request.method != "GET" or not wanted(request):
        raise HandshakeError("a WebSocket handshake is a GET with Upgrade: websocket")
    if headers.get("sec-websocket-version") != "13":
        raise HandshakeError("only WebSocket version 13 is supported")
    key = headers.get("sec-websocket-key", "").strip()
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise HandshakeError("Sec-WebSocket-Key must be 16 bytes in base64")
    offers = offered(request)
    chosen = next((p for p in offers if p in supported), "")
    if offers and not chosen:
        raise HandshakeError(f"none of the sub-protocols {', '.join(offers)} is supported here: {', '.join(supported)}")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    out = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
    return chosen, [*out, ("Sec-WebSocket-Protocol", chosen)] if chosen else out


class WebSocket:
    """An open WebSocket. One reader; writers as many as like, each call is one message."""

    def __init__(self, duplex: Duplex, *, client: bool = False, limit: int = MAX_MESSAGE) -> None:
        from wsproto.connection import Connection, ConnectionType

        self.duplex = duplex
        self._connection = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._limit = limit
        self._events: Iterator[Event] = iter(())
        self._parts: list[bytes | str] = []
        self._size = 0
        self._closing = False
        self.close_code: int | None = None
        """The peer's close code, once it closed."""

    async def receive(self) -> bytes | str | None:
        """The next message; None once the peer closed, vanished or broke the protocol (it is told the code then)."""
        from wsproto.events import CloseConnection, Message, Ping
        from wsproto.utilities import RemoteProtocolError

        while True:
            try:
                event = await self._event()
            except RemoteProtocolError as error:
                # wsproto names the code: 1002, or 1007 for text that is not UTF-8
                hint = getattr(error, "event_hint", None)
                self._close(getattr(hint, "code", PROTOCOL_ERROR), str(error))
                return None
            if event is None:
                return None
            if isinstance(event, Ping):
                self._send(event.response())
                await self.duplex.drain()  # whoever floods us with pings must also read the answers
            elif isinstance(event, CloseConnection):
                self.close_code = event.code
                if not self._closing:
                    self._closing = True
                    self._send(event.response())
                return None
            elif isinstance(event, Message):
                self._parts.append(bytes(event.data) if not isinstance(event.data, str) else event.data)
                self._size += len(event.data)
                if self._size > self._limit:
                    self._close(TOO_BIG, f"messages are limited to {self._limit} bytes")
                    return None
                if event.message_finished:
                    return self._message()

    def _message(self) -> bytes | str:
        parts, self._parts, self._size = self._parts, [], 0
        if isinstance(parts[0], str):
            return "".join(p for p in parts if isinstance(p, str))
        return b"".join(p for p in parts if isinstance(p, bytes))

    async def _event(self) -> Event | None:
        while True:
            # one at a time: once a close frame is parsed, wsproto answers no ping before it any more
            for event in self._events:
                return event
            if self.close_code is not None:
                return None
            data = await self.duplex.read()
            if not data:
                return None
            self._connection.receive_data(data)
            self._events = self._connection.events()

    def _send(self, event: Event) -> None:
        from wsproto.utilities import LocalProtocolError

        try:
            self.duplex.write(self._connection.send(event))
        except LocalProtocolError:
            return  # closed already on one side: there is nobody to tell

    def send(self, data: bytes | str) -> None:
        """Queue one message; nothing happens once the socket is closing."""
        if self._closing:
            return
        if isinstance(data, str):
            from wsproto.events import TextMessage

            self._send(TextMessage(data))
        else:
            from wsproto.events import BytesMessage

            self._send(BytesMessage(bytearray(data)))

    async def drain(self) -> None:
        await self.duplex.drain()

    def _close(self, code: int, reason: str) -> None:
        from wsproto.events import CloseConnection

        if not self._closing:
            self._closing = True
            self._send(CloseConnection(code, reason.encode()[:120].decode(errors="ignore")))

    async def close(self, code: int = NORMAL, reason: str = "", *, wait: float = 2.0) -> None:
        """Send the close frame and wait up to `wait` seconds for the peer's, reading what is still under way."""
        self._close(code, reason)
        try:
            async with asyncio.timeout(wait):
                while self.close_code is None and await self.receive() is not None:
                    pass
        except (TimeoutError, ConnectionError):
            pass  # the peer need not answer: the connection is closed next
        self.duplex.close()


class Tunnel:
    """Raw bytes in binary messages, as a `Duplex` (SPDY inside a WebSocket, KEP-4006)."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._rest = b""

    async def read(self, limit: int = 65536) -> bytes:
        while not self._rest:
            message = await self._socket.receive()
            if message is None:
                return b""
            self._rest = message if isinstance(message, bytes) else message.encode()
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    def write(self, data: bytes) -> None:
        if data:
            self._socket.send(data)

    async def drain(self) -> None:
        await self._socket.drain()

    def write_eof(self) -> None:
        self._socket._close(NORMAL, "")

    def close(self) -> None:
        self._socket._close(NORMAL, "")
        self._socket.duplex.close()


async def tell(socket: WebSocket, send: Coroutine[Any, Any, None]) -> None:
    """Run `send` until it ends or the peer closes, then close. What the peer says is not listened to (IgnoreReceives)."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send)
        closed = group.create_task(_until_closed(socket))
        await asyncio.wait((sending, closed), return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        closed.cancel()
    await socket.close()


async def _until_closed(socket: WebSocket) -> None:
    while await socket.receive() is not None:
        pass
