"""Bytes in, bytes out: good queries, bad ones, and whatever hypothesis thinks of."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jota.net.dns import packet
from jota.net.dns.packet import CNAME, SOA, A, Answer, Query, build, encode_name, parse, read_answer, record

WEB = encode_name("web.default.svc.cluster.local")


def query(name: bytes = WEB, kind: int = A, *, flags: int = 0x0100, klass: int = 1, extra: bytes = b"") -> bytes:
    counts = struct.pack("!HHHHHH", 0x1234, flags, 1, 0, 0, 1 if extra else 0)
    return counts + name + struct.pack("!HH", kind, klass) + extra


def opt(size: int = 1232, version: int = 0) -> bytes:
    return struct.pack("!BHHIH", 0, packet.OPT, size, version << 16, 0)


def test_a_query_is_read() -> None:
    found = parse(query())
    assert isinstance(found, Query)
    assert (found.identity, found.name, found.kind, found.limit, found.edns) == (b"\x12\x34", WEB, A, 512, False)
    assert found.recursion_desired


def test_the_case_of_the_question_is_kept_and_does_not_matter() -> None:
    asked = encode_name("web.default.svc.cluster.local").replace(b"web", b"wEb")
    found = parse(query(asked))
    assert isinstance(found, Query)
    assert found.name == WEB
    assert asked in build(found, Answer(), 512)


@pytest.mark.parametrize(("size", "limit"), [(100, 512), (512, 512), (1000, 1000), (4096, 1232)])
def test_edns_sizes_are_bounded_both_ways(size: int, limit: int) -> None:
    found = parse(query(extra=opt(size)))
    assert isinstance(found, Query)
    assert (found.edns, found.limit) == (True, limit)
    assert build(found, Answer(), 512).endswith(opt())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (query(flags=0x0900), packet.NOTIMP),
        (query()[:12], packet.FORMERR),
        (query()[:-1], packet.FORMERR),
        (query(b"\xc0\x0c"), packet.FORMERR),
        (query(b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\0"), packet.FORMERR),
        (query().replace(b"\0\1\0\0", b"\0\2\0\0", 1), packet.FORMERR),
        (query(klass=3), packet.REFUSED),
    ],
)
def test_what_cannot_be_answered_gets_its_error(data: bytes, code: int) -> None:
    found = parse(data)
    assert isinstance(found, bytes)
    assert found[:2] == data[:2]
    assert found[2] & 0x80
    assert found[3] & 15 == code


def test_an_unknown_edns_version_is_badvers() -> None:
    found = parse(query(extra=opt(version=1)))
    assert isinstance(found, bytes)
    assert found[3] & 15 == 0
    assert struct.unpack("!BHHBBHH", found[-11:])[3] == 1


@pytest.mark.parametrize("data", [b"", b"x" * 11, query(flags=0x8180)])
def test_answers_and_fragments_get_no_answer(data: bytes) -> None:
    assert parse(data) is None


def test_too_much_is_truncated_to_the_question() -> None:
    found = parse(query(extra=opt(512)))
    assert isinstance(found, Query)
    records = [record(packet.QUESTION_POINTER, A, 5, bytes(4)) for _ in range(40)]
    short = build(found, Answer(records=records), found.limit)
    assert short[2] & 2
    assert struct.unpack_from("!HHHH", short, 4) == (1, 0, 0, 1)
    whole = build(found, Answer(records=records), 65535)
    assert not whole[2] & 2
    assert struct.unpack_from("!H", whole, 6) == (40,)


def test_glue_is_left_out_before_anything_is_truncated() -> None:
    found = parse(query())
    assert isinstance(found, Query)
    records = [record(packet.QUESTION_POINTER, A, 5, bytes(4)) for _ in range(25)]
    built = build(found, Answer(records=records, additional=records), 512)
    assert not built[2] & 2
    assert struct.unpack_from("!HHHH", built, 4) == (1, 25, 0, 0)


def test_turns_rotate() -> None:
    found = parse(query())
    assert isinstance(found, Query)
    records = [record(packet.QUESTION_POINTER, A, 5, bytes([10, 0, 0, n])) for n in range(3)]
    firsts = {build(found, Answer(records=records), 512, turn)[-3 * 16 :][12:16] for turn in range(3)}
    assert len(firsts) == 3


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["a" * 60] * 5)])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="DNS name"):
        encode_name(name)


def upstream(question: bytes) -> bytes:
    """A compressed answer: www -> host (CNAME), host A, with a SOA behind."""
    records = b"\xc0\x0c" + struct.pack("!HHIH", CNAME, 1, 300, 7) + b"\x04host\xc0\x10"
    records += b"\xc0\x2d" + struct.pack("!HHIH", A, 1, 60, 4) + bytes([192, 0, 2, 1])
    records += b"\0" + struct.pack("!HHIH", SOA, 1, 600, 22) + b"\0\0" + struct.pack("!IIIII", 1, 2, 3, 4, 30)
    return b"ab" + struct.pack("!HHHHH", 0x8180, 1, 2, 1, 0) + question + records


QUESTION = encode_name("www.example.com") + b"\0\1\0\1"


def test_an_upstream_answer_is_written_out() -> None:
    found = read_answer(upstream(QUESTION), QUESTION, b"ab")
    assert found is not None
    assert (found.code, found.ttl, found.truncated) == (0, 30, False)
    host = encode_name("host.example.com")
    assert found.records == [
        record(encode_name("www.example.com"), CNAME, 300, host),
        record(host, A, 60, bytes([192, 0, 2, 1])),
    ]


def test_an_answer_to_something_else_is_no_answer() -> None:
    good = upstream(QUESTION)
    assert read_answer(good, QUESTION, b"xx") is None
    assert read_answer(good, encode_name("evil.example.com") + b"\0\1\0\1", b"ab") is None
    assert read_answer(good[:10], QUESTION, b"ab") is None
    assert read_answer(b"ab\x01" + good[3:], QUESTION, b"ab") is None


@given(st.binary(max_size=600))
@example(b"\0" * 12)
def test_no_input_makes_the_parser_raise_or_loop(data: bytes) -> None:
    found = parse(data)
    if isinstance(found, Query):
        assert parse(build(found, Answer(), 512)) is None
    elif found is not None:
        assert found[:2] == data[:2]


@given(st.binary(max_size=40), st.binary(max_size=300), st.integers(0, 5), st.integers(0, 5))
def test_no_tail_makes_reading_raise_or_loop(question: bytes, tail: bytes, answers: int, authorities: int) -> None:
    data = b"ab" + struct.pack("!HHHHH", 0x8180, 1, answers, authorities, 0) + question + tail
    read_answer(data, question, b"ab")
    parse(struct.pack("!HHHHHH", 1, 0x0100, 1, answers, authorities, 5) + WEB + b"\0\1\0\1" + tail)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 220))
def test_pointers_never_loop(data: bytes, offset: int) -> None:
    written = packet._expand(data, offset)
    assert len(written) <= 255
    assert not written or written[-1] == 0
