"""Indexes of a cache: by some value of its objects, or by that and by what kind of object it is among those.

In: what comes, changes and goes. Out: keys. Worked example of one that groups, for pods by their owner and by whether they are
ready:

    index.move("default/a", None, a)     {"uid of web": {ready: {"default/a"}}}
    index.move("default/b", None, b)     {"uid of web": {ready: {"default/a"}, unready: {"default/b"}}}

So whoever counts looks at one of each kind, however many there are. Next: cache.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")
IndexFunction = Callable[[T], Iterable[str]]


class Index(Generic[T]):
    """Value -> keys. `on`: the bits of changes that move an object."""

    def __init__(self, name: str, function: IndexFunction[T], on: int) -> None:
        self.name, self.function, self.on = name, function, on
        self._table: dict[str, dict[str, None]] = {}

    def keys(self, value: str) -> Iterable[str]:
        return self._table.get(value, ())

    def values(self) -> Iterable[str]:
        return self._table.keys()

    def move(self, key: str, old: T | None, new: T | None) -> None:
        try:
            was = self.function(old) if old is not None else ()
            now = self.function(new) if new is not None else ()
            if was == now:
                return
            was, now = tuple(was), tuple(now)  # whatever they are: also read only once
        except Exception:  # an object that one reader did not think of must not stop the cache for the others
            log.exception("index %s failed", self.name)
            was, now = self._values(old), self._values(new)
        for value in was:
            keys = self._table.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._table[value]
        for value in now:
            self._table.setdefault(value, {})[key] = None

    def _values(self, obj: T | None) -> tuple[str, ...]:
        try:
            return () if obj is None else tuple(self.function(obj))
        except Exception:
            return ()


class Grouped(Index[T]):
    """Value -> kind -> keys. Neither function may fail."""

    def __init__(self, name: str, function: IndexFunction[T], on: int, kind: Callable[[T], Hashable]) -> None:
        super().__init__(name, function, on)
        self._kind = kind
        self._groups: dict[str, dict[Hashable, dict[str, None]]] = {}

    def keys(self, value: str) -> Iterable[str]:
        return [key for keys in self._groups.get(value, {}).values() for key in keys]

    def groups(self, value: str) -> Iterable[tuple[Hashable, dict[str, None]]]:
        return self._groups.get(value, {}).items()

    def values(self) -> Iterable[str]:
        return self._groups.keys()

    def move(self, key: str, old: T | None, new: T | None) -> None:
        if old is not None:
            kind = self._kind(old)
            for value in self.function(old):
                groups = self._groups[value]
                keys = groups[kind]
                del keys[key]
                if not keys:
                    del groups[kind]
                    if not groups:
                        del self._groups[value]
        if new is not None:
            kind = self._kind(new)
            for value in self.function(new):
                self._groups.setdefault(value, {}).setdefault(kind, {})[key] = None


class Alike(Collection[T]):
    """Objects that a reader need not tell apart: the first of them, how many they were, and, as long as the cache has not
    changed, all of them."""

    __slots__ = ("_keys", "_objects", "_size", "_without", "first", "kind")

    def __init__(
        self, objects: Mapping[str, T], kind: Hashable, keys: Collection[str], without: Collection[str] = ()
    ) -> None:
        self._objects, self._keys, self._without, self.kind = objects, keys, without, kind
        self._size = len(keys) - len(without)
        self.first: T = objects[next(iter(keys))]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        return (self._objects[key] for key in self._keys if key not in self._without)

    def __contains__(self, one: object) -> bool:
        return any(found is one for found in self)

    def without(self, keys: Collection[str]) -> Alike[T]:
        """The same but for these, which are among them."""
        return Alike(self._objects, self.kind, self._keys, keys)
