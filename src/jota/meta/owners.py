"""managedFields as bytes: what a write of one top-level field makes of them.

Sets of fields are added and subtracted per top-level field, so what an entry says of others is never decoded, and an entry
that says nothing of this one stays as it is:

    "kcm" of f:metadata, f:spec; "kubelet" of f:status {A}   +   "kubelet" sets f:status {A, B} at T
    "kcm" of the same bytes;     "kubelet" of f:status {A, B} at T

In: an encoded list and what changed. Out: an encoded list. The whole arithmetic is apply.py's.
"""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import msgspec
import orjson

from jota.meta import apply, fieldset
from jota.meta.apply import MAX_UPDATE_MANAGERS, Object
from jota.meta.fieldset import FieldSet


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

    def of(self, writer: Writer) -> bool:
        return (
            self.manager == writer.manager
            and self.subresource == writer.subresource
            and self.apiVersion == writer.api_version
            and self.operation == "Update"
        )

    def rank(self) -> tuple[str, ...]:
        """By which upstream orders the list."""
        return self.operation, self.time, self.manager, self.apiVersion, self.subresource


class _Written(msgspec.Struct):
    """The same as it is encoded: the fields in upstream's order, of which two may be missing."""

    manager: str
    operation: str
    apiVersion: str
    time: str | msgspec.UnsetType
    fieldsType: str
    fieldsV1: dict[str, msgspec.Raw]
    subresource: str | msgspec.UnsetType


_decode_entries = msgspec.json.Decoder(list[_Entry]).decode
_decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_rank = itemgetter(0)


def updated(
    owners: bytes, field: str, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str
) -> bytes:
    """The encoded managedFields after an update by `writer` at `now` (RFC 3339) of one top-level field; `owners` itself
    when it makes no difference, b"[]" when nobody owns anything any more.

    `changed` and `removed` are sets of the whole object that hold nothing but that field. Raises msgspec.DecodeError for
    a list that is not one."""
    if not changed and not removed:
        return owners
    entries = _decode_entries(owners)
    own = [place for place, e in enumerate(entries) if e.of(writer)]
    if len(entries) >= MAX_UPDATE_MANAGERS or len(own) > 1 or not all(e.fieldsV1 for e in entries):
        return _at_length(owners, changed, removed, writer, now)
    key, same = "f:" + field, not own or own[0] == len(entries) - 1
    ready: list[tuple[tuple[str, ...], bytes]] = []
    for place, (e, raw) in enumerate(zip(entries, _decode_raw(owners), strict=True)):
        mine, have = place in own, e.fieldsV1.get(key)
        if have is None and not mine:
            ready.append((e.rank(), bytes(raw)))
            continue
        before: FieldSet = {} if have is None else {key: orjson.loads(bytes(have))}
        after = fieldset.subtract(before, removed) if removed else before
        gone = not after
        if changed:
            after = fieldset.union_roots(after, changed) if mine else fieldset.subtract(after, changed)
        if after == before:
            ready.append((e.rank(), bytes(raw)))
            continue
        same = False
        e.time = now if mine else e.time
        if after or len(e.fieldsV1) > (have is not None):
            ready.append((e.rank(), _encoded(e, key, after, gone)))
    if changed and not own:
        same = False
        e = _Entry({}, writer.manager, "Update", writer.api_version, now, writer.subresource)
        ready.append((e.rank(), _encoded(e, key, changed, True)))
    if same:
        return owners
    ready.sort(key=_rank)
    return b"[" + b",".join([encoded for _, encoded in ready]) + b"]"


def _encoded(e: _Entry, key: str, fields: FieldSet, gone: bool) -> bytes:
    """The entry with what `fields` has under `key`, as apply.py would encode it; `gone`: in between it had nothing there."""
    sets = e.fieldsV1
    if gone or not fields:
        sets.pop(key, None)
    if fields:
        sets[key] = msgspec.Raw(orjson.dumps(fields[key], option=orjson.OPT_SORT_KEYS))
        if len(sets) > 1:
            sets = dict(sorted(sets.items()))
    time, subresource = e.time or msgspec.UNSET, e.subresource or msgspec.UNSET
    return _encode(_Written(e.manager, e.operation, e.apiVersion, time, "FieldsV1", sets, subresource))


def _at_length(owners: bytes, changed: FieldSet | None, removed: FieldSet | None, writer: Writer, now: str) -> bytes:
    """With as many managers as there may be the oldest are merged: all that they have is looked at."""
    entries: list[Object] = orjson.loads(owners)
    made = apply.note_update(entries, changed or {}, removed or {}, **writer._asdict(), time=now)
    return owners if made is entries else orjson.dumps(made)
