"""Answers that people read: JSON in lines, for browsers, curl and Wget, and for whoever asks with ?pretty=true.

JSON answers are written anew on their way out, as with protobuf (protobuf_form.py). Who asks is found as upstream finds it
(responsewriters' serializers, isPrettyPrint): the parameter says so, or else the User-Agent. Watches stay as they are, and so do
answers that come through a proxy. In: what the verbs answered.
"""

from __future__ import annotations

import asyncio

import orjson

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
        text = await asyncio.to_thread(_lines, body) if len(body) >= LARGE else _lines(body)
    except orjson.JSONDecodeError:  # integers beyond 64 bits
        return response
    return Response(response.status, response.headers, text)


def _is_json(response: Response) -> bool:
    return any(name == "Content-Type" and value.startswith("application/json") for name, value in response.headers)


def _lines(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2) if body else body
