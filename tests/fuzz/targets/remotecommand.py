"""exec, attach and port-forward behind their upgrades: any bytes end the session, quietly, and close what it held."""

from __future__ import annotations

import asyncio

from jota.wire import portforward, remotecommand
from jota.wire.message import Duplex, Request
from targets import kit, spdy
from targets.websocket import masked

_HEADERS = {"connection": "Upgrade", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "base64.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
)
_SIZE = b'{"Width":80,"Height":24}'
_OPENED = b"".join(
    spdy._frame(1, 0, n.to_bytes(4, "big") + bytes(6) + block)
    for n, block in ((1, spdy._deflated(spdy._block((b"streamtype", b"error")))),)
)
SEEDS = [
    b"\0\0\x82\x03\0ls\x82\x19\x04" + _SIZE + b"\x82\x02\xff\0\x88\x02\x03\xe8",
    b"\2\1\x81\x050bHM=\x81\x014",
    b"\x05\0" + _OPENED,
    b"\x06\0\x82\x03\0hi\x82\x03\2hi",
    b"\x07\0" + spdy.SEEDS[0][1:],
    b"\x09\0" + _SIZE + _SIZE + b'{"Width":1e999,"Height":1}{"Width":"x"}',
]
WORDS = [_SIZE, b"\x82\x03\0", b"\x82\x02\xff\0", b'"Width":', *spdy.WORDS]


class Command:
    """An Exec that says two things and ends with its stdin, or after a while."""

    def __init__(self) -> None:
        self._says, self.ended, self.closed = [b"out", b"err"], asyncio.Event(), False

    async def read_stdout(self) -> bytes:
        await asyncio.sleep(0)
        return self._says.pop() if self._says else b""

    read_stderr = read_stdout

    async def write_stdin(self, data: bytes) -> None:
        assert data

    def close_stdin(self) -> None:
        self.ended.set()

    def resize(self, width: int, height: int) -> None:
        assert 0 < width < 65536
        assert 0 < height < 65536

    async def wait(self) -> int:
        for _ in range(50):
            await asyncio.sleep(0)
        return 3

    async def close(self) -> None:
        self.closed = True


async def _exec(request: Request, reads: list[bytes]) -> None:
    made: list[Command] = []

    async def open_session() -> Command:
        made.append(Command())
        return made[-1]

    response = await remotecommand.serve(request, remotecommand.Options(stdin=True), open_session)
    assert response.upgrade is not None
    script = kit.Script(reads)
    await response.upgrade(script)
    assert all(command.closed for command in made)


async def _forward(request: Request, reads: list[bytes]) -> None:
    backends: list[kit.Script] = []

    async def connect(port: int) -> Duplex:
        assert 0 < port < 65536
        backends.append(kit.Script([b"hello"]))
        return backends[-1]

    response = await portforward.serve(request, connect)
    assert response.upgrade is not None
    await response.upgrade(kit.Script(reads))
    assert all(backend.closed for backend in backends)


def _sizes(data: bytes) -> None:
    decoder = remotecommand.SizeDecoder()
    for piece in kit.pieces(data):
        for width, height in decoder.feed(piece):
            assert 0 < width < 65536
            assert 0 < height < 65536


def check(data: bytes) -> None:
    how, rest = (data[0] if data else 0) % 10, data[1:]
    websocket = Request("GET", "/exec", "ports=80&ports=81", headers={"upgrade": "websocket", **_HEADERS})
    stream = Request("POST", "/exec", headers={"upgrade": "SPDY/3.1", "connection": "Upgrade"})
    if how < 5:
        websocket.headers["sec-websocket-protocol"] = _PROTOCOLS[how]
        kit.run(_exec(websocket, list(kit.pieces(rest[:1] + masked(rest[1:])))))
    elif how == 5:
        stream.headers["x-stream-protocol-version"] = "v4.channel.k8s.io"
        kit.run(_exec(stream, list(kit.pieces(rest))))
    elif how in (6, 8):
        websocket.headers["sec-websocket-protocol"] = "v4.channel.k8s.io" if how == 6 else "base64.channel.k8s.io"
        kit.run(_forward(websocket, list(kit.pieces(rest[:1] + masked(rest[1:])))))
    elif how == 7:
        stream.headers["x-stream-protocol-version"] = portforward.PROTOCOL
        kit.run(_forward(stream, list(kit.pieces(rest))))
    else:
        _sizes(rest)
