"""SPDY/3.1 as a playbook between a client and a server role, and against bytes of any kind."""

from __future__ import annotations

import asyncio
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wirekit import pipe, run

from jota.wire import spdy
from jota.wire.spdy import Data, Opened, ProtocolError, Replied, Reset, SpdyConnection, SpdySession


def test_the_dictionary_is_the_standards():
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


def test_playbook():
    client, server = SpdyConnection(client=True), SpdyConnection()
    number = client.open({"streamType": "data", "port": "80"})
    assert server.receive(client.take()) == [Opened(1, {"streamtype": "data", "port": "80"}, False)]
    server.reply(number)
    assert client.receive(server.take()) == [Replied(1, {}, False)]
    client.send(number, b"GET /")
    client.send(number, b"", fin=True)
    assert server.receive(client.take()) == [Data(1, b"GET /", False), Data(1, b"", True)]
    server.send(number, b"ok", fin=True)
    assert client.receive(server.take()) == [Data(1, b"ok", True)]
    assert not server.known(number)
    assert not client.known(number)
    second = client.open({"x": "y"})
    assert second == 3
    server.receive(client.take())
    server.reset(second)
    assert client.receive(server.take()) == [Reset(3, spdy.CANCEL)]
    client.ping(1)
    server.receive(client.take())
    assert server.take() == struct.pack(">HHII", 0x8003, 6, 4, 1)


def test_frames_may_arrive_byte_by_byte():
    client, server = SpdyConnection(client=True), SpdyConnection()
    client.open({"a": "b"})
    client.send(1, b"hello", fin=True)
    events = [e for byte in client.take() for e in server.receive(bytes([byte]))]
    assert events[0] == Opened(1, {"a": "b"}, False)
    assert b"".join(e.data for e in events[1:]) == b"hello"
    assert [e.fin for e in events[1:]] == [False] * 4 + [True]


def test_windows_bind_only_a_peer_that_counts():
    client, server = SpdyConnection(client=True), SpdyConnection()
    number = client.open({})
    server.receive(client.take())
    assert client.room(number) > spdy.WINDOW  # Go's spdystream never sends an update
    client.send(number, b"x" * 40_000)
    server.receive(client.take())
    server.consumed(number, 40_000)
    client.receive(server.take())
    assert client.counts
    assert client.room(number) == spdy.WINDOW
    client.send(number, b"x" * spdy.WINDOW)
    assert client.room(number) == 0


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">HHI", 0x8002, 6, 4) + b"\0\0\0\1",
        struct.pack(">HHI", 0x8003, 1, 0xFFFFFF),
        struct.pack(">HHI", 0x8003, 6, 1) + b"\0",
        struct.pack(">HHI", 0x8003, 1, 14) + struct.pack(">IIH", 1, 0, 0) + b"abcd",
        struct.pack(">HHI", 0x8003, 4, 4) + struct.pack(">I", 9),
    ],
)
def test_what_breaks_the_protocol_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        SpdyConnection().receive(data)


def test_a_header_block_that_inflates_without_end_is_refused():
    packer = zlib.compressobj(zdict=spdy.DICTIONARY)
    block = packer.compress(b"\0" * 10_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    body = struct.pack(">IIH", 1, 0, 0) + block
    with pytest.raises(ProtocolError, match="too large"):
        SpdyConnection().receive(struct.pack(">HHI", 0x8003, 1, len(body)) + body)


@st.composite
def frames(draw):
    out = b""
    for _ in range(draw(st.integers(0, 6))):
        body = draw(st.binary(max_size=60))
        kind = draw(st.integers(0, 10))
        if draw(st.booleans()):
            out += struct.pack(">HHI", 0x8003, kind, draw(st.integers(0, 255)) << 24 | len(body)) + body
        else:
            out += struct.pack(">II", draw(st.integers(0, 5)), draw(st.integers(0, 1)) << 24 | len(body)) + body
    return out + draw(st.binary(max_size=30))


@settings(max_examples=300, deadline=None)
@given(data=frames(), known=st.booleans(), cut=st.integers(1, 50))
def test_any_bytes_give_events_or_its_own_error_and_stay_bounded(data, known, cut):
    connection = SpdyConnection()
    if known:
        client = SpdyConnection(client=True)
        client.open({"a": "b"})
        connection.receive(client.take())
    try:
        for at in range(0, len(data), cut):
            connection.receive(data[at : at + cut])
    except ProtocolError:
        return
    assert len(connection._inbox) <= spdy.MAX_CONTROL + 8
    assert len(connection.take()) <= 100 + 2 * len(data)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_large_transfers_both_ways_on_many_streams_never_stall(loop):
    size = 1_000_000

    async def main():
        a, b = await pipe()
        echoes = []

        def on_stream(stream):
            server.reply(stream)
            echoes.append(asyncio.ensure_future(echo(stream)))

        async def echo(stream):
            while data := await stream.read():
                stream.write(data)
                await stream.drain()
            stream.write_eof()

        async def one(number):
            stream = client.open({"n": str(number)})

            async def send():
                for _ in range(size // 50_000):
                    stream.write(bytes([number]) * 50_000)
                    await stream.drain()
                stream.write_eof()

            sending = asyncio.ensure_future(send())
            got = 0
            while data := await stream.read():
                assert data == bytes([number]) * len(data)
                got += len(data)
            await sending
            return got

        server, client = SpdySession(a, on_stream), SpdySession(b, client=True)
        runs = [asyncio.ensure_future(s.run()) for s in (server, client)]
        assert await asyncio.gather(*(one(n) for n in range(4))) == [size] * 4
        assert client.connection.counts
        assert server.connection.counts
        b.close()
        await asyncio.gather(*runs, *echoes)
        a.close()

    run(main(), loop)
