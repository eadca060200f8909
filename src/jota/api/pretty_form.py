"""Answers that people read: JSON in lines, for browsers, curl and Wget, and for whoever asks with ?pretty=true.

JSON answers are written anew on their way out, as with protobuf (protobuf_form.py). Who asks is found as upstream finds it
(responsewriters' serializers, isPrettyPrint): the parameter says so, or else the User-Agent. Watches stay as they are, and so do
answers that come through a proxy. In: what the verbs answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from jota.api import lazily
from jota.wire.message import Request, Response, joined

_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
"""What Go's ParseBool takes for true."""
LARGE = 128 * 1024
"""Bytes of JSON from which an answer is written anew in a thread."""


def wanted(request: Request) -> bool:
    """Whether this client wants to read. Asked of every request that comes over a wire."""
    if "pretty" in request.query:
        from jota.api.path import parameters

        if said := parameters(request.query).get("pretty"):
            return said in _TRUE
    return request.headers.get("user-agent", "").startswith(_PEOPLE)


async def answer(response: Response) -> Response:
    """`response` in lines; one that is no JSON comes back as it is."""
    if response.stream is not None or response.upgrade is not None or not _is_json(response):
        return response
    body = joined(response.body)
    try:
        text = await asyncio.to_thread(_lines_by_parts, body) if len(body) >= LARGE else _lines(body)
    except (orjson.JSONDecodeError, msgspec.MsgspecError):  # integers beyond 64 bits; no object
        return response
    return Response(response.status, response.headers, text)


def _is_json(response: Response) -> bool:
    return any(name == "Content-Type" and value.startswith("application/json") for name, value in response.headers)


def _lines(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2) if body else body


def _lines_by_parts(body: bytes) -> bytes:
    """The same of a large object: the items of its lists one by one, for nobody else has a turn while the encoder is at work."""
    fields = []
    for name, value in lazily.fields(body).items():
        if isinstance(value, Iterator):
            items = b",\n    ".join(_indented(item, 4) for item in value)
            text = b"[\n    " + items + b"\n  ]" if items else b"[]"
        else:
            text = _indented(value, 2)
        fields.append(b"  " + orjson.dumps(name) + b": " + text)
    return b"{\n" + b",\n".join(fields) + b"\n}"


def _indented(value: Any, by: int) -> bytes:
    """Line breaks of its texts are escaped: all others are the encoder's."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n" + b" " * by)
