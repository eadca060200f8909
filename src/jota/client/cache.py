"""What an informer holds: objects by key, their indexes, and who is told of changes. In: put, remove. Out: reads, calls.

Synchronous and without I/O. A type of objects may say what a change was about, in bits (`changes`); readers that name the bits
they look at are not called for the others. Worked example, for a type whose bits are PHASE = 8 and LABELS = 16:

    cache.add_handler(f)                        is called for every change
    cache.add_handler(g, on=LABELS)             for what comes, for what goes, and when labels changed
    cache.add_handler(h, on=PHASE | GOES)       when the phase changed, and for what goes
    cache.add_handler(i, of=lambda o: o.claims) for every change of those that have claims

It may also say which objects are akin (`kin`, and the bits of changes by which they become others', `KIN`): whom they concern is
then asked once for all of a kin, ten thousand pods of one set or more.

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

ANY, COMES, GOES = 1, 2, 4
"""Bits that stand in every change, in the coming of an object, and in its going. Those of types begin at 8."""
ALL = -1
"""Every bit: the interest of who names none."""
_MOST_KIN = 512
"""Whom they concern is asked again when there are more: they come and go together."""


class _Listener(Generic[T]):
    __slots__ = ("handler", "of", "on")

    def __init__(self, handler: Handler[T], on: int, of: Callable[[T], object] | None) -> None:
        self.handler, self.on, self.of = handler, on, of

    def concerned(self, obj: T | None) -> bool:
        """By all that may happen to it."""
        try:
            return obj is not None and (self.of is None or bool(self.of(obj)))
        except Exception:  # it is told, and sees for itself
            log.exception("a reader cannot say which objects concern it")
            return True


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
        self._kin: Callable[[T], Hashable] | None = getattr(type, "kin", None)
        self._leaves_kin: int = getattr(type, "KIN", 0)
        self._indexes: dict[str, Index[T]] = {}
        self._moving: dict[int, tuple[Index[T], ...]] = {}
        """Bits of a change -> the indexes that it may move an object in."""
        self._listeners: list[_Listener[T]] = []
        self._concerned: dict[Hashable, tuple[T, dict[int, tuple[Handler[T], ...]]]] = {}
        """Kin -> one of them, by whom what they share stays what it is; and bits of a change -> whom it concerns."""

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
        on |= COMES | GOES
        index = self._indexes[name] = Index(name, function, on) if kind is None else Grouped(name, function, on, kind)
        self._moving.clear()
        for key, obj in self._objects.items():
            index.move(key, None, obj)

    def add_handler(self, handler: Handler[T], on: int = ALL, of: Callable[[T], object] | None = None) -> None:
        """Call `handler(old, new)` on every change with a bit of `on`, synchronously, in order; first for everything already
        cached. Unless it names GOES (or COMES) itself, it hears of all that comes and goes.

        `of`: only for objects of which this is true, before or after; it is the same for all that are akin, until `reconsider`. Of
        types that tell kin."""
        assert of is None or self._kin is not None, f"{self._plural}: nobody tells which are akin"
        listener = _Listener(handler, on if on & (COMES | GOES) else on | COMES | GOES, of)
        self._listeners.append(listener)
        self.reconsider()
        for obj in [*self._objects.values()] if listener.on & COMES else ():
            if listener.concerned(obj):
                self._call(handler, None, obj)

    def reconsider(self) -> None:
        """Something else has changed that an `of` looks at. Nobody is called."""
        self._concerned.clear()

    # -- changing

    def put(self, key: str, new: T, uid: str, version: str) -> None:
        """What is known at this resourceVersion is passed over; a namesake with another uid is a delete and an add."""
        old = self._objects.get(key)
        bits = ANY | COMES
        if old is not None:
            had, was = self._mark(key, old)
            if had != uid:
                self.remove(key, old)
                old = None
            elif was == version and version:
                return
            else:
                bits = ALL & ~(COMES | GOES) if self._changes is None else self._changes(old, new) | ANY
        for index in self._moved_by(bits):
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
        self._notify(old if last is None else last, None, ANY | GOES)

    def _mark(self, key: str, obj: Any) -> tuple[str, str]:
        """(uid, resourceVersion) of a cached object."""
        if self._marks is not None:
            return self._marks[key]
        return obj.metadata.uid, obj.metadata.resourceVersion

    # -- telling

    def _moved_by(self, bits: int) -> tuple[Index[T], ...]:
        found = self._moving.get(bits)
        if found is None:
            found = self._moving[bits] = tuple(index for index in self._indexes.values() if index.on & bits)
        return found

    def _notify(self, old: T | None, new: T | None, bits: int) -> None:
        for handler in self._whom(old, new, bits):
            try:
                handler(old, new)
            except Exception:  # one reader's mistake must not stop the cache for the others
                log.exception("%s: a handler failed", self._plural)

    def _whom(self, old: T | None, new: T | None, bits: int) -> Iterable[Handler[T]]:
        """The handlers that a change concerns, in the order in which they were added."""
        one = old if new is None else new
        assert one is not None
        if bits & self._leaves_kin:
            return [x.handler for x in self._listeners if x.on & bits and (x.concerned(old) or x.concerned(new))]
        kin = self._kin(one) if self._kin is not None else None  # who tells no kin has no `of`
        known = self._concerned.get(kin)
        if known is None:
            if len(self._concerned) >= _MOST_KIN:
                self._concerned.clear()
            known = self._concerned[kin] = one, {}
        found = known[1].get(bits)
        if found is None:
            found = known[1][bits] = tuple(x.handler for x in self._listeners if x.on & bits and x.concerned(one))
        return found

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:
            log.exception("%s: a handler failed", self._plural)


def _namespace(key: str) -> str:
    return key.rpartition("/")[0]
