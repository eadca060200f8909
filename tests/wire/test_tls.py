"""TLS over the plain transport: what peers do to it, on both loops and both versions.

The client here is an `ssl.MemoryBIO` too, so that a test decides which bytes travel when.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from wirekit import certificates, run, serving

from jota.wire.duplex import SocketDuplex
from jota.wire.limits import Limits
from jota.wire.message import Request, Response
from jota.wire.tls import TlsProtocol, TlsTransport

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


class Inner(asyncio.Protocol):
    """Records what it sees; echoes when asked to."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.got = bytearray()
        self.calls: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: TlsTransport
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(TlsTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.changed.set()
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return False

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.changed.set()
        if not self.lost.done():
            self.lost.set_result(exc)

    async def until(self, size: int) -> None:
        while len(self.got) < size:
            assert not self.lost.done(), f"lost after {len(self.got)} bytes"
            self.changed.clear()
            await self.changed.wait()


class Client:
    """The other end, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.reader, self.writer = reader, writer
        self._in, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self.out, server_hostname="localhost")

    async def step(self, do: Callable[[], Any]) -> Any:
        """Run one TLS operation, moving bytes as it wants them. Raises EOFError when the server hangs up."""
        while True:
            try:
                result = do()
            except ssl.SSLWantReadError:
                self.send()
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError from None
                self._in.write(data)
            else:
                self.send()
                return result

    def send(self) -> None:
        if self.out.pending:
            self.writer.write(self.out.read())

    async def handshake(self) -> None:
        await self.step(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        await self.step(lambda: self.tls.write(data))
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            more = await self.step(lambda: self.tls.read(65536))
            if not more:
                break
            got += more
        return got


async def until(holds: Callable[[], bool]) -> None:
    """Look again in every turn of the loop (the caller's deadline ends it)."""
    while not holds():  # noqa: ASYNC110 - what is looked at has no event of its own
        await asyncio.sleep(0)


class World:
    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, port: int) -> None:
        self.server, self.context, self.port = server, client, port
        self.protocols: list[TlsProtocol] = []

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port), self.context)

    async def joined(self) -> tuple[Client, Inner]:
        client = await self.connect()
        await client.handshake()
        await until(lambda: bool(self.protocols and self.protocols[-1].inner))
        return client, cast(Inner, self.protocols[-1].inner)


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    *,
    version: ssl.TLSVersion = V13,
    echo: bool = False,
    timeout: float = 5.0,
    certificate: bool = False,
    make: Callable[[], asyncio.Protocol] | None = None,
) -> AsyncIterator[World]:
    server_side, client_side, _ = certificates(folder)
    context = client_side(certificate)
    context.minimum_version = context.maximum_version = version
    made = World(server_side, context, 0)

    def accept() -> TlsProtocol:
        protocol = TlsProtocol(server_side, make or (lambda: Inner(echo)), timeout)
        made.protocols.append(protocol)
        return protocol

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for protocol in made.protocols:
            protocol._plain.abort()
        await asyncio.sleep(0.01)


@LOOPS
@VERSIONS
def test_bytes_travel_both_ways_and_the_goodbye_is_said(loop: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, version=version, echo=True) as w:
            client, inner = await w.joined()
            text = os.urandom(300_000)
            sending = asyncio.ensure_future(client.write(text))
            assert await client.read(len(text)) == text
            await sending
            inner.transport.close()
            assert inner.transport.is_closing()
            inner.transport.write(b"too late")
            assert await client.read(1) == b""
            assert client.tls.read(1) == b""  # close_notify, not merely an end of file
            client.writer.close()
            assert await inner.lost is None
            assert inner.calls[-1] == "lost"

    run(story(), loop)


@LOOPS
@VERSIONS
def test_data_in_the_handshakes_last_flight_is_not_lost(loop: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, version=version, echo=True) as w:
            client = await w.connect()
            held = client.send
            if version is V13:
                # the client is done before its Finished has left: data goes in the same segment
                def hold() -> None:
                    try:
                        client.tls.version()
                        client.tls.write(b"early")
                    except ssl.SSLError:
                        held()
                        return
                    held()
                    client.send = held  # type: ignore[method-assign]

                client.send = hold  # type: ignore[method-assign]
                await client.handshake()
            else:
                await client.handshake()
                await client.write(b"early")
            assert await client.read(5) == b"early"
            client.writer.close()

    run(story(), loop)


@LOOPS
@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 600, b"\x16\x03\x01\xff\xff" + b"x" * 70_000])
def test_a_client_that_speaks_something_else_is_shown_the_door(loop: str, junk: bytes, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client = await w.connect()
            client.writer.write(junk)
            with contextlib.suppress(ConnectionError):
                while await client.reader.read(1024):
                    pass
            client.writer.close()
            assert w.protocols[-1].inner is None

    run(story(), loop)


@LOOPS
@pytest.mark.parametrize("sent", [0, 1, 200])
def test_a_handshake_that_takes_too_long_is_cut(loop: str, sent: int, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, timeout=0.1) as w:
            client = await w.connect()
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.do_handshake()
            client.writer.write(client.out.read()[:sent])
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b""
            client.writer.close()

    run(story(), loop, timeout=3)


@LOOPS
def test_a_handshake_in_single_bytes_is_a_handshake(loop: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, echo=True) as w:
            client = await w.connect()

            def dribble() -> None:
                for byte in client.out.read():
                    client.writer.write(bytes([byte]))

            client.send = dribble  # type: ignore[method-assign]
            await client.handshake()
            await client.write(b"hello")
            assert await client.read(5) == b"hello"
            client.writer.close()

    run(story(), loop)


@LOOPS
@VERSIONS
@pytest.mark.parametrize("asked", [True, False])
def test_the_clients_certificate_is_seen(loop: str, version: ssl.TLSVersion, asked: bool, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, version=version, certificate=asked) as w:
            client, inner = await w.joined()
            shown = inner.transport.get_extra_info("ssl_object").getpeercert(True)
            assert (shown is not None) == asked
            assert inner.transport.get_extra_info("peername")[0] == "127.0.0.1"
            client.writer.close()

    run(story(), loop)


@LOOPS
@VERSIONS
def test_a_peer_that_says_goodbye_is_answered(loop: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, version=version) as w:
            client, inner = await w.joined()
            await client.write(b"last words")
            await client.step(client.tls.unwrap)  # waits for the server's close_notify
            assert await inner.lost is None
            assert bytes(inner.got) == b"last words"
            assert inner.calls == ["eof", "lost"]
            client.writer.close()

    run(story(), loop)


@LOOPS
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_peer_that_disappears(loop: str, how: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client, inner = await w.joined()
            await client.write(b"cut")
            await inner.until(3)
            if how == "reset":
                client.writer.transport.abort()
            else:
                client.writer.write_eof()
            await inner.lost
            assert inner.calls[-1] == "lost"
            assert inner.calls.count("lost") == 1
            client.writer.close()

    run(story(), loop)


@LOOPS
@VERSIONS
def test_garbage_after_the_handshake_ends_the_connection(loop: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, version=version) as w:
            client, inner = await w.joined()
            client.writer.write(b"\x17\x03\x03\x00\x20" + b"z" * 32)
            await inner.lost
            inner.transport.write(b"nobody is there")
            inner.transport.writelines([b"no", b"body"])
            inner.transport.close()
            assert inner.got == b""
            client.writer.close()

    run(story(), loop)


@LOOPS
def test_what_a_slow_reader_has_not_taken_is_known_and_writing_is_paused(loop: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client, inner = await w.joined()
            inner.transport.set_write_buffer_limits(64 * 1024)
            assert inner.transport.get_write_buffer_limits()[1] == 64 * 1024
            client.writer.transport.pause_reading()
            written = 0
            piece = os.urandom(256 * 1024)
            while "pause" not in inner.calls:
                inner.transport.writelines([piece[:100_000], piece[100_000:]])
                written += len(piece)
                await asyncio.sleep(0)
                assert written < 64 << 20
            waiting = inner.transport.get_write_buffer_size()
            assert 64 * 1024 < waiting < written + 100_000  # the truth: neither nothing nor more than there is
            client.writer.transport.resume_reading()
            assert len(await client.read(written)) == written
            await until(lambda: "resume" in inner.calls)
            assert inner.transport.get_write_buffer_size() == 0
            client.writer.close()

    run(story(), loop, timeout=20)


@LOOPS
def test_an_abort_throws_away_what_waits(loop: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client, inner = await w.joined()
            client.writer.transport.pause_reading()
            while "pause" not in inner.calls:
                inner.transport.write(os.urandom(256 * 1024))
                await asyncio.sleep(0)
            inner.transport.abort()
            await inner.lost
            client.writer.transport.abort()

    run(story(), loop)


class Sipping(Inner):
    """Stops reading after every piece."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.pause_reading()
        assert not self.transport.is_reading()


@LOOPS
@VERSIONS
@pytest.mark.parametrize("goodbye", ["unwrap", "fin"])
def test_nothing_is_lost_when_reading_pauses(loop: str, version: ssl.TLSVersion, goodbye: str, tmp_path: Path) -> None:
    """The peer sends, says goodbye and goes, while the reader takes one record at a time."""

    async def story() -> None:
        async with world(tmp_path, version=version, make=Sipping) as w:
            client, inner = await w.joined()
            text = os.urandom(400_000)

            async def send() -> None:
                await client.write(text)
                if goodbye == "unwrap":
                    with contextlib.suppress(ssl.SSLWantReadError):
                        client.tls.unwrap()
                    client.send()
                client.writer.write_eof()

            sending = asyncio.ensure_future(send())
            while len(inner.got) < len(text):
                before = len(inner.got)
                for _ in range(3):
                    await asyncio.sleep(0)
                assert len(inner.got) - before <= 16 * 1024, "more than one record came while reading was paused"
                assert not inner.lost.done(), f"lost after {len(inner.got)}"
                inner.transport.resume_reading()
                inner.transport.resume_reading()
            await sending
            inner.transport.resume_reading()
            await inner.lost
            assert bytes(inner.got) == text
            assert inner.calls == ["eof", "lost"]
            client.writer.close()

    run(story(), loop)


@LOOPS
def test_an_upgrade_takes_the_transport_over(loop: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client, inner = await w.joined()
            duplex = SocketDuplex()
            inner.transport.set_protocol(duplex)
            assert inner.transport.get_protocol() is duplex
            duplex.attach(inner.transport, b"early ")
            assert await duplex.read() == b"early "
            await client.write(b"ping")
            assert await duplex.read() == b"ping"
            duplex.write(b"pong")
            await duplex.drain()
            assert await client.read(4) == b"pong"
            assert duplex.buffered == 0
            duplex.write_eof()  # TLS has none: nothing happens
            client.writer.transport.abort()
            assert await duplex.read() == b""
            with pytest.raises(ConnectionResetError):
                while True:
                    duplex.write(b"x")
                    await duplex.drain()
                    await asyncio.sleep(0)

    run(story(), loop)


@LOOPS
def test_a_duplex_over_tls_is_bounded_and_loses_nothing(loop: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            client, inner = await w.joined()
            duplex = SocketDuplex()
            inner.transport.set_protocol(duplex)
            duplex.attach(inner.transport)
            text = os.urandom(3 << 20)

            async def send() -> None:
                for at in range(0, len(text), 100_000):
                    await client.write(text[at : at + 100_000])
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.tls.unwrap()
                client.send()
                client.writer.write_eof()

            sending = asyncio.ensure_future(send())
            got = b""
            await asyncio.sleep(0.05)
            assert duplex._size < 1 << 20
            while data := await duplex.read(10_000):
                got += data
            await sending
            assert got == text
            client.writer.close()

    run(story(), loop, timeout=20)


@LOOPS
def test_renegotiation_is_refused(loop: str, tmp_path: Path) -> None:
    """Python cannot ask for one, the openssl program can: "R" on its standard input."""

    async def story() -> None:
        async with world(tmp_path, echo=True) as w:
            process = await asyncio.create_subprocess_exec(
                "openssl", "s_client", "-connect", f"127.0.0.1:{w.port}", "-tls1_2", "-CAfile", str(tmp_path / "ca.crt"),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            assert process.stdin is not None
            await until(lambda: bool(w.protocols and w.protocols[-1].inner))
            await asyncio.sleep(0.1)
            process.stdin.write(b"R\n")
            output, _ = await process.communicate()
            assert b"RENEGOTIATING" in output
            assert b"no renegotiation" in output

    run(story(), loop, timeout=10)


@LOOPS
@VERSIONS
def test_no_bytes_whatsoever_upset_the_loop(loop: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """Good records with bits flipped, cut and doubled: the connection may end, nothing may escape to the loop."""
    seed = random.randrange(1 << 30)
    print("seed", seed)

    async def story() -> None:
        chance = random.Random(seed)
        escaped: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        async with world(tmp_path, version=version, echo=True) as w:
            for _ in range(60):
                client = await w.connect()
                plain = client.send
                start = chance.randrange(4)

                left = [start]

                def spoil(client: Client = client, plain: Callable[[], None] = plain, left: list[int] = left) -> None:
                    left[0] -= 1
                    if left[0] >= 0 or not client.out.pending:
                        return plain()
                    data = bytearray(client.out.read())
                    for _ in range(chance.randrange(1, 4)):
                        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                    client.writer.write(bytes(data[: chance.randrange(len(data)) + 1]) * chance.choice((1, 1, 2)))
                    if chance.random() < 0.5:
                        client.writer.write_eof()
                    return None

                client.send = spoil  # type: ignore[method-assign]
                with contextlib.suppress(ssl.SSLError, ConnectionError, EOFError, TimeoutError, RuntimeError):
                    async with asyncio.timeout(0.05):
                        await client.handshake()
                        for _ in range(3):
                            await client.write(os.urandom(100))
                            await client.read(100)
                client.writer.transport.abort()
            await asyncio.sleep(0.05)
        assert escaped == []

    run(story(), loop, timeout=30)


@LOOPS
def test_unfinished_handshakes_count_as_connections_and_end_with_the_server(loop: str, tmp_path: Path) -> None:
    async def answer(request: Request) -> Response:
        return Response(200, [], b"ok")

    async def story() -> None:
        server_side, _, _ = certificates(tmp_path)
        async with serving(answer, tls=server_side, limits=Limits(connections=3)) as server:
            idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 1) == b""  # cut at once
            writer.close()
            await server.close(0)
            for reader, writer in idle:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 1) == b""
                writer.close()

    run(story(), loop)
