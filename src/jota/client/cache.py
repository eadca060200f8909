"""What an informer holds: objects by key, their indexes, and who is told of changes. In: put, remove. Out: reads, calls.

Synchronous and without I/O. A type of objects may say what a change was about, in bits (`changes`); readers that name the bits
they look at are not called for the others. Worked example, for a type whose bits are PHASE = 4 and LABELS = 8:

    cache.add_handler(f)               is called for every change
    cache.add_handler(g, on=LABELS)    for what comes, for what goes, and when labels changed

Next: indexes.py; informer.py, which feeds it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from jota.client.indexes import Alike, Grouped, Index, IndexFunction
from jota.client.reader import tells_identity

log = logging.getLogger(__name__)
T = TypeVar("T")
Handler = Callable[[T | None, T | None], None]
Route = Callable[[T], Hashable]

ALL = -1
"""Every bit: the change of what comes or goes, and the interest of who names none."""
_ANY, _COMES_OR_GOES = 1, 2
"""Bits that stand in every change, and in that of what comes or goes. Those of types begin at 4."""


class Cache(Generic[T]):
    """Objects of one resource. What it gives is shared by all readers: never change it."""

    def __init__(self, plural: str, type: type[T] | None = None) -> None:
        self._plural = plural
        self._objects: dict[str, T] = {}
        self._marks: dict[str, tuple[str, str]] | None = None if tells_identity(type) else {}
        """Key -> (uid, resourceVersion), when objects do not tell."""
        self._namespaces: dict[str, dict[str, None]] | None = None
        """Namespace -> its keys; from when somebody first asks."""
        self._changes: Callable[[T, T], int] | None = getattr(type, "changes", None)
        self._indexes: dict[str, Index[T]] = {}
        self._handlers: list[tuple[int, Handler[T]]] = []
        self._chosen: dict[int, tuple[Handler[T], ...]] = {}
        """Bits of a change -> the handlers that look at any of them."""
        self._routed: dict[Route[T], tuple[int, dict[Hashable, list[Handler[T]]]]] = {}
        """Route -> the bits of changes by which objects leave it, and its handlers."""

    # -- reading

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def list(self, namespace: str = "") -> list[T]:
        if not namespace:
            return [*self._objects.values()]
        return [self._objects[key] for key in self._by_namespace().get(namespace, ())]

    def any(self, namespace: str) -> bool:
        """Whether there is any object in a namespace."""
        return namespace in self._by_namespace()

    def _by_namespace(self) -> dict[str, dict[str, None]]:
        """Kept true from when it is first asked for."""
        if self._namespaces is None:
            self._namespaces = {}
            for key in self._objects:
                self._namespaces.setdefault(_namespace(key), {})[key] = None
        return self._namespaces

    def keys(self) -> Iterable[str]:
        return self._objects.keys()

    def items(self) -> Iterable[tuple[str, T]]:
        return self._objects.items()

    def by_index(self, name: str, value: str) -> Iterable[T]:
        """The objects for which index `name` gave `value`. Raises KeyError for an index that was not added."""
        return [self._objects[key] for key in self._indexes[name].keys(value)]

    def groups(self, name: str, value: str) -> Sequence[Alike[T]]:
        """The same, those together that index `name` says are alike: ten thousand pods of one set are some tens of groups."""
        index = self._indexes[name]
        assert isinstance(index, Grouped)
        return [Alike(self._objects, kind, keys) for kind, keys in index.groups(value)]

    def index_values(self, name: str) -> Iterable[str]:
        return self._indexes[name].values()

    def __len__(self) -> int:
        return len(self._objects)

    # -- set-up

    def add_index(
        self, name: str, function: IndexFunction[T], on: int = ALL, kind: Callable[[T], Hashable] | None = None
    ) -> None:
        """`function(object)` gives the values under which `by_index(name, value)` finds it; they differ only after changes with
        a bit of `on`. Adding it twice is fine. `kind`: `groups` keeps apart what it gives other values, which differ only after
        such changes too."""
        if name in self._indexes:
            return
        on |= _COMES_OR_GOES
        index = self._indexes[name] = Index(name, function, on) if kind is None else Grouped(name, function, on, kind)
        for key, obj in self._objects.items():
            index.move(key, None, obj)

    def add_handler(self, handler: Handler[T], on: int = ALL) -> None:
        """Call `handler(old, new)` on every change with a bit of `on`, synchronously, in order; first for everything already
        cached."""
        self._handlers.append((on | _COMES_OR_GOES, handler))
        self._chosen.clear()
        for obj in [*self._objects.values()]:
            self._call(handler, None, obj)

    def add_routed(self, route: Route[T], values: Iterable[Hashable], handler: Handler[T], moved_by: int = ALL) -> None:
        """As `add_handler`, but only for objects that `route` gives, or gave, one of `values`; what it gives differs only after
        changes with a bit of `moved_by`. Many handlers that share a route cost one call of it: the controllers of workloads
        each see their own pods."""
        wanted = set(values)
        _, table = self._routed.setdefault(route, (moved_by | _COMES_OR_GOES, {}))
        for value in wanted:
            table.setdefault(value, []).append(handler)
        for obj in [*self._objects.values()]:
            if route(obj) in wanted:
                self._call(handler, None, obj)

    # -- changing

    def put(self, key: str, new: T, uid: str, version: str) -> None:
        """What is known at this resourceVersion is passed over; a namesake with another uid is a delete and an add."""
        old = self._objects.get(key)
        bits = ALL
        if old is not None:
            had, was = self._mark(key, old)
            if had != uid:
                self.remove(key, old)
                old = None
            elif was == version and version:
                return
            elif self._changes is not None:
                bits = self._changes(old, new) | _ANY
        for index in self._indexes.values():
            if bits & index.on:
                index.move(key, old, new)
        self._objects[key] = new
        if self._marks is not None:
            self._marks[key] = (uid, version)
        if old is None and self._namespaces is not None:
            self._namespaces.setdefault(_namespace(key), {})[key] = None
        self._notify(old, new, bits)

    def remove(self, key: str, last: T | None = None) -> None:
        """`last`: its state when it went, if that is known better than from here."""
        old = self._objects.pop(key, None)
        if old is None:
            return
        if self._marks is not None:
            del self._marks[key]
        if self._namespaces is not None:
            namespace = _namespace(key)
            keys = self._namespaces[namespace]
            del keys[key]
            if not keys:
                del self._namespaces[namespace]
        for index in self._indexes.values():
            index.move(key, old, None)
        self._notify(old if last is None else last, None, ALL)

    def _mark(self, key: str, obj: Any) -> tuple[str, str]:
        """(uid, resourceVersion) of a cached object."""
        if self._marks is not None:
            return self._marks[key]
        return obj.metadata.uid, obj.metadata.resourceVersion

    # -- telling

    def _notify(self, old: T | None, new: T | None, bits: int) -> None:
        chosen = self._chosen.get(bits)
        if chosen is None:
            chosen = self._chosen[bits] = tuple(h for on, h in self._handlers if on & bits)
        for handler in chosen:
            try:
                handler(old, new)
            except Exception:  # one reader's mistake must not stop the cache for the others
                log.exception("%s: a handler failed", self._plural)
        for route, (moved_by, table) in self._routed.items():
            after = table.get(route(new), ()) if new is not None else ()
            before = after
            if bits & moved_by:
                before = table.get(route(old), ()) if old is not None else ()
            for handler in after:
                self._call(handler, old, new)
            if before is not after:
                for handler in before:
                    if handler not in after:
                        self._call(handler, old, new)

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:
            log.exception("%s: a handler failed", self._plural)


def _namespace(key: str) -> str:
    return key.rpartition("/")[0]
