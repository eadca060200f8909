"""Writes that change one top-level field and nothing else: a pod's status, a lease's renewal. Most writes of a cluster are such.

The field alone is decoded, changed, judged, and its owners noted; all else stays the bytes that it is at rest. What is
stored is what resource.py would have stored: whatever cannot be told from the part alone (metadata that may change, an
error to be worded, nothing to do) is left to it, with nothing done. `applies` says which requests come here; Engine.update
asks. In: a Call and its Part. Out: the new entry, or None for the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from jota.aio.clock import rfc3339
from jota.api import metadata
from jota.api import object as at_rest
from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.api.call import FIELD_VALIDATION
from jota.api.shapes import BY_BYTES
from jota.kinds.kind import Object
from jota.meta import fieldset, owners
from jota.meta.apply import root_of
from jota.meta.change import Change
from jota.meta.errors import ApiError
from jota.meta.owners import Writer
from jota.store.protocol import Conflict, Entry

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine
    from jota.api.served import Served

_TYPE = ("kind", "apiVersion")
_OWNERS = b'"managedFields":['
_IDENTITY = {"name", "namespace", "uid"}
"""What a patch may say of metadata without changing it."""


class Part(NamedTuple):
    """What a request wants of one field."""

    field: str
    metadata: Object
    """As it was sent."""
    whole: bool
    """The metadata replaces the stored one (PUT), it is not laid over it (PATCH)."""
    change: Callable[[Object], Any]
    """The field's stored value, {} without one, which it leaves as it is -> the new value, free of unknown fields and
    wrong types; anything but an object: look closely."""
    told: Callable[[bytes, at_rest.Memo | None], None] | None = None
    """Is told what will be stored, and what is known of it, before it is."""


class Stored(msgspec.Struct):
    """Metadata at rest, as far as it matters here."""

    name: str
    uid: str
    namespace: str = ""
    managedFields: msgspec.Raw = msgspec.Raw(b"")
    deletionTimestamp: str = ""
    deletionGracePeriodSeconds: int = 0
    finalizers: tuple[str, ...] = ()


class Voices(NamedTuple):
    """What plugins have to say to a write, without those that say nothing; `free`: each of them leaves it apart."""

    admit: tuple[Callable[[AdmissionAttributes], None], ...]
    validate: tuple[Callable[[AdmissionAttributes], None], ...]
    allocate: tuple[Callable[[AdmissionAttributes], None], ...]
    release: tuple[Callable[[AdmissionAttributes], None], ...]
    beside: tuple[Callable[[AdmissionAttributes], dict[str, bytes | None]], ...]
    free: bool
    minds: tuple[Callable[[AdmissionAttributes], bool], ...]
    """Of each that has a say at all; asked of writes of metadata alone (relabel.py)."""
    alone: bool
    """Such writes concern nobody else."""


def voices(plugins: tuple[Plugin, ...], *, main: bool) -> Voices:
    """`main`: of a write of the object itself; what comes through a subresource is not admitted, but validated."""
    admit = [p for p in plugins if main and type(p).admit is not Plugin.admit]
    validate = [p for p in plugins if type(p).validate is not Plugin.validate]
    allocate = [p for p in plugins if type(p).allocate is not Plugin.allocate]
    beside = [p for p in plugins if type(p).beside is not Plugin.beside]
    heard = {id(p): p for p in (*admit, *validate, *allocate)}.values()
    asks = any(p.asks for p in plugins)
    return Voices(
        tuple(p.admit for p in admit),
        tuple(p.validate for p in validate),
        tuple(p.allocate for p in allocate),
        tuple(p.release for p in plugins if type(p).release is not Plugin.release),
        tuple(p.beside for p in beside),
        all(p.apart for p in heard) and not asks,
        tuple(p.minds for p in heard if type(p).minds is not never),
        not beside and not asks,
    )


decode_stored = msgspec.json.Decoder(Stored).decode
"""Metadata at rest. Raises msgspec.MsgspecError."""


def part_of(call: Call, body: Object, change: Callable[[str, Object], Any], *, whole: bool) -> Part | None:
    """The one field that a request is about, by its decoded body; None when there are several.

    `change`: as a Part's, with the field before the value."""
    subresource, resource = call.target.subresource, call.served.resource
    if subresource not in ("", "status") or not call.served.kind.apart:
        return None
    if whole and subresource:
        fields = [key for key in body if key == "status"]  # the others count for nothing
    else:
        fields = [key for key in body if key != "metadata" and key not in _TYPE]
    if len(fields) != 1 or (fields[0] == "status") != bool(subresource):
        return None
    if body.get("kind", resource.kind) != resource.kind or body.get("apiVersion", resource.api_version) != (
        resource.api_version
    ):
        return None
    sent, field = body.get("metadata", {}), fields[0]
    return Part(field, sent, whole, lambda old: change(field, old)) if isinstance(sent, dict) else None


def applies(engine: Engine, call: Call, field: str) -> bool:
    """Whether a write of this field can be made apart: nobody has to see the whole object, and it is kept in the form in
    which it is shown. Changes nothing."""
    return usual(call.params) and suits(engine, call.served, call.target.subresource, field)


def suits(engine: Engine, served: Served, subresource: str, field: str) -> bool:
    """The same of a request without parameters."""
    return field in served.kind.apart and engine.voices(served, subresource).free and _alone(engine, served)


def plain(engine: Engine, call: Call) -> bool:
    """Whether a write of a part of an object needs no more than that part, but for what plugins want to see."""
    return usual(call.params) and _alone(engine, call.served)


def usual(params: Mapping[str, str]) -> bool:
    """Whether a request asks for nothing but to be carried out."""
    return params.get("fieldValidation", "") in ("", *FIELD_VALIDATION) and not params.get("dryRun")


def _alone(engine: Engine, served: Served) -> bool:
    kind = served.kind
    simple = bool(kind.schema) and kind.judge is None and not served.converted and not served.foreign
    return simple and not engine.webhooks.concern(kind)


async def write(engine: Engine, call: Call, name: str, namespace: str, part: Part) -> Entry | None:
    """Store the change; None: nothing is done, and resource.py must look closely. Raises what the store raises."""
    entry = engine.store.get(call.served.key(namespace, name))
    if entry is None or entry.value is None:
        return None
    try:
        planned = plan(engine, call, name, namespace, part, entry)
    except (ApiError, msgspec.MsgspecError, orjson.JSONDecodeError):
        return None
    if planned is None:
        return None
    value, attrs, memo = planned
    if part.told is not None:
        part.told(value, memo)
    try:
        return await engine.store.put(entry.key, value, expect=entry.revision, memo=memo)
    except BaseException as problem:
        for release in engine.voices(call.served, call.target.subresource).release:
            release(attrs)
        if not isinstance(problem, Conflict):
            raise
        return None  # somebody else was first


def plan(
    engine: Engine, call: Call, name: str, namespace: str, part: Part, entry: Entry
) -> tuple[bytes, AdmissionAttributes, at_rest.Memo | None] | None:
    """(what will be stored, what plugins saw, what is known of it); None for the long way. Raises ApiError, DecodeError: the
    long way, too."""
    served, kind, field = call.served, call.served.kind, part.field
    value = entry.value or b""
    line = value.index(at_rest.NEWLINE)
    rest = b"{" + value[line + 2 :] + b"}"
    stored = decode_stored(value[:line])
    if stored.deletionTimestamp and not stored.finalizers and not stored.deletionGracePeriodSeconds:
        return None  # the write would remove it
    if not (_same if part.whole else _named)(part.metadata, stored, value[:line], entry.revision):
        return None
    segments = at_rest.split(rest)
    had = field in segments
    if not had and field != "status":
        return None
    raw = bytes(segments[field]) if had else b"{}"
    before = orjson.loads(raw)
    if not isinstance(before, dict):
        return None
    seen = kind.apart[field]
    others: Object = {} if seen is None else _decoder(seen).decode(rest)
    old: Object = {"metadata": {"name": name, "namespace": namespace}, **others, field: before}
    # the result may share parts with the stored value, and defaults are written into it
    wanted = part.change(before if served.resource in BY_BYTES else orjson.loads(raw))
    if not isinstance(wanted, dict):
        return None
    new: Object = {**old, field: wanted}
    attrs = engine.attributes(call, "UPDATE", new, old, call.target.subresource)
    if not _judge(engine, call, new, old, attrs) or new[field] == before:
        return None
    head = value[:line]
    if stored.managedFields:
        was = bytes(stored.managedFields)
        changed, removed = fieldset.compare({field: before} if had else {}, {field: new[field]}, root_of(kind.schema))
        writer = Writer(call.manager, served.resource.api_version, call.target.subresource)
        now = owners.updated(was, field, changed, removed, writer, rfc3339(engine.clock.now()))
        if now == b"[]":
            return None
        # a label may have this name, too, but no list for its value
        start = head.index(_OWNERS) + len(_OWNERS) - 1
        head = head[:start] + now + head[start + len(was) :]
    segments[field] = msgspec.Raw(written := orjson.dumps(new[field]))
    change = Change(str(entry.revision), status=written) if field == "status" else None
    memo = at_rest.after(entry, change, f"{field}.")
    return at_rest.with_segments(head, segments), attrs, memo


def _judge(engine: Engine, call: Call, new: Object, old: Object, attrs: AdmissionAttributes) -> bool:
    """The rules of such a write, in the order of resource.py. Raises ApiError."""
    kind, said = call.served.kind, engine.voices(call.served, call.target.subresource)
    if call.target.subresource:
        if call.served.resource not in BY_BYTES:
            kind.default(new)
        kind.prepare_status(new, old)
        errors = kind.validate_status(new, old)
    else:
        kind.default(new)
        for admit in said.admit:
            admit(attrs)
        kind.prepare_update(new, old)
        errors = kind.validate(new) + kind.validate_update(new, old)
    if errors:
        return False
    for validate in said.validate:
        validate(attrs)
    for allocate in said.allocate:
        allocate(attrs)
    return True


def _named(sent: Object, stored: Stored, _line: bytes, revision: int) -> bool:
    """A patch's metadata names the stored object, and says no more."""
    for key, value in sent.items():
        if key == "resourceVersion":
            if value != str(revision):
                return False
        elif key not in _IDENTITY or value != getattr(stored, key):
            return False
    return True


def _same(sent: Object, stored: Stored, line: bytes, revision: int) -> bool:
    """A whole metadata (checked by `metadata.check`) says nothing that is not stored."""
    if sent.get("uid", stored.uid) != stored.uid or sent.get("namespace", stored.namespace) != stored.namespace:
        return False
    if sent.get("resourceVersion", str(revision)) != str(revision):
        return False
    old: dict[str, Any] = orjson.loads(line)
    new = {key: value for key, value in sent.items() if key != "resourceVersion"}
    metadata.carry(new, old)
    return new == old


@cache
def _decoder(seen: Any) -> msgspec.json.Decoder[Object]:
    return msgspec.json.Decoder(seen)
