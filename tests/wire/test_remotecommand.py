"""exec over every dialect: WebSocket v5, v4, v1, base64; SPDY v4, v1. The command shouts its stdin and exits with 3."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from wirekit import pipe, run

from jota.wire import remotecommand
from jota.wire.message import Request, Response
from jota.wire.remotecommand import Options, SizeDecoder, parse_size, serve
from jota.wire.spdy import SpdySession
from jota.wire.websocket import WebSocket

WS = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"} | {
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
}
SPDY = {"upgrade": "SPDY/3.1", "connection": "Upgrade"}


class Shouting:
    """An Exec: stdout is stdin in upper case; "err" on stderr; exits 3 when stdin ends or says "quit"."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(16)
        self.ended = asyncio.Event()
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self._stderr = [b"err"]

    async def read_stdout(self) -> bytes:
        data = await self.queue.get()
        if not data or data == b"quit":
            self.ended.set()
            return b""
        return data.upper()

    async def read_stderr(self) -> bytes:
        return self._stderr.pop() if self._stderr else b""

    async def write_stdin(self, data: bytes) -> None:
        await self.queue.put(data)

    def close_stdin(self) -> None:
        asyncio.ensure_future(self.queue.put(b""))  # noqa: RUF006 - the double's own pipe

    def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    async def wait(self) -> int:
        await self.ended.wait()
        return 3

    async def close(self) -> None:
        self.closed = True


async def exec_handler(request: Request) -> Response:
    async def open_session() -> Shouting:
        return Shouting()

    return await serve(request, Options(stdin=True), open_session)


def head(protocol: str, kind: str) -> bytes:
    if kind == "websocket":
        headers = WS | {"sec-websocket-protocol": protocol}
        method = "GET"
    else:
        headers, method = SPDY | {"x-stream-protocol-version": protocol}, "POST"
    lines = [f"{method} /exec HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def read_head(duplex) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += await duplex.read(1)
    assert data.startswith(b"HTTP/1.1 101"), data
    return data


async def websocket_exec(duplex, text: bytes, protocol: str = "v5.channel.k8s.io", *, talk=True) -> tuple[bytes, bytes]:
    """stdout and the error channel."""
    if talk:
        duplex.write(head(protocol, "websocket"))
        await read_head(duplex)
    socket = WebSocket(duplex, client=True)
    coded = "base64." in protocol

    def send(channel: int, data: bytes) -> None:
        socket.send(f"{channel}{base64.b64encode(data).decode()}" if coded else bytes((channel,)) + data)

    async def feed() -> None:
        for at in range(0, len(text), 10_000):
            send(0, text[at : at + 10_000])
            await socket.drain()
        if "v5." in protocol:
            send(255, b"\x00")
        else:
            send(0, b"quit")

    feeding = asyncio.ensure_future(feed())
    channels: dict[int, bytes] = {}
    while (message := await socket.receive()) is not None:
        raw = message.encode() if isinstance(message, str) else message
        number = raw[0] - 48 if coded else raw[0]
        channels[number] = channels.get(number, b"") + (base64.b64decode(raw[1:]) if coded else raw[1:])
    await feeding
    assert socket.close_code == 1000
    assert channels.get(2) == b"err"
    return channels[1], channels.get(3, b"")


async def spdy_exec(duplex, text: bytes, protocol: str = "v4.channel.k8s.io", *, talk=True) -> tuple[bytes, bytes]:
    if talk:
        duplex.write(head(protocol, "spdy"))
        await read_head(duplex)
    session = SpdySession(duplex, client=True)
    running = asyncio.ensure_future(session.run())
    streams = {name: session.open({"streamtype": name}) for name in ("error", "stdin", "stdout", "stderr")}

    async def feed() -> None:
        for at in range(0, len(text), 10_000):
            streams["stdin"].write(text[at : at + 10_000])
            await streams["stdin"].drain()
        streams["stdin"].write_eof()

    async def all_of(name: str) -> bytes:
        out = b""
        while data := await streams[name].read():
            out += data
        return out

    _, out, err, status = await asyncio.gather(feed(), all_of("stdout"), all_of("stderr"), all_of("error"))
    assert err == b"err"
    duplex.close()
    await running
    return out, status


async def direct(client, protocol: str, request: Request) -> tuple[bytes, bytes]:
    response = await exec_handler(request)
    assert response.status == 101, response.body
    a, b = await pipe()
    serving = asyncio.ensure_future(response.upgrade(a))
    result = await client(b, b"hello", protocol, talk=False)
    b.close()
    await serving
    return result


@pytest.mark.parametrize(
    ("protocol", "as_json"),
    [
        ("v5.channel.k8s.io", True),
        ("v4.channel.k8s.io", True),
        ("v3.channel.k8s.io", False),
        ("channel.k8s.io", False),
        ("v4.base64.channel.k8s.io", True),
        ("base64.channel.k8s.io", False),
    ],
)
def test_websocket_dialects(protocol, as_json):
    request = Request("GET", "/exec", "", WS | {"sec-websocket-protocol": f"nonsense, {protocol}"})
    out, status = run(direct(websocket_exec, protocol, request))
    assert out == b"HELLO"
    check_status(status, as_json)


@pytest.mark.parametrize(
    ("protocol", "as_json"), [("v4.channel.k8s.io", True), ("v2.channel.k8s.io", False), ("", False)]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_spdy_dialects(protocol, as_json, method):
    headers = SPDY | ({"x-stream-protocol-version": f"v9.channel.k8s.io, {protocol}"} if protocol else {})
    out, status = run(direct(spdy_exec, protocol, Request(method, "/exec", "", headers)))
    assert out == b"HELLO"
    check_status(status, as_json)


def check_status(status: bytes, as_json: bool) -> None:
    if not as_json:
        assert status == b"command terminated with non-zero exit code: exit status 3"
        return
    decoded = json.loads(status)
    assert decoded["status"] == "Failure"
    assert decoded["reason"] == "NonZeroExitCode"
    assert decoded["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request("GET", "/exec"), 400),
        (Request("GET", "/exec", "", WS | {"sec-websocket-protocol": "nonsense"}), 400),
        (Request("POST", "/exec", "", SPDY | {"x-stream-protocol-version": "v9.channel.k8s.io"}), 403),
    ],
)
def test_what_cannot_be_upgraded_is_a_plain_answer(request_, code):
    response = run(exec_handler(request_))
    assert response.status == code
    assert b'"Failure"' in response.body


def test_a_session_that_cannot_open_is_an_internal_error_on_the_error_channel():
    async def broken():
        raise RuntimeError("no such binary")

    async def main():
        request = Request("GET", "/exec", "", WS | {"sec-websocket-protocol": "v5.channel.k8s.io"})
        response = await serve(request, Options(), broken)
        a, b = await pipe()
        serving = asyncio.ensure_future(response.upgrade(a))
        socket = WebSocket(b, client=True)
        messages = []
        while (message := await socket.receive()) is not None:
            messages.append(message)
        b.close()
        await serving
        return messages

    first, last = run(main())
    assert first == b"\x01"
    assert json.loads(last[1:])["reason"] == "InternalError"
    assert "no such binary" in json.loads(last[1:])["message"]


@pytest.mark.parametrize(("tells_exit", "status"), [(True, "Failure"), (False, "Success")])
def test_an_attach_ends_well_however_the_container_ends(tells_exit, status):
    session = Shouting()

    async def opened():
        return session

    async def main():
        request = Request("GET", "/attach", "", WS | {"sec-websocket-protocol": "v5.channel.k8s.io"})
        response = await serve(request, Options(stdin=True, tells_exit=tells_exit), opened)
        a, b = await pipe()
        serving = asyncio.ensure_future(response.upgrade(a))
        socket = WebSocket(b, client=True)
        socket.send(b"\xff\x00")
        messages = []
        while (message := await socket.receive()) is not None:
            messages.append(message)
        b.close()
        await serving
        return messages

    assert json.loads(run(main())[-1][1:])["status"] == status


class Deaf(Shouting):
    """Does not read its stdin (an attach without one, `head -1`, a shell that has just left): says more, then exits with 3."""

    async def write_stdin(self, data: bytes) -> None:
        await self.queue.put(b"more")
        await self.queue.put(b"quit")
        raise BrokenPipeError("the session has no stdin")


@pytest.mark.parametrize("client", [websocket_exec, spdy_exec])
def test_input_that_nobody_reads_does_not_end_the_session(client):
    """The output and the exit status still come: a line typed just after `exit` once cost the last command's output."""

    async def opened():
        return Deaf()

    async def main():
        headers = WS if client is websocket_exec else SPDY
        protocol = "v5.channel.k8s.io" if client is websocket_exec else "v4.channel.k8s.io"
        name = "sec-websocket-protocol" if client is websocket_exec else "x-stream-protocol-version"
        method = "GET" if client is websocket_exec else "POST"
        response = await serve(Request(method, "/exec", "", headers | {name: protocol}), Options(stdin=True), opened)
        a, b = await pipe()
        serving = asyncio.ensure_future(response.upgrade(a))
        result = await client(b, b"hello", talk=False)
        b.close()
        await serving
        return result

    out, status = run(main())
    assert out == b"MORE"
    assert json.loads(status)["details"]["causes"][0]["message"] == "3"


def test_a_client_that_vanishes_ends_the_session():
    session = Shouting()

    async def opened():
        return session

    async def main():
        request = Request("GET", "/exec", "", WS | {"sec-websocket-protocol": "v5.channel.k8s.io"})
        response = await serve(request, Options(stdin=True, tty=True), opened)
        a, b = await pipe()
        serving = asyncio.ensure_future(response.upgrade(a))
        socket = WebSocket(b, client=True)
        assert await socket.receive() == b"\x01"
        socket.send(b"\x04" + b'{"Width":80,"Height":24}')
        socket.send(b"\x00hi")
        assert await socket.receive() == b"\x01HI"
        b.abort()
        await serving

    run(main())
    assert session.closed
    assert session.sizes == [(80, 24)]


def test_window_sizes():
    assert parse_size(b'{"Width":1,"Height":2}') == (1, 2)
    assert [
        parse_size(bad) for bad in (b"", b"{}", b"[]", b'{"Width":-1,"Height":2}', b'{"Width":"x","Height":2}')
    ] == [None] * 5
    decoder = SizeDecoder()
    assert decoder.feed(b'{"Width":1,"Height":2}\n{"Wid') == [(1, 2)]
    assert decoder.feed(b'th":3,"Height":4}') == [(3, 4)]
    assert remotecommand.STDIN == 0
