"""/openapi/v2 and /openapi/v3: openapi/documents.py's documents over HTTP, with ETags, gzip and immutable hash URLs.

Documents are built in a thread on first use: the largest takes longer than other requests may wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, quote

from jota.api.filters.attributes import AGGREGATOR
from jota.api.negotiate import clauses
from jota.api.path import Target
from jota.meta.errors import not_acceptable, only_read, path_not_found
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.aggregation.openapi import Merged
    from jota.api.openapi.documents import Document, Documents
    from jota.api.server import Api

T = TypeVar("T")
FOR_EVER = "public, immutable"


class OpenApiPages:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._documents: Documents | None = None
        self._building = asyncio.Lock()
        self._merged: Merged | None = None

    def forget(self) -> None:
        self._documents = None

    async def serve(self, request: Request) -> Response:
        """Raises ApiError 404, 405, 406."""
        if request.method not in ("GET", "HEAD"):
            raise only_read()
        path = request.path.strip("/").removeprefix("openapi").strip("/")
        if path == "v2":
            return await self._v2(request)
        if path == "v3":
            index = await self._make(lambda docs: docs.v3_index())
            remotes = self._api.aggregation.remotes
            if remotes:
                from jota.api.aggregation.openapi import v3_index

                index = v3_index(index, remotes.values())
            return _answer(request, index)
        if path.startswith("v3/"):
            remote = self._api.aggregation.route(Target(path[2:], "get"))
            if remote is not None:
                return await remote.serve(request, AGGREGATOR)
            return await self._v3(request, path[3:])
        raise path_not_found()

    async def _v2(self, request: Request) -> Response:
        from jota.api.openapi.documents import PROTOBUF_ACCEPTED

        for media, _ in clauses(request.headers.get("accept", "")) or [("*/*", {})]:
            if media in PROTOBUF_ACCEPTED:
                return _answer(request, await self._v2_document(await self._make(lambda docs: docs.v2_protobuf())))
            if media in ("application/json", "application/*", "*/*"):
                return _answer(request, await self._v2_document(None))
        raise not_acceptable(["application/json", *PROTOBUF_ACCEPTED])

    async def _v2_document(self, protobuf: Document | None) -> Document:
        """JSON, or our own document as `protobuf`, with what other servers have."""
        remotes = list(self._api.aggregation.remotes.values())
        if protobuf is not None and not remotes:
            return protobuf
        own = await self._make(lambda docs: docs.v2())
        if not remotes:
            return own
        if self._merged is None:
            from jota.api.aggregation.openapi import Merged

            self._merged = Merged(self._api.clock)
        return await self._merged.v2(own, remotes, protobuf)

    async def _v3(self, request: Request, path: str) -> Response:
        document = await self._make(lambda docs: docs.v3(path))
        if document is None:
            raise path_not_found()
        asked = parse_qs(request.query).get("hash", [""])[0]
        digest = document.etag.strip('"')
        if asked and asked != digest:
            where = f"/openapi/v3/{quote(path)}?hash={digest}"
            return Response(301, [("Location", where)])
        return _answer(request, document, immutable=bool(asked))

    async def _make(self, build: Callable[[Documents], T]) -> T:
        async with self._building:
            if self._documents is None:
                from jota.api.openapi.documents import Documents

                kinds = tuple(served.kind for served in self._api.served.values())
                custom = {(*k.resource[:2], k.resource.kind): k.published for k in kinds if k.published is not None}
                self._documents = Documents(kinds, custom)
            return await asyncio.to_thread(build, self._documents)


def _answer(request: Request, document: Document, *, immutable: bool = False) -> Response:
    headers = [
        ("Content-Type", document.content_type),
        ("ETag", document.etag),
        ("Vary", "Accept, Accept-Encoding"),
        ("Cache-Control", FOR_EVER if immutable else "no-cache, private"),
    ]
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if document.etag in known or "*" in known:
        return Response(304, headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(200, [*headers, ("Content-Encoding", "gzip")], document.gzip)
    return Response(200, headers, document.identity())
