"""A keep-alive client sends the same header lines after each request line: they are parsed once. Used by reading.py.

In: a message that the parser has accepted, and the bytes that it was. Out: whether other bytes are the same message but for
its path. They are when they begin with the same method, go on with nothing that could end a path, and end with the very bytes
that followed the path then: whatever the parser made of those, it would make of them again. What has a body, is cut into
pieces, pipelined or peculiar in any way is the parser's.
"""

from __future__ import annotations

from jota.wire.message import Alike, Peer, Request

LONGEST = 4096
"""Bytes of a message that is remembered: each connection holds one."""
_IN_PATH = bytes(c for c in range(0x21, 0x7F) if c != ord("#"))
"""Every parser takes these for a part of the path or the query; a message that has others there is not judged here."""


class Repeated:
    """The last message of a connection, without its path."""

    __slots__ = ("_at", "_end", "_longest", "_start", "_to", "alike", "headers", "method")

    def __init__(self, method: str, headers: dict[str, str], end: bytes, longest: int) -> None:
        self.method, self.headers = method, headers
        self.alike = Alike()
        self._start, self._end = method.encode() + b" /", end
        self._at, self._to = len(self._start) - 1, -len(end)
        self._longest = longest

    def request(self, data: bytes, peer: Peer) -> Request | None:
        """What `data` says, when it is the same message with another path or the same one; None otherwise."""
        if data.endswith(self._end) and data.startswith(self._start) and len(data) <= self._longest:
            found = data[self._at : self._to]  # nothing, if these two overlap
            if found and not found.translate(None, _IN_PATH):
                path, _, query = found.decode("ascii").partition("?")
                return Request(self.method, path, query, self.headers.copy(), b"", peer, alike=self.alike)
        return None


def repeatable(method: str, url: bytes, headers: dict[str, str], data: bytes, longest: int) -> Repeated | None:
    """What to remember of a message without a body on a connection that is kept alive.

    `data`: all that the parser was given since it waited for a message; None when that is not the plain form of this one
    message and nothing else. `longest`: bytes of a message that need no closer look.
    """
    longest = min(longest, LONGEST)
    line = b"%b %b HTTP/1.1\r\n" % (method.encode(), url)
    if len(data) > longest or url[:1] != b"/" or not data.startswith(line):
        return None
    end = data[len(line) - len(b" HTTP/1.1\r\n") :]
    if end.find(b"\r\n\r\n") != len(end) - 4:
        return None
    return Repeated(method, headers, end, longest)
