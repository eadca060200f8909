"""A cache of one resource, kept true by list and watch. In: the API's state. Out: reads without I/O, and calls of handlers.

The reflector asks for the WatchList form first (state, then a BOOKMARK that says the state is whole) and falls back
to list + watch on servers that refuse it. A clean end or a broken connection resumes after the last resourceVersion; 410
lists anew, and what vanished meanwhile is handed to the handlers as deletes. Worked example of what handlers see:

    (None, a1)      a was there at the start, or was created
    (a1, a2)        a was changed
    (a2, None)      a was deleted, or was found missing after a new list
    (a2, None), (None, b1)   a was replaced by a namesake with another uid while we were away

An object that its type cannot hold (`Unreadable`) stays as it was last readable, or is left out if it never was; the log and
/metrics name it and its field, everything else goes on, and it is taken again once it can be read.

Cached objects are shared by all readers: never change them. Next: cache.py, and informers.py, which shares one informer per
resource.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from random import Random
from typing import Any, TypeVar

import msgspec

from jota.aio.clock import Clock, SystemClock
from jota.client.cache import Cache
from jota.client.client import Client
from jota.client.indexes import IndexFunction
from jota.client.reader import Read, Reader, Unreadable
from jota.client.reader import key_of as key_of
from jota.client.transport import EventBatch
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.meta.watchevent import WatchEvent

log = logging.getLogger(__name__)
T = TypeVar("T")

BACKOFF_BASE, BACKOFF_CAP = 0.1, 10.0
"""Seconds between attempts to reach the server, before jitter."""
SYNC_DEADLINE = 60.0
"""Seconds that the initial state of a WatchList may take; a server that ignores the form would never finish it."""
WATCH_SECONDS = (300, 600)
"""timeoutSeconds of a watch is drawn from this range, so that reconnects of many clients spread (as client-go does)."""
PAGE = 500


class _BookmarkMeta(msgspec.Struct):
    resourceVersion: str = ""
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_bookmark = msgspec.json.Decoder(_Bookmark)


def split_key(key: str) -> tuple[str, str]:
    """("namespace", "name"); the namespace is "" for cluster-scoped keys."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class Informer(Cache[T]):
    """`type` is a msgspec Struct of the fields that are read, or None for plain dicts; one with a class method
    `from_json(bytes)` decodes itself (see sharing.py), one with a static method `changes(old, new)` tells what a change was
    about (see cache.py)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        type: type[T] | None = None,
        metadata: bool = False,
        indexes: Mapping[str, IndexFunction[T]] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(resource.plural, type)
        self.resource = resource
        self._client = client
        self._scope: dict[str, Any] = {"namespace": namespace, "labels": labels, "fields": fields}
        self._metadata = metadata
        self._reader: Reader[T] = Reader(type)
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._state: dict[str, Read[T] | Unreadable] = {}
        """The whole state, while it is being read."""
        self.unreadable: dict[str, Unreadable] = {}
        """By key: what is there, but cannot be held in its present form."""
        self._peers = client.caches.join((resource, type, metadata), self)
        self._version = ""
        self._revision = 0
        self._synced = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._watchlist = True
        self.relists = 0
        """How often the whole state was read (1 after the start); a metric."""
        for name, function in (indexes or {}).items():
            self.add_index(name, function)

    # -- progress

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait until the cache has held the whole state once. No deadline: the server may be away; the caller sets one."""
        await self._synced.wait()

    @property
    def revision(self) -> int:
        """The newest resourceVersion that this cache reflects (0 before the first list)."""
        return self._revision

    async def caught_up(self, resource_version: str | int) -> None:
        """Wait until the cache reflects an own write with this resourceVersion. The caller sets a deadline."""
        wanted = int(resource_version)
        if self._revision >= wanted:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        try:
            await future
        finally:
            self._waiting = [w for w in self._waiting if w[1] is not future]

    # -- the reflector

    async def run(self) -> None:
        """Keep the cache true until cancelled."""
        failures = 0
        while True:
            before = self._revision, self.relists
            try:
                await self._round()
            except (ConnectionError, TimeoutError, OSError) as e:
                log.info("%s: watch broke: %s", self.resource.plural, e)
            except ApiError as e:
                self._refused(e)
            except msgspec.DecodeError as e:
                log.warning("%s: undecodable answer: %s", self.resource.plural, e)
                self._version = ""
            failures = 0 if (self._revision, self.relists) != before else failures + 1
            delay = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(failures, 16)) * (0.5 + self._random.random())
            await self._clock.sleep(delay)

    async def _round(self) -> None:
        """One list (if needed) and one watch, until the stream ends or breaks."""
        if not self._version and self._watchlist:
            return await self._watch_from_state()
        if not self._version:
            await self._list()
        return await self._follow()

    def _refused(self, error: ApiError) -> None:
        if error.code in (400, 422) and not self._version and self._watchlist:
            log.info("%s: the server knows no WatchList; falling back to list and watch", self.resource.plural)
            self._watchlist = False
        elif error.code == 410 or any(c.reason == "ResourceVersionTooLarge" for c in error.causes):
            self._version = ""  # history is gone, or the store is younger than we are: read the state anew
        else:
            log.warning("%s: list or watch refused: %s", self.resource.plural, error)

    async def _list(self) -> None:
        self._state = {}
        token = version = ""
        while True:
            page = await self._client.list(
                self.resource, **self._scope, limit=PAGE, continue_=token, metadata=self._metadata, type=_List
            )
            for raw in page.items or ():
                self._collect(WatchEvent("ADDED", bytes(raw)))
            version, token = page.metadata.resourceVersion or version, page.metadata.continue_
            if not token:
                break
        self._replace(version)

    async def _watch_from_state(self) -> None:
        """WatchList: one stream gives the state, then its changes."""
        self._state = {}
        batches = self._open(initial=True)
        async with aclosing(batches):
            try:
                async with asyncio.timeout(SYNC_DEADLINE):
                    while (rest := self._gather(await anext(batches))) is None:
                        pass
            except StopAsyncIteration:
                raise ConnectionError("the stream ended before the initial state was whole") from None
            except TimeoutError:
                self._watchlist = False
                raise
            self._apply(rest)
            async for batch in batches:
                self._apply(batch)

    async def _follow(self) -> None:
        batches = self._open(version=self._version)
        async with aclosing(batches):
            async for batch in batches:
                self._apply(batch)

    def _open(self, version: str = "", initial: bool = False) -> Any:
        return self._client.watch_batches(
            self.resource,
            **self._scope,
            resource_version=version,
            timeout_seconds=self._random.randint(*WATCH_SECONDS),
            metadata=self._metadata,
            initial=initial,
        )

    # -- the whole state

    def _gather(self, batch: EventBatch) -> EventBatch | None:
        """Collect the initial state; once its end is marked, install it and return the events that came after."""
        for n, event in enumerate(batch):
            if event.type == "BOOKMARK":
                meta = _bookmark.decode(event.body).metadata
                if (meta.annotations or {}).get("k8s.io/initial-events-end") == "true":
                    self._replace(meta.resourceVersion)
                    return batch[n + 1 :]
            elif event.type == "DELETED":
                try:
                    self._state.pop(self._reader.read(event)[0], None)
                except Unreadable as it:
                    self._state.pop(it.key, None)
            else:
                self._collect(event)
        return None

    def _collect(self, event: WatchEvent) -> None:
        if event.key and (known := self._known(event.key, str(event.revision))) is not None:
            event.views[self._reader.type] = known
        try:
            found = self._reader.read(event)
        except Unreadable as it:
            self._state[it.key] = it
        else:
            self._state[found[0]] = found

    def _known(self, key: str, version: str) -> T | None:
        """What we or another cache like this one hold already."""
        for peer in self._peers:
            if (found := peer.peek(key, version)) is not None:
                return found  # type: ignore[no-any-return]
        return None

    def peek(self, key: str, version: str) -> T | None:
        """What is held of `key`, when that is its state at this resourceVersion."""
        found = self._state.get(key)
        if found is not None and not isinstance(found, Unreadable) and found[3] == version:
            return found[1]
        held = self._objects.get(key)
        return held if held is not None and self._mark(key, held)[1] == version else None

    def _replace(self, version: str) -> None:
        state, self._state = self._state, {}
        for key in [key for key in self._objects if key not in state]:
            self.remove(key)
        for key in [key for key in self.unreadable if key not in state]:
            del self.unreadable[key]
        for found in state.values():
            if isinstance(found, Unreadable):
                self._leave(found)
            else:
                self.put(*found)
                self._readable(found[0])
        self.relists += 1
        self._reached(version)
        self._synced.set()

    # -- changes

    def _apply(self, batch: EventBatch) -> None:
        reached = ""
        try:
            for event in batch:
                if event.type == "BOOKMARK":
                    reached = _bookmark.decode(event.body).metadata.resourceVersion
                    continue
                try:
                    key, obj, uid, version = self._reader.read(event, self._objects.get(event.key))
                except Unreadable as it:
                    version = it.version
                    if event.type == "DELETED":
                        self._drop(it.key, None)
                    elif event.type in ("ADDED", "MODIFIED"):
                        self._leave(it)
                else:
                    if event.type == "DELETED":
                        self._drop(key, obj)
                    elif event.type in ("ADDED", "MODIFIED"):
                        self.put(key, obj, uid, version)
                        if self.unreadable:
                            self._readable(key)
                reached = version
        finally:
            if reached:
                self._reached(reached)

    def _readable(self, key: str) -> None:
        if self.unreadable.pop(key, None) is not None:
            log.warning("%s %s: can be read again", self.resource.plural, key)

    def _drop(self, key: str, last: T | None) -> None:
        self.unreadable.pop(key, None)
        self.remove(key, last)

    def _leave(self, one: Unreadable) -> None:
        """Go on without the present form of an object."""
        key, held = one.key, self._objects.get(one.key)
        if held is not None and one.uid and self._mark(key, held)[0] != one.uid:
            self.remove(key)  # what we hold is gone; a namesake is there
            held = None
        before, self.unreadable[key] = self.unreadable.get(key), one
        if before is None or before.why != one.why:
            instead = f"kept as at resourceVersion {self._mark(key, held)[1]}" if held is not None else "left out"
            log.warning("%s %s: cannot be read (%s): %s", self.resource.plural, key, one.why, instead)

    def _reached(self, version: str) -> None:
        self._version = version
        self._revision = int(version) if version.isdigit() else self._revision
        for wanted, future in self._waiting:
            if wanted <= self._revision and not future.done():
                future.set_result(None)
