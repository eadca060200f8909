"""New objects that differ in nothing but their name: a ReplicaSet sends the same bytes for each of its pods.

The first passes the whole engine; what became of it is kept with a stamp of all that admission looked at. While the stamp
holds, the next request of the same bytes by the same user takes the same outcome with a name, a uid and a time of its own.
Anything that was not plain (webhooks, quotas, warnings, audit annotations, a dry run) is never kept. In: a Call. Out: the value to store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from jota.api import object as at_rest
from jota.api.registry import prefix
from jota.api.shapes import BY_BYTES, LARGEST, MOST
from jota.kinds.core.quota import QUOTAS
from jota.kinds.kind import Object
from jota.meta.resource import Resource

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine

_OWN = ("name", "uid", "creationTimestamp", "managedFields", "resourceVersion")
_TIME = b'"time":"'
Stamp = tuple[int, ...]
Key = tuple[bytes, str, str, str, str, tuple[str, ...]]


class Twin:
    """The bytes at rest around what is an object's own: name, uid and time."""

    __slots__ = ("_middle", "_tail", "base", "stamp")

    def __init__(self, base: str, middle: bytes, tail: bytes, stamp: Stamp) -> None:
        self.base, self._middle, self._tail, self.stamp = base, middle, tail, stamp

    def value(self, name: str, uid: str, now: str) -> bytes:
        stamp = now.encode()
        return b'{"name":"%b","uid":"%b","creationTimestamp":"%b",%b%b%b' % (
            name.encode(),
            uid.encode(),
            stamp,
            self._middle,
            stamp,
            self._tail,
        )


class Twins:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[Key, Twin] = OrderedDict()
        self._stamps: dict[Resource, Callable[[], Stamp] | None] = {}

    def forget(self) -> None:
        """The set of kinds or plugins changed."""
        self._stamps.clear()
        self._kept.clear()

    def find(self, call: Call) -> Twin | None:
        """What became of the same request before, if the same would become of this one."""
        key = self._key(call)
        twin = self._kept.get(key) if key is not None else None
        if twin is None or key is None:
            return None
        if twin.stamp != self._stamp(call):
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return twin

    def keep(self, call: Call, value: bytes, stamp: Stamp) -> None:
        """Remember a creation (its bytes at rest) under the stamp that was taken before it; what is not plain is not kept."""
        key = self._key(call)
        if key is None or not stamp or stamp != self._stamp(call) or call.warnings:
            return
        if self._engine.registry.count(QUOTAS, call.target.namespace):
            return
        line = value.index(at_rest.NEWLINE)
        meta: Object = orjson.loads(value[:line])
        if orjson.loads(call.request.body)["metadata"].get("name"):
            return
        owners: list[Object] = meta.get("managedFields") or []
        if not meta.get("generateName") or len(owners) != 1 or owners[0].get("time") != meta["creationTimestamp"]:
            return
        rest = {name: part for name, part in meta.items() if name not in _OWN}
        before, _, after = orjson.dumps(owners).partition(_TIME)
        middle = orjson.dumps(rest)[1:-1] + b',"managedFields":' + before + _TIME
        tail = after[after.index(b'"') :] + b"}" + value[line:]
        self._kept[key] = Twin(meta["generateName"], middle, tail, stamp)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def stamp(self, call: Call) -> Stamp:
        """The state of what admission looks at, to be taken before a creation; () when that is not known."""
        return () if self._key(call) is None else self._stamp(call)

    def _stamp(self, call: Call) -> Stamp:
        resource = call.served.resource
        if resource not in self._stamps:
            self._stamps[resource] = self._stamper(call)
        take = self._stamps[resource]
        if take is None or self._engine.webhooks.concern(call.served.kind):
            return ()
        return take()

    def _stamper(self, call: Call) -> Callable[[], Stamp] | None:
        looked_at: set[Resource] = set()
        for plugin in self._engine.plugins(call.served):
            if plugin.looks_at is None:
                return None
            looked_at.update(plugin.looks_at)
        tables = sorted(prefix(resource) for resource in looked_at)
        touched = self._engine.store.touched
        return lambda: tuple([touched(table) for table in tables])

    @staticmethod
    def _key(call: Call) -> Key | None:
        request = call.request
        if (
            call.served.resource not in BY_BYTES
            or len(request.body) > LARGEST
            or request.headers.get("content-type", "") != "application/json"
            or b'"generateName"' not in request.body
            or call.dry_run
        ):
            return None
        user = call.user
        agent = request.headers.get("user-agent", "")
        return request.body, request.path, request.query, agent, user.name, user.groups
