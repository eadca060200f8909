"""PATCH of one object: JSON patch, merge patch, strategic merge patch, or server-side apply (apply.py)."""

from __future__ import annotations

from typing import Any

import orjson

from jota.api import apart, decoding, metadata, respond
from jota.api.alikepatches import NOTHING, Found, Manner
from jota.api.apart import Part, part_of
from jota.api.call import Call
from jota.api.filters.node import node_of
from jota.api.relabel import NAMING, Wish
from jota.api.resource import Engine
from jota.api.verbs.apply import apply
from jota.kinds.kind import Object
from jota.meta import structs
from jota.meta.decode import parse_json
from jota.meta.errors import ApiError, Undecodable, bad_request, forbidden_field, unsupported_media_type
from jota.meta.patch import json as json_patch
from jota.meta.patch import merge as merge_patch
from jota.meta.patch import strategic as strategic_patch
from jota.meta.patch import unfit
from jota.wire.message import Response

_OF, _OWNERS = "/metadata/", "managedFields"
JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


async def patch(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 404, 409, 413, 415, 422."""
    target = call.target
    media = media_of(call)
    if media == APPLY:
        return await apply(engine, call)
    check_options(call)
    write, learn = _alike(engine, call, media)
    if write is not None and (writing := engine.store.begin(write)) is not None:
        return respond.entry(call, await writing, engine.clock.now())
    change = change_for(call, media)
    part = change.part()
    if learn is not None and isinstance(part, Part):
        part = part._replace(told=learn)
    try:
        result = await engine.update(
            call,
            target.name,
            target.namespace,
            change,
            subresource=target.subresource,
            pure=media in (MERGE, STRATEGIC),
            part=part,
        )
    except Undecodable as problem:
        raise unfit.refused(call.request.body, problem, strategic=media == STRATEGIC) from None
    return respond.outcome(call, result, engine.clock.now())


def _alike(engine: Engine, call: Call, media: str) -> Found:
    """What the patch makes, when another of its kind has made the same. Raises ApiError 422 for a manager without sense."""
    likes = engine.likes(call.served, call.target.subresource, media)
    if likes is None or not apart.usual(call.params):
        return NOTHING
    entry = engine.store.get(call.served.key(call.target.namespace, call.target.name))
    if entry is None or entry.value is None:
        return NOTHING
    return likes.find(Manner(call.manager, media, node_of(call.user)), entry, call.request.body)


def media_of(call: Call) -> str:
    """The patch type."""
    return call.request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_options(call: Call) -> None:
    """Of a patch that is no apply (ValidatePatchOptions). Raises ApiError 422."""
    if "force" in call.params:
        cause = forbidden_field("force", "may not be specified for non-apply patch")
        text = f'PatchOptions.meta.k8s.io "" is invalid: force: {cause.message}'
        raise ApiError(422, "Invalid", text, group="meta.k8s.io", kind="PatchOptions", causes=[cause])


def change_for(call: Call, media: str) -> Patch:
    """The patch as a function of the stored object. Raises ApiError 400, 415."""
    return Patch(call, media, call.served.kind.schema)


class Patch:
    """A call's patch as a function of the stored object, which it leaves as it is. Raises ApiError 400, 415."""

    __slots__ = ("_call", "_definition", "_media", "_plain", "_sent")

    def __init__(self, call: Call, media: str, definition: str) -> None:
        """`definition`: of what is patched; "" for a custom resource, which knows no strategic merge."""
        if media not in (JSON, MERGE, STRATEGIC) or (not definition and media == STRATEGIC):
            raise unsupported_media_type([JSON, MERGE, STRATEGIC, APPLY] if definition else [JSON, MERGE, APPLY])
        check_options(call)
        self._call, self._media, self._definition = call, media, definition
        self._sent = [parse_json(call.request.body)]
        self._plain = media != JSON and strategic_patch.is_plain(call.request.body)

    def __call__(self, old: Object) -> Object:
        body = self._body()
        if self._media == JSON:
            new = json_patch.apply(old, body)
        elif self._media == MERGE:
            new = merge_patch.apply(old, body)
        else:
            new = strategic_patch.apply(old, body, self._definition, plain=self._plain)
        if not isinstance(new, dict):
            text = "the patch does not leave an object"
            raise Undecodable(text, text) if self._media == JSON else bad_request(text)
        try:
            metadata.check(new)
        except Undecodable:
            decoding.check_fields(self._call, new)  # says which field it is, as of the rest of the object
            raise
        return new

    def part(self) -> Part | Wish | None:
        """The same, as a change of one field or of metadata alone; None when it is more."""
        body = self._sent[0]
        if not self._definition:
            return None
        if self._of_metadata(body):
            return Wish(self)
        if self._media == JSON or not isinstance(body, dict):
            return None
        return part_of(self._call, body, self._change, whole=False)

    def _of_metadata(self, body: Any) -> bool:
        """Whether nothing but metadata is named, and nothing of who owns what in it."""
        if self._media == JSON:
            return isinstance(body, list) and all(isinstance(step, dict) and _in_metadata(step) for step in body)
        if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict) or not body.keys() <= NAMING:
            return False
        return not any(_OWNERS in key for key in body["metadata"])

    def _change(self, field: str, old: Object) -> Object | None:
        # what a plain patch brings is all that can be wrong with the result
        clean = self._plain and structs.clean(self._definition, self._call.request.body)
        body = {field: self._body()[field]}
        if self._media == MERGE:
            new = merge_patch.apply({field: old}, body).get(field)
        else:
            new = strategic_patch.apply({field: old}, body, self._definition, plain=self._plain).get(field)
        return new if clean or structs.clean_value(self._definition, {field: new}) else None

    def _body(self) -> Any:
        """Afresh each time: the result shares parts with it and is changed further on."""
        return self._sent.pop() if self._sent else orjson.loads(self._call.request.body)


def _in_metadata(step: Object) -> bool:
    """Whether an operation of a JSON patch stays within metadata."""
    ends = step.get("path"), step.get("from", _OF)
    return all(isinstance(end, str) and end.startswith(_OF) and _OWNERS not in end for end in ends)
