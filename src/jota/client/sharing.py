"""Decoded parts that many objects have in common, kept once: by their bytes.

A set's pods differ in name, node and status; their specs, labels and owners are the same JSON. A Struct that leaves such a
part undecoded (`msgspec.Raw`) hands it to a `Shared`, which decodes each spelling once and gives all who ask the same value:
a third of the memory, and most of the time saved. What is shared must never be changed. Used by podreading.py; see informer.py.
"""

from __future__ import annotations

from copy import copy
from sys import intern
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
MOST = 8192
"""Spellings kept of one part; the oldest is forgotten first."""


NOTHING = msgspec.Raw()
"""The default of a part that an object may lack."""


class Shared(Generic[T]):
    """Decodes a `type`. Raises msgspec.DecodeError, ValidationError."""

    def __init__(self, type: Any, most: int = MOST) -> None:
        self._decode = msgspec.json.Decoder(type).decode
        self._kept: dict[bytes, T] = {}
        self._most = most

    def __call__(self, raw: msgspec.Raw) -> T | None:
        """The value of a part of an object; None when the object has no such part."""
        return None if raw is NOTHING else self.of(bytes(raw))

    def of(self, data: bytes) -> T:
        found = self._kept.get(data)
        if found is None:
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            found = self._kept[data] = self._decode(data)
        return found


class SharedSpecs(Shared[T]):
    """Of pods: those that differ in `nodeName` alone share all the rest. The Struct has a field of that name."""

    def of_pod(self, data: bytes) -> T:
        """A spec whose own field is its node's name. Raises msgspec.DecodeError, ValidationError."""
        rest, node = without_node(data)
        if not node:
            return self.of(data)
        try:
            spec: Any = copy(self.of(rest))
        except msgspec.DecodeError:  # what was cut off belonged to something inside
            return self.of(data)
        spec.nodeName = intern(node)
        return spec  # type: ignore[no-any-return]


_NODE = b',"nodeName":"'


def without_node(spec: bytes) -> tuple[bytes, str]:
    """(a pod's spec without its node's name, the name), when the name stands last, where a binding puts it; else as it is.

    `{"containers":[...],"nodeName":"n1"}` -> `{"containers":[...]}`, "n1". An unescaped quote cannot stand inside a JSON
    string, so what is cut is a member of the outermost object or the rest is no JSON, which its reader tells."""
    head, found, tail = spec.rpartition(_NODE)
    name = tail[:-2]
    if not found or not tail.endswith(b'"}') or b'"' in name or b"\\" in name:
        return spec, ""
    return head + b"}", name.decode()
