"""Bytes with gaps where names of their own stood (ownnames.py): what is the same but for these, and the same with others in them.

    {"ip":" ", "id":" "}    of {"ip":"10.0.0.7", "id":"a"}    the names  10.0.0.7, a    (in the order in which they stand)
                            with 10.0.0.8, b                  is         {"ip":"10.0.0.8", "id":"b"}

A name ends where its text does: at a quote. Next: alikepatches.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Names = list[bytes]
_QUOTE = b'"'


class Pattern(NamedTuple):
    """What is compared with others."""

    first: bytes
    rest: Sequence[tuple[Callable[[bytes], Any], bytes]]
    """For each gap, whether a name is of the form for it, and what follows, which begins with a quote."""

    def names(self, data: bytes, begin: int = 0) -> Names | None:
        """Those in the gaps of `data` from `begin` on; None when it is not the same but for them."""
        if not data.startswith(self.first, begin):
            return None
        at, names = begin + len(self.first), []
        for of_the_form, piece in self.rest:
            end = data.find(_QUOTE, at)
            if end < 0 or not data.startswith(piece, end) or not of_the_form(name := data[at:end]):
                return None
            names.append(name)
            at = end + len(piece)
        return names if at == len(data) else None


class Form(NamedTuple):
    """What is filled in."""

    pieces: list[bytes]
    places: Sequence[int]
    """Which of the names stands in each gap."""

    def filled(self, names: Names) -> bytes:
        parts = self.pieces * 2
        parts[::2] = self.pieces
        parts[1::2] = [*map(names.__getitem__, self.places), b""]
        return b"".join(parts)
