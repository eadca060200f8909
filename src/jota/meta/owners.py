"""managedFields as bytes: what a write of one top-level field makes of them, worked out once for all objects of a kind.

Sets of fields are added and subtracted per top-level field, so what an entry says of others stays bytes. What the entries
say of this one is the same for all pods of a template, for all leases: apply.py's arithmetic runs once for it.

    owners: "a" of f:metadata, f:spec; "kubelet" of f:status {A}   +   "kubelet" sets f:status {A, B} at T
    key:    ((a, no f:status), (kubelet, f:status {A})), {B}           outcome: ((a, as it is), (kubelet, f:status {A, B}, now))

In: an encoded list and what changed. Out: an encoded list. Next: apply.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec
import orjson

from jota.meta import apply, fieldset
from jota.meta.apply import MAX_UPDATE_MANAGERS, Object
from jota.meta.fieldset import FieldSet

_LARGEST = 8 << 10
"""Bytes of what is worth remembering."""
_UPDATE = "Update"


class Writer(NamedTuple):
    """Who writes: what tells apart the entries of managedFields."""

    manager: str
    api_version: str
    subresource: str = ""


class _Entry(msgspec.Struct):
    """One of the list at rest."""

    fieldsV1: dict[str, msgspec.Raw]
    manager: str = ""
    operation: str = ""
    apiVersion: str = ""
    time: str = ""
    subresource: str = ""


_Held = tuple[str, str, str, str, bytes, bool]
"""Operation, manager, API version, subresource; what the entry has of the field, b"" for nothing; whether of others, too."""


class _Step(NamedTuple):
    """An entry of the new list: which of the old ones it was (-1: none), what it has of the field now (None: as it was),
    and whether its time is now."""

    source: int
    fields: bytes | None
    now: bool


_decode_entries = msgspec.json.Decoder(list[_Entry]).decode
_decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode


def updated(
    owners: bytes, field: str, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str
) -> bytes:
    """The encoded managedFields after an update by `writer` at `now` (RFC 3339) of one top-level field; `owners` itself
    when it makes no difference, b"[]" when nobody owns anything any more.

    `changed` and `removed` are sets of the whole object that hold nothing but that field. Raises msgspec.DecodeError for
    a list that is not one."""
    if not changed and not removed:
        return owners
    entries, key = _decode_entries(owners), "f:" + field
    form = []
    for e in entries:
        have = e.fieldsV1.get(key)
        others = len(e.fieldsV1) > (have is not None)
        form.append((e.operation, e.manager, e.apiVersion, e.subresource, b"" if have is None else bytes(have), others))
    more, less = orjson.dumps(changed or {}), orjson.dumps(removed or {})
    size = len(more) + len(less) + sum([len(held[4]) for held in form])
    # with as many managers as may be, the oldest are merged: all they have is looked at
    if size > _LARGEST or len(entries) >= MAX_UPDATE_MANAGERS or not all([e.fieldsV1 for e in entries]):
        return _at_length(owners, changed, removed, writer, now)
    steps = _outcome(tuple(form), key, more, less, writer)
    if steps is None:
        return owners
    if steps is _TWICE:
        return _at_length(owners, changed, removed, writer, now)
    ready, raw = [], _decode_raw(owners)
    for source, fields, timed in steps:
        e = (
            entries[source]
            if source >= 0
            else _Entry({}, writer.manager, _UPDATE, writer.api_version, "", writer.subresource)
        )
        time = now if timed else e.time
        encoded = bytes(raw[source]) if fields is None else _encoded(e, time, key, fields)
        ready.append(((e.operation, time, e.manager, e.apiVersion, e.subresource), encoded))
    ready.sort(key=_rank)
    return b"[" + b",".join([encoded for _, encoded in ready]) + b"]"


def _rank(ready: tuple[tuple[str, ...], bytes]) -> tuple[str, ...]:
    return ready[0]


_TWICE = (_Step(-2, None, False),)
"""The writer has two entries (a client put them there): of such it takes apply.py to make one."""


@lru_cache(maxsize=1024)
def _outcome(
    form: tuple[_Held, ...], key: str, changed: bytes, removed: bytes, writer: Writer
) -> tuple[_Step, ...] | None:
    """None: nothing changes."""
    more, less = orjson.loads(changed), orjson.loads(removed)
    steps: list[_Step] = []
    own = -1
    for source, (operation, manager, version, subresource, have, others) in enumerate(form):
        fields: FieldSet = {key: orjson.loads(have)} if have else {}
        rest = fieldset.subtract(fields, less) if less else fields
        if operation == _UPDATE and (manager, version, subresource) == writer:
            if own >= 0:
                return _TWICE
            own, rest = source, fieldset.union_roots(rest, more)
        elif more:
            rest = fieldset.subtract(rest, more)
        if rest == fields:
            steps.append(_Step(source, None, False))
        elif rest or others:
            steps.append(_Step(source, orjson.dumps(rest[key]) if rest else b"", own == source))
    if own < 0 and more:
        steps.append(_Step(-1, orjson.dumps(more[key]), True))
    # an own entry that is not the last is put in order, as apply.py does
    same = all(step.fields is None for step in steps) and len(steps) == len(form)
    return None if same and own in (-1, len(form) - 1) else tuple(steps)


def _encoded(e: _Entry, time: str, key: str, fields: bytes) -> bytes:
    """The entry with these fields under `key`, as apply.py would encode it."""
    sets = e.fieldsV1
    if fields:
        sets = {**sets, key: msgspec.Raw(fields)}
    else:
        sets = {other: have for other, have in sets.items() if other != key}
    head: Object = {"manager": e.manager, "operation": e.operation, "apiVersion": e.apiVersion}
    if time:
        head["time"] = time
    parts = b",".join([orjson.dumps(name) + b":" + bytes(have) for name, have in sets.items()])
    tail = b',"subresource":' + orjson.dumps(e.subresource) if e.subresource else b""
    return b'%b,"fieldsType":"FieldsV1","fieldsV1":{%b}%b}' % (orjson.dumps(head)[:-1], parts, tail)


def _at_length(owners: bytes, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str) -> bytes:
    entries: list[Object] = orjson.loads(owners)
    made = apply.note_update(entries, changed or {}, removed or {}, **writer._asdict(), time=now)
    return owners if made is entries else orjson.dumps(made)
