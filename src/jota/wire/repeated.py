"""A keep-alive client sends the same header lines after each request line: they are parsed once. Used by reading.py.

In: a message that the parser has accepted, and the bytes that it was. Out: whether other bytes are the same message but for
its path, and for its body and the length of that. They are when they begin with the same method, go on with nothing that
could end a path, and then have the very bytes that followed the path then: whatever the parser made of those, it would make
of them again. With a body they are these, in order, and the rest is as long as the digits say:

    PATCH /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAccept: y\r\n\r\n{1}
    start   |between                              |  |end              |body

What is cut into pieces, pipelined or peculiar in any way is the parser's.
"""

from __future__ import annotations

import re

from jota.wire.message import Alike, Peer, Request

LONGEST = 4096
"""Bytes of a message that is remembered: each connection holds one."""
_IN_PATH = bytes(c for c in range(0x21, 0x7F) if c != ord("#"))
"""Every parser takes these for a part of the path or the query; a message that has others there is not judged here."""


_DIGITS = 12
"""Of the length of a body: more than any may have."""
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,12})\r\n", re.IGNORECASE)


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


class RepeatedWithBody:
    """The last message of a connection, without its path and its body."""

    __slots__ = ("_at", "_between", "_body", "_end", "_longest", "_start", "alike", "headers", "method")

    def __init__(
        self, method: str, headers: dict[str, str], between: bytes, end: bytes, longest: int, body: int
    ) -> None:
        """`body`: bytes that it may have."""
        self.method, self.headers = method, headers
        self.alike = Alike()
        self._start, self._between, self._end = method.encode() + b" /", between, end
        self._at, self._longest, self._body = len(self._start) - 1, longest, body

    def request(self, data: bytes, peer: Peer) -> Request | None:
        """As `Repeated.request`."""
        to = data.find(b" ", self._at)
        if to < 0 or not data.startswith(self._start) or not data.startswith(self._between, to):
            return None
        digits = to + len(self._between)
        end = data.find(b"\r", digits, digits + _DIGITS + 1)
        if end < 0 or not data.startswith(self._end, end):
            return None
        length, head = data[digits:end], end + len(self._end)
        if not length.isdigit() or int(length) != len(data) - head or not 0 < len(data) - head <= self._body:
            return None
        found = data[self._at : to]
        if head > self._longest or found.translate(None, _IN_PATH):
            return None
        path, _, query = found.decode("ascii").partition("?")
        headers = {**self.headers, "content-length": length.decode("ascii")}
        return Request(self.method, path, query, headers, data[head:], peer, alike=self.alike)


def repeatable(
    method: str, url: bytes, headers: dict[str, str], data: bytes, longest: int, body: int
) -> Repeated | RepeatedWithBody | None:
    """What to remember of a message on a connection that is kept alive, with no body or one of a known length.

    `data`: all that the parser was given since it waited for a message; None when that is not the plain form of this one
    message and nothing else. `longest`: bytes of a message, without its body, that need no closer look; `body`: of a body.
    """
    longest = min(longest, LONGEST)
    line = b"%b %b HTTP/1.1\r\n" % (method.encode(), url)
    head = data.find(b"\r\n\r\n") + 4
    if head > longest or url[:1] != b"/" or not data.startswith(line):
        return None
    start = len(line) - len(b" HTTP/1.1\r\n")
    if head == len(data):
        return Repeated(method, headers, data[start:], longest)
    given = _LENGTH.search(data, start, head)
    if given is None or headers.get("content-length") != given[1].decode() or int(given[1]) != len(data) - head:
        return None
    between, end = data[start : given.start(1)], data[given.end(1) : head]
    return RepeatedWithBody(method, headers, between, end, longest, body)
