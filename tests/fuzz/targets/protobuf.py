"""Protobuf bodies: an object that is JSON, or 400."""

from __future__ import annotations

from jota.meta import protobuf
from targets import kit


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2, len(data))) + data


def _envelope(version: bytes, kind: bytes, raw: bytes) -> bytes:
    return protobuf.MAGIC + _field(1, _field(1, version) + _field(2, kind)) + _field(2, raw)


_META = _field(1, _field(1, b"name") + _field(11, _field(1, b"a") + _field(2, b"b")))
SEEDS = [
    _envelope(b"v1", b"ConfigMap", _META + _field(2, _field(1, b"k") + _field(2, b"v"))),
    _envelope(b"v1", b"Pod", _META + _field(2, _field(2, _field(1, b"c") + _field(2, b"i")))),
    _envelope(b"apps/v1", b"Deployment", _META + _field(2, b"\x08\x03" + _field(2, _field(1, b"")))),
    _envelope(b"v1", b"Event", _META + _field(8, b"\x08\x01\x10\x02") + b"\x40\x01"),
    _envelope(b"batch/v1", b"CronJob", _META + _field(2, _field(1, b"* * * * *"))),
    _envelope(b"apiextensions.k8s.io/v1", b"CustomResourceDefinition", _META + _field(2, _field(1, b"g"))),
    _envelope(b"meta.k8s.io/v1", b"DeleteOptions", b"\x08\x05"),
]
WORDS = [protobuf.MAGIC, b"v1", b"Pod", b"Secret", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]


def check(data: bytes) -> None:
    body = data if data.startswith(protobuf.MAGIC) else _envelope(b"v1", b"Pod", data[:127])
    kit.taken_or_refused(lambda: protobuf.decode(body))
