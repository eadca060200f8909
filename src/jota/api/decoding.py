"""What came in a request's body, as an object of the resource's kind: bytes in, an object out. Next: resource.py stores it.

kind and apiVersion are the resource's, every field is one of the schema (or there is a warning, or an error, as the client asked
for), and defaults are there where the object is known by its bytes (shapes.py).
"""

from __future__ import annotations

from jota.api.call import Call
from jota.api.served import Served
from jota.api.shapes import BY_BYTES, Templates
from jota.kinds.kind import Object
from jota.meta import decode
from jota.meta.errors import ApiError, bad_request


def object_from(call: Call) -> Object:
    """Raises ApiError 400, 415."""
    if not call.request.body:
        raise bad_request("the request has no body")
    content_type = call.request.headers.get("content-type", "")
    try:
        obj, problems = decode.decode_body(
            content_type, call.request.body, call.served.kind.definition, strict=call.field_validation
        )
    except decode.Unreadable as unreadable:
        raise _unrecognized(call, unreadable.detail) from None
    if not isinstance(obj, dict):
        raise _unrecognized(call, "json: cannot unmarshal: the body must be an object")
    for problem in problems:
        call.warn(problem)
    check_type(call.served, obj)
    return obj


def _unrecognized(call: Call, why: str) -> ApiError:
    """What came is nothing that has a kind; its beginning is shown, as upstream does (handlers/rest.go)."""
    body = call.request.body
    shown = body[:30].decode(errors="replace") if body[:1] == b"{" else body[:30].hex()
    shown += " ..." if len(body) > 30 else ""
    what = f"the object provided is unrecognized (must be of type {call.served.resource.kind})"
    return bad_request(f"{what}: couldn't get version/kind; json parse error: {why} ({shown})")


def new_object_from(call: Call, templates: Templates) -> Object:
    """The object in the body of a create; with its defaults when the kind is known by its bytes (the engine gives them to
    others). Raises ApiError 400, 415."""
    served, request = call.served, call.request
    if served.resource not in BY_BYTES:
        return object_from(call)
    spec = b""
    if request.headers.get("content-type", "") == "application/json":
        known, spec = templates.read(request.body)
        if known is not None:
            check_type(served, known)
            return known
    obj = object_from(call)
    served.kind.default(obj)
    if spec and not call.warnings:
        templates.keep(spec, obj)
    return obj


def check_type(served: Served, obj: Object) -> None:
    """kind and apiVersion are the resource's, or are filled in. Raises ApiError 400."""
    resource = served.resource
    kind, version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
    if version != resource.api_version:
        text = f"the API version in the data ({version}) does not match the expected API version"
        raise bad_request(f"{text} ({resource.api_version})")
    if kind != resource.kind:
        raise bad_request(
            f'the object provided is unrecognized (must be of type {resource.kind}): kind "{kind}" was sent'
        )
    obj["kind"], obj["apiVersion"] = kind, version


def check_fields(call: Call, obj: Object) -> None:
    """Types and unknown fields of a patched object. Raises ApiError 400."""
    definition = call.served.kind.definition
    if definition:
        for problem in decode.validate_object(obj, definition, strict=call.field_validation):
            call.warn(problem)


def check_status(call: Call, new: Object) -> None:
    """Types, unknown fields and defaults of what a write through /status may change. Raises ApiError 400."""
    kind = call.served.kind
    if not kind.schema:
        check_fields(call, new)
        kind.default(new)
        return
    # the rest is as it was stored: judged and with its defaults
    written: Object = {key: new[key] for key in ("kind", "apiVersion", "metadata", "status") if key in new}
    check_fields(call, written)
    if "status" not in written:
        new.pop("status", None)
    if call.served.resource not in BY_BYTES:
        kind.default(new)
