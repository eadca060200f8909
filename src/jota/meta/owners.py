"""managedFields as bytes: what a write makes of them, worked out once for all objects whose owners differ in times alone.

The list is kept apart from its times. For such a form and a set of changes apply.py's arithmetic runs once, with a mark for
each time; what comes out is kept as encoded entries that wait for their times:

    [{"manager":"a",..,"time":"T1","fieldsV1":..}]  +  kubelet sets status at T2
    form: ('[{"manager":"a",..,', ',"fieldsV1":..}]')      outcome: the entry of "a" at time 0, one of "kubelet" now

In: an encoded list and what changed. Out: an encoded list. Next: apply.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import orjson

from jota.meta import apply
from jota.meta.apply import MAX_UPDATE_MANAGERS, Object
from jota.meta.fieldset import FieldSet

_TIME = re.compile(rb'"time":"([^"\\]+)"')
"""No name of a field, as FieldsV1 spells it, looks like this."""
_LARGEST = 16 << 10
"""Bytes of a list and of a set of changes worth keeping."""
_NOW = "now"


class Writer(NamedTuple):
    """Who writes: what tells apart the entries of managedFields."""

    manager: str
    api_version: str
    subresource: str = ""


class _Entry(NamedTuple):
    """An encoded entry around its time: `source` is the place of that among the form's, -1 for now, None without one."""

    rank: tuple[str, str, str, str]
    """Operation, manager, API version, subresource: entries are in the order of operation, time and the rest."""
    source: int | None
    before: bytes
    after: bytes


def updated(owners: bytes, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str) -> bytes:
    """The encoded managedFields after an update by `writer` at `now` (RFC 3339); `owners` itself when it makes no
    difference, b"[]" when nobody owns anything any more."""
    if not changed and not removed:
        return owners
    more, less = orjson.dumps(changed or {}), orjson.dumps(removed or {})
    if len(owners) + len(more) + len(less) > _LARGEST:
        return _at_length(owners, changed, removed, writer, now)
    parts = _TIME.split(owners)
    outcome = _outcome(tuple(parts[::2]), more, less, writer)
    if isinstance(outcome, str):
        return owners if outcome == _SAME else _at_length(owners, changed, removed, writer, now)
    encoded = now.encode()
    ready = []
    for rank, source, before, after in outcome:
        time = b"" if source is None else encoded if source < 0 else parts[2 * source + 1]
        ready.append(((rank[0], time, *rank[1:]), before + time + after))
    if len(ready) > 1:
        ready.sort()
    return b"[" + b",".join([entry for _, entry in ready]) + b"]"


_SAME, _PLAIN = "same", "plain"


@lru_cache(maxsize=1024)
def _outcome(form: tuple[bytes, ...], changed: bytes, removed: bytes, writer: Writer) -> tuple[_Entry, ...] | str:
    """_SAME: nothing changes; _PLAIN: it depends on the times."""
    text = form[0] + b"".join(b'"time":"%d"%b' % (place, part) for place, part in enumerate(form[1:]))
    entries: list[Object] = orjson.loads(text)
    places = [entry["time"] for entry in entries if "time" in entry]
    # with as many managers as may be, the oldest are merged: the times decide which
    if places != [str(place) for place in range(len(form) - 1)] or len(entries) >= MAX_UPDATE_MANAGERS:
        return _PLAIN
    made = apply.note_update(entries, orjson.loads(changed), orjson.loads(removed), **writer._asdict(), time=_NOW)
    if made is entries:
        return _SAME
    found = tuple(_entry(entry) for entry in made)
    return found if len({entry.rank for entry in found}) == len(found) else _PLAIN


def _entry(entry: Object) -> _Entry:
    rank = (entry["operation"], entry["manager"], entry["apiVersion"], entry.get("subresource", ""))
    encoded = orjson.dumps(entry)
    if "time" not in entry:
        return _Entry(rank, None, encoded, b"")
    opening = b'"time":"'
    before, _, after = encoded.partition(opening + entry["time"].encode() + b'"')
    return _Entry(rank, -1 if entry["time"] == _NOW else int(entry["time"]), before + opening, b'"' + after)


def _at_length(owners: bytes, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str) -> bytes:
    entries: list[Object] = orjson.loads(owners)
    made = apply.note_update(entries, changed or {}, removed or {}, **writer._asdict(), time=now)
    return owners if made is entries else orjson.dumps(made)
