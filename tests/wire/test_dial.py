"""Requests passed on to another server: what streams, what is upgraded, what fails - with and without TLS on both legs."""

from __future__ import annotations

import asyncio
import socket

import pytest
from test_remotecommand import exec_handler, spdy_exec, websocket_exec
from wirekit import certificates, exchange, run, serving

from jota.wire import connection as connection_module
from jota.wire import duplex as duplex_module
from jota.wire.dial import BadGateway, dial, forward
from jota.wire.message import Request, Response, joined

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def passing(port, seen=None, context=None):
    async def handler(request):
        response = await forward(
            request,
            host="127.0.0.1",
            port=port,
            path=request.path + "?" + request.query,
            ssl=context,
            server_hostname="localhost" if context else None,
            headers=[("X-Added", "yes")],
        )
        if seen is not None:
            seen.append(response)
        return response

    return handler


async def origin(request):
    if request.path == "/stream":

        async def stream(writer):
            for _ in range(3):
                writer.write([b"part;"])
                await asyncio.sleep(0.01)

        return Response(200, [("Content-Type", "text/plain")], stream=stream)
    text = f"{request.method} {request.query} {len(request.body)} {request.headers.get('x-added')} {request.headers.get('te')}"
    return Response(404 if request.path == "/missing" else 200, [("X-Back", "1")], text.encode())


@LOOPS
@pytest.mark.parametrize(
    ("sent", "there"),
    [
        (b"GET /a?q=1 HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n", b"GET q=1 0 yes None"),
        (b"POST /a?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n", b"POST q=1 3 yes None"),
        (b"GET /missing HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 404"),
        (b"GET /stream HTTP/1.1\r\nHost: x\r\n", b"5\r\npart;\r\n5\r\npart;\r\n5\r\npart;\r\n0\r\n\r\n"),
        (b"HEAD /a HTTP/1.1\r\nHost: x\r\n", b"Content-Length: 16\r\n"),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade, close\r\n", b"GET  0 yes None"),
    ],
)
def test_answers_are_passed_on(loop, sent, there):
    body = b"abc" if sent.startswith(b"POST") else b""
    close = b"" if b"close" in sent else b"Connection: close\r\n"

    async def main():
        async with serving(origin) as back, serving(passing(back.port)) as front:
            return await exchange(front.port, sent + close + b"\r\n" + body)

    assert there in run(main(), loop)


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", b"HTTP/1.1 2"],
)
def test_an_answer_that_is_not_one_raises_before_anything_was_said(answer):
    async def main():
        async def speak(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        from jota.wire.message import Request

        with pytest.raises(BadGateway):
            await forward(Request("GET", "/"), host="127.0.0.1", port=port, path="/")
        server.close()
        with pytest.raises(OSError):
            await dial("127.0.0.1", port)

    run(main())


@LOOPS
def test_head_of_what_has_no_length_names_none(loop):
    async def main():
        async with serving(origin) as back, serving(passing(back.port)) as front:
            return await exchange(front.port, b"HEAD /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    answer = run(main(), loop)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Transfer-Encoding: chunked\r\n\r\n" in answer
    assert b"Length" not in answer


@LOOPS
def test_who_refuses_a_body_without_reading_it_is_heard(loop):
    """It answers and keeps the connection: nobody waits for it to take the rest."""
    waiting = []

    async def refuse(reader, writer):
        writer.transport.pause_reading()
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        waiting.append(writer)

    async def main():
        backend = await asyncio.start_server(refuse, "127.0.0.1", 0)
        backend.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        request = Request("POST", "/", body=b"x" * (8 << 20))
        try:
            return await forward(request, host="127.0.0.1", port=backend.sockets[0].getsockname()[1], path="/")
        finally:
            for writer in waiting:
                writer.transport.abort()
            backend.close()

    response = run(main(), loop)
    assert (response.status, joined(response.body)) == (413, b"big")


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("client", [websocket_exec, spdy_exec], ids=["websocket", "spdy"])
def test_exec_through_two_servers(loop, tls, client, tmp_path):
    """kubectl -> API server -> kubelet: both legs over TLS, the upgrade is spliced."""
    server_context, client_context, _ = certificates(tmp_path)
    context = client_context(True) if tls else None

    async def main():
        server_tls = server_context if tls else None
        async with (
            serving(exec_handler, tls=server_tls) as back,
            serving(passing(back.port, context=context), tls=server_tls) as front,
        ):
            duplex = await dial("127.0.0.1", front.port, ssl=context, server_hostname="localhost")
            result = await client(duplex, b"x" * 500_000)
            duplex.close()
            return result

    out, status = run(main(), loop)
    assert out == b"X" * 500_000
    assert b'"ExitCode"' in status
    assert b'"3"' in status


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("leaver", ["client", "server"])
def test_both_connections_of_an_upgrade_end_together(loop, tls, leaver, tmp_path):
    """A session that says nothing: no write would tell that nobody is left. TLS has no half-close that would."""
    server_context, client_context, _ = certificates(tmp_path)
    context = client_context(True) if tls else None

    async def main():
        told = asyncio.Event()
        leave = asyncio.Event()

        async def silent(duplex):
            if leaver == "server":
                await leave.wait()
                return
            while await duplex.read():
                pass
            told.set()

        async def node(request):
            return Response(101, [("Upgrade", "silent"), ("Connection", "Upgrade")], upgrade=silent)

        server_tls = server_context if tls else None
        async with (
            serving(node, tls=server_tls) as back,
            serving(passing(back.port, context=context), tls=server_tls) as front,
        ):
            duplex = await dial("127.0.0.1", front.port, ssl=context, server_hostname="localhost")
            duplex.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: silent\r\n\r\n")
            assert (await duplex.read()).startswith(b"HTTP/1.1 101")
            if leaver == "client":
                duplex.abort()
                await told.wait()
            else:
                leave.set()
                assert await duplex.read() == b""
            while front.tasks or back.tasks:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            duplex.close()

    run(main(), loop)


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_goes_ends_a_session_that_does_not_read(loop, tls, tmp_path, monkeypatch):
    """Megabytes of input that the command does not take wait in both servers and in the kernel."""
    server_context, client_context, _ = certificates(tmp_path)
    context = client_context(True) if tls else None
    monkeypatch.setattr(duplex_module, "LOOK", 0.05)
    monkeypatch.setattr(connection_module, "LEFT", 0.05)
    ended = asyncio.Event()

    async def stuck(duplex):
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def node(request):
        return Response(101, [("Upgrade", "stuck"), ("Connection", "Upgrade")], upgrade=stuck)

    async def main():
        server_tls = server_context if tls else None
        async with (
            serving(node, tls=server_tls) as back,
            serving(passing(back.port, context=context), tls=server_tls) as front,
        ):
            duplex = await dial("127.0.0.1", front.port, ssl=context, server_hostname="localhost")
            duplex.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: stuck\r\n\r\n")
            assert (await duplex.read()).startswith(b"HTTP/1.1 101")
            duplex.write(b"x" * (40 << 20))
            await asyncio.sleep(0.5)
            duplex.reset()
            await ended.wait()
            while front.tasks or back.tasks or front.connections or back.connections:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    run(main(), loop)


@LOOPS
def test_a_plain_answer_to_an_upgrade_is_passed_on(loop):
    async def main():
        async with serving(origin) as back, serving(passing(back.port)) as front:
            head = b"GET /missing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            return await exchange(front.port, head + b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    answer = run(main(), loop)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"HTTP/1.1 200" in answer
