"""What is known about objects by their bytes alone: a ReplicaSet's pods share one template, so it is judged once.

Two memories, each bounded, least recently used first out. `Templates`: the bytes of a `spec` as clients send it -> the same
with defaults, known to be free of problems. `Shapes`: the encoded fields beside metadata, defaulted and admitted -> what a
creation adds to them. Only kinds whose rules look at nothing but those bytes may be kept here. Both leave out the names that
each pod of a StatefulSet has for itself (ownnames.py).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import msgspec
import orjson

from jota.api import gaps, ownnames
from jota.api import object as at_rest
from jota.api.hints.lookup import Reference
from jota.kinds.kind import Object
from jota.meta import structs
from jota.meta.resource import PODS, Resource
from jota.meta.schema import OBJECT_META

BY_BYTES: frozenset[Resource] = frozenset({PODS})
"""Kinds whose `default`, `prepare_create`, `validate` and `validate_create` read and write no metadata, and of the rest
only spec."""
MOST = 512
LARGEST = 64 << 10
"""Bytes of a spec worth keeping."""
_SENT = {"kind", "apiVersion", "metadata", "spec"}
V = TypeVar("V")


class _Kept(Generic[V]):
    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, V] = OrderedDict()

    def _find(self, key: bytes) -> V | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def _keep(self, key: bytes, value: V) -> V:
        self._kept[key] = value
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return value


class Shape:
    """A valid new object of these bytes: what `prepare_create` made of it.

    `tail`: all fields beside metadata, as they are kept. `status`: bytes of the status in it, b"" without. `quiet`: without
    annotations there is nothing to warn of.
    """

    __slots__ = ("quiet", "references", "status", "tail")

    def __init__(self, tail: bytes, status: bytes, quiet: bool) -> None:
        self.tail, self.status, self.quiet = tail, status, quiet
        self.references: tuple[Reference, ...] | None = None
        """What it refers to, once somebody asked."""

    def named(self, names: gaps.Names) -> Shape:
        """The same with these names of its own."""
        return Shape(ownnames.fill(self.tail, names), self.status, self.quiet) if names else self


class Shapes(_Kept[Shape]):
    def find(self, before: bytes) -> Shape | None:
        key, names = ownnames.cut(before)
        found = self._find(key)
        return None if found is None else found.named(names)

    def keep(self, before: bytes, tail: bytes, obj: Object, quiet: bool) -> Shape:
        """Remember a valid one: its bytes `before` and after (`tail`) `prepare_create`."""
        status = orjson.dumps(obj["status"]) if "status" in obj else b""
        (key, names), (kept, same) = ownnames.cut(before), ownnames.cut(tail)
        if names != same:
            return Shape(tail, status, quiet)
        return self._keep(key, Shape(kept, status, quiet)).named(names)


class Templates(_Kept[bytes]):
    """Raw spec -> defaulted spec, both without their own names."""

    def read(self, body: bytes) -> tuple[Object | None, bytes]:
        """(the object in a JSON body with its defaults, b"") when its spec was seen before and nothing else is wrong with
        it; else (None, the raw spec to be kept with `keep`, b"" when it cannot be)."""
        try:
            sent = at_rest.split(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None, b""
        raw = {name: bytes(value) for name, value in sent.items()}
        spec = raw.get("spec", b"")
        # compact and without repetitions: then the lengths add up
        if (
            raw.keys() != _SENT
            or len(spec) > LARGEST
            or len(body) != sum(len(k) + len(v) + 4 for k, v in raw.items()) + 1
        ):
            return None, b""
        key, names = ownnames.cut(spec)
        defaulted = self._find(key)
        if defaulted is None or not structs.clean(OBJECT_META, raw["metadata"]):
            return None, spec
        try:
            rest = {name: orjson.loads(raw[name]) for name in ("kind", "apiVersion", "metadata")}
        except orjson.JSONDecodeError:  # lone surrogates, which msgspec lets pass
            return None, b""
        return {**rest, "spec": orjson.loads(ownnames.fill(defaulted, names))}, b""

    def keep(self, spec: bytes, obj: Object) -> None:
        """Remember the defaulted spec of an object whose raw one was without problems."""
        if isinstance(obj.get("spec"), dict):
            (key, names), (defaulted, same) = ownnames.cut(spec), ownnames.cut(orjson.dumps(obj["spec"]))
            if names == same:
                self._keep(key, defaulted)
