"""The bytes of an answer: its head (prebuilt, remembered by http.py) and its body in pieces. Used by connection.py."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate

from jota.wire.message import Part

JOIN = 64 * 1024
"""Bodies up to this many bytes are joined with their head into one buffer."""
PIECE = 256 * 1024
"""Larger answers are handed over in pieces of about this many bytes, as the peer takes them."""

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


def pieces(parts: Sequence[Part]) -> Iterator[bytes]:
    """The same bytes, joined or cut to pieces of about PIECE. A large list has tens of thousands of parts: what is done for each
    is done by built-in functions."""
    ends = list(accumulate(map(len, parts)))
    first = 0
    while first < len(parts):
        begun = ends[first - 1] if first else 0
        last = bisect_left(ends, begun + PIECE, first)
        joined = b"".join(parts[first : last + 1])
        if 0 < len(joined) < 2 * PIECE:
            yield joined
        else:  # its last part is a large one
            yield from (joined[at : at + PIECE] for at in range(0, len(joined), PIECE))
        first = last + 1


def without_length(start: bytes) -> bytes:
    """Without the handler's Content-Length: the body's own length is the truth."""
    lines = start.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"content-length:"))
