"""exec and attach: one command's streams over WebSocket channels or SPDY streams, as `kubectl exec` expects.

A Request to upgrade comes in, with what it wants attached (`Options`); out goes a 101 whose session copies between the
client and an `Exec` that `open_session` gives, and ends with the command's status on the error channel. Used by
`node/server.py`; the API server passes such requests on byte for byte (`wire/dial.py`).

WebSocket (`[v5.|v4.|v3.|v2.]channel.k8s.io`, and with `base64.` before it): first byte of each message is the channel.
    >> 00 "ls\\n"   << 01 "bin dev etc\\n"   >> 04 {"Width":80,"Height":24}   >> ff 00 (v5: stdin ends)
    << 03 {"status":"Success"}   << close 1000
SPDY (`v4..v1 of channel.k8s.io` in X-Stream-Protocol-Version): a stream each, named by its header `streamtype`.
v4 and v5 end with a `v1 Status` in JSON, older ones with plain text, and only after a failure. Resize came with v3.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from jota.wire import websocket
from jota.wire.message import Duplex, Request, Response
from jota.wire.spdy import ProtocolError as SpdyError
from jota.wire.spdy import SpdySession, SpdyStream
from jota.wire.status import SUCCESS, refusal, status_bytes

log = logging.getLogger("jota.wire")

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHANNELS = [f"{v}channel.k8s.io" for v in ("v5.", "v4.", "v3.", "v2.", "")]
WEBSOCKET_PROTOCOLS = [*CHANNELS, *(f"{prefix}base64.channel.k8s.io" for prefix in ("v5.", "v4.", "v3.", "v2.", ""))]
WEBSOCKET_PROTOCOLS += [f"base64.{name}" for name in CHANNELS if name != "channel.k8s.io"]
SPDY_PROTOCOLS = CHANNELS[1:]
SETUP_TIMEOUT = 30.0
"""Seconds for a SPDY client to open all its streams."""


class Exec(Protocol):
    """A running session; `runtime.protocol.Exec` is one. Output ends with b""."""

    async def read_stdout(self) -> bytes: ...

    async def read_stderr(self) -> bytes: ...

    async def write_stdin(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int: ...

    async def close(self) -> None: ...


@dataclass(slots=True, frozen=True)
class Options:
    """What the client wants attached. With a tty stdout carries both outputs."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False
    tells_exit: bool = True
    """Whether the answer names a non-zero exit code. An attach ends well however the container ends (ServeAttach of the
    kubelet): clients read its exit code from the pod's status, and would take a failure for a broken connection."""


class Channels(Protocol):
    """One client's side of a session, whatever carries it."""

    json_status: bool

    async def open(self) -> None:
        """Complete the set-up. Raises ConnectionError, TimeoutError."""
        ...

    async def send(self, channel: int, data: bytes) -> None: ...

    async def receive(self, session: Exec) -> None:
        """Feed stdin and window sizes to the session; returns when the client is gone."""
        ...

    async def finish(self, status: bytes) -> None:
        """Write the last word on the error channel and close all."""
        ...


OpenSession = Callable[[], Awaitable[Exec]]


async def serve(request: Request, options: Options, open_session: OpenSession) -> Response:
    """The answer to an exec or attach request: 101, or a plain HTTP error when no protocol fits.

    `open_session` is called after the 101, when the client's streams stand; what it raises ends the session as a Failure.
    """
    if options.tty and options.stderr:
        options = replace(options, stderr=False)
    if not (options.stdin or options.stdout or options.stderr):
        return refusal(400, "BadRequest", "you must specify at least 1 of stdin, stdout, stderr")
    if websocket.wanted(request):
        return _serve_websocket(request, options, open_session)
    if spdy_wanted(request):
        return _serve_spdy(request, options, open_session)
    return refusal(400, "BadRequest", "Upgrade request required")


def spdy_wanted(request: Request) -> bool:
    headers = request.headers
    return headers.get("upgrade", "").lower() == "spdy/3.1" and "upgrade" in headers.get("connection", "").lower()


def negotiate_spdy(request: Request, supported: list[str]) -> str | Response:
    """The protocol of X-Stream-Protocol-Version ("" when the client names none), or the 403 that upstream gives."""
    offers = [p.strip() for p in request.headers.get("x-stream-protocol-version", "").split(",") if p.strip()]
    if not offers:
        return ""
    for offer in offers:
        if offer in supported:
            return offer
    text = f"unable to upgrade: unable to negotiate protocol: client supports {offers}, server accepts {supported}"
    accepted = [("X-Accepted-Stream-Protocol-Versions", name) for name in supported]
    return refusal(403, "Forbidden", text, *accepted)


def spdy_head(protocol: str) -> list[tuple[str, str]]:
    head = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    return [*head, ("X-Stream-Protocol-Version", protocol)] if protocol else head


def _serve_websocket(request: Request, options: Options, open_session: OpenSession) -> Response:
    try:
        protocol, headers = websocket.handshake(request, WEBSOCKET_PROTOCOLS)
    except websocket.HandshakeError as error:
        return refusal(400, "BadRequest", str(error))

    async def upgrade(duplex: Duplex) -> None:
        await run(WebSocketChannels(websocket.WebSocket(duplex), protocol, options), options, open_session)

    return Response(101, headers, upgrade=upgrade)


def _serve_spdy(request: Request, options: Options, open_session: OpenSession) -> Response:
    protocol = negotiate_spdy(request, SPDY_PROTOCOLS)
    if isinstance(protocol, Response):
        return protocol

    async def upgrade(duplex: Duplex) -> None:
        await run(SpdyChannels(duplex, protocol, options), options, open_session)

    return Response(101, spdy_head(protocol), upgrade=upgrade)


async def run(channels: Channels, options: Options, open_session: OpenSession) -> None:
    """One session from set-up to its last word."""
    try:
        await channels.open()
    except (ConnectionError, TimeoutError) as error:
        await channels.finish(_internal(channels, error))
        return
    try:
        session = await open_session()
    except Exception as error:
        log.warning("a session could not be opened: %s", error)
        await channels.finish(_internal(channels, error))
        return
    try:
        status = await _copy(channels, options, session)
    finally:
        await session.close()
    if status is not None:
        await channels.finish(status)


async def _copy(channels: Channels, options: Options, session: Exec) -> bytes | None:
    """Copy both ways until the command ends (its status) or the client is gone (None)."""
    async with asyncio.TaskGroup() as group:
        outputs = group.create_task(_outputs(channels, options, session))
        inputs = group.create_task(_inputs(channels, session))
        await asyncio.wait((outputs, inputs), return_when=asyncio.FIRST_COMPLETED)
        outputs.cancel()
        inputs.cancel()
    if outputs.cancelled():
        return None
    result = outputs.result()
    if isinstance(result, ConnectionError):
        return None
    if isinstance(result, Exception):
        return _internal(channels, result)
    return _exit_status(channels, result if options.tells_exit else 0)


async def _inputs(channels: Channels, session: Exec) -> None:
    try:
        await channels.receive(session)
    except ConnectionError:
        return  # the client is gone: that is what the caller waits for


async def _fed(session: Exec, data: bytes) -> bool:
    """Whether the command still reads its input. One that has closed it goes on, and so do its output and its status."""
    try:
        await session.write_stdin(data)
    except ConnectionError:
        session.close_stdin()
        return False
    return True


async def _outputs(channels: Channels, options: Options, session: Exec) -> int | Exception:
    """The exit code, or what went wrong (so that a group of tasks is not torn down by it)."""
    pumps = []
    if options.stdout:
        pumps.append(_pump(session.read_stdout, channels, STDOUT))
    if options.stderr:
        pumps.append(_pump(session.read_stderr, channels, STDERR))
    try:
        await asyncio.gather(*pumps)
        return await session.wait()
    except Exception as error:
        return error


async def _pump(read: Callable[[], Awaitable[bytes]], channels: Channels, channel: int) -> None:
    while data := await read():
        await channels.send(channel, data)


def _exit_status(channels: Channels, code: int) -> bytes:
    if code == 0:
        return SUCCESS if channels.json_status else b""
    text = f"command terminated with non-zero exit code: exit status {code}"
    if not channels.json_status:
        return text.encode()
    status = {
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
    return orjson.dumps(status)


def _internal(channels: Channels, error: Exception) -> bytes:
    text = str(error) or type(error).__name__
    if not channels.json_status:
        return text.encode()
    return status_bytes(500, "InternalError", f"Internal error occurred: {text}", {"causes": [{"message": text}]})


def parse_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a resize message; None for one that makes no sense."""
    try:
        size = orjson.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return (width, height) if 0 < width < 65536 and 0 < height < 65536 else None


class WebSocketChannels:
    """The channels of one WebSocket."""

    def __init__(self, socket: websocket.WebSocket, protocol: str, options: Options) -> None:
        self._socket, self._options = socket, options
        self._base64 = "base64." in protocol
        self._close_frames = "v5." in protocol
        self.json_status = "v5." in protocol or "v4." in protocol
        self._stdin_open = options.stdin

    async def open(self) -> None:
        """Tell the client that the session stands, as upstream does, by an empty message on the first output."""
        self._write(STDOUT if self._options.stdout else STDERR if self._options.stderr else ERROR, b"")

    def _write(self, channel: int, data: bytes) -> None:
        if self._base64:
            self._socket.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            self._socket.send(bytes((channel,)) + data)

    async def send(self, channel: int, data: bytes) -> None:
        self._write(channel, data)
        await self._socket.drain()

    async def receive(self, session: Exec) -> None:
        while (message := await self._socket.receive()) is not None:
            channel, data = self._decode(message)
            if channel == STDIN and self._stdin_open:
                if data:
                    self._stdin_open = await _fed(session, data)
            elif channel == RESIZE and (size := parse_size(data)) is not None:
                session.resize(*size)
            elif channel == CLOSE and self._close_frames and data == b"\x00" and self._stdin_open:
                self._stdin_open = False
                session.close_stdin()

    def _decode(self, message: bytes | str) -> tuple[int, bytes]:
        """Channel and payload; -1 for what cannot be understood (ignored, as upstream ignores unknown channels)."""
        raw = message.encode() if isinstance(message, str) else message
        if not raw:
            return -1, b""
        if not self._base64:
            return raw[0], raw[1:]
        try:
            return raw[0] - 48, base64.b64decode(raw[1:], validate=True)
        except binascii.Error:
            return -1, b""

    async def finish(self, status: bytes) -> None:
        if status:
            self._write(ERROR, status)
        await self._socket.close()


class SpdyChannels:
    """The streams of one SPDY session, by their `streamtype`."""

    def __init__(self, duplex: Duplex, protocol: str, options: Options) -> None:
        self._duplex = duplex
        self._session = SpdySession(duplex, self._opened)
        self.json_status = protocol.startswith("v4.")
        self._wanted = {"error"}
        for name, wanted in (("stdin", options.stdin), ("stdout", options.stdout), ("stderr", options.stderr)):
            if wanted:
                self._wanted.add(name)
        if options.tty and protocol.startswith(("v4.", "v3.")):
            self._wanted.add("resize")
        self._streams: dict[str, SpdyStream] = {}
        self._ready = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    def _opened(self, stream: SpdyStream) -> None:
        name = stream.headers.get("streamtype", "")
        if name not in self._wanted or name in self._streams:
            stream.reset()
            return
        self._streams[name] = stream
        self._session.reply(stream)
        if self._streams.keys() == self._wanted:
            self._ready.set()

    async def open(self) -> None:
        # lives as long as the session; ended by `finish`, or by the end of the connection
        self._run = asyncio.get_running_loop().create_task(self._read())
        async with asyncio.timeout(SETUP_TIMEOUT):
            await self._ready.wait()
        if self._streams.keys() != self._wanted:
            raise ConnectionResetError("the client went away before its streams stood")

    async def _read(self) -> None:
        try:
            await self._session.run()
        except (SpdyError, ConnectionError) as error:
            log.debug("a SPDY session ended: %s", error)
        finally:
            self._ready.set()

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams["stdout" if channel == STDOUT else "stderr"]
        stream.write(data)
        await stream.drain()

    async def receive(self, session: Exec) -> None:
        assert self._run is not None
        async with asyncio.TaskGroup() as group:
            pumps = [group.create_task(self._stdin(session)), group.create_task(self._resize(session))]
            await asyncio.wait((self._run,))
            for pump in pumps:
                pump.cancel()

    async def _stdin(self, session: Exec) -> None:
        stream = self._streams.get("stdin")
        if stream is None:
            return
        try:
            while data := await stream.read():
                if not await _fed(session, data):
                    return
        except ConnectionError:
            pass  # the client is gone
        session.close_stdin()

    async def _resize(self, session: Exec) -> None:
        stream = self._streams.get("resize")
        if stream is None:
            return
        decoder = SizeDecoder()
        try:
            while data := await stream.read():
                for width, height in decoder.feed(data):
                    session.resize(width, height)
        except ConnectionError:
            return

    async def finish(self, status: bytes) -> None:
        """FIN on every stream after the status, then wait a little for the client to hang up first."""
        error = self._streams.get("error")
        if error is not None and status:
            error.write(status)
        for stream in self._streams.values():
            stream.close()
        try:
            await self._duplex.drain()
            if self._run is not None:
                await asyncio.wait((self._run,), timeout=2.0)
        except ConnectionError:
            pass
        finally:
            if self._run is not None:
                self._run.cancel()
            self._duplex.close()


class SizeDecoder:
    """JSON objects one after the other without a frame around them (SPDY's resize stream)."""

    def __init__(self) -> None:
        self._text = b""

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        self._text += data
        *whole, rest = self._text.split(b"}")
        self._text = rest[-256:]
        sizes = (parse_size(part.strip() + b"}") for part in whole)
        return [s for s in sizes if s is not None]
