"""Links in what a proxied backend answers: they must lead back through the proxy. Redirects and HTML, as upstream's transport.

In: a backend's Response and the prefix of the proxy. Out: the Response with its Location header and the links of its pages
rewritten. Pages stream through: a tag at a time is held back, never the page.
"""

from __future__ import annotations

import asyncio
import html
import posixpath
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from jota.wire.message import Part, Response, Writer, joined

_LINKS: dict[bytes, frozenset[bytes]] = {
    tag: frozenset(attributes.split())
    for tag, attributes in {
        b"a": b"href",
        b"applet": b"codebase",
        b"area": b"href",
        b"audio": b"src",
        b"base": b"href",
        b"blockquote": b"cite",
        b"body": b"background",
        b"button": b"formaction",
        b"command": b"icon",
        b"del": b"cite",
        b"embed": b"src",
        b"form": b"action",
        b"frame": b"longdesc src",
        b"head": b"profile",
        b"html": b"manifest",
        b"iframe": b"longdesc src",
        b"img": b"longdesc src usemap",
        b"input": b"formaction src usemap",
        b"ins": b"cite",
        b"link": b"href",
        b"object": b"classid codebase data usemap",
        b"q": b"cite",
        b"script": b"src",
        b"source": b"src",
        b"video": b"poster src",
    }.items()
}
_RAW = frozenset((b"script", b"style", b"textarea", b"title", b"iframe", b"noembed", b"noframes", b"xmp"))
"""Elements whose content is text, whatever it looks like."""
_ENDS = {name: re.compile(b"</" + name, re.IGNORECASE) for name in _RAW}
_TAG = re.compile(rb"""<([A-Za-z][^\s/>]*+)((?:[^>"']++|"[^"]*+"|'[^']*+')*+)>""")
_ATTRIBUTE = re.compile(rb"""([^\s=/>"']+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s>"']+)""")
_LONGEST = 16 * 1024
"""Bytes that are held back for a tag or comment to end; what is longer passes as it is."""
_PIECE = 16 * 1024
"""Bytes that are looked at in one go: 30 kB may inflate to as many MB, and others want to be served, too."""


class Links:
    """Where links lead. `hosts`: the backend's own address and the name by which the client knows this server."""

    def __init__(self, prefix: str, backend: str, asked: str) -> None:
        self._prefix, self._backend, self._asked = prefix, backend, asked

    def rewritten(self, url: str) -> str:
        """The link through the proxy; the same when it leads elsewhere, is relative, or cannot be read."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        if (parts.netloc and parts.netloc not in (self._backend, self._asked)) or not parts.path.startswith("/"):
            return url
        path = parts.path
        if not path.startswith(self._prefix):
            path = posixpath.normpath(f"{self._prefix}/{path.lstrip('/')}")
            path += "/" if parts.path.endswith("/") else ""
        ours = bool(parts.netloc) and parts.netloc == self._asked
        return urlunsplit((*((parts.scheme, parts.netloc) if ours else ("", "")), path, parts.query, parts.fragment))


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))


def through(response: Response, links: Links) -> Response:
    """The answer as the proxy gives it on."""
    if response.upgrade is not None:
        return response
    named = {name.lower(): value for name, value in response.headers}
    if "location" in named:
        response.headers = [(k, links.rewritten(v) if k.lower() == "location" else v) for k, v in response.headers]
        return response
    media, encoding = named.get("content-type", "").partition(";")[0].strip(), named.get("content-encoding", "")
    if media != "text/html" or encoding not in ("", "gzip", "deflate") or response.status in (204, 304):
        return response
    page, stream = _Page(links, encoding), response.stream
    gone = ("content-length", "content-encoding")
    headers = [(k, v) for k, v in response.headers if k.lower() not in gone]
    body = joined(response.body)
    if stream is None and not encoding:
        return Response(response.status, headers, b"".join(page.feed(body)) + page.end())

    async def rewriting(writer: Writer) -> None:
        rewriter = _Rewriter(page, writer)
        if stream is not None:
            await stream(rewriter)
        else:
            rewriter.write([body])
        await rewriter.drain()
        writer.write([page.end()])

    return Response(response.status, headers, stream=rewriting)


class _Rewriter:
    """message.Writer in front of another; the work is done in `drain`, piece by piece."""

    def __init__(self, page: _Page, writer: Writer) -> None:
        self._page, self._writer = page, writer
        self._waiting: deque[bytes] = deque()

    def write(self, parts: Sequence[Part]) -> None:
        self._waiting.append(b"".join(parts))

    @property
    def buffered(self) -> int:
        return self._writer.buffered + sum(map(len, self._waiting))

    @property
    def closed(self) -> bool:
        return self._writer.closed

    async def drain(self) -> None:
        while self._waiting:
            for found in self._page.feed(self._waiting.popleft()):
                if found:
                    self._writer.write([found])
                await self._writer.drain()
                await asyncio.sleep(0)  # a pause of no length: it is the others' turn


class _Page:
    """HTML in pieces, compressed or not -> HTML with other links. Raises ConnectionResetError for a broken encoding."""

    def __init__(self, links: Links, encoding: str) -> None:
        self._links, self._encoding = links, encoding
        self._inflate: Any = None
        self._held = b""
        self._raw = b""
        """Within such an element, its name."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What a piece of the page becomes, in pieces of bounded work."""
        for new in self._plain(data) if self._encoding else _cut(data):
            waiting = bool(self._held) and b">" not in new and len(self._held) + len(new) < _LONGEST
            self._held += new
            if not waiting:
                yield self._scan(last=False)

    def end(self) -> bytes:
        return self._scan(last=True)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            if not data:
                return
            # "deflate" is a zlib stream by the book, and the bare one with many servers (and upstream)
            bits = 31 if self._encoding == "gzip" else 15 if data[:1] == b"\x78" else -15
            self._inflate = zlib.decompressobj(bits)
        piece = b""
        while data or len(piece) == _PIECE:
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as problem:
                raise ConnectionResetError(f"the page's encoding is broken: {problem}") from None
            data = self._inflate.unconsumed_tail
            yield piece

    def _scan(self, *, last: bool) -> bytes:
        """Give out what is understood; hold back the beginning of what may be a tag."""
        data, out, at = self._held, [], 0
        while at < len(data):
            if self._raw:
                end = _ENDS[self._raw].search(data, at)
                if end is None:
                    keep = 0 if last else min(len(self._raw) + 1, len(data) - at)
                    out.append(data[at : len(data) - keep])
                    at = len(data) - keep
                    break
                out.append(data[at : end.start()])
                at, self._raw = end.start(), b""
            start = data.find(b"<", at)
            if start < 0:
                out.append(data[at:])
                at = len(data)
                break
            out.append(data[at:start])
            taken = self._markup(data, start, out)
            if not taken:
                if not last and len(data) - start < _LONGEST:
                    at = start
                    break
                taken = len(data) - start if last else _LONGEST
                out.append(data[start : start + taken])
            at = start + taken
        self._held = data[at:]
        return b"".join(out)

    def _markup(self, data: bytes, start: int, out: list[bytes]) -> int:
        """Bytes of the comment, tag or bare "<" at `start` that went into `out`; 0: it has no end yet."""
        if data.startswith(b"<!--", start):
            end = data.find(b"-->", start + 4, start + _LONGEST)
            if end < 0:
                return 0
            out.append(data[start : end + 3])
            return end + 3 - start
        following = data[start + 1 : start + 2]
        if not following or (following == b"!" and len(data) - start < 4):
            return 0
        if not following.isalpha():
            out.append(b"<")
            return 1
        match = _TAG.match(data, start, start + _LONGEST)
        if match is None:
            return 0
        name = match[1].lower()
        wanted = _LINKS.get(name)
        out.append(match[0] if wanted is None else b"<" + match[1] + self._attributes(match[2], wanted) + b">")
        if name in _RAW and not match[2].rstrip().endswith(b"/"):
            self._raw = name
        return len(match[0])

    def _attributes(self, text: bytes, wanted: frozenset[bytes]) -> bytes:
        return _ATTRIBUTE.sub(self._replacement(wanted), text)

    def _replacement(self, wanted: frozenset[bytes]) -> Callable[[re.Match[bytes]], bytes]:
        def replace(match: re.Match[bytes]) -> bytes:
            if match[1].lower() not in wanted:
                return match[0]
            quoted = match[3][:1] in (b'"', b"'")
            value = html.unescape((match[3][1:-1] if quoted else match[3]).decode("utf-8", "surrogateescape"))
            new = self._links.rewritten(value)
            if new == value:
                return match[0]
            return match[1] + b'="' + html.escape(new).encode("utf-8", "surrogateescape") + b'"'

        return replace
