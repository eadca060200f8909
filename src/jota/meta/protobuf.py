"""Kubernetes' protobuf: request bodies in, the JSON value that a JSON client would have sent out.

A body is `k8s\\0` and a message Unknown {1: TypeMeta {1: apiVersion, 2: kind}, 2: raw, 3: contentEncoding,
4: contentType}. Field numbers, JSON names and what JSON omits come from data/protobuf.json.gz (see _pack_protobuf.py),
decoded message by message when first needed. Whatever the bytes are, the outcome is a value or an ApiError 400.
"""

from __future__ import annotations

import base64
import gzip
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec
import orjson

from jota.meta.errors import bad_request

MAGIC = b"k8s\x00"
MAX_DEPTH = 100
REPEATED, INLINE, POINTER, OMITTED = 1, 2, 4, 8
"""Flags in the data file. OMITTED: JSON leaves out the zero value (`omitempty` on what is not a pointer)."""
_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
_PACKAGES = {
    "": "k8s.io.api.core.",
    "meta.k8s.io": "k8s.io.apimachinery.pkg.apis.meta.",
    "apiextensions.k8s.io": "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.",
    "apiregistration.k8s.io": "k8s.io.kube_aggregator.pkg.apis.apiregistration.",
    "internal.apiserver.k8s.io": "k8s.io.api.apiserverinternal.",
}
_EVERYWHERE = frozenset(
    (
        "DeleteOptions",
        "CreateOptions",
        "UpdateOptions",
        "PatchOptions",
        "GetOptions",
        "ListOptions",
        "Status",
        "WatchEvent",
    )
)
"""Kinds of meta/v1 that every group version knows under its own apiVersion."""


class _Malformed(Exception):
    pass


def decode(body: bytes) -> dict[str, Any]:
    """The object in an envelope, with apiVersion and kind. Raises ApiError 400."""
    try:
        return _envelope(body, 0)
    except (_Malformed, struct.error, UnicodeDecodeError, OverflowError) as e:
        raise bad_request(f"error decoding protobuf: {e}") from None


def _envelope(body: bytes, depth: int) -> dict[str, Any]:
    if not body.startswith(MAGIC):
        raise _Malformed(f"provided data does not appear to be a protobuf message, expected prefix {MAGIC!r}")
    types = raw = encoding = content_type = b""
    for number, _, value in _fields(memoryview(body)[4:]):
        match number:
            case 1:
                types = _bytes(value)
            case 2:
                raw = _bytes(value)
            case 3:
                encoding = _bytes(value)
            case 4:
                content_type = _bytes(value)
    meta = {number: str(_bytes(value), "utf-8") for number, _, value in _fields(memoryview(types))}
    if not meta.get(1) or not meta.get(2):
        raise _Malformed("Object 'Kind' or 'apiVersion' is missing")
    if encoding:
        raise _Malformed(f"unsupported content encoding {encoding!r}")
    if content_type == b"application/json":
        return _json_object(raw)
    message = message_of(meta[1], meta[2])
    if message is None:
        raise bad_request(f'no kind "{meta[2]}" is registered for version "{meta[1]}" in protobuf')
    return {"apiVersion": meta[1], "kind": meta[2], **_message(message, memoryview(raw), depth + 1)}


def message_of(api_version: str, kind: str) -> str | None:
    """The message's name for a GVK, None when the protobuf schema has none."""
    group, _, version = api_version.rpartition("/")
    package = _PACKAGES.get(group) or f"k8s.io.api.{group.partition('.')[0]}."
    for name in (f"{package}{version}.{kind}", f"{_META}{kind}" if kind in _EVERYWHERE else ""):
        if name in messages():
            return name
    return None


# --- wire format -----------------------------------------------------------------------------------------------------

_Value = int | memoryview


def _fields(data: memoryview) -> list[tuple[int, int, _Value]]:
    """(field number, wire type, value) of each field; a varint is an int, all else bytes."""
    out: list[tuple[int, int, _Value]] = []
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: _Value
        if wire == 0:
            value, at = _varint(data, at)
        else:
            if wire == 2:
                size, at = _varint(data, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise _Malformed(f"illegal wire type {wire}")
            if size > end - at:
                raise _Malformed("unexpected EOF")
            value = data[at : at + size]
            at += size
        if number == 0:
            raise _Malformed("illegal tag 0")
        out.append((number, wire, value))
    return out


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        while shift < 70:
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + 1
            shift += 7
    except IndexError:
        raise _Malformed("unexpected EOF") from None
    raise _Malformed("integer overflow")


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise _Malformed("wrong wire type: expected bytes")
    return bytes(value)


def _integer(value: _Value) -> int:
    if not isinstance(value, int):
        raise _Malformed("wrong wire type: expected a varint")
    return value - (1 << 64) if value >> 63 else value


# --- messages --------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    name: str
    read: Callable[[_Value, int], Any]
    repeated: bool
    omitted: bool
    inline: bool
    map_key: Callable[[_Value, int], Any] | None
    packs: bool
    """Scalars, which another encoder may write packed."""


@cache
def messages() -> dict[str, msgspec.Raw]:
    """Message -> its rows in the data file, still encoded."""
    data = resources.files("jota.meta").joinpath("data/protobuf.json.gz").read_bytes()
    return msgspec.json.decode(gzip.decompress(data), type=dict[str, msgspec.Raw])


@cache
def _plan(message: str) -> dict[int, _Field]:
    raw = messages().get(message)
    if raw is None:
        raise _Malformed(f"unknown message {message}")
    return {
        number: _field(name, type, flags)
        for number, name, type, flags in msgspec.json.decode(raw, type=list[tuple[int, str, str, int]])
    }


def _field(name: str, type: str, flags: int) -> _Field:
    map_key = None
    if type.startswith("map<"):
        key, type = type[4:-1].split(",", 1)
        map_key = _reader(key)
    packs = type in _SCALARS and type not in ("string", "bytes")
    return _Field(
        name, _reader(type), bool(flags & REPEATED), bool(flags & OMITTED), bool(flags & INLINE), map_key, packs
    )


def _message(name: str, data: memoryview, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _Malformed(f"exceeded max depth {MAX_DEPTH}")
    plan = _plan(name)
    out: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = plan.get(number)
        if field is None:
            continue  # a newer client's field: as upstream, protobuf drops what it does not know
        if field.map_key is not None:
            _entry(out.setdefault(field.name, {}), field, value, depth)
        elif field.repeated:
            into = out.setdefault(field.name, [])
            if field.packs and wire == 2:
                into += _packed(field, value, depth)
            else:
                into.append(field.read(value, depth))
        else:
            _set(out, field, field.read(value, depth))
    return out


def _set(out: dict[str, Any], field: _Field, value: Any) -> None:
    if field.inline:
        out.update(value)
    elif value is None or (field.omitted and not value):
        out.pop(field.name, None)  # the last one on the wire counts
    else:
        out[field.name] = value


def _entry(into: dict[str, Any], field: _Field, data: _Value, depth: int) -> None:
    assert field.map_key is not None
    key: Any = ""
    value: _Value | None = None
    for number, _, part in _fields(memoryview(_bytes(data))):
        if number == 1:
            key = field.map_key(part, depth)
        elif number == 2:
            value = part
    empty: _Value = 0 if field.packs else memoryview(b"")
    into[str(key)] = field.read(empty if value is None else value, depth)


def _packed(field: _Field, value: _Value, depth: int) -> list[Any]:
    data, at, out = memoryview(_bytes(value)), 0, list[Any]()
    while at < len(data):
        item, at = _varint(data, at)
        out.append(field.read(item, depth))
    return out


# --- values ----------------------------------------------------------------------------------------------------------


def _double(value: _Value, _: int) -> float | int:
    number: float = struct.unpack("<d", _bytes(value))[0]
    if number != number or number in (float("inf"), float("-inf")):
        raise _Malformed("a number that JSON cannot express")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _int32(value: _Value, _: int) -> int:
    number = _integer(value) & 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


_SCALARS: dict[str, Callable[[_Value, int], Any]] = {
    "string": lambda value, _: str(_bytes(value), "utf-8"),
    "bytes": lambda value, _: base64.b64encode(_bytes(value)).decode(),
    "bool": lambda value, _: bool(_integer(value)),
    "int32": _int32,
    "int64": lambda value, _: _integer(value),
    "double": _double,
}


def _quantity(value: _Value, _: int) -> str:
    text = [str(_bytes(v), "utf-8") for number, _, v in _fields(memoryview(_bytes(value))) if number == 1]
    return (text[-1] if text else "") or "0"


def _int_or_string(value: _Value, depth: int) -> int | str:
    found = {number: v for number, _, v in _fields(memoryview(_bytes(value)))}
    if _integer(found.get(1, 0)) == 1:
        return str(_bytes(found.get(3, memoryview(b""))), "utf-8")
    return _int32(found.get(2, 0), depth)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: _Value) -> tuple[str, int] | None:
    """("2026-01-01T00:00:00", nanoseconds); None for Go's zero time, which JSON writes as null."""
    data = memoryview(_bytes(value))
    if not data:
        return None
    found = {number: _integer(v) for number, _, v in _fields(data)}
    seconds, nanos = found.get(1, 0), found.get(2, 0)
    if seconds <= -62135596800:
        return None
    if not 0 <= nanos < 10**9:
        raise _Malformed("a time with nanoseconds out of range")
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0"), nanos


def _time(value: _Value, _: int) -> str | None:
    moment = _moment(value)
    return None if moment is None else f"{moment[0]}Z"


def _micro_time(value: _Value, _: int) -> str | None:
    moment = _moment(value)
    return None if moment is None else f"{moment[0]}.{moment[1] // 1000:06d}Z"


def _duration(value: _Value, _: int) -> str:
    found = {number: _integer(v) for number, _, v in _fields(memoryview(_bytes(value)))}
    return go_duration(found.get(1, 0))


def go_duration(nanos: int) -> str:
    """As Go's time.Duration prints itself: 1h0m0s, 1.5s, 10ms, 0s."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanos < size * 1000:
            return f"{sign}{_decimal(nanos, size)}{unit}"
    minutes, rest = divmod(nanos, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(amount: int, unit: int) -> str:
    whole, part = divmod(amount, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0") if part else str(whole)


def _json_object(raw: bytes) -> dict[str, Any]:
    value = _json(raw)
    if not isinstance(value, dict):
        raise _Malformed("embedded JSON is not an object")
    return value


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise _Malformed(f"embedded JSON: {e}") from None


def _raw_json(value: _Value, depth: int) -> Any:
    """RawExtension, FieldsV1, JSON: one bytes field with JSON inside, or again an envelope."""
    raw = b""
    for number, _, part in _fields(memoryview(_bytes(value))):
        if number == 1:
            raw = _bytes(part)
    if raw.startswith(MAGIC):
        if depth > MAX_DEPTH:
            raise _Malformed(f"exceeded max depth {MAX_DEPTH}")
        return _envelope(raw, depth + 1)
    return _json(raw) if raw else None


def _items(value: _Value, _: int) -> list[str]:
    """ExtraValue, Verbs: Go types that are lists of strings."""
    return [str(_bytes(part), "utf-8") for number, _, part in _fields(memoryview(_bytes(value))) if number == 1]


def _props(name: str, choose: Callable[[dict[str, Any]], Any]) -> Callable[[_Value, int], Any]:
    """JSONSchemaPropsOr...: the JSON form is whichever member is set."""

    def read(value: _Value, depth: int) -> Any:
        return choose(_message(name, memoryview(_bytes(value)), depth + 1))

    return read


_CHOICES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "JSONSchemaPropsOrBool": lambda m: m["schema"] if "schema" in m else bool(m.get("allows")),
    "JSONSchemaPropsOrArray": lambda m: m.get("jSONSchemas") or m.get("schema"),
    "JSONSchemaPropsOrStringArray": lambda m: m.get("property") or m.get("schema"),
}
_SPECIAL: dict[str, Callable[[_Value, int], Any]] = {
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "Time": _time,
    "MicroTime": _micro_time,
    "Duration": _duration,
    "RawExtension": _raw_json,
    "FieldsV1": _raw_json,
    "JSON": _raw_json,
    "ExtraValue": _items,
    "AttestationValue": _items,
    "Verbs": _items,
}


OWN_FORM = frozenset(_SPECIAL) | frozenset(_CHOICES)
"""Messages whose JSON form is not an object with their fields."""


def _reader(type: str) -> Callable[[_Value, int], Any]:
    if type in _SCALARS:
        return _SCALARS[type]
    short = type.rpartition(".")[2]
    if short in _CHOICES:
        return _props(type, _CHOICES[short])
    if short in _SPECIAL:
        return _SPECIAL[short]
    return lambda value, depth: _message(type, memoryview(_bytes(value)), depth + 1)
