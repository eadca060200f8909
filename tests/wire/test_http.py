"""The HTTP edge as clients see it: >> what is sent, << what must come back, on both loops and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wirekit import certificates, exchange, run, serving

from jota.aio.clock import SystemClock
from jota.wire import connection as connection_module
from jota.wire import duplex as duplex_module
from jota.wire.answer import build_head
from jota.wire.dial import dial
from jota.wire.http import HttpServer
from jota.wire.limits import Limits
from jota.wire.message import Request, Response

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"


async def echo(request: Request) -> Response:
    """Says what it got; /slow suspends first."""
    if request.path == "/slow":
        async with asyncio.timeout(5):
            await asyncio.sleep(0.01)
    if request.path == "/boom":
        raise KeyError("boom")
    if request.path == "/late-boom":
        await asyncio.sleep(0)
        raise KeyError("boom")
    if request.path == "/list":
        return Response(200, [], [b"a" * 40_000, b"b" * 40_000])
    if request.path == "/inject":
        return Response(200, [("X-Name", "a\r\nX-Other: b")])
    if request.path == "/none":
        return Response(204)
    if request.path == "/stream":
        return Response(200, [("Content-Type", "text/plain")], stream=three)
    if request.path == "/up":
        return Response(101, [("Upgrade", "shout")], upgrade=shout)
    return Response(200, [], f"{request.method} {request.path} {request.query} {len(request.body)};".encode())


async def three(writer) -> None:
    for n in range(3):
        writer.write([b"line ", b"%d\n" % n])
        writer.write([])
        await writer.drain()
        await asyncio.sleep(0)


async def shout(duplex) -> None:
    while data := await duplex.read():
        duplex.write(data.upper())
        await duplex.drain()
    duplex.write(b"bye")


def talk(data: bytes, loop: str = "asyncio", handler=echo, **options) -> bytes:
    async def main() -> bytes:
        async with serving(handler, **options) as server:
            return await exchange(server.port, data)

    return run(main(), loop)


CLOSE = b"Connection: close\r\n"


@LOOPS
def test_keep_alive_and_pipelined_requests_are_answered_in_order(loop):
    paths = [b"/slow", b"/1?a=b", b"/slow", b"/2", b"/stream", b"/3"]
    data = b"".join(GET % (p, b"") for p in paths) + GET % (b"/last", CLOSE)
    answer = talk(data, loop)
    places = [answer.index(text) for text in (b"GET /1 a=b", b"GET /2", b"line 2", b"GET /3", b"GET /last")]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 7
    assert answer.count(b"Connection: close") == 1


@LOOPS
def test_bytes_one_by_one_are_the_same_request(loop):
    async def main():
        async with serving(echo) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            data = b"POST /some/long/path?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            for at in range(len(data)):
                writer.write(data[at : at + 1])
                await asyncio.sleep(0)
                await writer.drain()
            answer = await reader.read()
            writer.close()
            return answer

    assert b"POST /some/long/path q=1 3;" in run(main(), loop)


TABLE = [
    (
        "HEAD has no body but its length",
        b"HEAD /x HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n",
        b"Content-Length: 11",
        b"HEAD /x",
    ),
    ("204 has no body", GET % (b"/none", CLOSE), b"204 No Content", b"Content-Length"),
    ("HTTP/1.0 closes", b"GET /a HTTP/1.0\r\n\r\n", b"Connection: close", b"keep-alive"),
    (
        "HTTP/1.0 stream is not chunked",
        b"GET /stream HTTP/1.0\r\n\r\n",
        b"\r\n\r\nline 0\nline 1\nline 2\n",
        b"chunked",
    ),
    (
        "a stream is chunked",
        GET % (b"/stream", CLOSE),
        b"7\r\nline 0\n\r\n7\r\nline 1\n\r\n7\r\nline 2\n\r\n0\r\n\r\n",
        b"Length",
    ),
    ("HEAD of a stream", b"HEAD /stream HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n", b"chunked\r\n\r\n", b"line"),
    ("absolute form", b"GET http://h/p?q HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n", b"GET /p q 0;", b"http:"),
    (
        "chunked request body",
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        + CLOSE
        + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"POST /p  5;",
        b"400",
    ),
    (
        "100-continue",
        b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE + b"\r\nhi",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200",
        b"417",
    ),
    (
        "unknown expectation",
        b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 2\r\n\r\nhi",
        b" 417 ",
        b" 200 ",
    ),
    ("garbage", b"\x16\x03\x01 what\r\n\r\n", b" 400 Bad Request", b" 200 "),
    (
        "two lengths",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b" 400 ",
        b" 200 ",
    ),
    (
        "smuggling",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b" 400 ",
        b" 200 ",
    ),
    ("HTTP/1.1 without a Host", b"GET /a HTTP/1.1\r\n" + CLOSE + b"\r\n", b" 400 ", b" 200 "),
    (
        "a coding that is not undone here",
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n" + CLOSE + b"\r\n3\r\nabc\r\n0\r\n\r\n",
        b" 501 Not Implemented",
        b" 200 ",
    ),
    (
        "HTTP/1.0 knows no chunks",
        b"POST /p HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b" 400 ",
        b" 200 ",
    ),
    (
        "a coding in capitals",
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\n" + CLOSE + b"\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /p  3;",
        b"501",
    ),
    ("garbage after a good request", GET % (b"/slow", b"") + b"\x00\x01\r\n\r\n", b"GET /slow", b"nothing"),
    (
        "an upgrade not granted goes on",
        GET % (b"/a", b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + GET % (b"/b", CLOSE),
        b"GET /b",
        b"101",
    ),
    (
        "after a slow one too",
        GET % (b"/slow", b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + GET % (b"/b", CLOSE),
        b"GET /b",
        b"101",
    ),
    ("upgrade without being asked", GET % (b"/up", CLOSE), b" 400 ", b"101"),
]


@LOOPS
@pytest.mark.parametrize(("name", "sent", "there", "absent"), TABLE, ids=[row[0] for row in TABLE])
def test_one_exchange(loop, name, sent, there, absent):
    answer = talk(sent, loop)
    assert there in answer
    assert absent not in answer


@LOOPS
@pytest.mark.parametrize("path", [b"/boom", b"/late-boom", b"/inject"])
def test_a_handler_that_fails_is_a_500_status_and_one_log_record(loop, path, caplog):
    with caplog.at_level(logging.ERROR):
        answer = talk(GET % (path, b""), loop)
    assert b"HTTP/1.1 500" in answer
    assert b'"reason":"InternalError"' in answer
    assert len([r for r in caplog.records if r.name == "jota.wire"]) == 1


@LOOPS
def test_a_handler_may_give_a_future_of_its_answer(loop, caplog):
    """Done at once, later or with an error: each answer comes in its turn."""

    def handler(request):
        future = asyncio.get_running_loop().create_future()
        match request.path:
            case "/now":
                future.set_result(Response(200, [], b"now"))
            case "/later":
                asyncio.get_running_loop().call_later(0.01, future.set_result, Response(200, [], b"later"))
            case "/boom":
                asyncio.get_running_loop().call_soon(future.set_exception, RuntimeError("boom"))
        return future

    async def main():
        async with serving(handler) as server:
            sent = b"".join(GET % (path, b"") for path in (b"/later", b"/now", b"/later", b"/boom", b"/now"))
            answer = await exchange(server.port, sent)
            assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"200", b"500"]  # and closes
            assert re.findall(rb"\r\n\r\n(later|now)", answer) == [b"later", b"now", b"later"]

    with caplog.at_level(logging.ERROR):
        run(main(), loop)
    assert len([r for r in caplog.records if r.name == "jota.wire"]) == 1


LIMITS = Limits(header=2000, headers=20, body=1000, header_time=1, body_time=1, idle=2, connections=2)


@LOOPS
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", b" 431 "),
        (GET % (b"/", b"".join(b"X-%d: 1\r\n" % n for n in range(30))), b" 431 "),
        (GET % (b"/", b"X: " + b"y" * 3000 + b"\r\n"), b" 431 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + b"z" * 500, b" 413 "),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n500\r\n"
            + b"z" * 0x500
            + b"\r\n0\r\n\r\n",
            b" 413 ",
        ),
        (b"GET / HTTP/1.1\r\nHost:", b" 408 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", b" 408 "),
        (b"", b""),
        (GET % (b"/", b""), b" 200 "),
    ],
)
def test_limits_end_the_connection(loop, sent, code):
    """The fast clock makes a second last a hundredth; the read ends only because the server closes."""
    answer = talk(sent, loop, limits=LIMITS, fast=True)
    assert answer.startswith(b"HTTP/1.1" + code) if code else answer == b""


@LOOPS
def test_a_client_over_the_limit_of_connections_is_told(loop):
    async def main():
        async with serving(echo, limits=LIMITS) as server:
            others = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            await asyncio.sleep(0.02)
            answer = await exchange(server.port, b"")
            for _, writer in others:
                writer.close()
            return answer

    assert run(main(), loop).startswith(b"HTTP/1.1 503")


@LOOPS
def test_a_half_closed_client_still_gets_its_answer(loop):
    async def main():
        async with serving(echo) as server:
            return await exchange(server.port, GET % (b"/slow", b"") + GET % (b"/next", b""), eof=True)

    answer = run(main(), loop)
    assert b"GET /slow" in answer
    assert b"GET /next" in answer


@LOOPS
@pytest.mark.parametrize("how", ["stream", "handler", "future"])
def test_a_peer_that_goes_away_cancels_what_works_for_it(loop, how):
    async def main():
        began, ended = asyncio.Event(), asyncio.Event()

        async def forever(*_):
            began.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        async def begin(request):
            return Response(200, stream=forever) if how == "stream" else await forever()

        def pending(request):
            began.set()
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: ended.set())
            return future

        handler = pending if how == "future" else begin
        async with serving(handler) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET % (b"/", b""))
            await began.wait()
            if how != "stream":  # a mere FIN may be a half-close, whose answer is still wanted
                reset = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)

    run(main(), loop)


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_an_upgrade_loses_no_early_bytes_and_half_closes(loop, tls, tmp_path):
    server_context, client_context, _ = certificates(tmp_path)

    async def main():
        async with serving(echo, tls=server_context if tls else None) as server:
            context = client_context(False) if tls else None
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="localhost" if tls else None
            )
            writer.write(GET % (b"/up", b"Connection: Upgrade\r\nUpgrade: shout\r\n") + b"early ")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"late" + b"x" * 300_000)
            got = await reader.readexactly(10 + 300_000)
            if not tls:
                writer.write_eof()
                assert await reader.read() == b"bye"
            writer.close()
            return head, got

    head, got = run(main(), loop)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n")
    assert got == b"EARLY LATE" + b"X" * 300_000


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_with_many_requests_that_is_gone_is_missed(loop, tls, tmp_path):
    """With so many waiting its socket is not read, and what works for it may work for long (a proxied request)."""
    server_context, client_context, _ = certificates(tmp_path)

    async def never(request):
        await asyncio.sleep(3600)

    async def main():
        async with serving(never, tls=server_context if tls else None, fast=True) as server:
            context = client_context(False) if tls else None
            _, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="localhost" if tls else None
            )
            for _ in range(20):
                writer.write(GET % (b"/", b""))
                await asyncio.sleep(0.01)
            assert server.tasks
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            while server.connections or server.tasks:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    run(main(), loop)


@LOOPS
def test_who_asks_whether_to_go_on_is_told_after_the_answers_before(loop):
    """Else both wait, and the body never comes."""

    async def main():
        async with serving(echo) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE + b"\r\n"
            writer.write(GET % (b"/slow", b"") + GET % (b"/slow", b"") + head)
            before = await reader.readuntil(b"100 Continue\r\n\r\n")
            writer.write(b"hi")
            after = await reader.read()
            writer.close()
            return before, after

    before, after = run(main(), loop)
    assert (before.count(b" 200 OK"), before.count(b"GET /slow")) == (2, 2)
    assert after.startswith(b"HTTP/1.1 200")


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_a_session_that_does_not_read_learns_that_its_client_is_gone(loop, tls, tmp_path, monkeypatch):
    """As when megabytes are sent to a command that does not read its input: the socket is not watched then."""
    server_context, client_context, _ = certificates(tmp_path)
    monkeypatch.setattr(duplex_module, "LOOK", 0.05)
    monkeypatch.setattr(connection_module, "LEFT", 0.05)
    ended = []

    async def stuck(duplex):
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def handler(request):
        return Response(101, [("Upgrade", "shout")], upgrade=stuck)

    async def main():
        async with serving(handler, tls=server_context if tls else None) as server:
            context = client_context(False) if tls else None
            _, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="localhost" if tls else None
            )
            writer.write(GET % (b"/up", b"Connection: Upgrade\r\nUpgrade: shout\r\n"))
            writer.write(b"x" * (24 << 20))
            await asyncio.sleep(0.2)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            while not ended:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            assert not server.connections

    run(main(), loop)


@LOOPS
def test_peers_that_have_vanished_are_found_out_by_the_kernel(loop):
    """A machine that loses its power says nothing: keep-alive, as Go's servers and dialers have it."""

    async def main():
        async with serving(echo) as server:
            duplex = await dial("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            (conn,) = server.connections
            ends = (duplex.get_extra_info("socket"), conn._transport.get_extra_info("socket"))
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            found = [[sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] for sock in ends]
            on = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for sock in ends]
            duplex.close()
            return on, found

    assert run(main(), loop) == ([1, 1], [[15, 15, 9], [15, 15, 9]])


@LOOPS
def test_the_verified_client_certificate_is_seen(loop, tmp_path):
    server_context, client_context, der = certificates(tmp_path)
    seen = []

    async def handler(request):
        seen.append(request.peer.certificate)
        return Response(200, [], b"x" * 200_000)

    async def main():
        async with serving(handler, tls=server_context) as server:
            for with_certificate in (True, False):
                answer = await exchange(server.port, GET % (b"/", CLOSE), tls=client_context(with_certificate))
                assert answer.endswith(b"x" * 1000)

    run(main(), loop)
    assert seen == [der, None]


@pytest.mark.parametrize(
    ("loop", "tls"),
    [("asyncio", False), ("asyncio", True), ("uvloop", False), ("uvloop", True)],
)
def test_buffered_tells_what_a_slow_reader_has_not_taken(loop, tls, tmp_path):
    server_context, client_context, _ = certificates(tmp_path)
    size = 32_000_000
    seen = []

    async def stream(writer):
        for _ in range(size // 100_000):
            writer.write([b"x" * 100_000])
        await asyncio.sleep(0.2)
        seen.append(writer.buffered)
        await writer.drain()
        seen.append(writer.buffered)

    async def handler(request):
        return Response(200, stream=stream)

    async def main():
        async with serving(handler, tls=server_context if tls else None) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                server.port,
                ssl=client_context(False) if tls else None,
                server_hostname="localhost" if tls else None,
                limit=1000,
            )
            writer.write(GET % (b"/", CLOSE))
            await asyncio.sleep(0.4)
            while await reader.read(1 << 20):
                pass
            writer.close()

    run(main(), loop)
    assert seen[0] > size // 8, seen
    assert seen[1] < 300_000, seen


@LOOPS
def test_close_lets_what_is_begun_finish_and_cuts_streams_after_the_grace(loop):
    async def main():
        gate = asyncio.Event()

        async def handler(request):
            if request.path == "/stream":
                return Response(200, stream=lambda w: asyncio.get_running_loop().create_future())
            await gate.wait()
            return Response(200, [], b"finished")

        async with serving(handler) as server:
            busy = asyncio.create_task(exchange(server.port, GET % (b"/", b"")))
            stream = asyncio.create_task(exchange(server.port, GET % (b"/stream", b"")))
            idle = asyncio.create_task(exchange(server.port, b""))
            await asyncio.sleep(0.05)
            closing = asyncio.create_task(server.close(0.3))
            assert await idle == b""
            gate.set()
            assert (await busy).endswith(b"finished")
            assert not closing.done()
            with contextlib.suppress(ConnectionResetError):
                assert b"0\r\n\r\n" not in (await stream).partition(b"\r\n\r\n")[2]
            await closing
            assert not server.connections
            assert not server.tasks

    run(main(), loop)


def test_long_heads_are_not_remembered():
    """Answers of other servers are passed on with theirs."""
    server = HttpServer(echo, clock=SystemClock())
    for n in range(100):
        assert server.head(200, [("X-Long", f"{n}" * 5000)]).data
        assert server.head(200, [("X-Short", "a")]) is server.head(200, [("X-Short", "a")])
    assert len(server._heads) == 1


def test_heads_that_would_break_out_of_their_line_are_refused():
    for bad in ("a\nb", "a\rb", "a\0b"):
        with pytest.raises(ValueError, match="cannot be sent"):
            build_head(200, [("X", bad)])
    assert "é".encode("latin-1") in build_head(200, [("X", "é")]).data
    assert "조타".encode() in build_head(200, [("X", "조타")]).data


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\n",
                b"POST /p HTTP/1.1\r\n",
                b"Host: x\r\n",
                b"\r\n",
                b"Content-Length: 3\r\n",
                b"abc",
                b"Transfer-Encoding: chunked\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"Connection: Upgrade\r\nUpgrade: x\r\n",
                b"Expect: 100-continue\r\n",
                b"Connection: close\r\n",
                b"GET /stream HTTP/1.1\r\n\r\n",
                b"GET /slow HTTP/1.0\r\n\r\n",
            ]
        ),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=PIECES)
def test_whatever_is_sent_the_server_answers_or_closes_and_lives(pieces):
    # connections that are being closed count too
    limits = dataclasses.replace(LIMITS, connections=10)

    async def main():
        async with serving(echo, limits=limits, fast=True) as server:
            with contextlib.suppress(ConnectionResetError):
                await exchange(server.port, b"".join(pieces))
            with contextlib.suppress(ConnectionResetError):
                await exchange(server.port, b"".join(pieces), eof=True)
            for _ in range(20):  # ten milliseconds are a busy machine's pause, and the server's patience here
                with contextlib.suppress(ConnectionResetError):
                    answer = await exchange(server.port, GET % (b"/alive", CLOSE))
                    if b"GET /alive" in answer:
                        return answer
            return b""

    assert b"GET /alive" in run(main())
