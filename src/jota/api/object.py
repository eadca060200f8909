"""Objects at rest and on their way out, as bytes.

At rest: one line of metadata JSON without resourceVersion, a newline, then the other top-level fields, each as a
`,"name":value` segment (kind and apiVersion are the table's business, not the object's):

    {"name":"a","namespace":"default","uid":"..."}\\n,"data":{"k":"v"}

Rendering is a join: head (kind, apiVersion) + metadata with the store's revision spliced in + the segments. Nothing is
re-encoded on GET, LIST or WATCH. What a selector needs decoded is kept in a small `Memo` on the store's Entry.
Next: resource.py, which decides what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import orjson

from jota.kinds.kind import Kind, Object
from jota.meta.change import Change
from jota.meta.errors import bad_request
from jota.meta.resource import Resource
from jota.store.protocol import Entry

NEWLINE = b"\n"
FORM = "~"
"""A segment of custom resources that says by which version and schema they were written; never leaves the server."""
NO_LABELS: dict[str, str] = {}
NAMED = ("metadata.name", "metadata.namespace")
"""Fields that every kind selects by; a storage key tells them."""


class Memo(msgspec.Struct, gc=False):
    """What readers made of an entry's bytes; filled on first use, dies with the entry. Small: there may be one per object."""

    object: Object | None = None
    """Decoded, shared: never changed."""
    labels: dict[str, str] | None = None
    fields: dict[str, str] | None = None
    """Those that were asked for."""
    change: Change | None = None
    """Until all have been told who are told at once."""


class _Labelled(msgspec.Struct):
    labels: dict[str, str] | None = None


class Identity(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str = ""


class _Owned(msgspec.Struct):
    managedFields: msgspec.Raw = msgspec.Raw(b"")


HELD = [{"manager": ""}]
"""Stands for managedFields in decoded metadata: they are half of many objects, and seldom looked at."""
_HELD_BYTES = orjson.dumps(HELD)
_OWNERS = b'"managedFields":'
_decode_owned = msgspec.json.Decoder(_Owned).decode
_decode_identified = msgspec.json.Decoder(Identity).decode
_decode_labels = msgspec.json.Decoder(_Labelled).decode
_decode_segments = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
split = _decode_segments
"""The top-level fields of a JSON object, undecoded. Raises msgspec.DecodeError, ValidationError."""


def encode(obj: Object) -> bytes:
    """The bytes at rest. Raises ApiError 400 when the value cannot be JSON (nested deeper than the encoder allows)."""
    return join(obj["metadata"], tail(obj))


def tail(obj: Object) -> bytes:
    """The segments: everything beside metadata. Raises ApiError 400."""
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion", "metadata", FORM)}
    return b"," + _dumps(rest)[1:-1] if rest else b""


def join(metadata: dict[str, Any], segments: bytes) -> bytes:
    """Metadata and segments as they are kept. Raises ApiError 400."""
    if "resourceVersion" in metadata:
        metadata = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    return b"".join((_dumps(metadata), NEWLINE, segments))


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as e:
        raise bad_request(f"the object provided cannot be encoded: {e}") from None


def head(api_version: str, kind: str) -> bytes:
    """The opening of a rendered object: `{"kind":...,"apiVersion":...,`."""
    return b'{"kind":' + orjson.dumps(kind) + b',"apiVersion":' + orjson.dumps(api_version) + b","


def render(value: bytes, revision: int, opening: bytes = b"{") -> bytes:
    """One JSON object: `opening` (from `head`, or "{" for the items of typed lists) + metadata + segments."""
    line = value.index(NEWLINE)
    return b'%b"metadata":{"resourceVersion":"%d",%b%b}' % (opening, revision, value[1:line], value[line + 1 :])


def parts(value: bytes) -> tuple[bytes, bytes]:
    """(metadata without resourceVersion, an object of the segments), both JSON."""
    line = value.index(NEWLINE)
    return value[:line], b"{" + value[line + 2 :] + b"}"


def render_metadata(value: bytes, revision: int, opening: bytes) -> bytes:
    """A PartialObjectMetadata: metadata alone."""
    return b'%b"metadata":{"resourceVersion":"%d",%b}' % (opening, revision, value[1 : value.index(NEWLINE)])


def decode(value: bytes, revision: int, opening: bytes) -> Object:
    """The object as plain JSON values; a fresh copy that the caller may change."""
    obj: Object = orjson.loads(render(value, revision, opening))
    obj.pop(FORM, None)
    return obj


def decode_metadata(value: bytes) -> dict[str, Any]:
    """metadata without resourceVersion."""
    metadata: dict[str, Any] = orjson.loads(value[: value.index(NEWLINE)])
    return metadata


def identity(value: bytes) -> Identity:
    return _decode_identified(value[: value.index(NEWLINE)])


def excerpt(value: bytes, revision: int, type: Any) -> Object | None:
    """Metadata with HELD, and of the rest what `type` (a TypedDict) names. None: something there has another type; decode it all."""
    line = value.index(NEWLINE)
    try:
        obj: Object = _decoder(type).decode(b"{" + value[line + 2 :] + b"}")
    except msgspec.ValidationError:
        return None
    obj["metadata"] = {**orjson.loads(hold(value[:line])[0]), "resourceVersion": str(revision)}
    return obj


def hold(metadata: bytes) -> tuple[bytes, bytes]:
    """Encoded metadata with HELD for its managedFields; these, b"" when there are none."""
    owners = bytes(_decode_owned(metadata).managedFields)
    return (_exchanged(metadata, owners, _HELD_BYTES), owners) if owners else (metadata, owners)


def release(metadata: bytes, owners: bytes) -> bytes:
    """The same with managedFields for HELD."""
    return _exchanged(metadata, _HELD_BYTES, owners) if owners else metadata


def _exchanged(metadata: bytes, owners: bytes, others: bytes) -> bytes:
    begin = metadata.index(_OWNERS + owners[:1]) + len(
        _OWNERS
    )  # a label may have this name, too, but no list for its value
    return b"".join((metadata[:begin], others, metadata[begin + len(owners) :]))


def with_metadata(metadata: dict[str, Any], value: bytes) -> bytes:
    """The bytes at rest of the same object with other metadata that has HELD, as `excerpt` gives it."""
    line = value.index(NEWLINE)
    own = {key: each for key, each in metadata.items() if key != "resourceVersion"}
    return release(_dumps(own), hold(value[:line])[1]) + value[line:]


def with_segments(metadata: bytes, segments: dict[str, msgspec.Raw]) -> bytes:
    """Encoded metadata and encoded top-level fields as they are kept."""
    parts = [metadata, NEWLINE]
    for key, raw in segments.items():
        parts += (b',"%b":' % key.encode(), bytes(raw))
    return b"".join(parts)


def memo(entry: Entry) -> Memo:
    found: Memo | None = entry.memo
    if found is None:
        found = entry.memo = Memo()
    return found


def after(
    entry: Entry,
    change: Change | None,
    written: str | tuple[str, ...] = "metadata.",
    values: Mapping[str, str] = NO_LABELS,
) -> Memo | None:
    """The memo of what a write makes of an entry whose labels it leaves alone. `written`: how those of its selectable fields
    begin that may be others now (of metadata, none is remembered); `values`: what some of them are now, for those who ask
    again."""
    known: Memo | None = entry.memo
    if known is None:
        return Memo(change=change) if change is not None else None
    fields = known.fields
    if fields:
        kept = {name: value for name, value in fields.items() if not name.startswith(written)}
        kept |= {name: value for name, value in values.items() if name in fields}
        fields = kept
    return Memo(labels=known.labels, fields=fields, change=change)


def told(entry: Entry) -> None:
    """Forget what serves nobody any more: how the entry came about."""
    known: Memo | None = entry.memo
    if known is not None and known.change is not None:
        if known.labels is None and not known.fields and known.object is None:
            entry.memo = None
        else:
            known.change = None


def labels(entry: Entry) -> dict[str, str]:
    """The labels of a live entry."""
    kept = memo(entry)
    if kept.labels is None:
        value = entry.value or b"{}\n"
        kept.labels = _decode_labels(value[: value.index(NEWLINE)]).labels or NO_LABELS
    return kept.labels


def field(entry: Entry, kind: Kind, name: str) -> str:
    """A selectable field of a live entry as text, metadata.name and metadata.namespace included.

    Raises KeyError for a field that the kind does not select by."""
    read = kind.selectable.get(name)
    if read is None:
        return named(entry.key, kind.resource, name)
    kept = memo(entry)
    if kept.fields is None:
        kept.fields = {}
    found = kept.fields.get(name)
    if found is None:
        found = kept.fields[name] = read(_selectable_part(entry, kind))
    return found


def named(key: str, resource: Resource, field: str) -> str:
    """metadata.name or metadata.namespace, of a storage key. Raises KeyError for all others."""
    if field == "metadata.name":
        return key.rpartition("/")[2]
    if field == "metadata.namespace":
        return key.split("/", 4)[3] if resource.namespaced else ""
    raise KeyError(field)


@cache
def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)


def _selectable_part(entry: Entry, kind: Kind) -> Object:
    """The object as far as fields are selected by: what `Kind.selected_from` names or, without one, all but its metadata, of
    which there are only name and namespace (managedFields are half of many objects)."""
    value = entry.value or b"{}\n"
    rest = b"{" + value[value.index(NEWLINE) + 2 :] + b"}"
    try:
        obj: Object = orjson.loads(rest) if kind.selected_from is None else _decoder(kind.selected_from).decode(rest)
    except msgspec.ValidationError:  # an old or foreign writer left another type there
        obj = orjson.loads(rest)
    if kind.selected_from is None:
        obj["metadata"] = {name: named(entry.key, kind.resource, f"metadata.{name}") for name in ("name", "namespace")}
    return obj
