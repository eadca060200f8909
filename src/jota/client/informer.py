"""A cache of one resource, kept true by list and watch. In: the API's state. Out: reads without I/O, and calls of handlers.

The reflector half asks for the WatchList form first (state, then a BOOKMARK that says the state is whole) and falls back
to list + watch on servers that refuse it. A clean end or a broken connection resumes after the last resourceVersion; 410
lists anew, and what vanished meanwhile is handed to the handlers as deletes. Worked example of what handlers see:

    (None, a1)      a was there at the start, or was created
    (a1, a2)        a was changed
    (a2, None)      a was deleted, or was found missing after a new list
    (a2, None), (None, b1)   a was replaced by a namesake with another uid while we were away

Cached objects are shared by all readers: never change them. Next: informers.py, which shares one informer per resource.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import aclosing
from random import Random
from typing import Any, Generic, TypeVar

import msgspec

from jota.aio.clock import Clock, SystemClock
from jota.client.client import Client
from jota.client.transport import EventBatch
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

log = logging.getLogger(__name__)
T = TypeVar("T")
Handler = Callable[[T | None, T | None], None]
IndexFunction = Callable[[T], Iterable[str]]
Route = Callable[[T], Hashable]

BACKOFF_BASE, BACKOFF_CAP = 0.1, 10.0
"""Seconds between attempts to reach the server, before jitter."""
SYNC_DEADLINE = 60.0
"""Seconds that the initial state of a WatchList may take; a server that ignores the form would never finish it."""
WATCH_SECONDS = (300, 600)
"""timeoutSeconds of a watch is drawn from this range, so that reconnects of many clients spread (as client-go does)."""
PAGE = 500


class Meta(msgspec.Struct):
    """What the cache itself needs of every object."""

    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct):
    metadata: Meta


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


class _Held(Generic[T]):
    """One cached object and the identity that decides whether another one replaces it."""

    __slots__ = ("object", "uid", "version")

    def __init__(self, obj: T, uid: str, version: str) -> None:
        self.object, self.uid, self.version = obj, uid, version


_IDENTITY = frozenset(("name", "namespace", "uid", "resourceVersion"))
_head = msgspec.json.Decoder(_Head)
_bookmark = msgspec.json.Decoder(_Bookmark)


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _tells_identity(type: Any) -> bool:
    """Whether decoded objects of this Struct hold, under `metadata`, everything that the cache itself needs."""
    for field in msgspec.structs.fields(type) if _is_struct(type) else ():
        if field.name == field.encode_name == "metadata" and _is_struct(field.type):
            return {f.name for f in msgspec.structs.fields(field.type) if f.name == f.encode_name} >= _IDENTITY
    return False


def _is_struct(type: Any) -> bool:
    return hasattr(type, "__struct_fields__")


def split_key(key: str) -> tuple[str, str]:
    """("namespace", "name"); the namespace is "" for cluster-scoped keys."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class Informer(Generic[T]):
    """The cache. `type` is a msgspec Struct of the fields that are read, or None for plain dicts; one with a class method
    `from_json(bytes)` decodes itself (see sharing.py)."""

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
        self.resource = resource
        self._client = client
        self._scope: dict[str, Any] = {"namespace": namespace, "labels": labels, "fields": fields}
        self._metadata = metadata
        # not one that is inherited: it would leave out the fields that a subclass adds
        own = getattr(type, "from_json", None) if "from_json" in vars(type or object) else None
        self._from_json: Callable[[bytes], Any] = own or msgspec.json.Decoder(type or dict[str, Any]).decode
        self._identified = _tells_identity(type)
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._objects: dict[str, _Held[T]] = {}
        self._namespaces: dict[str, dict[str, None]] = {}
        """Namespace -> its keys."""
        self._index_functions: dict[str, IndexFunction[T]] = {}
        self._indexes: dict[str, dict[str, dict[str, None]]] = {}
        self._handlers: list[Handler[T]] = []
        self._routed: dict[Route[T], dict[Hashable, list[Handler[T]]]] = {}
        self._version = ""
        self._revision = 0
        self._synced = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._watchlist = True
        self.relists = 0
        """How often the whole state was read (1 after the start); a metric."""
        for name, function in (indexes or {}).items():
            self.add_index(name, function)

    # -- reading

    def get(self, key: str) -> T | None:
        held = self._objects.get(key)
        return held.object if held else None

    def list(self, namespace: str = "") -> list[T]:
        if not namespace:
            return [held.object for held in self._objects.values()]
        return [self._objects[key].object for key in self._namespaces.get(namespace, ())]

    def keys(self) -> Iterable[str]:
        return self._objects.keys()

    def items(self) -> Iterable[tuple[str, T]]:
        return ((key, held.object) for key, held in self._objects.items())

    def by_index(self, name: str, value: str) -> Iterable[T]:
        """The objects for which index `name` gave `value`. Raises KeyError for an index that was not added."""
        return [self._objects[key].object for key in self._indexes[name].get(value, ())]

    def index_values(self, name: str) -> Iterable[str]:
        return self._indexes[name].keys()

    def __len__(self) -> int:
        return len(self._objects)

    # -- set-up

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        """`function(object)` gives the values under which `by_index(name, value)` finds it. Adding it twice is fine."""
        if name in self._index_functions:
            return
        self._index_functions[name] = function
        self._indexes[name] = {}
        for key, held in self._objects.items():
            self._index(name, key, held.object, add=True)

    def add_handler(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` on every change, synchronously, in order; first for everything already cached."""
        self._handlers.append(handler)
        for held in list(self._objects.values()):
            self._call(handler, None, held.object)

    def add_routed(self, route: Route[T], values: Iterable[Hashable], handler: Handler[T]) -> None:
        """As `add_handler`, but only for objects that `route` gives, or gave, one of `values`. Many handlers that share a
        route cost one call of it: the controllers of workloads each see their own pods."""
        wanted = set(values)
        table = self._routed.setdefault(route, {})
        for value in wanted:
            table.setdefault(value, []).append(handler)
        for held in list(self._objects.values()):
            if route(held.object) in wanted:
                self._call(handler, None, held.object)

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
        items: dict[str, _Held[T]] = {}
        token = version = ""
        while True:
            page = await self._client.list(
                self.resource, **self._scope, limit=PAGE, continue_=token, metadata=self._metadata, type=_List
            )
            for raw in page.items or ():
                self._collect(items, bytes(raw))
            version, token = page.metadata.resourceVersion or version, page.metadata.continue_
            if not token:
                break
        self._replace(items, version)

    async def _watch_from_state(self) -> None:
        """WatchList: one stream gives the state, then its changes."""
        state: dict[str, _Held[T]] | None = {}
        batches = self._open(initial=True)
        async with aclosing(batches):
            try:
                async with asyncio.timeout(SYNC_DEADLINE):
                    while state is not None:
                        batch = await anext(batches)
                        rest = self._gather(state, batch)
                        if rest is not None:
                            state = None
                            self._apply(rest)
            except StopAsyncIteration:
                raise ConnectionError("the stream ended before the initial state was whole") from None
            except TimeoutError:
                self._watchlist = False
                raise
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

    # -- the cache

    def _gather(self, state: dict[str, _Held[T]], batch: EventBatch) -> EventBatch | None:
        """Collect the initial state; once its end is marked, install it and return the events that came after."""
        for n, (type_, raw) in enumerate(batch):
            if type_ == "BOOKMARK":
                meta = _bookmark.decode(raw).metadata
                if (meta.annotations or {}).get("k8s.io/initial-events-end") == "true":
                    self._replace(state, meta.resourceVersion)
                    return batch[n + 1 :]
            elif type_ == "DELETED":
                head = _head.decode(raw).metadata
                state.pop(key_of(head.namespace, head.name), None)
            else:
                self._collect(state, raw)
        return None

    def _collect(self, items: dict[str, _Held[T]], raw: bytes) -> None:
        obj, head = self._decode(raw)
        items[key_of(head.namespace, head.name)] = _Held(obj, head.uid, head.resourceVersion)

    def _decode(self, raw: bytes) -> tuple[T, Any]:
        """The object and its identity (`Meta`, or what has the same fields): one pass over the bytes when it can be."""
        obj = self._from_json(raw)
        return obj, obj.metadata if self._identified else _head.decode(raw).metadata

    def _replace(self, items: dict[str, _Held[T]], version: str) -> None:
        for key in [k for k in self._objects if k not in items]:
            self._remove(key, self._objects[key].object)
        for key, held in items.items():
            self._store(key, held)
        self.relists += 1
        self._reached(version)
        self._synced.set()

    def _apply(self, batch: EventBatch) -> None:
        for type_, raw in batch:
            if type_ == "BOOKMARK":
                self._reached(_bookmark.decode(raw).metadata.resourceVersion)
                continue
            obj, head = self._decode(raw)
            key = key_of(head.namespace, head.name)
            if type_ == "DELETED":
                self._remove(key, obj)
            elif type_ in ("ADDED", "MODIFIED"):
                self._store(key, _Held(obj, head.uid, head.resourceVersion))
            self._reached(head.resourceVersion)

    def _store(self, key: str, new: _Held[T]) -> None:
        old = self._objects.get(key)
        if old is not None and old.uid != new.uid:
            self._remove(key, old.object)
            old = None
        if old is not None and old.version == new.version and new.version:
            return
        for name, function in self._index_functions.items():
            if old is not None:
                if list(function(old.object)) == list(function(new.object)):
                    continue
                self._index(name, key, old.object, add=False)
            self._index(name, key, new.object, add=True)
        self._objects[key] = new
        if old is None:
            self._namespaces.setdefault(split_key(key)[0], {})[key] = None
        self._notify(old.object if old else None, new.object)

    def _remove(self, key: str, last: T) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        namespace = split_key(key)[0]
        del self._namespaces[namespace][key]
        if not self._namespaces[namespace]:
            del self._namespaces[namespace]
        for name in self._index_functions:
            self._index(name, key, old.object, add=False)
        self._notify(last, None)

    def _index(self, name: str, key: str, obj: T, *, add: bool) -> None:
        table = self._indexes[name]
        for value in self._index_functions[name](obj):
            if add:
                table.setdefault(value, {})[key] = None
            elif (keys := table.get(value)) is not None:
                keys.pop(key, None)
                if not keys:
                    del table[value]

    def _notify(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            self._call(handler, old, new)
        for route, table in self._routed.items():
            before = table.get(route(old), ()) if old is not None else ()
            after = table.get(route(new), ()) if new is not None else ()
            for handler in after:
                self._call(handler, old, new)
            if before is not after:
                for handler in before:
                    if handler not in after:
                        self._call(handler, old, new)

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:  # one reader's mistake must not stop the cache for the others
            log.exception("%s: a handler failed", self.resource.plural)

    def _reached(self, version: str) -> None:
        self._version = version
        self._revision = int(version) if version.isdigit() else self._revision
        for wanted, future in self._waiting:
            if wanted <= self._revision and not future.done():
                future.set_result(None)
