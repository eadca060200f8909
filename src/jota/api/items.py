"""A List of objects as bytes, made while it is sent: it is never there as a whole.

In: live entries, as they were found. Out: pieces of an answer (wire.message.Made), which `wire/answer.py` hands on.

Objects are joined whole, as they are at rest, for to copy them is nearly all that a list costs. The brace with which the metadata
of each begins has no place behind the resourceVersion; there it becomes the comma:

    {"metadata":{"resourceVersion":"7"{"name":"a","namespace":"default"}\\n,"data":{"k":"v"}},{"metadata":...
                                      ,
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from jota.store.protocol import Entry
from jota.wire.answer import PIECE
from jota.wire.message import Made

_COMMA = ord(",")


class Items(Made):
    """At least one. `opening`: of each, from `object.head`, or "{"."""

    __slots__ = ("_ends", "_parts")

    def __init__(self, start: bytes, entries: list[Entry], opening: bytes, end: bytes) -> None:
        first = opening + b'"metadata":{"resourceVersion":"%d"'
        between = b"}," + first
        parts = [b""] * (2 * len(entries))
        parts[::2] = [between % entry.revision for entry in entries]
        parts[1::2] = [entry.value or b"" for entry in entries]
        parts[0] = start + first % entries[0].revision
        parts[-1] += b"}" + end
        self._parts = parts
        """What stands before an object and the object, in turn."""
        self._ends = list(accumulate(map(len, parts)))
        """Where each of them ends in the whole."""

    @property
    def size(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[bytearray]:
        parts, ends = self._parts, self._ends
        first = begun = 0
        while first < len(parts):
            after = max(bisect_right(ends, begun + PIECE, first) & ~1, first + 2)  # whole objects, one at least
            piece = bytearray().join(parts[first:after])
            for brace in ends[first:after:2]:
                piece[brace - begun] = _COMMA
            yield piece
            first, begun = after, ends[after - 1]
