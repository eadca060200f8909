"""Messages that repeat the last one are not parsed again, and nobody can tell: what is taken is what the parser would take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.wire import reading
from jota.wire.limits import NEVER, Limits
from jota.wire.message import Peer, Request
from jota.wire.reading import Reader, Refused

HEAD = b"Host: a\r\nUser-Agent: kubectl/1\r\nAccept: application/json\r\n\r\n"
LIMITS = Limits(header=600, headers=20, body=200)


class Taker:
    """Remembers what a reader gives."""

    def __init__(self) -> None:
        self.deadline = NEVER
        self.taken: list[tuple[Request, bool, bool, bool]] = []

    def within(self, seconds: float) -> None:
        self.deadline = seconds

    def take(self, request: Request, keep: bool, upgrade: bool, old: bool) -> None:
        self.taken.append((request, keep, upgrade, old))

    def go_on(self) -> None: ...


class Counting:
    """A parser that tells how often it was fed."""

    def __init__(self, parser: Any) -> None:
        self.parser, self.fed = parser, 0

    def feed_data(self, data: bytes) -> None:
        self.fed += 1
        self.parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


def counted(limits: Limits = LIMITS) -> tuple[Reader, Taker, Counting]:
    taker = Taker()
    reader = Reader(taker, limits)
    reader.peer = Peer("192.0.2.1", 7, b"der")
    reader._parser = counting = Counting(reader._parser)
    return reader, taker, counting


def is_parsed_anew(first: bytes, second: bytes) -> None:
    """Though the first could be repeated; the second may be refused."""
    reader, _, parser = counted()
    reader.feed(first)
    assert reader._known is not None
    try:
        reader.feed(second)
    except Refused:
        pass
    assert parser.fed == 2


def shown(taker: Taker) -> list[tuple[Any, ...]]:
    return [(r.method, r.path, r.query, r.headers, r.body, r.peer, *rest) for r, *rest in taker.taken]


def test_the_second_message_is_not_parsed_and_says_the_same() -> None:
    reader, taker, parser = counted()
    for path in (b"/a", b"/b?watch=1&x=%20", b"/c"):
        assert reader.feed(b"GET " + path + b" HTTP/1.1\r\n" + HEAD) is None
        assert reader.idle
    assert parser.fed == 1
    first, second, third = (request for request, *_ in taker.taken)
    assert (second.method, second.path, second.query, second.peer) == ("GET", "/b", "watch=1&x=%20", first.peer)
    assert second.headers == first.headers == {"host": "a", "user-agent": "kubectl/1", "accept": "application/json"}
    assert first.alike is None
    assert second.alike is third.alike is not None
    assert [rest for _, *rest in taker.taken] == [[True, False, False]] * 3


BODY = b" HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: %d\r\nAccept: x\r\n\r\n%b"


def with_body(line: bytes, body: bytes) -> bytes:
    return line + BODY % (len(body), body)


def test_a_message_with_a_body_is_known_by_all_that_stands_around_its_length() -> None:
    reader, taker, parser = counted()
    for line, body in ((b"POST /a", b"x"), (b"POST /b?c=d", b"y" * 120), (b"POST /a", b"POST / HTTP/1.1\r\n\r\n")):
        assert reader.feed(with_body(line, body)) is None
        assert reader.idle
    assert parser.fed == 1
    _, second, third = (request for request, *_ in taker.taken)
    assert (second.path, second.query, second.body) == ("/b", "c=d", b"y" * 120)
    assert second.headers == {"host": "a", "content-length": "120", "accept": "x"}
    assert (third.body, third.headers["content-length"]) == (b"POST / HTTP/1.1\r\n\r\n", "19")
    assert second.alike is third.alike is not None


@pytest.mark.parametrize(
    "second",
    [
        with_body(b"PATCH /b", b"y"),
        with_body(b"POST /b c", b"y"),
        with_body(b"POST b", b"y"),
        with_body(b"POST /b", b"y") + b"z",
        with_body(b"POST /b", b"y") * 2,
        with_body(b"POST /b", b"yz")[:-1],
        with_body(b"POST /b", b""),
        with_body(b"POST /b", b"y").replace(b": 1", b": +1"),
        with_body(b"POST /b", b"y").replace(b": 1", b":  1"),
        with_body(b"POST /b", b"y").replace(b": 1", b": 0000000000001"),
        with_body(b"POST /b", b"y").replace(b"Accept: x", b"Accept: z"),
        with_body(b"POST /b", b"y" * 201),
        with_body(b"POST /" + b"b" * 600, b"y"),
    ],
)
def test_a_body_that_is_not_as_long_as_it_says_and_whatever_else_is_different_is_parsed(second: bytes) -> None:
    is_parsed_anew(with_body(b"POST /a", b"x"), second)


def test_what_one_handler_does_to_its_headers_is_its_own_affair() -> None:
    reader, taker, parser = counted()
    for _ in range(4):
        reader.feed(b"GET /a HTTP/1.1\r\n" + HEAD)
        request = taker.taken[-1][0]
        assert request.headers["host"] == "a"
        request.headers.clear()
    assert parser.fed == 1


@pytest.mark.parametrize(
    "first",
    [
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length:\t1\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET http://a/a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHo",
        b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: " + b"a" * 600 + b"\r\n\r\n",
    ],
)
def test_what_is_not_remembered(first: bytes) -> None:
    reader, _, _ = counted()
    try:
        reader.feed(first)
    except Refused:
        pass
    assert reader._known is None


def test_a_message_in_pieces_is_not_remembered_even_if_a_piece_looks_whole() -> None:
    reader, taker, parser = counted()
    reader.feed(b"GET /x HTTP/1.1\r\nA: ")
    reader.feed(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    reader.feed(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [request.headers for request, *_ in taker.taken] == [{"a": "GET /x HTTP/1.1", "host": "x"}, {"host": "x"}]
    assert parser.fed == 3


@pytest.mark.parametrize(
    "second",
    [
        b"GET /b HTTP/1.1\r\nX: y\r\n" + HEAD,
        b"GET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n" + HEAD,
        b"GET /b HTTP/1.1\r\nContent-Length: 60\r\n\r\n" + b"GET /c HTTP/1.1\r\n" + HEAD,
        b"GET /b\tc HTTP/1.1\r\n" + HEAD,
        b"GET /b\0c HTTP/1.1\r\n" + HEAD,
        b"GET /b\xffc HTTP/1.1\r\n" + HEAD,
        b"GET /b#c HTTP/1.1\r\n" + HEAD,
        b"GET b HTTP/1.1\r\n" + HEAD,
        b"GET  HTTP/1.1\r\n" + HEAD,
        b"GET / HTTP/1.1 HTTP/1.1\r\n" + HEAD,
        b"PUT /b HTTP/1.1\r\n" + HEAD,
        b"GET /b HTTP/1.1\r\n" + HEAD.replace(b"kubectl", b"Kubectl"),
        b"GET /" + b"b" * 600 + b" HTTP/1.1\r\n" + HEAD,
        b"GET /b HTTP/1.1\r\n" + HEAD[:-1],
        HEAD,
    ],
)
def test_whatever_is_different_is_parsed(second: bytes) -> None:
    is_parsed_anew(b"GET /a HTTP/1.1\r\n" + HEAD, second)


def test_after_a_piece_of_a_message_nothing_is_taken_for_a_repetition() -> None:
    reader, taker, parser = counted()
    whole = b"GET /a HTTP/1.1\r\n" + HEAD
    reader.feed(whole)
    reader.feed(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(whole))
    reader.feed(whole)  # it is the body
    reader.feed(whole)
    assert [(r.method, r.body) for r, *_ in taker.taken] == [("GET", b""), ("POST", whole), ("GET", b"")]
    assert parser.fed == 4


_LINES = st.sampled_from(
    [
        b"GET /a",
        b"GET /b?c=d",
        b"HEAD /a",
        b"DELETE /a",
        b"GET /%20~",
        b"GET /a#b",
        b"GET *",
        b"GET /a b",
        b"GET /\xc3\xa4",
        b"POST /a",
        b"POST /b?c",
    ]
)
_HEADS = st.sampled_from(
    [
        b"\r\n",
        b"Host: a\r\n\r\n",
        b"Host: a\r\nAccept: x\r\naccept: y\r\n\r\n",
        b"Host: a\r\nConnection: close\r\n\r\n",
        b"Host: a\r\nContent-Length: 0\r\n\r\n",
        b"Host: a\r\nContent-Length: 3\r\n\r\n",
        b"Host: a\r\nContent-Length: 3\r\n\r\nabc",
        b"Host: a\r\nContent-Length: 4\r\n\r\nabcd",
        b"Host: a\r\nContent-Length: 03\r\n\r\nabc",
        b"Host: a\r\nContent-Length: 4\r\n\r\nabc",
        b"Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Host: a\r\nContent-Length: 201\r\n\r\n" + b"x" * 201,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"Host: a\r\n folded\r\n\r\n",
        b"Host: a\n\n",
        b"Expect: 100-continue\r\n\r\n",
    ]
)
_VERSIONS = st.sampled_from(
    [b" HTTP/1.1\r\n", b" HTTP/1.1\r\n", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b" HTTP/1.1\n"]
)
_MESSAGE = st.builds(lambda line, version, head: line + version + head, _LINES, _VERSIONS, _HEADS)
_READ = st.one_of(
    _MESSAGE,
    st.builds(lambda a, b: a + b, _MESSAGE, _MESSAGE),
    st.builds(lambda a, n: a[:n], _MESSAGE, st.integers(0, 60)),
    st.binary(max_size=12),
)
_ANY = st.lists(_READ, min_size=1, max_size=3).flatmap(lambda some: st.lists(st.sampled_from(some), max_size=8))
_SAME = st.builds(
    lambda head, lines: [line + b" HTTP/1.1\r\n" + head for line in lines],
    _HEADS,
    st.lists(_LINES, min_size=2, max_size=5),
)
_BODIES = st.lists(
    st.builds(
        with_body, st.sampled_from([b"POST /a", b"POST /b", b"PUT /a"]), st.sampled_from([b"", b"x", b"{}", b"y" * 201])
    ),
    min_size=2,
    max_size=5,
)


def outcome(reads: list[bytes]) -> tuple[list[tuple[Any, ...]], str, bool, bool]:
    reader, taker, _ = counted()
    end = ""
    for data in reads:
        try:
            rest = reader.feed(data)
        except Refused as refused:
            end = f"refused {refused.response.status}"
            break
        if rest is not None:
            end = f"upgraded {rest!r}"
            break
        if taker.taken and not taker.taken[-1][1]:
            break  # the connection answers and closes
    return shown(taker), end, reader.idle, taker.deadline == NEVER


@given(st.one_of(_ANY, _SAME, _BODIES, st.builds(list.__add__, st.one_of(_SAME, _BODIES), _ANY)))
@settings(deadline=None, max_examples=400)
def test_whatever_comes_is_taken_as_without_a_memory(reads: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "repeatable", lambda *_: None)
        expected = outcome(reads)
    assert outcome(reads) == expected
