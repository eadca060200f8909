"""PATCH of one object: JSON patch, merge patch, strategic merge patch, or server-side apply (apply.py)."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from jota.api import metadata, respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.verbs.apply import apply
from jota.kinds.kind import Object
from jota.meta.decode import parse_json
from jota.meta.errors import bad_request, unsupported_media_type
from jota.meta.patch import json as json_patch
from jota.meta.patch import merge as merge_patch
from jota.meta.patch import strategic as strategic_patch
from jota.wire.message import Response

JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"

Change = Callable[[Object], Object]


async def patch(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 404, 409, 413, 415, 422."""
    target = call.target
    if media_of(call) == APPLY:
        return await apply(engine, call)
    media = media_of(call)
    change = change_for(call, media)
    result = await engine.update(
        call, target.name, target.namespace, change, subresource=target.subresource, pure=media in (MERGE, STRATEGIC)
    )
    return respond.outcome(call, result, engine.clock.now())


def media_of(call: Call) -> str:
    """The patch type."""
    return call.request.headers.get("content-type", "").partition(";")[0].strip().lower()


def change_for(call: Call, media: str) -> Change:
    """The patch as a function of the stored object. Raises ApiError 400, 415."""
    return change_as(call, media, call.served.kind.schema)


def change_as(call: Call, media: str, definition: str) -> Change:
    """The same for an object of another schema ("": a custom resource, which knows no strategic merge)."""
    if media not in (JSON, MERGE, STRATEGIC) or (not definition and media == STRATEGIC):
        raise unsupported_media_type([JSON, MERGE, STRATEGIC, APPLY] if definition else [JSON, MERGE, APPLY])
    text = call.request.body
    sent = [parse_json(text)]
    plain = media == STRATEGIC and strategic_patch.is_plain(text)

    def change(old: Object) -> Object:
        # afresh each time: the result shares parts with it and is changed further on
        body = sent.pop() if sent else orjson.loads(text)
        if media == JSON:
            new = json_patch.apply(old, body)
        elif media == MERGE:
            new = merge_patch.apply(old, body)
        else:
            new = strategic_patch.apply(old, body, definition, plain=plain)
        if not isinstance(new, dict):
            raise bad_request("the patch does not leave an object")
        metadata.check(new)
        return new

    return change
