"""A large JSON object decoded while it is read: nobody else has a turn as long as one call of a decoder lasts, in whatever thread.

In: an object's bytes. Out: its fields; of those that are lists, what gives their items one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def fields(body: bytes) -> dict[str, Any]:
    """Raises msgspec.DecodeError, ValidationError for what is no object."""
    return {name: _items(raw) if raw[:1] == b"[" else orjson.loads(raw) for name, raw in _raw(body)}


def _raw(body: bytes) -> Iterator[tuple[str, bytes]]:
    for name, raw in _decode_fields(body).items():
        yield name, bytes(raw)


def _items(raw: bytes) -> Iterator[Any]:
    return (orjson.loads(bytes(item)) for item in _decode_items(raw))
