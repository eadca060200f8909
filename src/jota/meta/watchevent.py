"""One event of a watch, as it is handed from the server to a client: over the network as bytes, within one process as it is.

In one process nothing is rendered before somebody asks for the body, and who decodes it leaves the result in `views`, so that
all who watch the same see one object. Made by api/verbs/watch.py and client/transport.py; read by client/informer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from jota.meta.change import Change

Render = Callable[[bytes, int, bytes], bytes]
"""(what is stored, its resourceVersion, the opening of the object) -> the whole object as JSON."""
Parts = Callable[[bytes], tuple[bytes, bytes]]
"""What is stored -> metadata without its resourceVersion, and an object of the other fields but kind and apiVersion; as JSON."""


class WatchEvent(msgspec.Struct, eq=False):
    """`type`: ADDED | MODIFIED | DELETED | BOOKMARK | ERROR."""

    type: str
    _body: bytes
    key: str = ""
    """ "namespace/name" or "name"; "" when only the body tells."""
    revision: int = 0
    """The resourceVersion; 0 when only the body tells."""
    _opening: bytes = b""
    _render: Render | None = None
    _parts: Parts | None = None
    change: Change | None = None
    """What happened to the object, when that is known (change.py)."""
    views: dict[Any, Any] = {}
    """Type of a reader -> the object as that type, decoded once. What is here is shared: never change it."""

    @classmethod
    def stored(
        cls,
        type_: str,
        key: str,
        revision: int,
        value: bytes,
        opening: bytes,
        render: Render,
        parts: Parts | None = None,
        change: Change | None = None,
    ) -> WatchEvent:
        """One whose body is made from stored bytes when it is asked for. `parts`: when these are bytes of the body."""
        return cls(type_, value, key, revision, opening, render, parts, change)

    def parts(self) -> tuple[bytes, bytes] | None:
        """The parts of the body (`Parts`) for who reads it in pieces: what is not joined need not be cut again. None when there
        is only the whole."""
        return self._parts(self._body) if self._parts is not None and self._render is not None else None

    @property
    def body(self) -> bytes:
        """The object, JSON."""
        if self._render is not None:
            self.render()
        return self._body

    def render(self) -> None:
        """Make the body now."""
        if self._render is not None:
            self._body = self._render(self._body, self.revision, self._opening)
            self._render = None

    def __len__(self) -> int:
        """Bytes that it holds: what a queue of events is bounded by."""
        return len(self._body)

    def __repr__(self) -> str:
        return f"WatchEvent({self.type!r}, {self.key!r}, {self.revision})"


@runtime_checkable
class Receiver(Protocol):
    """The writer of a stream within one process: it takes events as well as the bytes of a wire.message.Writer."""

    def hand_over(self, events: Sequence[WatchEvent]) -> None:
        """Queue them, after what was written before. Never blocks."""
        ...
