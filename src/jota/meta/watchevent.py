"""One event of a watch, as it is handed from the server to a client: over the network as bytes, within one process as it is.

In one process nothing is rendered before somebody asks for the body, and who decodes it leaves the result in `views`, so that
all who watch the same see one object. Made by api/verbs/watch.py and client/transport.py; read by client/informer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

Render = Callable[[bytes, int, bytes], bytes]
"""(what is stored, its resourceVersion, the opening of the object) -> the whole object as JSON."""
Parts = Callable[[bytes], tuple[bytes, bytes]]
"""What is stored -> metadata without its resourceVersion, and an object of the other fields but kind and apiVersion; as JSON."""


class WatchEvent:
    """`type`: ADDED | MODIFIED | DELETED | BOOKMARK | ERROR."""

    __slots__ = ("_body", "_opening", "_parts", "_render", "key", "revision", "type", "views")

    def __init__(self, type_: str, body: bytes) -> None:
        self.type = type_
        self._body = body
        self._render: Render | None = None
        self._parts: Parts | None = None
        self._opening = b""
        self.key = ""
        """ "namespace/name" or "name"; "" when only the body tells."""
        self.revision = 0
        """The resourceVersion; 0 when only the body tells."""
        self.views: dict[Any, Any] = {}
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
    ) -> WatchEvent:
        """One whose body is made from stored bytes when it is asked for. `parts`: when these are bytes of the body."""
        event = cls(type_, value)
        event.key, event.revision = key, revision
        event._opening, event._render, event._parts = opening, render, parts
        return event

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
