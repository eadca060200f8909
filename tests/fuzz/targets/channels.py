"""The two forms of remote commands over WebSocket, in the clear and in base64: the same messages are the same input, sizes and end."""

from __future__ import annotations

import base64
from typing import Any

from jota.wire import remotecommand
from jota.wire.message import Request
from targets import kit
from targets import remotecommand as sessions

_VERSIONS = ("v5.", "v4.", "v3.", "v2.", "")
_SIZE = b"\x04" + sessions._SIZE
SEEDS = [
    b"\1\0" + kit.MARK.join((b"\0ls\n", _SIZE, b"\0", b"\0more")),
    b"\0\2" + kit.MARK.join((b"\0x", _SIZE[:9], _SIZE[9:])),
    b"\4\3" + kit.MARK.join((b"", b"\3x", b"\x09", b"\x04{", b"\0" + bytes(range(256)))),
]
WORDS = [kit.MARK, _SIZE, b"\0a", b'"Width":', b"e1"]


class _Recording(sessions.Command):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    async def write_stdin(self, data: bytes) -> None:
        await super().write_stdin(data)
        self.got.append(data)

    def close_stdin(self) -> None:
        super().close_stdin()
        self.got.append("end")

    def resize(self, width: int, height: int) -> None:
        super().resize(width, height)
        self.got.append((width, height))


async def _session(protocol: str, tty: bool, frames: bytes) -> list[Any]:
    command = _Recording()

    async def opened() -> _Recording:
        return command

    headers = {"upgrade": "websocket", **sessions._HEADERS, "sec-websocket-protocol": protocol}
    request = Request("GET", "/exec", headers=headers)
    response = await remotecommand.serve(request, remotecommand.Options(stdin=True, stderr=not tty, tty=tty), opened)
    assert response.upgrade is not None
    await response.upgrade(kit.Script([frames]))
    assert command.closed
    return command.got


def _frame(code: int, message: bytes) -> bytes:
    """Masked, with a mask that changes nothing."""
    size = len(message)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((0x80 | code,)) + length + bytes(4) + message


def check(data: bytes) -> None:
    how = (data[:2] + b"\0\0")[:2]
    version, tty = _VERSIONS[how[0] % 5], bool(how[1] & 1)
    # in base64 a channel is a character, and the one that ends the input (255, of v5) has none
    messages = [text for text in kit.edited(data[2:4000]) if text and text[0] < 10][:20]
    clear = b"".join(_frame(2, message) for message in messages)
    packed = b"".join(_frame(1, b"%d" % message[0] + base64.b64encode(message[1:])) for message in messages)
    got = kit.run(_session(f"{version}channel.k8s.io", tty, clear))
    assert got == kit.run(_session(f"{version}base64.channel.k8s.io", tty, packed)), (version, messages)
