"""Answers: an entry, an object or an error -> Response, in the form that the client accepts (object, Table, metadata).

Objects from the store are joined bytes; only Tables and YAML need them decoded.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson

from jota.api import object as at_rest
from jota.api import table
from jota.api.call import Call
from jota.api.negotiate import PLAIN
from jota.api.resource import Outcome
from jota.kinds.kind import Object
from jota.meta.errors import ApiError
from jota.store.protocol import Entry
from jota.wire.message import Body, Response

JSON = ("Content-Type", "application/json")
CACHE = ("Cache-Control", "no-cache, private")
PLAIN_HEADERS = [CACHE, JSON]
WARNING_ITEM, WARNING_TOTAL = 256, 4096
"""Runes of one Warning and bytes of all: beyond the total, items are cut to the first (as upstream)."""


@cache
def metadata_head(version: str) -> bytes:
    return at_rest.head(f"meta.k8s.io/{version}", "PartialObjectMetadata")


def headers(call: Call | None = None) -> list[tuple[str, str]]:
    if call is not None and call.warnings:
        return [*PLAIN_HEADERS, *warning_headers(call.warnings)]
    return PLAIN_HEADERS.copy()


def warning_headers(texts: list[str]) -> list[tuple[str, str]]:
    """RFC 7234 Warning headers, code 299."""
    if sum(map(len, texts)) > WARNING_TOTAL:
        texts = [t[:WARNING_ITEM] for t in texts]
    out, total = [], 0
    for text in texts:
        if not text.isprintable():  # a control character would break the header
            text = "".join(c if c.isprintable() else " " for c in text)
        clean = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
        total += len(clean)
        if total > WARNING_TOTAL:
            break
        out.append(("Warning", f'299 - "{clean}"'))
    return out


def json(call: Call, value: Any, status: int = 200) -> Response:
    """A decoded value."""
    return encoded(call, orjson.dumps(value), status)


def encoded(call: Call, body: Body, status: int = 200) -> Response:
    """JSON bytes; chain.py turns them into YAML for the few who ask."""
    if call.accepted.yaml:
        call.request.extra["yaml"] = True
    return Response(status, headers(call), body)


def entry(call: Call, found: Entry, now: float, status: int = 200) -> Response:
    """A live entry in the accepted form."""
    served, accepted, value = call.served, call.accepted, found.value or b""
    form = accepted.form
    if accepted is PLAIN:
        return Response(status, headers(call), served.render(value, found.revision, served.head))
    if not form:
        return encoded(call, served.render(value, found.revision, served.head), status)
    if form == "Metadata":
        opening = metadata_head(call.accepted.version)
        return encoded(call, at_rest.render_metadata(value, found.revision, opening), status)
    obj = served.decode(value, found.revision)
    return json(call, table.of_object(call, obj, now), status)


def made(found: list[Entry]) -> Response:
    """The answer to several creations in one: of each object its name and version, and nothing that its maker knows."""
    told = [(entry.key.rpartition("/")[2].encode(), entry.revision) for entry in found]
    body = b",".join([b'{"metadata":{"name":"%b","resourceVersion":"%d"}}' % one for one in told])
    return Response(201, PLAIN_HEADERS.copy(), b"[%b]" % body)


def obj(call: Call, value: Object, now: float, status: int = 200) -> Response:
    """A decoded object that is not, or no longer, in the store."""
    form = call.accepted.form
    if form == "Table":
        return json(call, table.of_object(call, value, now), status)
    if form == "Metadata":
        value = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{call.accepted.version}",
            "metadata": value["metadata"],
        }
    return json(call, value, status)


def outcome(call: Call, result: Outcome, now: float) -> Response:
    """What a write left behind: 201 when it created."""
    status = 201 if result.created else 200
    if result.entry is not None:
        return entry(call, result.entry, now, status)
    return obj(call, result.object, now, status)


def error(problem: ApiError, texts: list[str] | None = None) -> Response:
    """A Status with its code."""
    out = list(PLAIN_HEADERS)
    if problem.retry_after and problem.code in (429, 503):
        out.append(("Retry-After", str(problem.retry_after)))
    if problem.allow:
        out.append(("Allow", ", ".join(problem.allow)))
    if problem.code == 401:
        out.append(("WWW-Authenticate", 'Bearer realm="kubernetes"'))
    if texts:
        out += warning_headers(texts)
    return Response(problem.code, out, orjson.dumps(problem.status()) + b"\n")


def success(call: Call, uid: str, status: int = 200) -> Response:
    """The Status that answers a completed delete."""
    resource = call.served.resource
    details = {"name": call.target.name, "group": resource.group, "kind": resource.plural, "uid": uid}
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {k: v for k, v in details.items() if v},
    }
    return json(call, body, status)
