"""Checklist point 34: a watch over WebSocket, over a real connection: one message per event."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.filters.attributes import COMPONENT
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer
from jota.wire.dial import dial
from jota.wire.duplex import SocketDuplex
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response
from jota.wire.websocket import WebSocket

PATH = "/api/v1/namespaces/default/configmaps"


async def upgrade(port: int, query: str, protocols: str = "", version: str = "13") -> tuple[str, SocketDuplex]:
    """(the head of the answer, the connection behind it)."""
    raw = await dial("127.0.0.1", port)
    lines = [f"GET {PATH}?{query} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    lines += [f"Sec-WebSocket-Version: {version}", f"Sec-WebSocket-Key: {base64.b64encode(b'k' * 16).decode()}"]
    lines += [f"Sec-WebSocket-Protocol: {protocols}"] if protocols else []
    raw.write("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await raw.read(1)
        assert piece, head
        head += piece
    return head.decode(), raw


def served(tale: Any) -> None:
    async def main() -> None:
        async with ApiServer(clock=SystemClock()) as api:

            async def handle(request: Request) -> Response:
                request.user = COMPONENT
                return await api.api.handle(request)

            edge = HttpServer(handle, clock=SystemClock())
            await edge.start("127.0.0.1", 0)
            try:
                async with asyncio.timeout(20):
                    await tale(api, edge.port)
            finally:
                await edge.close(0)

    asyncio.run(main())


async def event(socket: WebSocket) -> tuple[str, str]:
    message = await socket.receive()
    assert isinstance(message, str), "JSON is sent as text"
    found = orjson.loads(message)
    return found["type"], found["object"]["metadata"].get("name", "")


def test_34_one_message_per_event() -> None:
    async def tale(api: ApiServer, port: int) -> None:
        for name in ("a", "b"):
            await api.client.create(CONFIGMAPS, {"metadata": {"name": name}}, "default")
        head, raw = await upgrade(
            port, "watch=1&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        )
        assert head.startswith("HTTP/1.1 101 ")
        assert "sec-websocket-protocol" not in head.lower()
        socket = WebSocket(raw, client=True)
        assert [await event(socket) for _ in range(3)] == [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", "")]
        await asyncio.gather(
            *(api.client.create(CONFIGMAPS, {"metadata": {"name": n}}, "default") for n in ("c", "d", "e"))
        )
        assert sorted([await event(socket) for _ in range(3)]) == [("ADDED", "c"), ("ADDED", "d"), ("ADDED", "e")]
        await api.client.delete(CONFIGMAPS, "c", "default")
        assert await event(socket) == ("DELETED", "c")
        socket.send("nobody listens to this")
        await api.client.delete(CONFIGMAPS, "d", "default")
        assert await event(socket) == ("DELETED", "d")
        channel = api.api.served[("", "v1", "configmaps")].channel
        before = len(list(channel.watchers()))
        await socket.close()
        await api.until(lambda: len(list(channel.watchers())) == before - 1)

    served(tale)


def test_34_the_server_ends_the_watch_with_a_close_frame() -> None:
    async def tale(api: ApiServer, port: int) -> None:
        _, raw = await upgrade(port, "watch=1&timeoutSeconds=1")
        socket = WebSocket(raw, client=True)
        assert await socket.receive() is None
        assert socket.close_code == 1000

    served(tale)


@pytest.mark.parametrize(
    ("offer", "chosen"),
    [
        ("binary.k8s.io", "binary.k8s.io"),
        ("base64.binary.k8s.io", "base64.binary.k8s.io"),
        ("v4.base64.binary.k8s.io, binary.k8s.io", "v4.base64.binary.k8s.io"),
    ],
)
def test_34_sub_protocols_are_echoed_and_change_nothing(offer: str, chosen: str) -> None:
    async def tale(api: ApiServer, port: int) -> None:
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
        head, raw = await upgrade(port, "watch=1&resourceVersion=0", offer)
        lines = [
            line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-protocol")
        ]
        assert lines == [chosen]
        socket = WebSocket(raw, client=True)
        assert await event(socket) == ("ADDED", "a")
        await socket.close()

    served(tale)


def test_34_errors_come_before_the_upgrade() -> None:
    async def tale(api: ApiServer, port: int) -> None:
        for query, version, status in (("watch=1&resourceVersion=x", "13", "400"), ("watch=1", "8", "400")):
            head, raw = await upgrade(port, query, version=version)
            assert head.split(" ")[1] == status
            assert b'"kind":"Status"' in await raw.read()
            raw.close()

    served(tale)
