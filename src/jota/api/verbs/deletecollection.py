"""DELETE of a collection: every selected object, each as if it were deleted alone. Those of the common case are written
together, the others many at once, so that they share the store's commits. Answers with the list of them.

A large collection may outlive the request's deadline. What was done until then stays done, and what is marked already costs
the next attempt no write, so that repeating always comes further. Who would rather take it in pieces asks with `limit` and
goes on with `continue`: such a token stands for "behind this key, as things are then", and never grows too old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from jota.aio.clock import Clock
from jota.api import respond
from jota.api.call import Call
from jota.api.resource import Engine
from jota.api.verbs import delete as deletion
from jota.api.verbs import list as listing
from jota.api.verbs.delete import Options, read_options, remove
from jota.meta.errors import ApiError
from jota.store.protocol import Entry, Write
from jota.wire.message import Response

CONCURRENT = 128
"""Deletions in flight: as many as fill a group commit."""
TURN = 0.005
"""Seconds of the one loop that are taken before others have their turn."""


async def deletecollection(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 403, 409, 410, 422; the first refusal, after all others were tried."""
    options = read_options(call)
    page = await listing.find(engine, call, listing.select(call))
    left = await _together(engine, call, page.entries, options)
    entries, turns = iter(left), _Turns(engine.clock)
    workers = [_remove(engine, call, entries, options, turns) for _ in range(min(CONCURRENT, len(left)))]
    refused = [error for error in await asyncio.gather(*workers, return_exceptions=True) if error is not None]
    if refused:
        raise refused[0]
    metadata: dict[str, object] = {"resourceVersion": str(engine.store.revision)}
    if page.next:
        metadata["continue"] = listing.encode_token(listing.LATEST, listing.decode_token(page.next).start)
    return respond.encoded(call, listing.render(call, page.entries, metadata))


async def _together(engine: Engine, call: Call, entries: list[Entry], options: Options) -> list[Entry]:
    """Delete those that nobody but plugins has a say in, each turn's in one write of the store; the others are left: what is
    refused, so that it is told why, and what somebody else writes at this moment. Raises StoreError."""
    left: list[Entry] = []
    clock, at = engine.clock, 0
    while at < len(entries) and deletion.plain(engine, call):
        until, wanted, writes = clock.monotonic() + TURN, list[Entry](), list[Write]()
        while at < len(entries) and clock.monotonic() <= until:
            entry, at = entries[at], at + 1
            now = engine.store.get(entry.key)
            if now is None:
                continue  # somebody else was faster
            try:
                write = deletion.planned(engine, call, now, options)
            except ApiError:
                left.append(entry)
                continue
            if write is not None:
                wanted.append(entry)
                writes.append(write)
        done = await engine.store.put_many(writes)
        left += [entry for entry, one in zip(wanted, done, strict=True) if one is None]
        await asyncio.sleep(0)
    return left + entries[at:]


class _Turns:
    """Shared by the workers: objects that need no write would otherwise be gone through without a pause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + TURN
        self._next: asyncio.Future[None] | None = None

    async def mine(self) -> None:
        """Returns while the turn lasts; else when the loop has been with the others."""
        while self._clock.monotonic() >= self._until:
            if self._next is None:
                loop = asyncio.get_running_loop()
                self._next = loop.create_future()
                loop.call_soon(self._begin, self._next)
            await self._next

    def _begin(self, waited: asyncio.Future[None]) -> None:
        self._until, self._next = self._clock.monotonic() + TURN, None
        if not waited.done():
            waited.set_result(None)


async def _remove(
    engine: Engine, call: Call, entries: Iterator[Entry], options: Options, turns: _Turns
) -> ApiError | None:
    """One worker: the next entry, until there are no more. Its first refusal; what fails otherwise ends it."""
    refused: ApiError | None = None
    for entry in entries:
        parts = entry.key[len(call.served.prefix) :].split("/")
        namespace = parts[0] if call.served.resource.namespaced else ""
        await turns.mine()
        try:
            await remove(engine, call, namespace, parts[-1], options)
        except ApiError as e:
            if e.code >= 500:
                return e
            if e.code != 404:  # 404: somebody else was faster; it is gone, which is what was asked
                refused = refused or e
    return refused
