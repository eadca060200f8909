"""WebSocket frames: messages within the bound, then the end; and any headers of a handshake."""

from __future__ import annotations

from jota.wire import websocket
from jota.wire.message import Request
from targets import kit

LIMIT = 4096
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SEEDS = [
    b"\0\x81\x05hello\x88\x02\x03\xe8",
    b"\1\x02\x7e\x01\x00" + b"a" * 256 + b"\x80\x00",
    b"\2\x89\x04ping\x8a\x00\x82\x7f\0\0\0\0\0\0\0\1x",
    b"\0\x81\x02\xff\xff",
    b"\0\x01\x01a\x89\x00\x80\x01b\x88\x00",
    b"\xffv4.channel.k8s.io, base64url.bearer.authorization.k8s.io.eA\n13\n" + _KEY.encode(),
]
WORDS = [b"\x81\x7e", b"\x82\x7f\0\0\0\0", b"\x88\x02\x03\xe8", b"\xc1", b"v5.channel.k8s.io"]


def masked(data: bytes) -> bytes:
    """Frames as a server sends them, turned into a client's: masked, with a mask that changes nothing."""
    out, at = bytearray(), 0
    while at + 2 <= len(data):
        size, head = data[at + 1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        out += data[at : at + 1] + bytes((data[at + 1] | 0x80,)) + data[at + 2 : at + head] + bytes(4)
        out += data[at + head : at + head + size]
        at += head + size
    return bytes(out)


def check(data: bytes) -> None:
    if data[:1] == b"\xff":
        _handshake(data[1:])
        return
    frames = masked(data[1:]) if not data[:1] or data[0] & 1 == 0 else data[1:]
    kit.run(_receive(list(kit.pieces(data[:1] + frames))))


async def _receive(reads: list[bytes]) -> None:
    script = kit.Script(reads)
    socket = websocket.WebSocket(script, limit=LIMIT)
    while (message := await socket.receive()) is not None:
        assert len(message) <= LIMIT
        socket.send(message)
    await socket.close(wait=0.1)
    assert script.closed


def _handshake(data: bytes) -> None:
    offers, version, key = ([p.decode("latin-1") for p in data.split(b"\n")] + ["", "", ""])[:3]
    headers = {"upgrade": "websocket", "connection": "keep-alive, Upgrade", "sec-websocket-protocol": offers}
    headers |= {"sec-websocket-version": version, "sec-websocket-key": key}
    try:
        chosen, out = websocket.handshake(
            Request("GET", "/", headers=headers), ("v5.channel.k8s.io", "v4.channel.k8s.io")
        )
    except websocket.HandshakeError:
        return
    assert chosen in ("", "v5.channel.k8s.io", "v4.channel.k8s.io")
    assert all("\r" not in value and "\n" not in value for _, value in out)
