"""The server's own view of what is stored: decoded objects for RBAC, admission and address allocation.

Reads are synchronous and current. `subscribe` says "look" after each commit batch that touched a resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jota.api import object as at_rest
from jota.api.feed import Feed
from jota.kinds.kind import Kind, Object
from jota.meta.resource import Resource
from jota.store.protocol import Entry, Store


def prefix(resource: Resource) -> str:
    """The storage prefix of a resource, e.g. "/core/pods/"."""
    return f"/{resource.group or 'core'}/{resource.plural}/"


def key(resource: Resource, namespace: str, name: str) -> str:
    if resource.namespaced:
        return f"/{resource.group or 'core'}/{resource.plural}/{namespace}/{name}"
    return f"/{resource.group or 'core'}/{resource.plural}/{name}"


def index(kind: Kind) -> Callable[[Entry, str], str]:
    """How the feed reads a field of this kind for its triggers."""

    def read(entry: Entry, field: str) -> str:
        known = field in kind.selectable or field in at_rest.NAMED
        return at_rest.field(entry, kind, field) if known else ""

    return read


class Registry:
    def __init__(self, store: Store, feed: Feed, kinds: dict[tuple[str, str], Kind]) -> None:
        """`kinds`: by (group, plural), in their storage version."""
        self._store, self._feed, self._kinds = store, feed, kinds

    def kind(self, group: str, plural: str) -> Kind | None:
        return self._kinds.get((group, plural))

    def objects(self, resource: Resource, namespace: str = "") -> Iterator[Object]:
        """Every stored object of a resource, in key order; in one namespace when given."""
        opening = at_rest.head(resource.api_version, resource.kind)
        where = prefix(resource) + (f"{namespace}/" if namespace else "")
        for entry in self._store.range(where):
            yield at_rest.decode(entry.value or b"", entry.revision, opening)

    def entries(self, resource: Resource, namespace: str = "", *, limit: int = 0) -> Iterator[Entry]:
        """Like `objects`, undecoded; the first `limit` of them (0: all)."""
        return iter(self._store.range(prefix(resource) + (f"{namespace}/" if namespace else ""), limit=limit))

    @staticmethod
    def decoded(resource: Resource, entry: Entry) -> Object:
        """The object of a live entry, free to be changed."""
        return at_rest.decode(entry.value or b"", entry.revision, at_rest.head(resource.api_version, resource.kind))

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        entry = self._store.get(key(resource, namespace, name))
        if entry is None or entry.value is None:
            return None
        return at_rest.decode(entry.value, entry.revision, at_rest.head(resource.api_version, resource.kind))

    def exists(self, resource: Resource, namespace: str, name: str) -> bool:
        """Without decoding anything."""
        entry = self._store.get(key(resource, namespace, name))
        return entry is not None and entry.value is not None

    def identity(self, resource: Resource, namespace: str, name: str) -> at_rest.Identity | None:
        """Which object it is; None when there is none. Nothing else is decoded."""
        entry = self._store.get(key(resource, namespace, name))
        return at_rest.identity(entry.value) if entry is not None and entry.value is not None else None

    def look(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Like `get`, but decoded once for all readers: never change it. For few and often-read objects."""
        entry = self._store.get(key(resource, namespace, name))
        return None if entry is None or entry.value is None else self._shared(resource, entry)

    def look_over(self, resource: Resource) -> Iterator[Object]:
        """Like `objects`, shared as with `look`."""
        for entry in self._store.range(prefix(resource)):
            yield self._shared(resource, entry)

    @staticmethod
    def _shared(resource: Resource, entry: Entry) -> Object:
        memo = at_rest.memo(entry)
        if memo.object is None:
            opening = at_rest.head(resource.api_version, resource.kind)
            memo.object = at_rest.decode(entry.value or b"", entry.revision, opening)
        return memo.object

    def count(self, resource: Resource, namespace: str = "") -> int:
        return self._store.count(prefix(resource) + (f"{namespace}/" if namespace else ""))

    def subscribe(self, resource: Resource, callback: Callable[[], None]) -> None:
        """Call `callback` after each commit batch that changed a `resource`. It must be quick and must not raise."""
        kind = self._kinds.get((resource.group, resource.plural)) or Kind(resource)
        self._feed.channel(prefix(resource), index(kind)).callbacks.append(callback)

    def mirror(self, resource: Resource, changed: Callable[[Object | None, Object | None], None]) -> None:
        """Call `changed(new, old)` for every stored object now, and for each change from now on (None: absent).

        Changes arrive after commit; `catch_up` makes them arrive at once. Objects are not delivered twice, unless events
        were lost: then everything is delivered as new again.
        """
        kind = self._kinds.get((resource.group, resource.plural)) or Kind(resource)
        channel = self._feed.channel(prefix(resource), index(kind))
        mirror = _Mirror(self, resource, changed)
        self._feed.pump()
        mirror.load()
        channel.add(mirror)

    def touched(self, resource: Resource, changed: Callable[[list[str], bool], None]) -> None:
        """Call `changed(storage keys, anew)` for all that is stored now, and for the keys of each batch from now on.

        Nothing is decoded. `anew`: forget what was known, these keys are all there is.
        """
        kind = self._kinds.get((resource.group, resource.plural)) or Kind(resource)
        channel = self._feed.channel(prefix(resource), index(kind))
        keys = _Keys(self._store, prefix(resource), changed)
        self._feed.pump()
        keys.cut()
        channel.add(keys)

    def catch_up(self) -> None:
        """Deliver every change that is visible in the store."""
        self._feed.pump()


class _Mirror:
    """feed.Watcher that decodes."""

    trigger: tuple[str, str] | None = None
    inside = True

    def __init__(
        self, registry: Registry, resource: Resource, changed: Callable[[Object | None, Object | None], None]
    ) -> None:
        self._registry, self._resource, self._changed = registry, resource, changed
        self._opening = at_rest.head(resource.api_version, resource.kind)

    def load(self) -> None:
        for obj in self._registry.objects(self._resource):
            self._changed(obj, None)

    def deliver(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._changed(self._decode(entry), self._decode(entry.previous))

    def _decode(self, entry: Entry | None) -> Object | None:
        if entry is None or entry.value is None:
            return None
        return at_rest.decode(entry.value, entry.revision, self._opening)

    def cut(self) -> None:
        self.load()

    def end(self) -> None:
        """Nothing waits."""


class _Keys:
    """feed.Watcher that passes on which keys changed."""

    trigger: tuple[str, str] | None = None
    inside = True

    def __init__(self, store: Store, where: str, changed: Callable[[list[str], bool], None]) -> None:
        self._store, self._where, self._changed = store, where, changed

    def deliver(self, entries: list[Entry]) -> None:
        self._changed([entry.key for entry in entries], False)

    def cut(self) -> None:
        self._changed([entry.key for entry in self._store.range(self._where)], True)

    def end(self) -> None:
        """Nothing waits."""
