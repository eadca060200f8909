"""The HTTP edge: any bytes give requests or one refusal, the same however they are cut, and never an exception.

Messages that repeat the last one but for their path are not parsed again (repeated.py): cut where heads end, the bytes give
the same requests and answers with that memory and without.
"""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from jota.aio.clock import SystemClock
from jota.wire import reading
from jota.wire.connection import Connection
from jota.wire.http import HttpServer
from jota.wire.limits import Limits
from jota.wire.message import Request, Response
from targets import kit

LIMITS = Limits(header=2048, headers=20, body=4096)
SEEDS = [
    b"\0GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n",
    b"\3POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n",
    b"\7POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"\0GET /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n\x81\x80",
    b"\0POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"\5GET http://h/p HTTP/1.1\r\nX-Remote-User: a\r\nX-Remote-User: b\r\nCookie: a\r\ncookie: b\r\n\r\n",
    b"\0OPTIONS * HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"\0POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\0" + b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n" % n for n in range(4)),
    b"\0GET /a HTTP/1.1\r\nA: b\r\n\r\nGET /b HTTP/1.1\r\nA: b\r\n\r\nDELETE /c HTTP/1.1\r\nA: b\r\n\r\n"
    b"GET /slow HTTP/1.1\r\nA: b\r\n\r\nGET /a b HTTP/1.1\r\nA: b\r\n\r\n",
]
WORDS = [
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1\r\n",
    b"Upgrade: ",
    b"Expect: ",
]
Taken = tuple[str, str, str, bytes, list[tuple[str, str]]]


async def _serve(reads: list[bytes]) -> tuple[list[Taken], list[bytes]]:
    taken: list[Taken] = []

    async def handler(request: Request) -> Response:
        assert request.path == "*" or request.path.startswith("/"), request.path
        assert len(request.body) <= LIMITS.body
        assert len(request.headers) <= LIMITS.headers
        assert sum(map(len, request.headers.values())) <= LIMITS.header + len(request.headers)
        taken.append((request.method, request.path, request.query, request.body, sorted(request.headers.items())))
        if request.path.endswith("/slow"):
            await asyncio.sleep(0)
        return Response(200, body=b"ok")

    server = HttpServer(handler, limits=LIMITS, clock=SystemClock())
    server.loop = asyncio.get_running_loop()
    wire, done, broken = kit.Wire(), asyncio.Event(), list[BaseException]()
    connection = Connection(server)

    def feed(at: int) -> None:
        try:
            if at == 0:
                connection.connection_made(wire)
            if at < len(reads) and not wire.closing:
                connection.data_received(reads[at])
                server.loop.call_soon(feed, at + 1)
                return
            connection.eof_received()
            server.loop.call_later(0, done.set)
        except BaseException as error:
            broken.append(error)
            done.set()

    server.loop.call_soon(feed, 0)
    await done.wait()
    for _ in range(40):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    for task in list(server.tasks):
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if broken:
        raise broken[0]
    return taken, wire.written


def _quiet(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    raise AssertionError(context)


def check(data: bytes) -> None:
    data = data[:6000]
    cut, _ = kit.run(_serve(list(kit.pieces(data))))
    whole, written = kit.run(_serve([data[1:]]))
    # what differs between reads is only where a refusal comes: the requests before it are the same
    short, long = sorted((cut, whole), key=len)
    assert long[: len(short)] == short, (cut, whole)
    answers = b"".join(written)
    assert answers == b"" or answers.startswith(b"HTTP/1.1 "), answers
    assert b"HTTP/1.1 500" not in answers
    heads = [head + b"\r\n\r\n" for head in data[1:].split(b"\r\n\r\n")]
    heads[-1] = heads[-1][:-4]
    remembering = kit.run(_serve(heads))
    with mock.patch.object(reading, "repeatable", return_value=None):
        assert remembering == kit.run(_serve(heads))
