"""The same PUT of the status of objects that are the same but for names: what it made of one, it makes of all.

Whoever makes volumes and claims by the hundred writes to each that it is bound. In: a Call. Out: what is to be written, from
what was kept of one that went the whole way, within the same second, which is a part of who owns what. The body says what
stands in the object already (as it was read), or names it and no version (a template filled in). Of both no more than metadata
and status count (`Kind.apart`), and for these names of its own make no difference (`Kind.own_names`).

    PUT {"metadata":{"name":"a"},"spec":{"volumeName":"v1"},"status":{"phase":"Bound"}}   made "a" bound, owned by "kcm" since 10:00:00
    PUT {"metadata":{"name":"b"},"spec":{"volumeName":"v2"},"status":{"phase":"Bound"}}   makes "b" the same

Plugins are asked about each, as apart.py asks them. Next: verbs/update.py, foreseen.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from jota.aio.clock import rfc3339
from jota.api import apart, returned
from jota.api import object as at_rest
from jota.api.apart import decode_stored
from jota.api.shapes import BY_BYTES, LARGEST
from jota.kinds.kind import Kind, Object
from jota.meta import decode
from jota.meta.change import Change
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.store.protocol import Entry, Write

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine

_MOST = 64
_Key = tuple[Resource, bytes, bytes, bytes, str, str, str]
"""The body, the metadata and the status that are stored, without names of their own; query, user agent, time."""


class Wish(NamedTuple):
    entry: Entry
    line: int
    """Where the entry's metadata ends."""
    name: bytes
    uid: bytes
    status: bytes
    """As it is stored, behind all other fields."""
    key: _Key


class _Outcome(NamedTuple):
    metadata: bytes
    """Without name and uid."""
    status: bytes
    old: Object
    new: Object
    """Decoded, before and after: the status, and finalizers if they are others now."""


class AlikePuts:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[_Key, _Outcome] = {}
        self._now = ""

    def forget(self) -> None:
        """The set of kinds or plugins changed."""
        self._known.clear()

    def wish(self, call: Call) -> Wish | None:
        """None for what has to go the whole way. Changes nothing, raises nothing."""
        served, request, engine = call.served, call.request, self._engine
        if call.target.subresource != "status" or not possible(served.kind) or len(request.body) > LARGEST:
            return None
        if request.headers.get("content-type", "") != decode.JSON or not apart.applies(engine, call, "status"):
            return None
        entry = engine.store.get(served.key(call.target.namespace, call.target.name))
        if entry is None or entry.value is None:
            return None
        value = entry.value
        line = value.index(at_rest.NEWLINE)
        stored, status = decode_stored(value[:line]), _last(value[line:])
        body = self._sent(call, entry)
        if stored.deletionTimestamp or not status or not body:
            return None
        name, uid = stored.name.encode(), stored.uid.encode()
        agent, now = request.headers.get("user-agent", ""), rfc3339(engine.clock.now())
        key = served.resource, body, _cut(value[:line], name, uid), status, request.query, agent, now
        return Wish(entry, line, name, uid, status, key)

    def _sent(self, call: Call, entry: Entry) -> bytes:
        """The body without names of its own; b"" when it can have no likes."""
        body, served = call.request.body, call.served
        if b'"resourceVersion"' in body:
            status = returned.value_of(served, entry, body, "status")
            return status and b"\0" + status
        cut = self._engine.twins.bodies(served.kind).cut(body)
        return b"" if cut is None or cut.name != call.target.name or cut.identified else cut.body

    def find(self, call: Call, wish: Wish) -> Write | None:
        """What is to be written; None: it has to go the whole way."""
        made = self._known.get(wish.key)
        if made is None:
            return None
        entry = wish.entry
        if not self._permitted(call, made):
            return None  # to be told in the usual words
        change = Change(str(entry.revision), metadata=made.new["metadata"], status=made.status)
        value, memo = _value(wish, made.metadata, made.status), at_rest.after(entry, change, "status.")
        return entry.key, value, entry.revision, memo

    def _permitted(self, call: Call, made: _Outcome) -> bool:
        """As far as plugins have a say; none that leaves such a write apart reserves anything that would have to be given back."""
        said = self._engine.voices(call.served, "status")
        if not said.validate and not said.allocate:
            return True
        own = {"name": call.target.name, "namespace": call.target.namespace}
        old, new = ({**one, "metadata": {**own, **one["metadata"]}} for one in (made.old, made.new))
        attrs = self._engine.attributes(call, "UPDATE", new, old, "status")
        try:
            for judge in (*said.validate, *said.allocate):
                judge(attrs)
        except ApiError:
            return False
        return True

    def keep(self, call: Call, wish: Wish, value: bytes, _known: at_rest.Memo | None) -> None:
        """What was worked out at length, to be stored in a moment."""
        now, line = wish.key[-1], value.index(at_rest.NEWLINE)
        if call.warnings or rfc3339(self._engine.clock.now()) != now or self._current(wish) is not wish.entry:
            return
        metadata, status = _cut(value[:line], wish.name, wish.uid), _last(value[line:])
        if not status or value != _value(wish, metadata, status):
            return
        was, made = orjson.loads((wish.entry.value or b"")[: wish.line]), orjson.loads(value[:line])
        others = {field for field in was.keys() | made.keys() if was.get(field) != made.get(field)} - {"managedFields"}
        if not others <= {"finalizers"}:
            return
        if now != self._now or len(self._known) >= _MOST:
            self._known.clear()
            self._now = now
        old, new = ({"metadata": {field: one.get(field) for field in others}} for one in (was, made))
        old["status"], new["status"] = orjson.loads(wish.status), orjson.loads(status)
        self._known[wish.key] = _Outcome(metadata, status, old, new)

    def _current(self, wish: Wish) -> Entry | None:
        return self._engine.store.get(wish.entry.key)


def possible(kind: Kind) -> bool:
    """Whether what becomes of a status follows from it alone, whatever the names of the object."""
    return kind.own_names is not None and kind.apart.get("status", ...) is None and kind.resource not in BY_BYTES


def _cut(metadata: bytes, name: bytes, uid: bytes) -> bytes:
    """Metadata at rest without name and uid, in whose place stand bytes that are never in JSON. Should another one of the same
    value be cut out, its own is a part of what is compared."""
    return metadata.replace(b'"name":"%b"' % name, b'"name":"\0"', 1).replace(b'"uid":"%b"' % uid, b'"uid":"\1"', 1)


def _last(segments: bytes) -> bytes:
    """The status among the fields of an object at rest, when it is the last of them; else b""."""
    fields = at_rest.split(b"{" + segments[2:] + b"}")
    return bytes(fields["status"]) if next(reversed(fields), "") == "status" else b""


def _value(wish: Wish, metadata: bytes, status: bytes) -> bytes:
    """The bytes at rest with other metadata, and another status."""
    value = wish.entry.value or b""
    head = metadata.replace(b"\0", wish.name).replace(b"\1", wish.uid)
    return b"".join((head, value[wish.line : -len(wish.status)], status))
