"""Writes that change metadata and nothing else: labels, annotations, finalizers, owners. kubectl label does it, and controllers
that mark what they see.

The line of metadata alone is decoded, changed, judged, and its owners noted; all else stays the bytes that it is at rest,
and `managedFields` are bytes throughout (meta/owners.py). What is stored is what resource.py would have stored: whatever
is not plain (an error to be worded, a last finalizer, somebody who minds) is left to it, with nothing done. `applies` says
which requests come here; Engine.update asks. In: a Call and its Wish. Out: the new entry, or None for the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from jota.aio.clock import rfc3339
from jota.api import apart, metadata
from jota.api import object as at_rest
from jota.kinds.kind import Kind, Object
from jota.meta import apply, fieldset, owners, structs
from jota.meta.errors import ApiError
from jota.meta.owners import Writer
from jota.meta.resource import Resource
from jota.store.protocol import Conflict, Entry

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine

NAMING = {"kind", "apiVersion", "metadata"}
"""What says which object it is, and all that such a write is about."""


class Wish(NamedTuple):
    """What a request wants of metadata, when it wants nothing else."""

    change: Callable[[Object], Object]
    """An object of kind, apiVersion and stored metadata, which it leaves as it is -> the object as it is wanted, its metadata
    checked (`metadata.check`). Raises ApiError."""
    rest: Object | None = None
    """What was sent beside metadata, kind and apiVersion, when that must be what is stored (PUT)."""


def applies(engine: Engine, call: Call) -> bool:
    """Whether such a write of this kind can be made without the rest of the object. Changes nothing."""
    served = call.served
    return (
        not call.target.subresource
        and served.kind.relabelled_from is not None
        and engine.voices(served, "").alone
        and apart.plain(engine, call)
    )


async def write(engine: Engine, call: Call, name: str, namespace: str, wish: Wish) -> Entry | None:
    """Store the change; None: nothing is done, and resource.py must look closely. Raises what the store raises."""
    entry = engine.store.get(call.served.key(namespace, name))
    if entry is None:
        return None
    try:
        planned = plan(engine, call, wish, entry)
    except (ApiError, msgspec.MsgspecError, orjson.JSONDecodeError):
        return None
    if planned is None:
        return None
    value, said = planned
    if value is not entry.value:
        try:
            entry = await engine.store.put(entry.key, value, expect=entry.revision)
        except Conflict:
            return None  # somebody else was first
    for text in said:
        call.warn(text)
    return entry


def plan(engine: Engine, call: Call, wish: Wish, entry: Entry) -> tuple[bytes, list[str]] | None:
    """(what will be stored, the entry's own value when nothing changes; warnings); None for the long way.

    Raises ApiError, DecodeError: the long way, too."""
    served, kind, value = call.served, call.served.kind, entry.value or b""
    line = value.index(at_rest.NEWLINE)
    rest = b"{" + value[line + 2 :] + b"}"
    head, had = at_rest.hold(value[:line])
    stored = b'{"resourceVersion":"%d",%b' % (entry.revision, head[1:])
    if wish.rest is not None and not _same(kind, wish.rest, orjson.loads(rest)):
        return None
    others: Object = _decoder(kind.relabelled_from).decode(rest)
    typed: Object = {"kind": served.resource.kind, "apiVersion": served.resource.api_version}
    old: Object = {**typed, "metadata": orjson.loads(stored), **others}
    was = old["metadata"]
    new: Object = {**wish.change({**typed, "metadata": dict(was)}), **others}
    meta = new["metadata"]
    held = meta.get("managedFields")
    if held is not None:
        # a patch that comes here does not speak of them; a PUT repeats what was read
        if not had or held != (at_rest.HELD if wish.rest is None else orjson.loads(had)):
            return None
        meta["managedFields"] = at_rest.HELD
    if not _names(new, was, served.resource, entry.revision):
        return None
    metadata.carry(meta, was)
    meta["resourceVersion"] = was["resourceVersion"]
    if not structs.clean_value(kind.schema, {"metadata": meta}) or (
        meta.get("deletionTimestamp") and not meta.get("finalizers")
    ):
        return None
    attrs = engine.attributes(call, "UPDATE", new, old)
    if any(minds(attrs) for minds in engine.voices(served, "").minds):
        return None
    if meta == was:
        return value, []
    errors = metadata.validate(kind, meta) + metadata.validate_update(meta, was) + kind.validate_update(new, old)
    if errors:
        return None
    now = _owners(engine, call, meta, was, had)
    if now == b"[]":
        return None
    del meta["resourceVersion"]
    return at_rest.release(orjson.dumps(meta), now) + value[line:], kind.warnings(new)


def _names(new: Object, was: Object, resource: Resource, revision: int) -> bool:
    """What is wanted is still that object, and not an older state of it; a namespace that was left out is filled in.

    Raises ApiError."""
    meta = new["metadata"]
    if "namespace" in was and meta.setdefault("namespace", was["namespace"]) != was["namespace"]:
        return False
    return (
        meta.get("name") == was["name"]
        and meta.get("uid", was["uid"]) == was["uid"]
        and metadata.revision_of(meta) in (0, revision)
        and (new["kind"], new["apiVersion"]) == (resource.kind, resource.api_version)
    )


def _owners(engine: Engine, call: Call, meta: Object, was: Object, had: bytes) -> bytes:
    """The encoded managedFields after this change; b"" where nobody tracks them."""
    if not had:
        return had
    before, after = (apply.owned({"metadata": one}) for one in (was, meta))
    changed, removed = fieldset.compare(before, after, apply.root_of(call.served.kind.schema))
    writer = Writer(call.manager, call.served.resource.api_version)
    return owners.updated(had, "metadata", changed, removed, writer, rfc3339(engine.clock.now()))


def _same(kind: Kind, sent: Object, stored: Object) -> bool:
    """Equal as JSON (for Python alone, 1 equals true) in all that a PUT may change."""
    if kind.status:
        sent, stored = ({k: v for k, v in one.items() if k != "status"} for one in (sent, stored))
    if sent != stored:
        return False
    first, second = (orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in (sent, stored))
    return first == second


@cache
def _decoder(seen: Any) -> msgspec.json.Decoder[Object]:
    return msgspec.json.Decoder(seen)
