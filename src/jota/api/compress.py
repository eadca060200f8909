"""gzip for large answers to clients that ask for it (128 KiB and more, as upstream), in a thread: lists are long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jota.wire.message import Part, Request, Response

SMALLEST = 128 * 1024
LEVEL = 1


def wanted(request: Request, response: Response) -> bool:
    if "gzip" not in request.headers.get("accept-encoding", "") or response.stream is not None or response.upgrade:
        return False
    body = response.body
    size = len(body) if isinstance(body, bytes) else sum(map(len, body))
    return size >= SMALLEST and not any(name == "Content-Encoding" for name, _ in response.headers)


async def compressed(response: Response) -> Response:
    """The same answer, smaller."""
    body = response.body
    parts = [body] if isinstance(body, bytes) else body
    small = await asyncio.to_thread(_gzip, parts)
    extra = [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    return Response(response.status, [*response.headers, *extra], small)


def _gzip(parts: Sequence[Part]) -> bytes:
    # imported here: most servers on one machine never compress
    from isal import igzip_lib

    data: bytes = igzip_lib.compress(b"".join(parts), level=LEVEL, flag=igzip_lib.COMP_GZIP)
    return data
