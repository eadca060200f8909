"""From the event of a watch to an object of the type that a cache holds, and its identity. In: events. Out: the object, or why not.

What another reader of the same event made of it is taken as it is: caches of one process share their objects.

An object that a type cannot hold (an old or foreign writer left a number where text belongs) is no reason to stop: `Unreadable`
says which object and which field. Next: cache.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from jota.meta.change import Change
from jota.meta.watchevent import WatchEvent

T = TypeVar("T")
_CANNOT = (msgspec.MsgspecError, UnicodeError, RecursionError)
_IDENTITY = frozenset(("name", "namespace", "uid", "resourceVersion"))
_AT = re.compile(r"`(\$[^`]*)`$")


class Meta(msgspec.Struct):
    """What a cache itself needs of every object."""

    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Head(msgspec.Struct):
    metadata: Meta


_head = msgspec.json.Decoder(_Head).decode


Read = tuple[str, T, str, str]
"""(key, object, uid, resourceVersion)"""


class Unreadable(Exception):
    """The object is there, but cannot be held."""

    def __init__(self, key: str, uid: str, version: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.uid, self.version, self.why = key, uid, version, why
        """`uid` is "" when that cannot be read either."""

    @property
    def field(self) -> str:
        """Where in the object ("$.spec.nodeName"), when that is known."""
        found = _AT.search(self.why)
        return found[1] if found else ""


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def tells_identity(type: Any) -> bool:
    """Whether decoded objects of this Struct hold, under `metadata`, everything that a cache itself needs."""
    for field in msgspec.structs.fields(type) if _is_struct(type) else ():
        if field.name == field.encode_name == "metadata" and _is_struct(field.type):
            return {f.name for f in msgspec.structs.fields(field.type) if f.name == f.encode_name} >= _IDENTITY
    return False


def _is_struct(type: Any) -> bool:
    return hasattr(type, "__struct_fields__")


class Reader(Generic[T]):
    """`type`: a msgspec Struct, or None for plain dicts; one with a class method `from_json(bytes)` decodes itself, and one with
    `from_parts(metadata, rest, resourceVersion)` does so from parts (meta/watchevent.py) when there are any. One with
    `changed(object, change, resourceVersion)` makes the object that came of another (meta/change.py), which it leaves alone; of
    twins with names of their own only, when `own_names(object)` gives these."""

    def __init__(self, type: type[T] | None) -> None:
        self.type = type
        self._plain: Callable[[bytes], Any] = msgspec.json.Decoder(type or dict[str, Any]).decode
        # not one that is inherited: it would leave out the fields that a subclass adds
        own: Any = type if type is not None else object
        names = vars(own)
        self._decode: Callable[[bytes], Any] = own.from_json if "from_json" in names else self._plain
        self._from_parts: Callable[[bytes, bytes, str], Any] | None = own.from_parts if "from_parts" in names else None
        self._changed: Callable[[Any, Change, str], Any] | None = own.changed if "changed" in names else None
        self._own_names: Callable[[Any], list[bytes]] | None = own.own_names if "own_names" in names else None
        self._identified = tells_identity(type)

    def read(self, event: WatchEvent, held: T | None = None) -> Read[T]:
        """`held`: the object as it is known. Raises Unreadable; msgspec.DecodeError for what is no object at all."""
        obj = event.views.get(self.type)
        try:
            if obj is None:
                obj = event.views[self.type] = self._made(event, held)
            if self._identified:
                meta = obj.metadata
                return event.key or key_of(meta.namespace, meta.name), obj, meta.uid, meta.resourceVersion
            if self.type is None:
                known = obj["metadata"]
                key = event.key or key_of(known.get("namespace", ""), known["name"])
                return key, obj, known.get("uid", ""), known.get("resourceVersion", "")
        except _CANNOT as error:
            raise self._unreadable(event, error) from None
        except (KeyError, AttributeError, TypeError):
            raise msgspec.DecodeError("not an object: it has no metadata with a name") from None
        head = _head(event.body).metadata
        return event.key or key_of(head.namespace, head.name), obj, head.uid, head.resourceVersion

    def _made(self, event: WatchEvent, held: Any) -> Any:
        change = event.change
        if change is None or self._changed is None:
            return self._decoded(event)
        twins = change.twins
        if twins is not None:
            held = twins.get(self.type)
        elif held is not None and held.metadata.resourceVersion != change.since:
            held = None
        if held is not None:
            return self._changed(held, change, str(event.revision))
        made = self._decoded(event)
        if twins is not None and (not change.names or self._tells(made, change.names)):
            twins[self.type] = made
        return made

    def _tells(self, made: Any, names: list[bytes]) -> bool:
        """Whether the type holds these names, and where: then its likes can be given theirs."""
        return self._own_names is not None and self._own_names(made) == names

    def _decoded(self, event: WatchEvent) -> Any:
        if self._from_parts is not None and (parts := event.parts()) is not None:
            return self._from_parts(*parts, str(event.revision))
        return self._decode(event.body)

    def _unreadable(self, event: WatchEvent, error: Exception) -> Unreadable:
        """Raises msgspec.DecodeError when nothing tells which object it is."""
        why = str(error)
        try:
            self._plain(event.body)  # knows the whole way to the field, which who decodes in parts does not
        except _CANNOT as told:
            why = str(told)
        try:
            head = _head(event.body).metadata
        except _CANNOT:
            if not event.key:
                raise
            return Unreadable(event.key, "", str(event.revision), why)
        return Unreadable(event.key or key_of(head.namespace, head.name), head.uid, head.resourceVersion, why)
