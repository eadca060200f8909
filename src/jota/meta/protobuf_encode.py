"""Kubernetes' protobuf, the way out: a JSON value in, the bytes that a typed client decodes to the same object out.

The reverse of protobuf.py, by the same data file: each message has a plan of (tag, JSON name, writer). What JSON leaves out
is left out (decoders take absence for the zero value); what it has is written, be it zero: that is how a pointer to zero
differs from none. `object_` wraps in the envelope `k8s\\0`; `event` makes the body of a watch's frame. Next: api/protobuf_form.py.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import orjson

from jota.meta.protobuf import INLINE, MAGIC, REPEATED, message_of, messages

_Writer = Callable[[Any], bytes]
"""A JSON value -> the field's content: of a varint its bytes, of all else without the length."""
_VARINTS = frozenset(("bool", "int32", "int64"))
_MASK = (1 << 64) - 1


def object_(value: Mapping[str, Any]) -> bytes:
    """`value` (with apiVersion and kind) in the envelope. Raises LookupError when protobuf has no such kind."""
    version, kind = str(value.get("apiVersion", "")), str(value.get("kind", ""))
    message = message_of(version or "v1", kind)
    if message is None:
        raise LookupError(f'no kind "{kind}" is registered for version "{version}" in protobuf')
    types = (_part(1, version.encode()) if version else b"") + _part(2, kind.encode())
    return MAGIC + _part(1, types) + _part(2, _message(message)(value)) + _part(3, b"") + _part(4, b"")


def event(type_: str, value: Mapping[str, Any]) -> bytes:
    """A WatchEvent. It has no envelope of its own, its object has (upstream's raw serializer). Raises LookupError."""
    return _part(1, type_.encode()) + _part(2, _part(1, object_(value)))


# --- wire format -----------------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    number &= _MASK
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _part(number: int, content: bytes) -> bytes:
    """A field of wire type 2."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


# --- messages --------------------------------------------------------------------------------------------------------


@cache
def _message(name: str) -> _Writer:
    """The writer of a message. Its plan is made when the first value comes: messages contain themselves."""
    plan: list[tuple[str, _Writer]] = []
    inlined: list[tuple[int, _Writer]] = []
    made = False

    def write(value: Any) -> bytes:
        nonlocal made
        if not made:
            for number, label, type_, flags in msgspec.json.decode(
                messages()[name], type=list[tuple[int, str, str, int]]
            ):
                if flags & INLINE:
                    inlined.append((number, _message(type_)))
                elif label != "-":
                    plan.append((label, _field(number, type_, bool(flags & REPEATED))))
            made = True
        out = []
        for label, field in plan:
            found = value.get(label)
            if found is not None:
                out.append(field(found))
        for number, whole in inlined:
            content = whole(value)
            if content:
                out.append(_part(number, content))
        return b"".join(out)

    return write


def _field(number: int, type_: str, repeated: bool) -> _Writer:
    """A JSON value -> the whole field, tags and lengths included."""
    if type_.startswith("map<"):
        key, _, type_ = type_[4:-1].partition(",")
        first, second = _one(1, key), _one(2, type_)
        tag = _varint(number << 3 | 2)

        def entries(value: Any) -> bytes:
            found = (first(k) + second(v) for k, v in value.items())
            return b"".join(tag + _varint(len(entry)) + entry for entry in found)

        return entries
    one = _one(number, type_)
    if repeated:
        return lambda value: b"".join([one(item) for item in value])
    return one


def _one(number: int, type_: str) -> _Writer:
    write = _writer(type_)
    if type_ in _VARINTS:
        tag = _varint(number << 3)
        return lambda value: tag + write(value)
    if type_ == "double":
        tag = _varint(number << 3 | 1)
        return lambda value: tag + write(value)
    tag = _varint(number << 3 | 2)

    def whole(value: Any) -> bytes:
        content = b"" if value is None else write(value)
        return tag + _varint(len(content)) + content

    return whole


# --- values ----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> bytes:
    return str(value).encode()


def _string_inside(value: Any) -> bytes:
    """Quantity: its text, in a message."""
    return _part(1, str(value).encode())


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01" + b"\x10\x00" + _part(3, value.encode())
    return b"\x08\x00\x10" + _varint(int(value)) + _part(3, b"")


_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)$")


def _time(value: Any) -> bytes:
    """RFC 3339 -> seconds and nanoseconds. A text that is none cannot be told in protobuf: Go's zero time (empty)."""
    found = _TIME.match(str(value))
    if found is None:
        return b""
    stem, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(stem + ("+00:00" if zone in "Zz" else zone))
    except ValueError:
        return b""
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    nanos = int((fraction or "0").ljust(9, "0")[:9])
    return b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos)


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN = re.compile(r"(\d+)(?:\.(\d+))?(ns|us|µs|ms|s|m|h)")


def _duration(value: Any) -> bytes:
    """Go's time.Duration in text -> nanoseconds."""
    text, nanos = str(value), 0
    for whole, fraction, unit in _SPAN.findall(text):
        nanos += int(whole) * _UNITS[unit]
        if fraction:
            nanos += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return b"\x08" + _varint(-nanos if text.startswith("-") else nanos)


def _raw_json(value: Any) -> bytes:
    """RawExtension, FieldsV1, JSON: one bytes field that holds JSON."""
    return _part(1, orjson.dumps(value))


def _items(value: Any) -> bytes:
    return b"".join(_part(1, _text(item)) for item in value)


def _chosen(name: str, choose: Callable[[Any], dict[str, Any]]) -> _Writer:
    write = _message(name)
    return lambda value: write(choose(value))


_CHOICES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "JSONSchemaPropsOrBool": lambda v: {"allows": v} if isinstance(v, bool) else {"allows": True, "schema": v},
    "JSONSchemaPropsOrArray": lambda v: {"jSONSchemas": v} if isinstance(v, list) else {"schema": v},
    "JSONSchemaPropsOrStringArray": lambda v: {"property": v} if isinstance(v, list) else {"schema": v},
}
_WRITERS: dict[str, _Writer] = {
    "string": _text,
    "bytes": lambda value: base64.b64decode(value),
    "bool": lambda value: b"\x01" if value else b"\x00",
    "int32": lambda value: _varint(int(value)),
    "int64": lambda value: _varint(int(value)),
    "double": lambda value: struct.pack("<d", value),
    "Quantity": _string_inside,
    "IntOrString": _int_or_string,
    "Time": _time,
    "MicroTime": _time,
    "Duration": _duration,
    "RawExtension": _raw_json,
    "FieldsV1": _raw_json,
    "JSON": _raw_json,
    "ExtraValue": _items,
    "AttestationValue": _items,
    "Verbs": _items,
}


def _writer(type_: str) -> _Writer:
    short = type_.rpartition(".")[2]
    if short in _CHOICES:
        return _chosen(type_, _CHOICES[short])
    if found := _WRITERS.get(short if "." in type_ else type_):
        return found
    return _message(type_)
