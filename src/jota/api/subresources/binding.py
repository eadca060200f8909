"""pods/binding and bindings: the scheduler's decision. Sets spec.nodeName once and the condition PodScheduled. 201."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api import ownnames, respond
from jota.api.call import Call
from jota.api.filters.node import node_of
from jota.api.resource import SEEN, Engine
from jota.api.subresources import body
from jota.kinds.kind import Object
from jota.meta import conditions
from jota.meta.change import Change
from jota.meta.errors import ApiError, FieldError, bad_request, conflict, invalid_object, required
from jota.meta.resource import PODS
from jota.store.protocol import Write
from jota.wire.message import Response

_Gap = tuple[bytes, bytes, bytes]
_SPLICED = {"name", "namespace", "uid", "creationTimestamp"}
"""A Binding with other metadata (labels, annotations, a resourceVersion) goes the long way."""
_NOMINATED = ownnames.OwnNames({"nominatedNodeName": "subdomain"})
_NOMINATION = b'"nominatedNodeName":'
_WRITTEN = ("spec.nodeName", "status.nominatedNodeName")
"""Selectable fields that are others after a binding."""


class _Meta(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str | None = None


class _Spec(msgspec.Struct):
    nodeName: str | None = None
    schedulingGates: list[msgspec.Raw] | None = None


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    namespace: str = ""
    uid: str = ""


class _Node(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: Literal["", "Node"] = ""
    apiVersion: Literal["", "v1"] = ""


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    """A Binding with nothing unusual in it."""

    metadata: _Named
    target: _Node
    kind: Literal["", "Binding"] = ""
    apiVersion: Literal["", "v1"] = ""


_decode_meta = msgspec.json.Decoder(_Meta).decode
_decode_several = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_all_common = msgspec.json.Decoder(list[_Common]).decode
_decode_common = msgspec.json.Decoder(_Common).decode
_decode_spec = msgspec.json.Decoder(_Spec).decode


async def create(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 404, 409, 422."""
    if call.request.times > 1:
        return respond.json(call, await _several(engine, call), 201)
    binding = await body.admitted(engine, call, "io.k8s.api.core.v1.Binding", "v1", "Binding")
    metadata, target = body.part(binding, "metadata"), body.part(binding, "target")
    name = call.target.name if call.target.resource == "pods" else metadata.get("name", "")
    if metadata.get("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    _check(name, target)
    now = rfc3339(engine.clock.now())

    on_pods = pod_call(engine, call)
    if await _splice(engine, on_pods, name, metadata, target["name"], now):
        return respond.json(call, body.CREATED, 201)

    def change(pod: Object) -> Object:
        return bind(pod, metadata, target["name"], now)

    # nobody becomes the owner of spec.nodeName: upstream's binding does not track fields either
    where = call.target.namespace
    await engine.update(
        on_pods, name, where, change, subresource="binding", finish=no_more_rules, owned=True, form=SEEN
    )
    return respond.json(call, body.CREATED, 201)


async def _several(engine: Engine, call: Call) -> list[bool | None]:
    """Of an array of Bindings: true for those of the common case, which are made at once; None for all others."""
    on_pods, now, namespace = pod_call(engine, call), rfc3339(engine.clock.now()), call.target.namespace
    sent = _read(call.request.body)
    writes: dict[int, Write] = {}
    known: dict[bytes, _Gap] = {}
    for place, one in enumerate(sent if call.times > 1 and _unwatched(engine, on_pods) else ()):
        if one is None:
            continue
        meta, node = one.metadata, one.target.name
        if meta.namespace in ("", namespace) and meta.name and node:
            write = _spliced(engine, on_pods, meta.name, meta.uid, node, now, known)
            if write is not None:
                writes[place] = write
    answers: list[bool | None] = [None] * len(sent)
    for place, entry in zip(writes, await engine.store.put_many([*writes.values()]), strict=True):
        answers[place] = True if entry is not None else None
    return answers


def _read(sent: bytes) -> Sequence[_Common | None]:
    """Bindings; None for those with something unusual in them."""
    try:
        return _decode_all_common(sent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [_common(raw) for raw in _decode_several(sent)]


def _common(sent: msgspec.Raw) -> _Common | None:
    try:
        return _decode_common(sent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def _splice(engine: Engine, call: Call, name: str, metadata: Object, node: str, now: str) -> bool:
    """Bind as `_spliced` says. False: it is not the common case; nothing is done."""
    if metadata.keys() - _SPLICED or not _unwatched(engine, call):
        return False
    write = _spliced(engine, call, name, metadata.get("uid") or "", node, now, {})
    # when somebody else was first: look closely, and say why
    return write is not None and (await engine.store.put_many([write]))[0] is not None


def _unwatched(engine: Engine, call: Call) -> bool:
    """No kind's rules and no field owners are touched by a binding, so only those who watch over it must be absent."""
    return not call.dry_run and not engine.webhooks.concern(call.served.kind) and node_of(call.user) is None


def _spliced(
    engine: Engine, call: Call, name: str, uid: str, node: str, now: str, known: dict[bytes, _Gap]
) -> Write | None:
    """Binding by adding to the bytes at rest: (key, value, the revision that is replaced, what is known of the new one), in a
    fifth of the time. None: it is not the common case. `uid`: "" is any. `known`: what `_gap` said of other pods at this `now`, all
    without names of their own."""
    entry = engine.store.get(call.served.key(call.target.namespace, name))
    if entry is None or entry.value is None:
        return None
    line = entry.value.index(at_rest.NEWLINE)
    meta = _decode_meta(entry.value[:line])
    if meta.deletionTimestamp is not None or uid not in ("", meta.uid):
        return None
    rest = entry.value[line:]
    gap = known.get(rest) or _gap_with_names(rest, now, known)
    if gap is None:
        return None
    before, behind, status = gap
    value = b"".join((entry.value[:line], before, orjson.dumps(node), behind))
    change = Change(str(entry.revision), node=node, status=status)
    memo = at_rest.after(entry, change, _WRITTEN, {_WRITTEN[0]: node, _WRITTEN[1]: ""})
    return entry.key, value, entry.revision, memo


def _gap_with_names(rest: bytes, now: str, known: dict[bytes, _Gap]) -> _Gap | None:
    """What `_gap` says of a pod that has names of its own, or is the first of its like. Where it was nominated to is forgotten."""
    like, names = ownnames.cut(rest)
    like, nominated = _NOMINATED.cut(like)
    found = known.get(like)
    if found is not None:
        return ownnames.fill(found[0], names), found[1], found[2]
    gap = _gap(rest, now)
    if gap is not None:
        before, own = ownnames.cut(gap[0])
        stays = nominated and any(_NOMINATION in part for part in gap)  # a label may have this name, too
        if own == names and not stays:  # none of them is behind
            known[like] = before, gap[1], gap[2]
    return gap


def _gap(rest: bytes, now: str) -> _Gap | None:
    """What stands before and after the node's name in the fields beside metadata of a pod that is bound, and its status, from
    those of one that is not (the same bytes for all pods of one template); None: look closely."""
    sections = at_rest.split(b"{" + rest[2:] + b"}")
    spec = bytes(sections.get("spec", b""))
    if not spec:
        return None
    found = _decode_spec(spec)
    if found.nodeName or found.schedulingGates or b'"nodeName":""' in spec:
        return None
    status = orjson.loads(bytes(sections["status"])) if "status" in sections else {}
    _scheduled(status, now)
    sections["status"] = msgspec.Raw(bound := orjson.dumps(status))
    places = [*sections]
    first = {key: sections[key] for key in places[: places.index("spec")]}
    last = {key: sections[key] for key in places[places.index("spec") + 1 :]}
    before = at_rest.with_segments(b"", first) + b',"spec":' + spec[:-1] + b',"nodeName":'
    return before, b"}" + at_rest.with_segments(b"", last)[1:], bound


def pod_call(engine: Engine, call: Call) -> Call:
    """The same call, about pods (for /bindings, whose own kind is never stored)."""
    served = engine.kind(PODS)
    return Call(call.request, call.target, call.params, call.user, served, call.accepted)


def no_more_rules(_call: Call, _new: Object, _old: Object) -> list[FieldError]:
    return []


def _check(name: str, target: dict[str, Any]) -> None:
    errors = []
    if target.get("kind", "") not in ("", "Node"):
        errors.append(
            FieldError("FieldValueNotSupported", "target.kind", 'Unsupported value: supported values: "Node"')
        )
    if not target.get("name"):
        errors.append(required("target.name"))
    if errors:
        raise invalid_object("Binding", name, errors)


def bind(pod: Object, metadata: dict[str, Any], node: str, now: str) -> Object:
    """The pod with its node (the argument, changed in place). Raises ApiError 409."""
    meta, spec = pod["metadata"], pod["spec"]
    name = meta["name"]
    if metadata.get("uid") and metadata["uid"] != meta["uid"]:
        detail = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {meta['uid']}"
        raise _refused(name, detail)
    if metadata.get("resourceVersion") and metadata["resourceVersion"] != meta["resourceVersion"]:
        raise _refused(name, "Precondition failed: the resourceVersion of the binding is not the pod's")
    if meta.get("deletionTimestamp"):
        raise _refused(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _refused(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _refused(name, f"pod {name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = node
    for key in ("annotations", "labels"):
        if metadata.get(key):
            meta[key] = {**meta.get(key, {}), **metadata[key]}
    _scheduled(pod.setdefault("status", {}), now)
    return pod


def _scheduled(status: Object, now: str) -> None:
    status["conditions"] = conditions.set(status.get("conditions"), "PodScheduled", "True", now=now)
    status.pop("nominatedNodeName", None)  # ClearingNominatedNodeNameAfterBinding (on since 1.35)


def _refused(name: str, detail: str) -> ApiError:
    return conflict("pods/binding", name, detail)


VERBS = {"create": create}
