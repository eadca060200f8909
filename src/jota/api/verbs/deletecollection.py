"""DELETE of a collection: every selected object, each as if it were deleted alone, many at once so that they share the
store's commits. Answers with the list of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from jota.api import respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.verbs import list as listing
from jota.api.verbs.delete import Options, read_options, remove
from jota.meta.errors import ApiError
from jota.store.protocol import Entry
from jota.wire.message import Response

CONCURRENT = 64
"""Deletions in flight: as many as fill a group commit."""


async def deletecollection(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 409, 410, 422."""
    options = read_options(call)
    page = await listing.find(engine, call, listing.select(call))
    entries = iter(page.entries)
    workers = [_remove(engine, call, entries, options) for _ in range(min(CONCURRENT, len(page.entries)))]
    refused = [error for error in await asyncio.gather(*workers, return_exceptions=True) if error is not None]
    if refused:
        raise refused[0]
    metadata: dict[str, object] = {"resourceVersion": str(engine.store.revision)}
    if page.next:
        metadata["continue"] = page.next
    return respond.encoded(call, listing.render(call, page.entries, metadata))


async def _remove(engine: Engine, call: Call, entries: Iterator[Entry], options: Options) -> None:
    """One worker: the next entry, until there are no more. Raises ApiError."""
    for entry in entries:
        parts = entry.key[len(call.served.prefix) :].split("/")
        namespace = parts[0] if call.served.resource.namespaced else ""
        try:
            await remove(engine, call, namespace, parts[-1], options)
        except ApiError as e:
            if e.code != 404:  # somebody else was faster: it is gone, which is what was asked
                raise
