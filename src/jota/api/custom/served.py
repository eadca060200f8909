"""How instances of a definition are kept and rendered. A `Served` whose bytes say by which version and schema they were made.

At rest an object carries one more segment, first of all: `,"~":"v1 0c5f..."`. When it is that of the version that is asked for,
the bytes are spliced as for any kind. When it is not (another version, or the schema changed since), the object is decoded,
converted, pruned and defaulted: that is upstream's "defaulting on read".

With the strategy None versions differ in nothing but their name and schema. With a webhook (`foreign`), only the webhook knows
how: verbs await `readable` before they read what the store holds in other versions, and `storable` before they write; what
these give is in this version's form, so that everything else stays as it is. Next: conversion.py; manager.py installs these.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import orjson

from jota.api import object as at_rest
from jota.api.custom.conversion import Converter
from jota.api.feed import Feed
from jota.api.served import Served
from jota.kinds.kind import Kind, Object
from jota.meta.apply import hand_over_elsewhere
from jota.meta.errors import ApiError
from jota.store.protocol import Entry

_OPENING = b',"%b":"' % at_rest.FORM.encode()
KEPT = 16 << 20
"""Bytes of converted objects that a served version remembers."""
BELIEVED = 10.0
"""Seconds for which they are shown again. A webhook that was mended converts otherwise from then on, and nothing tells; upstream
asks it each time. This is long enough for the readers and watchers of one change to share its answer."""


def version_of(value: bytes) -> str:
    """The version that bytes at rest were written in."""
    start = value.index(at_rest.NEWLINE) + len(_OPENING) + 1
    return value[start : value.index(b" ", start)].decode()


def form_of(kind: Kind) -> bytes:
    """The segment of objects written by this version."""
    digest = hashlib.sha256(orjson.dumps(kind.published, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    return b'%b%b %b"' % (_OPENING, kind.resource.version.encode(), digest.encode())


class CustomServed(Served):
    """Served versions of one definition share the storage version's Kind."""

    __slots__ = (
        "_converted",
        "_form",
        "_kept",
        "_pending",
        "_stored_form",
        "converter",
        "foreign",
        "stored_kind",
        "terminating",
    )

    def __init__(self, kind: Kind, stored_kind: Kind, feed: Feed, converter: Converter | None = None) -> None:
        super().__init__(kind, feed)
        self.converted = True
        self.stored_kind = stored_kind
        self.terminating = False
        """The definition is being deleted: nothing new may come."""
        self.converter = converter
        self.foreign = converter is not None
        self._form, self._stored_form = form_of(kind), form_of(stored_kind)
        self._converted: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        """Bytes at rest in another version -> (monotonic time, the same in this one), the oldest first."""
        self._kept = 0
        self._pending: dict[bytes, asyncio.Future[ApiError | None]] = {}
        """Values that somebody converts at this moment; the result is what went wrong."""

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
        if self.converter is not None and self._other(value):
            raise RuntimeError(f"{self.resource.group_resource}: `readable` comes before `decode`")
        self.kind.default(obj)
        return obj

    def encode(self, obj: Object) -> bytes:
        form, stored = self._stored_form, obj
        if self.kind.resource != self.stored_kind.resource:
            if self.converter is not None:
                raise RuntimeError(f"{self.resource.group_resource}: with a webhook, `storable` encodes")
            stored = orjson.loads(orjson.dumps(obj))
            self.stored_kind.default(stored)
        return at_rest.join(stored["metadata"], form + at_rest.tail(stored))

    def render(self, value: bytes, revision: int, opening: bytes) -> bytes:
        if self.current(value):
            line = value.index(at_rest.NEWLINE) + 1
            return at_rest.render(value[:line] + value[line + len(self._form) :], revision, opening)
        return at_rest.render(at_rest.encode(self.decode(value, revision)), revision, opening)

    # -- with a webhook

    async def readable(self, entries: Sequence[Entry]) -> list[Entry]:
        """The same entries with their values, and what they replaced, in this version: one review for all that are not.

        Raises ApiError 500.
        """
        values = {v: e.revision for e in entries for v in _values(e) if self._other(v)}
        found = await self._convert(values)
        return [_replaced(entry, found) for entry in entries] if found else list(entries)

    async def storable(self, obj: Object) -> tuple[bytes, bytes]:
        """(bytes to store, the same as this version will show them). Raises ApiError 500."""
        if self.converter is None or self.kind.resource == self.stored_kind.resource:
            value = self.encode(obj)
            return value, value
        # the answer is another object, and the webhook may not change what the caller goes on with
        sent = orjson.loads(orjson.dumps(obj))
        (stored,) = await self.converter.convert([sent], self.stored_kind.resource.version)
        self.stored_kind.default(stored)
        value = at_rest.join(stored["metadata"], self._stored_form + at_rest.tail(stored))
        revision = int(obj["metadata"].get("resourceVersion") or 0)
        found = await self._convert({value: revision})
        return value, found[value]

    async def take(self, obj: Object, source: Served) -> Object:
        if self.converter is None:
            return await super().take(obj, source)
        sent = orjson.loads(orjson.dumps(obj))
        return (await self.converter.convert([sent], self.resource.version))[0]

    async def hand_over(self, new: Object, old: Object, *, judged: bool) -> None:
        entries = new["metadata"].get("managedFields") or []
        if self.converter is None:
            return
        for version, kind in self.converter.kinds.items():
            there = kind.resource.api_version
            if version == self.resource.version or not any(e.get("apiVersion") == there for e in entries):
                continue
            sent = orjson.loads(orjson.dumps([old, new]))
            was, now = await self.converter.convert(sent, version)
            entries = hand_over_elsewhere(entries, there, was, now, schema=kind.definition, judged=judged)
        if entries:
            new["metadata"]["managedFields"] = entries

    def _other(self, value: bytes) -> bool:
        """Kept in another version than this one: an older schema of this version needs no webhook."""
        start = value.index(at_rest.NEWLINE) + 1
        return not value.startswith(self._form[: self._form.index(b" ") + 1], start)

    async def _convert(self, values: dict[bytes, int]) -> dict[bytes, bytes]:
        """Bytes at rest (and the revision that their objects show) -> this version's bytes. Raises ApiError 500."""
        out: dict[bytes, bytes] = {}
        while True:
            self._forget(KEPT)
            out |= {v: self._converted[v][1] for v in values if v not in out and v in self._converted}
            missing = [v for v in values if v not in out]
            if not missing:
                return out
            mine = [v for v in missing if v not in self._pending]
            if mine:
                out |= await self._lead(mine, values)
                continue
            # another request asks for the same: many watchers see one event
            failure = await asyncio.shield(self._pending[missing[0]])
            if failure is not None:
                raise failure

    async def _lead(self, mine: list[bytes], values: dict[bytes, int]) -> dict[bytes, bytes]:
        done: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()
        self._pending |= dict.fromkeys(mine, done)
        failure: ApiError | None = None
        try:
            assert self.converter is not None, "only versions with a webhook are converted"
            objects = [self._stored(self.converter, v, values[v]) for v in mine]
            made = await self.converter.convert(objects, self.resource.version)
        except ApiError as problem:
            failure = problem
            raise
        finally:
            for value in mine:
                del self._pending[value]
            done.set_result(failure)
        out = {v: at_rest.join(o["metadata"], self._form + at_rest.tail(o)) for v, o in zip(mine, made, strict=True)}
        for value, converted in out.items():
            self._converted[value] = self.converter.now(), converted
            self._kept += len(value) + len(converted)
        self._forget(KEPT)
        return out

    def _forget(self, most: int) -> None:
        """What is beyond `most` bytes, and what was converted too long ago."""
        assert self.converter is not None
        since = self.converter.now() - BELIEVED
        while self._converted:
            value, (made, converted) = next(iter(self._converted.items()))
            if self._kept <= most and made > since:
                return
            del self._converted[value]
            self._kept -= len(value) + len(converted)

    @staticmethod
    def _stored(converter: Converter, value: bytes, revision: int) -> Object:
        """The object in the version that it was written in, defaulted by that version's schema. Raises ApiError 500."""
        obj: Object = orjson.loads(at_rest.render(value, revision))
        form = str(obj.pop(at_rest.FORM, ""))
        kind = converter.kinds.get(form.partition(" ")[0])
        if kind is None:
            name, version = obj["metadata"].get("name", ""), form.partition(" ")[0]
            raise ApiError(
                500, "", f'"{name}" is stored in version {version}, which its definition does not have any more'
            )
        obj = {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind, **obj}
        kind.default(obj)
        return obj


def _values(entry: Entry) -> list[bytes]:
    """What an entry holds, and what it replaced."""
    live = (e.value for e in (entry, entry.previous) if e is not None)
    return [value for value in live if value is not None]


def _replaced(entry: Entry, found: dict[bytes, bytes]) -> Entry:
    previous = entry.previous
    if previous is not None:
        previous = Entry(
            previous.key, found.get(previous.value or b"", previous.value), previous.revision, previous.created
        )
    return Entry(entry.key, found.get(entry.value or b"", entry.value), entry.revision, entry.created, previous)
