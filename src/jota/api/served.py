"""A kind as this server serves it: where its objects are kept and how their bytes are rendered. Next: resource.py, verbs/.

Built once per resource, for built-in kinds at start and for custom resources when they appear.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from jota.api import object as at_rest
from jota.api import registry
from jota.api.feed import Channel, Feed
from jota.kinds.kind import Kind, Object
from jota.meta.errors import ApiError, bad_request
from jota.meta.errors import not_found as _not_found
from jota.meta.selectors import EVERYTHING, FieldSelector, LabelSelector, parse_fields, parse_labels
from jota.store.protocol import Entry
from jota.wire.message import Response

if TYPE_CHECKING:
    from jota.api.call import Call
    from jota.api.resource import Engine

Verb = Callable[["Engine", "Call"], Awaitable[Response]]


class Served:
    __slots__ = (
        "answer",
        "channel",
        "converted",
        "head",
        "kind",
        "list_head",
        "prefix",
        "reads",
        "resource",
        "stored_head",
    )

    def __init__(self, kind: Kind, feed: Feed) -> None:
        self.kind = kind
        self.resource = kind.resource
        self.prefix = registry.prefix(kind.stored)
        self.head = at_rest.head(kind.resource.api_version, kind.resource.kind)
        self.stored_head = at_rest.head(kind.stored.api_version, kind.stored.kind)
        self.list_head = at_rest.head(kind.resource.api_version, kind.resource.kind + "List")
        self.converted = kind.storage is not None
        """Kept in another version's form: reads decode and convert, there are no bytes to splice."""
        self.answer: Verb | None = None
        """For kinds that are never stored (reviews, bindings): what a POST does."""
        self.reads: dict[str, Verb] | None = None
        """For kinds that are computed when they are asked for (metrics.k8s.io): their verbs, instead of the store's."""
        self.channel: Channel = feed.channel(self.prefix, registry.index(kind))

    terminating = False
    """The definition of a custom resource is being deleted: nothing new may come."""

    foreign = False
    """A webhook converts between the versions: await `readable` before reading entries, and write what `storable` gives."""

    async def readable(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries whose values `decode` and `render` understand. Raises ApiError 500."""
        return list(entries)

    async def storable(self, obj: Object) -> tuple[bytes, bytes]:
        """(bytes to store, the same as this version shows them). Raises ApiError 500."""
        value = self.encode(obj)
        return value, value

    async def take(self, obj: Object, source: Served) -> Object:
        """An object of another version of this kind, as this one has it. Raises ApiError 500."""
        revision = obj["metadata"].get("resourceVersion")
        made = self.decode(source.encode(obj), int(revision or 0))
        if revision is None:
            made["metadata"].pop("resourceVersion", None)
        return made

    async def hand_over(self, new: Object, old: Object, *, judged: bool) -> None:
        """Bring the managedFields of a changed object (in place) up to date for owners who wrote in other versions, where
        fields have other paths. `judged`: an apply that does not force. Raises ApiError 409, 500."""

    def stale(self, entry: Entry) -> bool:
        """Whether writing the same object again would change its bytes (a custom resource of an older schema)."""
        return False

    @property
    def custom(self) -> bool:
        """A custom resource: no strategic merge, list items carry kind and apiVersion."""
        return not self.kind.schema

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else self.prefix + name

    def scope(self, namespace: str) -> str:
        """The storage prefix of one namespace, or of all when it is ""."""
        return f"{self.prefix}{namespace}/" if namespace and self.resource.namespaced else self.prefix

    def decode(self, value: bytes, revision: int) -> Object:
        """A fresh object in this version's form."""
        if not self.converted:
            return at_rest.decode(value, revision, self.head)
        obj = at_rest.decode(value, revision, self.stored_head)
        self.kind.from_storage(obj)
        obj["kind"], obj["apiVersion"] = self.resource.kind, self.resource.api_version
        return obj

    def object_of(self, entry: Entry) -> Object:
        """A fresh object of a live entry, in this version's form."""
        assert entry.value is not None, "what the store's `get` and `range` give is alive"
        return self.decode(entry.value, entry.revision)

    def encode(self, obj: Object) -> bytes:
        if self.converted:
            obj = dict(obj)
            self.kind.to_storage(obj)
        return at_rest.encode(obj)

    def tail(self, obj: Object) -> bytes:
        """The encoded fields beside metadata, as they are kept."""
        return at_rest.tail(obj)

    def render(self, value: bytes, revision: int, opening: bytes) -> bytes:
        if self.converted:
            obj = self.decode(value, revision)
            value = at_rest.encode(obj)
        return at_rest.render(value, revision, opening)

    def not_found(self, name: str) -> ApiError:
        return _not_found(self.resource.plural, name, self.resource.group)


class Selection:
    """Which objects a list, watch or deletecollection is about: namespace, label selector, field selector."""

    __slots__ = ("_all", "_fields", "_labels", "_prefix", "_served")

    def __init__(self, served: Served, namespace: str, labels: str, fields: str) -> None:
        """Raises ApiError 400 for selectors that do not parse or name a field that this kind cannot select by."""
        self._served = served
        self._labels: LabelSelector = parse_labels(labels) if labels else EVERYTHING
        self._fields: FieldSelector | None = parse_fields(fields) if fields else None
        if self._fields is not None:
            for requirement in self._fields.requirements:
                self._check(requirement.field)
            if self._fields.empty:
                self._fields = None
        self._prefix = served.scope(namespace)
        self._all = self._labels.empty and self._fields is None

    def _check(self, field: str) -> None:
        if field in at_rest.NAMED or field in self._served.kind.selectable:
            return
        raise bad_request(f"field label not supported: {field}")

    @property
    def served(self) -> Served:
        return self._served

    @property
    def all(self) -> bool:
        """No selectors: everything under the prefix."""
        return self._all

    @property
    def prefix(self) -> str:
        return self._prefix

    @property
    def point(self) -> str | None:
        """The one key that can match, when namespace and selector say so."""
        if self._fields is None or (self._served.resource.namespaced and self._prefix == self._served.prefix):
            return None
        name = self._fields.exact("metadata.name")
        return None if name is None else self._prefix + name

    @property
    def trigger(self) -> tuple[str, str] | None:
        """The cheapest index of the feed that covers this selection."""
        if self._fields is not None:
            # fields of another version's objects are not where the feed looks for them
            for field in ("metadata.name",) if self._served.converted else ("metadata.name", "spec.nodeName"):
                value = self._fields.exact(field)
                if value is not None:
                    return field, value
        if self._prefix != self._served.prefix:
            return "metadata.namespace", self._prefix[len(self._served.prefix) : -1]
        return None

    def matches(self, entry: Entry) -> bool:
        """Whether a live entry under the prefix is selected."""
        if self._all:
            return True
        if not self._labels.empty and not self._labels.matches(at_rest.labels(entry)):
            return False
        if self._fields is None:
            return True
        served = self._served
        if served.converted:
            return self._fields.matches(self._reader(entry))
        kind = served.kind
        for field, op, value in self._fields.requirements:  # noqa: SIM110 - at every event of a kubelet's watch
            if (at_rest.field(entry, kind, field) == value) != (op == "="):
                return False
        return True

    def _reader(self, entry: Entry) -> Callable[[str], str]:
        """Field -> its value in this version of an object that is kept in another."""
        served, kind = self._served, self._served.kind
        obj = served.decode(entry.value or b"", entry.revision)
        return lambda field: (
            kind.selectable[field](obj)
            if field in kind.selectable
            else at_rest.named(entry.key, served.resource, field)
        )
