"""Port forwarding: many TCP connections into a pod over one upgraded connection.

A Request to upgrade and a `connect(port)` come in; out goes a 101 whose session pairs the client's streams with backends.
Three dialects, one meaning (a data and an error stream per connection):

- SPDY `portforward.k8s.io`: the client opens two streams per connection, headers `streamtype` (data, error), `port` and
  `requestid`;
- WebSocket `SPDY/3.1+portforward.k8s.io`: the same SPDY bytes inside binary messages (kubectl from 1.31);
- WebSocket `[v5.|v4.|]channel.k8s.io` with `?ports=`: channel 2i carries data, 2i+1 errors; the first message on each is
  the port as little-endian uint16.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from jota.wire import websocket
from jota.wire.message import Duplex, Request, Response
from jota.wire.remotecommand import negotiate_spdy, spdy_head, spdy_wanted
from jota.wire.spdy import ProtocolError, SpdySession, SpdyStream
from jota.wire.status import refusal

log = logging.getLogger("jota.wire")

PROTOCOL = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]
BASE64 = ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"]
PAIR_TIMEOUT = 30.0
"""Seconds for the second stream of a pair to follow the first."""
LINGER = 0.5
"""Seconds for a WebSocket's client to hang up once the backends have: its channels have no half-close, and a client that is
about to close (kube-rs) takes it for an error when the other side was faster. As upstream, whose runtime waits 1 s."""

Connect = Callable[[int], Awaitable[Duplex]]


async def serve(request: Request, connect: Connect) -> Response:
    """101, or a plain HTTP error. `connect` raises OSError (ConnectionError is one) when nothing listens."""
    if websocket.wanted(request):
        return _serve_websocket(request, connect)
    if not spdy_wanted(request):
        return refusal(400, "BadRequest", "Upgrade request required")
    protocol = negotiate_spdy(request, [PROTOCOL])
    if isinstance(protocol, Response):
        return protocol

    async def upgrade(duplex: Duplex) -> None:
        await SpdyForward(duplex, connect).run()

    return Response(101, spdy_head(protocol), upgrade=upgrade)


def _serve_websocket(request: Request, connect: Connect) -> Response:
    try:
        protocol, headers = websocket.handshake(request, [TUNNEL, *CHANNELS, *BASE64])
        ports = [] if protocol == TUNNEL else parse_ports(request.query)
    except (websocket.HandshakeError, ValueError) as error:
        return refusal(400, "BadRequest", str(error))

    async def upgrade(duplex: Duplex) -> None:
        socket = websocket.WebSocket(duplex)
        if protocol == TUNNEL:
            await SpdyForward(websocket.Tunnel(socket), connect).run()
        else:
            await ChannelForward(socket, ports, connect, text=protocol in BASE64).run()

    return Response(101, headers, upgrade=upgrade)


def parse_ports(query: str) -> list[int]:
    """`ports=8080&ports=9090` or `ports=8080,9090`. Raises ValueError with upstream's words."""
    texts = [part for value in parse_qs(query).get("ports", []) for part in value.split(",")]
    if not texts:
        raise ValueError('query parameter "ports" is required')
    if len(texts) > 100:
        raise ValueError("at most 100 ports can be forwarded over one connection")
    return [parse_port(text) for text in texts]


def parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f'unable to parse "{text}" as a port')
    return int(text)


async def splice(a: Duplex, b: Duplex) -> None:
    """Copy both ways, passing half-closes on, until both directions have ended."""
    async with asyncio.TaskGroup() as group:
        for source, sink in ((a, b), (b, a)):
            group.create_task(until_gone(copy(source, sink)))


async def copy(source: Duplex, sink: Duplex) -> None:
    """One way, with its end. Raises ConnectionError."""
    try:
        while data := await source.read():
            sink.write(data)
            await sink.drain()
    finally:
        sink.write_eof()


async def until_gone(copying: Awaitable[None]) -> None:
    try:
        await copying
    except ConnectionError:
        return  # one side is gone: its half-close lets the other direction end by itself


class SpdyForward:
    """One client's SPDY session."""

    def __init__(self, duplex: Duplex, connect: Connect) -> None:
        self._duplex, self._connect = duplex, connect
        self._session = SpdySession(duplex, self._opened)
        self._pairs: dict[str, dict[str, SpdyStream]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client hangs up."""
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    await self._session.run()
                except (ProtocolError, ConnectionError) as error:
                    log.debug("a port-forward session ended: %s", error)
                for task in self._tasks:
                    task.cancel()  # nobody is left to take what the backends still say
        finally:
            self._duplex.close()

    def _opened(self, stream: SpdyStream) -> None:
        """Collect the two streams of a connection; the first of a pair starts its deadline."""
        assert self._group is not None
        kind = stream.headers.get("streamtype", "")
        # clients older than request ids open the error stream first, the data stream next
        number = stream.headers.get("requestid") or str(stream.id if kind == "error" else stream.id - 2)
        pair = self._pairs.setdefault(number, {})
        if kind not in ("data", "error") or kind in pair:
            stream.reset()
            return
        pair[kind] = stream
        self._session.reply(stream)
        if len(pair) == 2:
            del self._pairs[number]
            work = self._forward(pair["data"], pair["error"])
        else:
            work = self._expect(number, stream)
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expect(self, number: str, stream: SpdyStream) -> None:
        await asyncio.sleep(PAIR_TIMEOUT)
        pair = self._pairs.get(number)
        if pair is not None and stream in pair.values():
            del self._pairs[number]
            stream.reset()

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        text = data.headers.get("port", "")
        try:
            backend = await self._connect(parse_port(text))
        except (OSError, ValueError) as cause:
            error.write(f"error forwarding port {text} to pod: {cause}".encode())
            error.close()
            data.close()
            return
        try:
            await splice(data, backend)
        finally:
            backend.close()
            error.close()
            data.close()


class ChannelForward:
    """One WebSocket with two channels for each port."""

    def __init__(self, socket: websocket.WebSocket, ports: list[int], connect: Connect, *, text: bool) -> None:
        self._socket, self._ports, self._connect, self._text = socket, ports, connect, text
        self._backends: dict[int, Duplex] = {}

    def _send(self, channel: int, data: bytes) -> None:
        if self._text:
            self._socket.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            self._socket.send(bytes((channel,)) + data)

    async def run(self) -> None:
        """Until the client hangs up or every backend is done."""
        for i, port in enumerate(self._ports):
            for channel in (2 * i, 2 * i + 1):
                self._send(channel, struct.pack("<H", port))
        try:
            for i, port in enumerate(self._ports):
                try:
                    self._backends[i] = await self._connect(port)
                except OSError as cause:
                    self._send(2 * i + 1, f"error forwarding port {port} to pod: {cause}".encode())
            await self._copy()
        finally:
            for backend in self._backends.values():
                backend.close()
            await self._socket.close()

    async def _copy(self) -> None:
        async with asyncio.TaskGroup() as group:
            inward = group.create_task(until_gone(self._inward()))
            outward = [group.create_task(until_gone(self._outward(i, b))) for i, b in self._backends.items()]
            done = group.create_task(_all(outward))
            await asyncio.wait((inward, done), return_when=asyncio.FIRST_COMPLETED)
            if outward and not inward.done():
                await asyncio.wait((inward,), timeout=LINGER)
            for task in (inward, done, *outward):
                task.cancel()

    async def _inward(self) -> None:
        while (message := await self._socket.receive()) is not None:
            channel, data = self._decode(message)
            backend = self._backends.get(channel // 2) if channel % 2 == 0 else None
            if backend is None or not data:
                continue
            try:
                backend.write(data)
                await backend.drain()
            except ConnectionError:
                self._backends.pop(channel // 2, None)  # its other direction sends what there is and ends

    def _decode(self, message: bytes | str) -> tuple[int, bytes]:
        raw = message.encode() if isinstance(message, str) else message
        if not raw:
            return -1, b""
        if not self._text:
            return raw[0], raw[1:]
        try:
            return raw[0] - 48, base64.b64decode(raw[1:], validate=True)
        except binascii.Error:
            return -1, b""

    async def _outward(self, i: int, backend: Duplex) -> None:
        while data := await backend.read(32768):
            self._send(2 * i, data)
            await self._socket.drain()


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
