"""gzip for large answers to clients that ask for it (128 KiB and more, as upstream), in a thread: lists are long."""

from __future__ import annotations

import asyncio
from itertools import islice

from jota.wire.message import Body, Made, Request, Response, joined, size

SMALLEST = 128 * 1024
LEVEL = 1
_GZIP = 31
"""zlib's number for the largest window and a container of gzip's."""
_TOGETHER = 8
"""Pieces of a list (1 MB) that are compressed at once. One by one they come to a third more, and what is larger is memory that
the C library fetches from the kernel anew each time."""


def wanted(request: Request, response: Response) -> bool:
    if "gzip" not in request.headers.get("accept-encoding", "") or response.stream is not None or response.upgrade:
        return False
    return size(response.body) >= SMALLEST and not any(name == "Content-Encoding" for name, _ in response.headers)


async def compressed(response: Response) -> Response:
    """The same answer, smaller."""
    small = await asyncio.to_thread(_gzip, response.body)
    extra = [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    return Response(response.status, [*response.headers, *extra], small, own=response.own)


def _gzip(body: Body) -> bytes:
    # imported here: most servers on one machine never compress
    from isal import isal_zlib

    gzip = isal_zlib.compressobj(level=LEVEL, wbits=_GZIP)
    small: list[bytes] = []
    if isinstance(body, Made):
        pieces = iter(body)
        while some := b"".join(islice(pieces, _TOGETHER)):
            small.append(gzip.compress(some))
    else:
        small.append(gzip.compress(joined(body)))
    return b"".join((*small, gzip.flush()))
