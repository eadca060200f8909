"""How instances of a definition are kept and rendered. A `Served` whose bytes say by which version and schema they were made.

At rest an object carries one more segment, first of all: `,"~":"v1 0c5f..."`. When it is that of the version that is asked for,
the bytes are spliced as for any kind. When it is not (another version, or the schema changed since), the object is decoded,
converted, pruned and defaulted: that is upstream's "defaulting on read".
Versions differ in nothing but their name and schema (conversion strategy None). Next: manager.py installs these.
"""

from __future__ import annotations

import hashlib

import orjson

from jota.api import object as at_rest
from jota.api.feed import Feed
from jota.api.served import Served
from jota.kinds.kind import Kind, Object
from jota.store.protocol import Entry


def form_of(kind: Kind) -> bytes:
    """The segment of objects written by this version."""
    digest = hashlib.sha256(orjson.dumps(kind.published, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    return b',"%b":"%b %b"' % (at_rest.FORM.encode(), kind.resource.version.encode(), digest.encode())


class CustomServed(Served):
    """Served versions of one definition share the storage version's Kind."""

    __slots__ = ("_form", "_stored_form", "stored_kind", "terminating")

    def __init__(self, kind: Kind, stored_kind: Kind, feed: Feed) -> None:
        super().__init__(kind, feed)
        self.converted = True
        self.stored_kind = stored_kind
        self.terminating = False
        """The definition is being deleted: nothing new may come."""
        self._form, self._stored_form = form_of(kind), form_of(stored_kind)

    @property
    def custom(self) -> bool:
        return True

    def current(self, value: bytes) -> bool:
        """Whether the bytes are what this version shows, apart from their first segment."""
        return value.startswith(self._form, value.index(at_rest.NEWLINE) + 1)

    def stale(self, entry: Entry) -> bool:
        """Whether a write of the same object would leave other bytes behind: what storage migration asks for."""
        value = entry.value or b"{}\n"
        return not value.startswith(self._stored_form, value.index(at_rest.NEWLINE) + 1)

    def decode(self, value: bytes, revision: int) -> Object:
        """A fresh object in this version's form."""
        obj = at_rest.decode(value, revision, self.head)
        if self.current(value):
            return obj
        self.kind.default(obj)
        return obj

    def encode(self, obj: Object) -> bytes:
        form, stored = self._stored_form, obj
        if self.kind.resource != self.stored_kind.resource:
            stored = orjson.loads(orjson.dumps(obj))
            self.stored_kind.default(stored)
        return at_rest.join(stored["metadata"], form + at_rest.tail(stored))

    def render(self, value: bytes, revision: int, opening: bytes) -> bytes:
        if self.current(value):
            line = value.index(at_rest.NEWLINE) + 1
            return at_rest.render(value[:line] + value[line + len(self._form) :], revision, opening)
        return at_rest.render(at_rest.encode(self.decode(value, revision)), revision, opening)
