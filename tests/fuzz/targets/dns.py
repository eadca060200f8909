"""DNS messages from anybody: nothing raises, and what is sent back fits what the asker takes."""

from __future__ import annotations

from jota.net.dns import packet
from jota.net.dns.zone import Zone

ZONE = Zone(address="10.96.0.10")
ZONE.set_namespace("default", True)
_NAME = packet.encode_name("kubernetes.default.svc.cluster.local")
_HEAD = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0"
_QUESTION = _NAME + b"\0\1\0\1"
SEEDS = [
    _HEAD + _QUESTION,
    _HEAD[:10] + b"\0\1" + _QUESTION + b"\0\0\x29\x10\0\0\0\0\0\0\0",
    _HEAD + packet.encode_name("10-244-0-7.default.pod.cluster.local") + b"\0\1\0\1",
    _HEAD + packet.encode_name("10.0.96.10.in-addr.arpa") + b"\0\x0c\0\1",
    b"\x12\x34\x81\x80\0\1\0\1\0\0\0\0" + _QUESTION + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4",
    b"\x12\x34\x81\x80\0\1\0\1\0\1\0\0"
    + _QUESTION
    + b"\xc0\x0c\0\5\0\1\0\0\0\5\0\2\xc0\x17\xc0\x17\0\6\0\1"
    + b"\0" * 30,
]
WORDS = [_NAME, b"\xc0\x0c", b"\0\0\x29", b"\3svc\7cluster\5local\0", b"\0\xff\0\1"]


def check(data: bytes) -> None:
    query = packet.parse(data)
    if isinstance(query, bytes):
        assert query[:2] == data[:2]
        assert len(query) <= packet.EDNS_LIMIT
    elif query is not None:
        answer = ZONE.lookup(query.name, query.kind)
        if answer is not None:
            for turn in (0, 1):
                built = packet.build(query, answer, query.limit, turn)
                assert len(built) <= query.limit
                assert built[:2] == data[:2]
        packet.decode_name(query.name)
    for question in (_QUESTION, data[12:40]):
        foreign = packet.read_answer(data, question, data[:2])
        if foreign is not None:
            assert foreign.ttl >= 0
            assert sum(map(len, foreign.records)) <= 300 * len(data)
