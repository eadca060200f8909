"""SPDY frames: events or ProtocolError, the same however they are cut; what is held and answered stays in proportion."""

from __future__ import annotations

import struct
import zlib

from jota.wire import spdy
from targets import kit


def _block(*pairs: tuple[bytes, bytes]) -> bytes:
    out = struct.pack(">I", len(pairs))
    return out + b"".join(struct.pack(">I", len(x)) + x for pair in pairs for x in pair)


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body


def _deflated(block: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=spdy._dictionary())
    return deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)


_OPEN = struct.pack(">II", 1, 0) + b"\0\0"
SEEDS = [
    b"\0" + _frame(1, 0, _OPEN + _deflated(_block((b"streamtype", b"stdin")))) + struct.pack(">II", 1, 3) + b"abc",
    b"\5" + _frame(4, 0, struct.pack(">III", 1, 7, 65536)) + _frame(6, 0, b"\0\0\0\1") + _frame(7, 0, bytes(8)),
    b"\1" + _frame(9, 0, struct.pack(">II", 0, 0x7FFFFFFF)) + _frame(3, 0, struct.pack(">II", 1, 5)),
    b"\0" + _frame(2, 1, struct.pack(">I", 1) + _deflated(_block())),
    b"\xff" + _block((b"streamtype", b"error"), (b"a", b"b\0c")),
]
WORDS = [
    b"\x80\x03\0\1",
    b"\x80\x03\0\2",
    b"\x80\x03\0\3",
    b"\x80\x03\0\4",
    b"\x80\x03\0\6",
    b"\x80\x03\0\x08",
    b"streamtype",
]


def _receive(reads: list[bytes]) -> tuple[list[object], bool]:
    connection, events, size = spdy.SpdyConnection(), list[object](), 0
    for read in reads:
        try:
            found = connection.receive(read)
        except spdy.ProtocolError:
            return events, True
        size += len(read)
        for event in found:
            if isinstance(event, spdy.Data):
                connection.consumed(event.stream, len(event.data))
                events += [(event.stream, byte) for byte in event.data]
                if event.fin:
                    events.append((event.stream, "fin"))
            else:
                events.append(event)
        assert len(connection.take()) <= 4 * size + 64, "answers are out of proportion"
    return events, False


def check(data: bytes) -> None:
    if data[:1] == b"\xff":  # a header block in the clear, packed here
        data = b"\0" + _frame(1, 0, _OPEN + _deflated(data[1:]))
    cut, failed = _receive(list(kit.pieces(data)))
    whole, failed_too = _receive([data[1:]])
    assert failed == failed_too
    if not failed:
        assert cut == whole, (cut, whole)
