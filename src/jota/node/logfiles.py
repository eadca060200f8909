"""The kubelet's `/logs/`: a node's own log files, listed and given whole. In: paths of files. Out: answers for node/server.py.

Upstream serves the machine's /var/log. Several of our nodes may share one machine, which is then not theirs to show: what
a node has is the log of its agent, under its own name. Queries of node logs (`?query=`) are refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from jota.meta.errors import bad_request, path_not_found
from jota.wire.message import Response, Writer

_PIECE = 1 << 16
_HTML = ("Content-Type", "text/html; charset=utf-8")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")


async def serve(files: Sequence[str], rest: Sequence[str], query: str) -> Response:
    """What lies at `/logs/<rest>`. Raises ApiError 400 / 404."""
    if query:
        raise bad_request("queries of node logs are not supported: ask for one of the files of /logs/")
    names = {os.path.basename(file): file for file in files}
    if not rest:
        return Response(200, [_HTML], _listing(sorted(names)))
    if len(rest) > 1 or rest[0] not in names:
        raise path_not_found()
    file = names[rest[0]]
    if not await asyncio.to_thread(os.path.isfile, file):
        raise path_not_found()

    async def stream(writer: Writer) -> None:
        with await asyncio.to_thread(open, file, "rb") as opened:
            while piece := await asyncio.to_thread(opened.read, _PIECE):
                writer.write([piece])
                await writer.drain()

    return Response(200, [_TEXT], stream=stream)


def _listing(names: Sequence[str]) -> bytes:
    """In the form of Go's file server, which is what scripts take apart."""
    lines = [f'<a href="{quote(name)}">{escape(name)}</a>' for name in names]
    return "\n".join(("<!doctype html>", "<pre>", *lines, "</pre>", "")).encode()
