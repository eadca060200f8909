"""Bytes from one connection become Requests. In: what the socket gave. Out: `Taker.take` for each whole request.

httptools parses; what is here is what a client may cost (limits.py), which of the many forms of HTTP are refused, and how
headers that are repeated are joined. A message that differs from the last one in its path and body alone is not parsed again
(repeated.py). Next: connection.py.
"""

from __future__ import annotations

from typing import Any, Protocol

import httptools

from jota.wire.limits import NEVER, Limits
from jota.wire.message import Peer, Request, Response
from jota.wire.repeated import Repeated, RepeatedWithBody, repeatable
from jota.wire.status import refusal

BAD_REQUEST = refusal(400, "BadRequest", "malformed HTTP request")
HEADER_TOO_LARGE = refusal(431, "BadRequest", "request header fields too large")
CODING = refusal(501, "NotImplemented", "unsupported transfer encoding")
EXPECTATION = refusal(417, "BadRequest", "unknown expectation")

_METHODS = {m.encode(): m for m in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_NAMES: dict[bytes, str] = {}
"""Header names seen, decoded and lowered; bounded."""


class Taker(Protocol):
    """The connection, as its reader sees it."""

    deadline: float

    def within(self, seconds: float) -> None:
        """The deadline, from now."""
        ...

    def take(self, request: Request, keep: bool, upgrade: bool, old: bool) -> None:
        """One whole request; whether the connection is kept alive, asks for an upgrade, speaks HTTP/1.0."""
        ...

    def go_on(self) -> None:
        """The client asks whether to send its body, and it may."""
        ...


class Refused(Exception):
    """What came is no request of ours: answer this, and close."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Reader:
    """What the parser of one connection calls back."""

    __slots__ = (
        "_begun",
        "_body",
        "_body_size",
        "_fresh",
        "_head_size",
        "_headers",
        "_in_header",
        "_known",
        "_limits",
        "_parser",
        "_peculiar",
        "_plain",
        "_refusal",
        "_taker",
        "_url",
        "idle",
        "peer",
    )

    def __init__(self, taker: Taker, limits: Limits) -> None:
        self._taker, self._limits = taker, limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._refusal: Response | None = None
        self._in_header = self._peculiar = False
        self.idle = True
        """No part of a request is there."""
        self._head_size = self._fresh = 0
        self._begun = 0
        """Messages that began in what is fed; too many when one was at work before."""
        self._plain: tuple[str, bytes, dict[str, str]] | None = None
        """Method, path and headers of a message that may be repeated."""
        self._known: Repeated | RepeatedWithBody | None = None
        """Only while the parser waits for a message, and was left so by this one."""
        self.peer = Peer()

    def close(self) -> None:
        self._parser = None  # it holds us, and we it

    def feed(self, data: bytes) -> bytes | None:
        """What followed a request to upgrade; None otherwise. Raises Refused."""
        known = self._known
        if known is not None:
            request = known.request(data, self.peer)
            if request is not None:
                self._taker.deadline = NEVER
                self._taker.take(request, True, False, False)
                return None
        self._fresh = len(data)
        self._begun = 0 if self.idle else 2
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserError:
            raise Refused(self._refusal or BAD_REQUEST) from None
        if self._in_header:
            self._head_size += self._fresh
            if self._head_size == self._fresh:
                self._taker.within(self._limits.header_time)
            elif self._head_size > self._limits.header:
                raise Refused(HEADER_TOO_LARGE)
        elif self._plain is not None and self._begun == 1:
            self._known = repeatable(*self._plain, data, self._limits.header, self._limits.body)
        return None

    # -- the parser's side --

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | list[bytes] = b""
        self._body_size = self._head_size = 0
        self._in_header, self._peculiar, self.idle = True, False, False
        self._begun += 1
        self._known = self._plain = None

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_header:
            return  # trailers of a chunked body carry nothing that we use
        headers = self._headers
        key = _NAMES.get(name) or _name(name)
        text = value.decode("latin-1")
        if key not in headers:
            headers[key] = text
            if len(headers) > self._limits.headers:
                self._abort_parse(HEADER_TOO_LARGE)
        else:
            headers[key] = self._repeated(key, headers[key], text)

    def _repeated(self, key: str, old: str, new: str) -> str:
        if key in ("host", "content-length"):
            self._abort_parse(BAD_REQUEST)
        if len(old) + len(new) > self._limits.header:
            self._abort_parse(HEADER_TOO_LARGE)
        if key.startswith(("x-remote-", "impersonate-")):
            return f"{old}\n{new}"  # names of users and groups may hold commas: these lines stay apart
        return f"{old}; {new}" if key == "cookie" else f"{old}, {new}"

    def on_headers_complete(self) -> None:
        self._in_header = False
        limits, headers = self._limits, self._headers
        if self._head_size + self._fresh > limits.header:
            size = len(self._url) + sum(len(k) + len(v) + 4 for k, v in headers.items())
            if size > limits.header:
                self._abort_parse(HEADER_TOO_LARGE)
        if "host" not in headers and self._parser.get_http_version() != "1.0":
            self._abort_parse(BAD_REQUEST)  # RFC 9112 3.2
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if (length is not None and length != "0") or coding is not None:
            if coding is not None:
                self._encoded(coding)
            self._peculiar = coding is not None or "expect" in headers
            self._taker.within(limits.body_time)
            if length is not None and int(length) > limits.body:
                self._abort_parse(self._too_large())
            if "expect" in headers:
                self._expect(headers["expect"])
        else:
            self._taker.deadline = NEVER

    def _encoded(self, coding: str) -> None:
        """Chunks alone, as in Go's servers; HTTP/1.0 has none, so that two servers may take them for two things (RFC 9112 6.1)."""
        if self._parser.get_http_version() == "1.0":
            self._abort_parse(BAD_REQUEST)
        if coding.lower() != "chunked":
            self._abort_parse(CODING)

    def _expect(self, expectation: str) -> None:
        if expectation.lower() != "100-continue":
            self._abort_parse(EXPECTATION)
        if self._parser.get_http_version() == "1.1":
            self._taker.go_on()

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size > self._limits.body:
            self._abort_parse(self._too_large())
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytes):
            self._body = [self._body, data]
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        self.idle = True
        self._taker.deadline = NEVER
        parser, raw, body = self._parser, self._url, self._body
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._abort_parse(BAD_REQUEST)  # the parser also lets HTTP/0.9 and 2.0 in
        path, _, query = raw.decode("latin-1").partition("?")
        if not path.startswith("/"):
            path, query = self._absolute_form(path, query)
        name = parser.get_method()
        method = _METHODS.get(name) or name.decode("latin-1")
        keep, upgrade = parser.should_keep_alive(), parser.should_upgrade()
        if keep and not upgrade and version == "1.1" and not self._peculiar:
            self._plain = method, raw, self._headers.copy()
        request = Request(
            method, path, query, self._headers, body if isinstance(body, bytes) else b"".join(body), self.peer
        )
        self._taker.take(request, keep, upgrade, version == "1.0")

    def _absolute_form(self, path: str, query: str) -> tuple[str, str]:
        """`GET http://host/path` (RFC 9112 3.2.2); `OPTIONS *` stays as it is."""
        if path == "*":
            return path, query
        scheme, found, rest = path.partition("://")
        if not found or scheme.lower() not in ("http", "https"):
            self._abort_parse(BAD_REQUEST)
        return "/" + rest.partition("/")[2], query

    def _too_large(self) -> Response:
        text = f"Request entity too large: limit is {self._limits.body}"
        return refusal(413, "RequestEntityTooLarge", text)

    def _abort_parse(self, response: Response) -> None:
        """Make the parser stop; `feed` raises the refusal."""
        self._refusal = response
        raise ValueError("refused")


def _name(raw: bytes) -> str:
    name = raw.decode("latin-1").lower()
    if len(_NAMES) < 512:
        _NAMES[raw] = name
    return name
