"""The bytes of an answer: its head (prebuilt, remembered by http.py) and its body in pieces. Used by connection.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate

from jota.wire.message import Made, Part

JOIN = 64 * 1024
"""Bodies up to this many bytes are joined with their head into one buffer."""
PIECE = 2 * 65_483 - 8 * 22
"""Larger answers are handed over in pieces of at most so many bytes, as the peer takes them. With what TLS adds to its eight
records, one is two of the largest segments that loopback knows: what is left over would be a segment of its own, at the price
of a whole one. What is made of a piece until the kernel has it (joined, encrypted, read from TLS) stays in a core's caches."""
TURN = 2 * 1024 * 1024
"""Bytes of one answer, to a peer that takes them at once, after which others have their turn: 1 to 2 ms with TLS."""

_PHRASES = {s.value: s.phrase.encode() for s in HTTPStatus}
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "date"))


@dataclass(slots=True, frozen=True)
class Head:
    """Prebuilt bytes of a status line and headers, without Date and without what frames the body."""

    data: bytes
    length: int | None
    """The Content-Length that the handler gave itself."""
    close: bool
    """The handler asked to close the connection."""
    bodiless: bool
    """No answer with this status has a body."""
    plain: bool
    """None of these: what follows is a body, and its own length."""


def build_head(status: int, headers: Sequence[tuple[str, str]]) -> Head:
    """Raises ValueError for a header that would break out of its line."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"Unknown"))]
    length: int | None = None
    close = False
    for name, value in headers:
        lower = name.lower()
        if lower == "connection" and "close" in value.lower():
            close = True
        if lower in _HOP_BY_HOP and not (status == 101 and lower == "connection"):
            continue
        if lower == "content-length":
            length = int(value)
        line = f"{name}: {value}"
        if not name or "\r" in line or "\n" in line or "\0" in line:
            raise ValueError(f"header {name!r} has a value that cannot be sent: {value!r}")
        try:
            lines.append(line.encode("latin-1") + b"\r\n")
        except UnicodeEncodeError:
            lines.append(line.encode() + b"\r\n")
    bodiless = status < 200 or status in (204, 304)
    return Head(b"".join(lines), length, close, bodiless, length is None and not close and not bodiless)


def pieces(start: bytes, body: Sequence[Part] | Made) -> Iterator[Part]:
    """The same bytes, joined or cut to pieces of at most PIECE, but for the first, which begins with `start`."""
    made = _cut(body if isinstance(body, Made) else _joined(body))
    yield start + next(made, b"")
    yield from made


def _cut(made: Iterable[Part]) -> Iterator[Part]:
    for piece in made:
        if len(piece) <= PIECE:
            yield piece
        else:  # it is a large part
            yield from (piece[at : at + PIECE] for at in range(0, len(piece), PIECE))


def _joined(parts: Sequence[Part]) -> Iterator[bytes]:
    """A large answer may have thousands of parts: what is done for each is done by built-in functions."""
    ends = list(accumulate(map(len, parts)))
    first = begun = 0
    while first < len(parts):
        after = max(bisect_right(ends, begun + PIECE, first), first + 1)
        yield b"".join(parts[first:after])
        first, begun = after, ends[after - 1]


def without_length(start: bytes) -> bytes:
    """Without the handler's Content-Length: the body's own length is the truth."""
    lines = start.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"content-length:"))
