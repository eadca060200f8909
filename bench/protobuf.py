"""Protocol Buffers by hand, as far as the peers' APIs need it: {field number: value} -> bytes, and back.

A value is an int (varint), text or bytes, a dict (a message) or a list of them (repeated). Reading gives every
length-delimited field as bytes. Enough for a few gRPC calls without generated code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Message = Mapping[int, Any]


def encode(message: Message) -> bytes:
    return b"".join(_field(number, value) for number, value in message.items())


def decode(data: bytes) -> dict[int, list[Any]]:
    """Field number -> its values in order: int for varints, bytes for what has a length."""
    found: dict[int, list[Any]] = {}
    at = 0
    value: int | bytes
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            value, at = _read_varint(data, at)
        elif tag & 7 == 2:
            length, at = _read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {tag & 7} is not known here")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_field(number, v) for v in value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
