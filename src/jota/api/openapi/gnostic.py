"""OpenAPI v2 as protobuf: Swagger values in, the bytes of gnostic's `openapi.v2.Document` out.

kubectl up to 1.2x reads nothing else. Field numbers are those of gnostic's OpenAPIv2.proto. Messages are made bottom up:
a message is the concatenation of its encoded fields.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from jota.api.openapi import v2
from jota.api.openapi.definitions import Custom, definitions
from jota.api.openapi.v3 import INFO
from jota.kinds.kind import Kind

log = logging.getLogger("jota.api.openapi")


def document(kinds: Iterable[Kind], custom: Custom) -> Iterator[bytes]:
    """The whole message, piece by piece: repeated fields of a length-delimited parent need its size first, so paths and
    definitions are each gathered before they are sent on."""
    members = list(kinds)
    yield _text(1, "2.0") + _message(2, _text(1, INFO["title"]) + _text(2, INFO["version"]))
    yield _message(8, b"".join(_named(2, path, _path_item(item)) for path, item in v2.paths(members)))
    found = definitions(members, custom, 2)
    yield _message(9, b"".join(_named(1, name, _schema(definition)) for name, definition in found))
    token = v2.SECURITY["BearerToken"]
    key = _text(1, token["type"]) + _text(2, token["name"]) + _text(3, token["in"]) + _text(4, token["description"])
    yield _message(12, _named(1, "BearerToken", b"")) + _message(13, _named(1, "BearerToken", _message(2, key)))


# --- what others serve -----------------------------------------------------------------------------------------------


def extended(own: bytes, hidden: tuple[str, ...], paths: dict[str, Any], definitions: dict[str, Any]) -> bytes:
    """A document of `document` with more paths and definitions, which others made, instead of the paths below `hidden`
    ("/apis/apps/v1"). What cannot be understood of theirs is left out."""
    out = b""
    for field, data in _fields(own):
        if field == 8:
            kept = [_message(n, e) for n, e in _fields(data) if not _below(_key(e), hidden)]
            data = b"".join(kept) + b"".join(_understood(2, paths, _path_item))
        elif field == 9:
            data += b"".join(_understood(1, definitions, _schema))
        out += _message(field, data)
    return out


def _understood(field: int, entries: dict[str, Any], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    for name, value in entries.items():
        try:
            yield _named(field, name, encode(value))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as problem:
            log.info("%s of another server's OpenAPI document is left out: %r", name, problem)


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(f"{path}/".startswith(f"{root}/") for root in roots)


def _key(entry: bytes) -> str:
    return next(data.decode() for field, data in _fields(entry) if field == 1)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of a message whose fields all have a length: of ours."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        size, at = _read_varint(data, at)
        yield tag >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


# --- wire ------------------------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str | None) -> bytes:
    return _message(field, text.encode()) if text else b""


def _texts(field: int, values: Iterable[str] | None) -> bytes:
    return b"".join(_message(field, value.encode()) for value in values or ())


def _flag(field: int, value: Any) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _number(field: int, value: int | None) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _named(field: int, name: str, data: bytes) -> bytes:
    """An entry of a map, as gnostic has them: {1: name, 2: value}."""
    return _message(field, _text(1, name) + _message(2, data))


def _any(value: Any) -> bytes:
    """gnostic keeps free values as YAML text, of which JSON is a part."""
    return _text(2, orjson.dumps(value).decode() + "\n")


def _extensions(field: int, value: dict[str, Any]) -> bytes:
    return b"".join(_named(field, key, _any(child)) for key, child in value.items() if key.startswith("x-"))


# --- schemas ---------------------------------------------------------------------------------------------------------


def _schema(schema: dict[str, Any]) -> bytes:
    out = _text(1, schema.get("$ref")) + _text(2, schema.get("format")) + _text(4, schema.get("description"))
    if "default" in schema:
        out += _message(5, _any(schema["default"]))
    out += (
        _number(11, schema.get("maxLength")) + _number(12, schema.get("minLength")) + _text(13, schema.get("pattern"))
    )
    out += (
        _number(14, schema.get("maxItems")) + _number(15, schema.get("minItems")) + _texts(19, schema.get("required"))
    )
    out += b"".join(_message(20, _any(value)) for value in schema.get("enum") or ())
    values = schema.get("additionalProperties")
    if values is not None:
        out += _message(
            21, _message(1, _schema(values)) if isinstance(values, dict) else _varint(2 << 3) + bytes([values])
        )
    if "type" in schema:
        types = schema["type"]
        out += _message(22, _texts(1, types if isinstance(types, list) else [types]))
    if "items" in schema:
        out += _message(23, _message(1, _schema(schema["items"])))
    out += b"".join(_message(24, _schema(part)) for part in schema.get("allOf") or ())
    if schema.get("properties"):
        entries = (_named(1, name, _schema(child)) for name, child in schema["properties"].items())
        out += _message(25, b"".join(entries))
    return out + _extensions(31, schema)


# --- paths -----------------------------------------------------------------------------------------------------------

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path_item(item: dict[str, Any]) -> bytes:
    out = b"".join(_message(number, _operation(item[method])) for method, number in _METHODS.items() if method in item)
    return out + b"".join(_message(9, _parameter(p)) for p in item.get("parameters") or ())


def _operation(operation: dict[str, Any]) -> bytes:
    """Of our own ones, everything is there; others may leave out most of it."""
    get = operation.get
    out = _texts(1, get("tags")) + _text(3, get("description")) + _text(5, get("operationId"))
    out += _texts(6, get("produces")) + _texts(7, get("consumes"))
    out += b"".join(_message(8, _parameter(p)) for p in get("parameters") or ())
    responses = (_named(1, code, _message(1, _response(r))) for code, r in operation["responses"].items())
    out += _message(9, b"".join(responses)) + _texts(10, get("schemes"))
    return out + _extensions(13, operation)


def _response(response: dict[str, Any]) -> bytes:
    schema = response.get("schema")
    return _text(1, response.get("description")) + (_message(2, _message(1, _schema(schema))) if schema else b"")


def _parameter(parameter: dict[str, Any]) -> bytes:
    """A ParametersItem that holds the parameter itself: old clients do not follow references."""
    if parameter["in"] == "body":
        body = (
            _text(2, "body")
            + _text(3, "body")
            + _flag(4, parameter.get("required"))
            + _message(5, _schema(parameter["schema"]))
        )
        return _message(1, _message(1, body))
    common = _flag(1, parameter.get("required")) + _text(2, parameter["in"]) + _text(3, parameter.get("description"))
    common += _text(4, parameter["name"])
    if parameter["in"] == "path":
        return _message(1, _message(2, _message(4, common + _text(5, parameter["type"]) + _flag(18, True))))
    if parameter["in"] != "query":
        raise ValueError(f"a parameter in {parameter['in']}")
    return _message(1, _message(2, _message(3, common + _text(6, parameter["type"]) + _flag(19, True))))
