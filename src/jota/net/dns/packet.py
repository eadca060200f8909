"""DNS messages as bytes (RFC 1035, EDNS: RFC 6891): reading queries, building answers. Pure, and on the hot path.

Comes in: a datagram or a TCP message from anybody. Goes out: `Query` (or None, or an error answer), and answers built
from prepared resource records. Nothing here raises on any input; every loop advances. Next: zone.py.

Names are kept in wire form (length, label, ..., 0), lower-case when they are keys. A record whose owner is the question
itself begins with the pointer 0xC00C.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
QUESTION_POINTER = b"\xc0\x0c"
UDP_LIMIT = 512
EDNS_LIMIT = 1232
"""The size that passes every usual path unfragmented (DNS flag day 2020); we offer it and never send more by UDP."""


class Query(NamedTuple):
    """One question as asked."""

    identity: bytes
    """The two bytes that tie an answer to its query."""
    recursion_desired: bool
    question: bytes
    """Name, type and class, as sent (the case of letters is the client's)."""
    name: bytes
    """Lower-case wire form."""
    kind: int
    limit: int
    """Bytes that the client takes by UDP; 512 without EDNS."""
    edns: bool


@dataclass(slots=True)
class Answer:
    """What to say to a question."""

    code: int = NOERROR
    records: list[bytes] = field(default_factory=list)
    authority: bytes = b""
    """At most one record (SOA of a negative answer)."""
    additional: list[bytes] = field(default_factory=list)
    authoritative: bool = True
    chase: bytes = b""
    """A CNAME target outside the zone: its addresses are still to be asked for and appended."""


def encode_name(text: str) -> bytes:
    """ "a.b." or "a.b" to wire form, lower-case. Raises ValueError for labels of more than 63 bytes or names over 255."""
    out = bytearray()
    for label in text.rstrip(".").lower().split(".") if text.rstrip(".") else ():
        raw = label.encode()
        if not 0 < len(raw) < 64:
            raise ValueError(f"not a DNS name: {text!r}")
        out.append(len(raw))
        out += raw
    out.append(0)
    if len(out) > 255:
        raise ValueError(f"DNS name is too long: {text!r}")
    return bytes(out)


def decode_name(name: bytes) -> str:
    """Wire form to text, for people; never raises."""
    return ".".join(label.decode("latin-1") for label in labels(name))


def labels(name: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(name) and name[offset]:
        end = offset + 1 + name[offset]
        yield name[offset + 1 : end]
        offset = end


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, IN, ttl, len(data)) + data


def parse(data: bytes) -> Query | bytes | None:
    """A query; or the answer to something that cannot be one (FORMERR, NOTIMP, BADVERS); or None: say nothing."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    if data[2] & 0x78:
        return error(data[:2], NOTIMP, bool(data[2] & 1))
    end = _name_end(data, 12)
    if data[4:6] != b"\0\1" or end == 0 or end + 4 > len(data):
        return error(data[:2], FORMERR, bool(data[2] & 1))
    kind, klass = struct.unpack_from("!HH", data, end)
    limit, version = _edns(data, end + 4)
    query = Query(
        identity=data[:2],
        recursion_desired=bool(data[2] & 1),
        question=data[12 : end + 4],
        name=data[12:end].lower(),
        kind=kind,
        limit=min(max(limit, UDP_LIMIT), EDNS_LIMIT),
        edns=limit > 0,
    )
    if version:
        return build(query, Answer(BADVERS, authoritative=False), EDNS_LIMIT)
    if klass not in (IN, ANY):
        return build(query, Answer(REFUSED, authoritative=False), UDP_LIMIT)
    return query


def error(identity: bytes, code: int, recursion_desired: bool) -> bytes:
    """An answer to what has no readable question."""
    return identity + bytes((0x80 | recursion_desired, 0x80 | code)) + bytes(8)


def build(query: Query, answer: Answer, limit: int, turn: int = 0) -> bytes:
    """The answer on the wire; cut to the question with the TC bit set when it is longer than `limit`.

    `turn` rotates the records, so that clients that take the first one spread.
    """
    records = answer.records
    if turn and len(records) > 1:
        cut = turn % len(records)
        records = records[cut:] + records[:cut]
    extra = answer.additional
    opt = _opt(answer.code) if query.edns else b""
    size = 12 + len(query.question) + len(opt) + len(answer.authority) + sum(map(len, records))
    if extra and size + sum(map(len, extra)) > limit:
        extra = []  # glue is a courtesy: left out before anything is truncated
    if size > limit:
        return _head(query, answer, True, 0, 0, len(opt) > 0) + query.question + opt
    counts = len(records), 1 if answer.authority else 0, len(extra) + (1 if opt else 0)
    return b"".join((_head(query, answer, False, *counts), query.question, *records, answer.authority, *extra, opt))


def _head(query: Query, answer: Answer, truncated: bool, answers: int, authorities: int, additional: int) -> bytes:
    high = 0x80 | (0x04 if answer.authoritative else 0) | (0x02 if truncated else 0) | query.recursion_desired
    low = 0x80 | (answer.code & 15)
    return query.identity + struct.pack("!BBHHHH", high, low, 1, answers, authorities, additional)


def _opt(code: int) -> bytes:
    return struct.pack("!BHHBBHH", 0, OPT, EDNS_LIMIT, code >> 4, 0, 0, 0)


def _name_end(data: bytes, offset: int) -> int:
    """Offset after an uncompressed name; 0 if it is none (too long, cut off, or with a pointer)."""
    start = offset
    while offset < len(data):
        size = data[offset]
        if size == 0:
            return offset + 1 if offset + 1 - start <= 255 else 0
        if size > 63:
            return 0
        offset += size + 1
    return 0


def _skip_name(data: bytes, offset: int) -> int:
    """Offset after a name that may be compressed; 0 if it is cut off or malformed."""
    while offset < len(data):
        size = data[offset]
        if size == 0:
            return offset + 1
        if size >= 0xC0:
            return offset + 2
        if size > 63:
            return 0
        offset += size + 1
    return 0


def _edns(data: bytes, offset: int) -> tuple[int, int]:
    """(UDP size, version) from the OPT record; (0, 0) when there is none to be read."""
    for kind, klass, ttl, _ in _records(data, offset, sum(struct.unpack_from("!HHH", data, 6))):
        if kind == OPT:
            return max(klass, UDP_LIMIT), (ttl >> 16) & 0xFF
    return 0, 0


def _records(data: bytes, offset: int, count: int) -> Iterator[tuple[int, int, int, tuple[int, int, int]]]:
    """(type, class, ttl, (owner offset, data offset, data end)) of up to `count` records; stops at the first bad one."""
    for _ in range(count):
        owner = offset
        offset = _skip_name(data, offset)
        if not offset or offset + 10 > len(data):
            return
        kind, klass, ttl, size = struct.unpack_from("!HHIH", data, offset)
        start = offset + 10
        offset = start + size
        if offset > len(data):
            return
        yield kind, klass, ttl, (owner, start, offset)


# --- answers of other servers


class Foreign(NamedTuple):
    """What is read from an upstream server's answer."""

    code: int
    truncated: bool
    ttl: int
    """Seconds that the whole answer may be kept: the least of its records' (negative: the SOA's minimum); 0: do not."""
    records: list[bytes]
    """A, AAAA and CNAME records of the answer section, with owners and targets written out."""


def read_answer(data: bytes, question: bytes, identity: bytes) -> Foreign | None:
    """None unless `data` answers exactly this question (the case of letters may differ) with this identity."""
    if len(data) < 12 or data[:2] != identity or not data[2] & 0x80 or data[4:6] != b"\0\1":
        return None
    end = 12 + len(question)
    if data[12:end].lower() != question.lower():
        return None
    answers, authorities = struct.unpack_from("!HH", data, 6)
    records: list[bytes] = []
    ttls: list[int] = []
    for n, (kind, _, ttl, (owner, start, stop)) in enumerate(_records(data, end, answers + authorities)):
        if n >= answers:
            if kind == SOA and stop - start >= 22:
                ttls.append(min(ttl, struct.unpack_from("!I", data, stop - 4)[0]))
            continue
        ttls.append(ttl)
        written = _write_out(data, kind, ttl, owner, start, stop)
        if written:
            records.append(written)
    code = data[3] & 15
    keep = min(ttls, default=0) if code in (NOERROR, NXDOMAIN) else 0
    return Foreign(code, bool(data[2] & 2), keep, records)


def _write_out(data: bytes, kind: int, ttl: int, owner: int, start: int, stop: int) -> bytes:
    name = _expand(data, owner)
    if kind == CNAME:
        target = _expand(data, start)
        return record(name, kind, ttl, target) if name and target else b""
    if kind in (A, AAAA) and name:
        return record(name, kind, ttl, data[start:stop])
    return b""


def _expand(data: bytes, offset: int) -> bytes:
    """A compressed name written out; b"" if it is malformed. Pointers must lead backwards, so this ends."""
    out = bytearray()
    while offset < len(data):
        size = data[offset]
        if size >= 0xC0:
            if offset + 1 >= len(data):
                return b""
            target = (size & 0x3F) << 8 | data[offset + 1]
            if target >= offset:
                return b""
            offset = target
            continue
        if size > 63 or len(out) + size > 254:
            return b""
        out += data[offset : offset + 1 + size]
        if size == 0:
            return bytes(out)
        offset += size + 1
    return b""


def join(parts: Sequence[bytes]) -> bytes:
    """A message with its length before it, as TCP carries it."""
    body = b"".join(parts)
    return struct.pack("!H", len(body)) + body
