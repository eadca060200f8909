"""WebSocket: the handshake as a table, messages and closing against wsproto's client role, any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wirekit import pipe, run
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from jota.wire.message import Request
from jota.wire.websocket import HandshakeError, WebSocket, handshake

GOOD = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_sample_handshake_of_rfc_6455():
    chosen, headers = handshake(Request("GET", "/", "", GOOD | {"sec-websocket-protocol": "z, v5, v4"}), ["v4", "v5"])
    assert chosen == "v5"
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in headers
    assert ("Sec-WebSocket-Protocol", "v5") in headers


@pytest.mark.parametrize(
    "change",
    [
        {"sec-websocket-version": "8"},
        {"sec-websocket-key": "short"},
        {"sec-websocket-key": "!!!"},
        {"upgrade": "h2c"},
        {"sec-websocket-protocol": "nothing"},
    ],
)
def test_handshakes_that_are_refused(change):
    with pytest.raises(HandshakeError):
        handshake(Request("GET", "/", "", GOOD | change), ["v4"])


def test_fragments_pings_and_the_close_code():
    async def main():
        a, b = await pipe()
        server, client = WebSocket(a), Connection(ConnectionType.CLIENT)
        for event in (
            BytesMessage(b"one ", message_finished=False),
            Ping(b"p"),
            BytesMessage(b"two"),
            TextMessage("문자"),
            CloseConnection(1000, "done"),
        ):
            b.write(client.send(event))
        assert await server.receive() == b"one two"
        assert await server.receive() == "문자"
        assert await server.receive() is None
        assert server.close_code == 1000
        client.receive_data(await b.read())
        names = [type(e).__name__ for e in client.events()]
        assert names == ["Pong", "CloseConnection"]
        a.close()
        b.close()

    run(main())


def test_a_message_over_the_limit_closes_with_1009():
    async def main():
        a, b = await pipe()
        client = Connection(ConnectionType.CLIENT)
        b.write(client.send(BytesMessage(b"x" * 2000)))
        assert await WebSocket(a, limit=1000).receive() is None
        client.receive_data(await b.read())
        assert [e.code for e in client.events()] == [1009]
        a.close()
        b.close()

    run(main())


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_messages_or_a_close(data):
    async def main():
        a, b = await pipe()
        b.write(data)
        b.write_eof()
        socket = WebSocket(a)
        while await socket.receive() is not None:
            pass
        await socket.close(wait=0.05)
        b.close()

    run(main())
