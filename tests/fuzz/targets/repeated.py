"""Messages told by comparison with the last one of their connection (wire/repeated.py): what is taken, and refused, is what the
parser takes and refuses. Reads are whole messages and whatever else a client may send at once."""

from __future__ import annotations

from typing import Any
from unittest import mock

from jota.wire import reading
from jota.wire.limits import NEVER, Limits
from jota.wire.message import Request
from jota.wire.reading import Reader, Refused
from targets import kit

LIMITS = Limits(header=600, headers=12, body=200)
_HEAD = b"Host: a\r\nUser-Agent: b/1\r\nAccept: */*\r\n"
_READ = kit.MARK
_GET = b"GET /a HTTP/1.1\r\n" + _HEAD + b"\r\n"
_PUT = b"PUT /a HTTP/1.1\r\n" + _HEAD + b"Content-Length: 3\r\nA: b\r\n\r\nabc"
SEEDS = [
    _GET + kit.edit(5, 1, b"b?watch=1&x=%20") + kit.edit(5, 1, b"c#d") + kit.edit(0, 3, b"PUT"),
    _PUT + kit.edit(5, 1, b"bc") + kit.edit(len(_PUT) - 3, 3, b"{}!") + kit.edit(70, 1, b"4"),
    _GET + _READ + _PUT + _READ + _GET + kit.edit(5, 1, b"") + kit.edit(6, 0, b" ") + kit.edit(4, 2, b"*"),
    _PUT + kit.edit(len(_PUT), 0, _GET) + _READ + _PUT + kit.edit(len(_PUT) - 1, 1, b""),
    b"POST / HTTP/1.1\r\nContent-Length:1\r\nContent-length: 1\r\n\r\nx"
    + _READ
    + b"POST / HTTP/1.1\r\ncontent-LENGTH: 03\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\nX: y\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + kit.edit(6, 1, b"b"),
    b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n" + kit.edit(5, 1, b"b") + kit.edit(14, 1, b"0"),
]
WORDS = [
    _READ,
    kit.edit(5, 1, b"b"),
    b"Content-Length: ",
    b" HTTP/1.1\r\n",
    b"\r\n\r\n",
    b"Connection: close\r\n",
    b"?",
    b"#",
    b"%",
]
Seen = tuple[Any, ...]


class _Taker:
    def __init__(self) -> None:
        self.deadline, self.seen = NEVER, list[Seen]()

    def within(self, seconds: float) -> None:
        self.deadline = seconds

    def take(self, request: Request, keep: bool, upgrade: bool, old: bool) -> None:
        said = (request.method, request.path, request.query, sorted(request.headers.items()), request.body)
        self.seen.append((*said, keep, upgrade, old))
        request.headers["mine"] = "alone"

    def go_on(self) -> None:
        self.seen.append(("go on",))


def _read(reads: list[bytes]) -> list[Seen]:
    taker = _Taker()
    reader = Reader(taker, LIMITS)
    for read in reads:
        try:
            rest = reader.feed(read)
        except Refused as refused:
            return [*taker.seen, (refused.response.status,)]
        taker.seen.append((reader.idle, taker.deadline))
        if rest is not None:
            return [*taker.seen, (rest,)]
    return taker.seen


def check(data: bytes) -> None:
    reads = [read for read in kit.edited(data) if read]
    remembering = _read(reads)
    with mock.patch.object(reading, "repeatable", return_value=None):
        parsed = _read(reads)
    assert remembering == parsed, (reads, remembering, parsed)
