"""Bodies of subresources that speak a kind of their own (Binding, Eviction, Scale)."""

from __future__ import annotations

from typing import Any

from jota.api.call import Call
from jota.api.resource import Engine
from jota.kinds.kind import Object
from jota.meta import decode
from jota.meta.errors import bad_request


async def admitted(engine: Engine, call: Call, definition: str, version: str, kind: str) -> Object:
    """What was sent to be made here, as webhooks and policies leave it. `version`: its apiVersion where none is given.

    Raises ApiError."""
    sent = read(call, definition, kind)
    await admit(engine, call, sent, definition, version, kind)
    return sent


async def admit(engine: Engine, call: Call, sent: Object, definition: str, version: str, kind: str) -> None:
    """The same, in place, of what was read already."""
    sent["kind"], sent["apiVersion"] = kind, sent.get("apiVersion") or version
    await engine.admitted(call, sent, definition)


def read(call: Call, definition: str, kind: str) -> Object:
    """The object in the body, checked against `definition`. Raises ApiError 400, 415."""
    request = call.request
    if not request.body:
        raise bad_request("the request has no body")
    value, problems = decode.decode_body(
        request.headers.get("content-type", ""), request.body, definition, strict=call.field_validation
    )
    if not isinstance(value, dict) or value.get("kind") not in (None, "", kind):
        raise bad_request(f"the body must be a {kind}")
    for problem in problems:
        call.warn(problem)
    return value


def part(obj: Object, name: str) -> dict[str, Any]:
    """A member that must be an object when present. Raises ApiError 400."""
    value = obj.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object")
    return value


CREATED = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
"""The Status that answers a binding or an eviction."""
