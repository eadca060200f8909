"""New objects that differ in nothing but names: a ReplicaSet sends the same bytes for each of its pods, an operator's pods carry
names of their own, a StatefulSet's claims and a provisioner's volumes, too, and volumes say whose they are (bodies.py).

The first passes the whole engine; what became of it is kept with a stamp of all that admission looked at. While the stamp
holds, the next request of the same bytes (but for the names) by the same user takes the same outcome with names, a uid and a
time of its own; what it refers to is looked for each time. Anything that was not plain (webhooks, quotas, other warnings, audit
annotations, a dry run) is never kept. In: a Call. Out: the value to store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from jota.api import object as at_rest
from jota.api.bodies import Bodies
from jota.api.filters.node import node_of
from jota.api.gaps import Form, Names
from jota.api.hints import references
from jota.api.hints.lookup import Reference
from jota.api.ownnames import OwnNames
from jota.api.registry import prefix
from jota.api.shapes import LARGEST, MOST
from jota.kinds.core.quota import QUOTAS
from jota.kinds.kind import Kind, Object
from jota.meta import names
from jota.meta.change import Change
from jota.meta.resource import Resource

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine

_OWN = ("name", "uid", "creationTimestamp", "managedFields", "resourceVersion")
_TIME = b'"time":"'
Stamp = tuple[int, ...]
Key = tuple[bytes, str, str, str, str, tuple[str, ...]]


class Wish(NamedTuple):
    """A request that may have twins."""

    key: Key
    name: str
    """"": one is generated."""
    names: Names
    """Those in its spec."""


class Twin:
    """The bytes at rest around what is an object's own: names, uid and time."""

    __slots__ = ("_fields", "_middle", "_owners", "_tail", "_views", "base", "refers", "stamp", "true_at")

    def __init__(
        self,
        base: str,
        parts: tuple[bytes, bytes, Form],
        stamp: Stamp,
        refers: tuple[Reference, ...],
    ) -> None:
        """`base`: of generated names, "" for named ones. `parts`: metadata up to the time in its managedFields, the rest of
        it, all other fields but for the names in them. `refers`: what they need and whoever sends them is told to be missing."""
        self._middle, self._owners, self._tail = parts
        self.base, self.stamp, self.refers = base, stamp, refers
        self.true_at = 0
        """The store's revision when the stamp was last compared."""
        self._fields: dict[str, str] = {}
        self._views: dict[Any, Any] = {}

    def memo(self, name: str, uid: str, now: str, names: Names) -> at_rest.Memo:
        """What is known of a `value`: but for its names it is what all are."""
        own = {"name": name, "uid": uid, "creationTimestamp": now}
        change = Change(twins=self._views, names=names, metadata=own)
        return at_rest.Memo(fields=None if names else self._fields, change=change)

    def value(self, name: str, uid: str, now: str, names: Names) -> bytes:
        stamp = now.encode()
        return b'{"name":"%b","uid":"%b","creationTimestamp":"%b",%b%b%b%b' % (
            name.encode(),
            uid.encode(),
            stamp,
            self._middle,
            stamp,
            self._owners,
            self._tail.filled(names),
        )


def _places(order: list[int]) -> list[int]:
    """Of names as they stand, given which key each is of: where they are when those of the first key are listed first."""
    listed = sorted(range(len(order)), key=order.__getitem__)
    return sorted(range(len(order)), key=listed.__getitem__)


class Twins:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[Key, Twin] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        """Hashes of named ones that came once: most are the only one of their kind."""
        self._stamps: dict[Resource, Callable[[], Stamp] | None] = {}
        self._bodies: dict[Resource, Bodies] = {}

    def forget(self) -> None:
        """The set of kinds or plugins changed."""
        self._stamps.clear()
        self._bodies.clear()
        self._kept.clear()

    def find(self, call: Call, wish: Wish) -> Twin | None:
        """What became of the same request before, if the same would become of this one."""
        key = wish.key
        twin = self._kept.get(key)
        if twin is None:
            return None
        revision, engine = self._engine.store.revision, self._engine
        if twin.true_at != revision or engine.webhooks.concern(call.served.kind):
            if twin.stamp != self._stamp(call):
                del self._kept[key]
                return None
            twin.true_at = revision
        if wish.name and names.RULES[call.served.kind.name_rule](wish.name):
            return None  # let it be refused in the usual words
        self._kept.move_to_end(key)
        if twin.refers:
            call.warnings += references.missing(self._engine.registry, twin.refers, call.target.namespace)
        return twin

    def keep(self, call: Call, wish: Wish, made: Object, value: bytes, stamp: Stamp | None) -> None:
        """Remember a creation, of which `value` is to be stored, under the stamp that was taken before it; what is not plain is
        not kept."""
        if stamp is None or stamp != self._stamp(call):
            return
        registry, namespace, resource = self._engine.registry, call.target.namespace, call.served.resource
        if resource.namespaced and registry.count(QUOTAS, namespace):
            return
        refers = references.needed(resource, made) if references.outside(call.user) else ()
        if refers is None or (refers and wish.names):
            return  # unknown, or those of another one are others
        if call.warnings != references.missing(registry, refers, namespace):
            return
        line = value.index(at_rest.NEWLINE)
        meta: Object = orjson.loads(value[:line])
        owners: list[Object] = meta.get("managedFields") or []
        if len(owners) != 1 or owners[0].get("time") != meta["creationTimestamp"]:
            return
        rest = {name: part for name, part in meta.items() if name not in _OWN}
        before, _, after = orjson.dumps(owners).partition(_TIME)
        middle = b"".join([orjson.dumps({key: part})[1:-1] + b"," for key, part in rest.items()])
        middle += b'"managedFields":' + before + _TIME
        own = self.bodies(call.served.kind).own
        tail, names = own.cut(value[line:]) if wish.names else (value[line:], wish.names)
        if names != wish.names:
            return
        base = "" if wish.name else meta["generateName"]
        parts = middle, after[after.index(b'"') :] + b"}", own.form(tail, _places(own.order(tail)))
        self._kept[wish.key] = Twin(base, parts, stamp, refers)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def _again(self, key: Key) -> bool:
        """Whether this is not the first of its kind."""
        number = hash(key)
        if number in self._seen:
            return True
        self._seen[number] = None
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return False

    def stamp(self, call: Call, wish: Wish | None) -> Stamp | None:
        """The state of what admission looks at, to be taken before a creation; None when that is not known, or when it is not
        to be kept: a named one that comes for the first time."""
        return None if wish is None or (wish.name and not self._again(wish.key)) else self._stamp(call)

    def _stamp(self, call: Call) -> Stamp | None:
        resource = call.served.resource
        if resource not in self._stamps:
            self._stamps[resource] = self._stamper(call)
        take = self._stamps[resource]
        if take is None or self._engine.webhooks.concern(call.served.kind):
            return None
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

    def bodies(self, kind: Kind) -> Bodies:
        """Those of requests about objects of a kind that has names of its own."""
        found = self._bodies.get(kind.resource)
        if found is None:
            found = self._bodies[kind.resource] = Bodies(OwnNames(kind.own_names or {}))
        return found

    def wish(self, call: Call) -> Wish | None:
        """None for what can have no twins. Raises ApiError 422 (dryRun)."""
        request, body = call.request, call.request.body
        if (
            call.served.kind.own_names is None
            or len(body) > LARGEST
            or request.headers.get("content-type", "") != "application/json"
            or call.dry_run
            or node_of(call.user) is not None  # what a node may make, plugins say of each
        ):
            return None
        cut = self.bodies(call.served.kind).cut(body)
        if cut is None or (cut.name and call.times > 1):
            return None
        user = call.user
        agent = request.headers.get("user-agent", "")
        return Wish((cut.body, request.path, request.query, agent, user.name, user.groups), cut.name, cut.names)
