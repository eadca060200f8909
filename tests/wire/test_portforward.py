"""Port forwarding in its three dialects against an echo server on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct

import pytest
from test_remotecommand import SPDY, WS
from wirekit import pipe, run, serving

from jota.wire import portforward
from jota.wire.dial import dial, forward
from jota.wire.message import Request
from jota.wire.portforward import parse_ports, serve
from jota.wire.spdy import SpdySession
from jota.wire.websocket import Tunnel, WebSocket

SIZE = 600_000


async def echo_server():
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"end")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def session(request: Request, connect):
    response = await serve(request, connect)
    assert response.status == 101, response.body
    a, b = await pipe()
    return b, asyncio.ensure_future(response.upgrade(a))


async def spdy_transfer(carrier, port: int, number: str) -> tuple[bytes, bytes]:
    headers = {"port": str(port), "requestid": number}
    error = carrier.open(headers | {"streamtype": "error"})
    error.write_eof()
    data = carrier.open(headers | {"streamtype": "data"})

    async def send() -> None:
        for _ in range(SIZE // 20_000):
            data.write(b"x" * 20_000)
            await data.drain()
        data.write_eof()

    sending = asyncio.ensure_future(send())
    got = b""
    while piece := await data.read():
        got += piece
    await sending
    return got, await error.read()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tunnel", [False, True])
def test_spdy_and_spdy_in_a_websocket(loop, tunnel):
    async def main():
        server, port = await echo_server()
        if tunnel:
            request = Request("GET", "/", "", WS | {"sec-websocket-protocol": "SPDY/3.1+portforward.k8s.io"})
        else:
            request = Request("POST", "/", "", SPDY | {"x-stream-protocol-version": "portforward.k8s.io"})
        raw, serving = await session(request, lambda p: dial("127.0.0.1", p))
        duplex = Tunnel(WebSocket(raw, client=True)) if tunnel else raw
        carrier = SpdySession(duplex, client=True)
        running = asyncio.ensure_future(carrier.run())
        results = await asyncio.gather(*(spdy_transfer(carrier, port, str(n)) for n in range(3)))
        server.close()
        await server.wait_closed()
        refused = carrier.open({"port": str(port), "requestid": "9", "streamtype": "error"})
        carrier.open({"port": str(port), "requestid": "9", "streamtype": "data"})
        text = await refused.read()
        duplex.close()
        await asyncio.gather(running, serving)
        return results, text

    results, text = run(main(), loop)
    assert results == [(b"x" * SIZE + b"end", b"")] * 3
    assert text.startswith(b"error forwarding port")


def test_websocket_channels():
    async def main():
        server, port = await echo_server()

        async def connect(wanted):
            if wanted == 1:
                raise ConnectionRefusedError("nobody listens")
            return await dial("127.0.0.1", port)

        request = Request("GET", "/", "ports=80,1", WS | {"sec-websocket-protocol": "v4.channel.k8s.io"})
        raw, serving = await session(request, connect)
        socket = WebSocket(raw, client=True)
        first = [await socket.receive() for _ in range(5)]
        socket.send(b"\x00hello")
        answer = await socket.receive()
        await socket.close()
        await serving
        server.close()
        return first, answer

    first, answer = run(main())
    ports = [bytes((c,)) + struct.pack("<H", p) for c, p in ((0, 80), (1, 80), (2, 1), (3, 1))]
    assert first[:4] == ports
    assert first[4][:1] == b"\x03"
    assert b"nobody listens" in first[4]
    assert answer == b"\x00hello"


def test_ports_of_a_query():
    assert parse_ports("ports=80&ports=81,82") == [80, 81, 82]
    for bad in ("", "ports=", "ports=0", "ports=65536", "ports=x", "ports=" + ",".join(["1"] * 101)):
        with pytest.raises(ValueError):
            parse_ports(bad)


LARGE = 24 << 20


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "base64.channel.k8s.io"])
def test_much_goes_both_ways_through_two_servers(protocol):
    """As from a client through the API server to a node agent; both directions at full speed at the same time."""

    async def main():
        backend, port = await echo_server()

        async def node(request):
            return await serve(request, lambda p: dial("127.0.0.1", p))

        async with serving(node) as agent:

            async def api(request):
                return await forward(request, host="127.0.0.1", port=agent.port, path=f"/?{request.query}")

            async with serving(api) as edge:
                raw = await dial("127.0.0.1", edge.port)
                lines = [f"GET /?ports={port} HTTP/1.1", "Host: x"]
                lines += [f"{k}: {v}" for k, v in (WS | {"sec-websocket-protocol": protocol}).items()]
                raw.write("\r\n".join([*lines, "", ""]).encode())
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    piece = await raw.read(1)
                    assert piece, head
                    head += piece
                assert b" 101 " in head
                socket = WebSocket(raw, client=True)
                digests = await echoed(socket, text=protocol.startswith("base64"))
                await socket.close()
        backend.close()
        return digests

    sent, came = run(main(), "uvloop", timeout=60)
    assert came == sent


async def echoed(socket, *, text):
    """(digest of what was sent, digest of what came) on the first channel."""
    sent, came, block = hashlib.sha256(), hashlib.sha256(), bytes(range(251)) * 131
    for _ in range(2):
        await socket.receive()  # the port, on both channels

    async def send():
        left = LARGE
        while left:
            piece = block[:left]
            sent.update(piece)
            socket.send("0" + base64.b64encode(piece).decode() if text else b"\x00" + piece)
            await socket.drain()
            left -= len(piece)

    sending, got = asyncio.ensure_future(send()), 0
    while got < LARGE:
        message = await socket.receive()
        assert message is not None, f"ended after {got} bytes"
        data = base64.b64decode(message[1:]) if text else message[1:]
        came.update(data)
        got += len(data)
    await sending
    return sent.hexdigest(), came.hexdigest()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_client_may_hang_up_after_the_backend_did(leaves, monkeypatch):
    """kube-rs reads the answer, drops its end, and takes a Close that came before its own for an error."""
    monkeypatch.setattr(portforward, "LINGER", 30.0 if leaves else 0.0)

    async def main():
        async def greet(reader, writer):
            writer.write(b"bye")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        request = Request("GET", "/", "ports=80", WS | {"sec-websocket-protocol": "v4.channel.k8s.io"})
        raw, serving = await session(request, lambda p: dial("127.0.0.1", port))
        socket = WebSocket(raw, client=True)
        got = [await socket.receive() for _ in range(3)]
        if leaves:
            await asyncio.sleep(0)
            assert not serving.done(), "the client is waited for"
            await socket.close()
        else:
            assert await socket.receive() is None, "whoever stays is left alone"
        await serving
        server.close()
        return got

    assert run(main())[2] == b"\x00bye"
