"""The CRUD engine: what happens between a decoded object and the store, for every kind alike. verbs/ call it.

A write is: decode (decoding.py) -> default -> admit (mutate) -> prepare -> validate -> admit (validate) -> own fields -> put, as in
apiserver's generic registry. The Kind brings the rules, this file the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import orjson

from jota.aio import slices
from jota.aio.clock import Clock, rfc3339
from jota.api import apart, decoding, metadata, ownership, relabel
from jota.api import object as at_rest
from jota.api.admission.plugin import AdmissionAttributes, Operation, Plugin
from jota.api.admission.webhooks import Webhooks
from jota.api.alikepatches import AlikePatches
from jota.api.alikeputs import AlikePuts
from jota.api.call import Call
from jota.api.config import ApiConfig
from jota.api.feed import Feed
from jota.api.hints import references
from jota.api.path import flag
from jota.api.registry import Registry
from jota.api.renewals import Renewals
from jota.api.served import Served
from jota.api.shapes import BY_BYTES, Shape, Shapes, Templates
from jota.api.twins import Twin, Twins, Wish
from jota.kinds.kind import Kind, Object
from jota.kinds.status import initial
from jota.meta import decode, names
from jota.meta.errors import (
    MODIFIED,
    FieldError,
    already_exists,
    bad_request,
    conflict,
    invalid_object,
    path_not_found,
)
from jota.meta.resource import NAMESPACES, NODES, Resource
from jota.store.protocol import ALONE, Beside, Conflict, Entry, Store

if TYPE_CHECKING:
    # at run time it would bring cryptography in, 50 ms of the server's start
    from jota.api.tokens import ServiceAccountTokens

T = TypeVar("T")
Finish = Callable[[Call, Object, Object], list[FieldError]]
"""(call, new, old): the rules of a subresource that writes a part of its own; may change `new`, gives its errors."""
Told = Callable[[Object, bytes], None]
"""(object, its bytes at rest)"""
Likes = AlikePatches | Renewals


class Form(NamedTuple):
    """How webhooks and policies see a write through a subresource that speaks a kind of its own."""

    of: Callable[[Object], Object]
    take: Callable[[Object, Object], None]
    """(the object, what they made of its form)"""


SEEN = Form(lambda obj: obj, lambda _obj, _form: None)
"""Of a write that follows from what was sent and shown to them (`admitted`): they are not asked again."""
WHOLE = ("approval", "ephemeralcontainers", "resize")
"""Subresources that are written as the whole object: mutating webhooks may change it, and quota counts it, there too."""
GENERATE_TRIES = 8
UPDATE_TRIES = 5
"""How often a write without a resourceVersion is tried again on the newest object (upstream: 5 for patches)."""
KEEP_STATUS = {NODES}
"""Kinds whose status counts on create: a node agent registers its node with the status that it has."""


@dataclass(slots=True)
class Outcome:
    """What a write left behind. `entry` is None when nothing was stored (dry run); then `object` is the answer."""

    object: Object
    entry: Entry | None
    created: bool = False
    removed: bool = False


class Engine:
    def __init__(
        self,
        store: Store,
        feed: Feed,
        registry: Registry,
        clock: Clock,
        random: Random,
        plugins: Sequence[Plugin],
        config: ApiConfig,
    ) -> None:
        self.store, self.feed, self.registry, self.clock, self.random = store, feed, registry, clock, random
        self.config = config
        self.tokens: ServiceAccountTokens | None = None
        """Signs and verifies ServiceAccount tokens; set by security.py."""
        self.served: dict[tuple[str, str, str], Served] = {}
        """(group, version, plural) -> what is served there; shared with the Api, which fills it."""
        self._plugins = tuple(plugins)
        self.webhooks = Webhooks(registry, self.served, self.new_uid)
        self._shapes = Shapes()
        self.templates = Templates()
        self.twins = Twins(self)
        self._likes: tuple[Likes, ...] = AlikePatches(self), Renewals(self)
        self.alike_puts = AlikePuts(self)
        self._handling: dict[Served, tuple[Plugin, ...]] = {}
        self._judging: dict[Served, tuple[Plugin, ...]] = {}
        self._voices: dict[tuple[Served, bool], apart.Voices] = {}

    # -- create

    async def create(
        self,
        call: Call,
        obj: Object,
        namespace: str,
        *,
        owned: bool = False,
        defaulted: bool = False,
        told: Told | None = None,
    ) -> Outcome:
        """Store a new object. `owned`: its managedFields are right already (apply); `defaulted`: its defaults, too. `told`: hears
        what is about to be stored, of kinds that are kept as they are shown. Raises ApiError 400, 403, 409, 422."""
        served, meta = call.served, metadata.check(obj)
        self._place(served, meta, namespace)
        if not meta.get("name") and meta.get("generateName"):
            return await self._create_named(call, obj, namespace, owned, defaulted, told)
        try:
            return await self._create(call, obj, namespace, owned, defaulted, told)
        except Conflict:
            raise already_exists(served.resource.plural, meta["name"], served.resource.group) from None

    async def _create_named(
        self, call: Call, obj: Object, namespace: str, owned: bool, defaulted: bool, told: Told | None
    ) -> Outcome:
        """Draw a name, and another one when somebody is about to take that (upstream tries anew, too). Raises ApiError."""
        served, original = call.served, orjson.dumps(obj)
        for _ in range(GENERATE_TRIES):
            name = obj["metadata"]["name"] = self._free_name(served, obj["metadata"]["generateName"], namespace)
            with suppress(Conflict):
                return await self._create(call, obj, namespace, owned, defaulted, told)
            obj = orjson.loads(original)  # admission may have changed it
        raise already_exists(served.resource.plural, name, served.resource.group, 1)

    async def create_twin(self, call: Call, twin: Twin, wish: Wish) -> Outcome:
        """Store one more of the objects that this request made before. Raises ApiError 409."""
        served, namespace, given = call.served, call.target.namespace, wish.name
        for _ in range(1 if given else GENERATE_TRIES):
            key, value, expect, memo = self.twin(served, namespace, twin, wish)
            try:
                entry = await self.store.put(key, value, expect=expect, memo=memo)
            except Conflict:
                continue  # a name that was drawn is taken, or about to be: another is as good (upstream tries anew, too)
            return Outcome({}, entry, created=True)
        raise already_exists(served.resource.plural, key.rpartition("/")[2], served.resource.group, int(not given))

    def twin(self, served: Served, namespace: str, twin: Twin, wish: Wish) -> tuple[str, bytes, int, at_rest.Memo]:
        """What is to be written for one more of them, by a name that may be taken."""
        name = wish.name or names.generate_name(twin.base, self.random)
        own = name, self.new_uid(), rfc3339(self.clock.now()), wish.names
        return served.key(namespace, name), twin.value(*own), 0, twin.memo(*own)

    async def create_twins(self, call: Call, twin: Twin, wish: Wish, times: int) -> list[Entry]:
        """The same, several in one go; fewer when a name was not free."""
        served, namespace, now = call.served, call.target.namespace, rfc3339(self.clock.now())
        writes = []
        for _ in range(times):
            own = self._free_name(served, twin.base, namespace), self.new_uid(), now, wish.names
            writes.append((served.key(namespace, own[0]), twin.value(*own), 0, twin.memo(*own)))
        return [entry for entry in await self.store.put_many(writes) if entry is not None]

    def _free_name(self, served: Served, base: str, namespace: str) -> str:
        for _ in range(GENERATE_TRIES):
            name = names.generate_name(base, self.random)
            if self.store.get(served.key(namespace, name)) is None:
                break
        return name

    def _place(self, served: Served, meta: dict[str, Any], namespace: str) -> None:
        if not served.resource.namespaced:
            meta.pop("namespace", None)
            return
        if not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        if meta.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    async def _create(
        self, call: Call, obj: Object, namespace: str, owned: bool, defaulted: bool, told: Told | None
    ) -> Outcome:
        served, kind, meta = call.served, call.served.kind, obj["metadata"]
        metadata.begin(meta, uid=self.new_uid(), now=rfc3339(self.clock.now()), generation=kind.generation)
        if not defaulted:
            kind.default(obj)
        if not owned:
            ownership.track(call, obj, None, "", rfc3339(self.clock.now()))
        attrs = self.attributes(call, "CREATE", obj, None)
        said = self.voices(served, "")
        for admit in said.admit:
            admit(attrs)
        hooked = self.webhooks.concern(kind)
        if hooked and await self.webhooks.mutate(attrs, call.warn):
            meta = self._mutated(call, obj, meta)
        if kind.status and served.resource not in KEEP_STATUS:
            obj.pop("status", None)
        tail, shape = await self._prepare(call, obj)
        for validate in said.validate:
            validate(attrs)
        if hooked:
            await self.webhooks.validate(attrs, call.warn)
        for plugin in self._judges(served):
            await plugin.judge(attrs)
        if meta.get("resourceVersion"):  # the store's word, after admission's
            raise bad_request("resourceVersion should not be set on objects to be created")
        self._allocate(served, attrs, said)
        if shape is None or not shape.quiet or meta.get("annotations"):
            for text in kind.warnings(obj):
                call.warn(text)
        if references.outside(call.user):
            for text in references.warnings(self.registry, served.resource, obj, shape=shape):
                call.warn(text)
        if owned:
            ownership.settle(meta)
        key = served.key(namespace, meta["name"])
        if call.dry_run:
            if self.store.get(key) is not None:
                raise Conflict(key, None)
            if served.foreign:
                await served.storable(obj)
            return Outcome(obj, None, created=True)
        value = at_rest.join(meta, tail) if tail else b""
        if told is not None:
            told(obj, value or served.encode(obj))
        try:
            if tail:
                entry = await self.store.put(key, value, expect=0)
            else:
                entry = await self.put(served, key, obj, expect=0, beside=self.beside(call, "CREATE", obj, None))
        except BaseException:
            self._release(served, attrs)
            raise
        return Outcome(obj, entry, created=True)

    def _allocate(self, served: Served, attrs: AdmissionAttributes, said: apart.Voices) -> None:
        """Raises ApiError; then nothing stays reserved, also by those who had nothing against it."""
        try:
            for allocate in said.allocate:
                allocate(attrs)
        except BaseException:
            self._release(served, attrs)
            raise

    def _release(self, served: Served, attrs: AdmissionAttributes) -> None:
        """A write that was let in is not made: what plugins reserved for it is free again."""
        for release in self.voices(served, attrs.subresource).release:
            release(attrs)

    async def _prepare(self, call: Call, obj: Object) -> tuple[bytes, Shape | None]:
        """The kind's own preparation and rules for a new object. Kinds known by their bytes get those, too (else b"").

        Raises ApiError 422."""
        served, kind, meta = call.served, call.served.kind, obj["metadata"]
        before = served.tail(obj) if served.resource in BY_BYTES else b""
        shape = self._shapes.find(before) if before else None
        errors = metadata.validate(kind, meta)
        if shape is None:
            kind.prepare_create(obj)
            if "status" not in obj and (status := initial(kind)) is not None:
                obj["status"] = status
            wrong = kind.validate(obj) + kind.validate_create(obj)
            errors += wrong if kind.judge is None else await judged(kind, obj, None, wrong)
        elif shape.status:
            obj["status"] = orjson.loads(shape.status)
        if errors:
            raise invalid_object(served.resource.kind, meta.get("name", ""), errors, served.resource.group)
        if shape is None and before:
            bare = {**obj, "metadata": {}}
            shape = self._shapes.keep(before, served.tail(obj), obj, quiet=not kind.warnings(bare))
        return (shape.tail if shape is not None else b""), shape

    # -- update

    async def update(
        self,
        call: Call,
        name: str,
        namespace: str,
        change: Callable[[Object], Object],
        *,
        subresource: str = "",
        tries: int = UPDATE_TRIES,
        finish: Finish | None = None,
        owned: bool = False,
        whole: bool = False,
        pure: bool = False,
        part: apart.Part | relabel.Wish | None = None,
        told: Callable[[bytes, at_rest.Memo | None], None] | None = None,
        form: Form | None = None,
    ) -> Outcome:
        """Read, `change` (a new object from a copy of the stored one), write; again on a lost race, `tries` times in all.

        `finish` replaces the rules of the main endpoint for subresources that write a part of their own. `owned`: the
        managedFields that `change` gives are right already (apply). `whole`: `change` replaces the object and does not look
        at the stored one. `pure`: it leaves its argument as it is, and the result may share parts with it. `part`: the same
        change, as one of a single field or of metadata alone. `told`: as a Part's, also of what is not written apart. `form`: None
        shows others the object itself.
        Raises ApiError 404, 409, 422 and what `change` raises; KeyError never.
        """
        served = call.served
        written = None
        if isinstance(part, relabel.Wish):
            if relabel.applies(self, call):
                written = await relabel.write(self, call, name, namespace, part)
        elif part is not None and apart.applies(self, call, part.field):
            written = await apart.write(self, call, name, namespace, part)
        if written is not None:
            return Outcome({}, written)
        for _ in range(tries):
            found = entry = self.stored(served, namespace, name)
            if served.foreign:
                (entry,) = await served.readable((found,))
            old = served.object_of(entry)
            if pure and subresource == "status" and finish is None:
                # of the result, only metadata and status are used and changed further on
                new = change({**old, "metadata": dict(old["metadata"]), "status": copy(old.get("status") or {})})
            else:
                new = change({} if whole else served.object_of(entry))
            self._check_identity(served, new, old, entry)
            hooked = form is not SEEN and self.webhooks.concern(served.kind) and not removable(served, new)
            if hooked:
                await self._mutate(call, new, old, subresource, finish, form)
            unchanged = await self._finish(call, new, old, subresource, finish, owned)
            if unchanged and not served.stale(found):
                # who may not write may not write the same again, either
                await self._ask_others(call, new, old, subresource, hooked, form)
                return Outcome(old, entry)
            try:
                if served.foreign:
                    await served.hand_over(new, old, judged=owned and not flag(call.params, "force"))
                await self._ask_others(call, new, old, subresource, hooked, form)
                if told is not None and not served.foreign and not call.dry_run and not removable(served, new):
                    told(served.encode(new), None)
                return await self._write(call, new, old, entry)
            except BaseException as problem:
                self._release(call.served, self.attributes(call, "UPDATE", new, old, subresource))
                if not isinstance(problem, Conflict):
                    raise
        raise conflict(served.resource.plural, name, MODIFIED, served.resource.group)

    async def admitted(self, call: Call, sent: Object, definition: str) -> None:
        """Let webhooks and policies judge and change (in place) what is sent to a subresource to be made there. Raises ApiError."""
        if not self.webhooks.concern(call.served.kind):
            return
        sent.setdefault("metadata", {})
        attrs = self.attributes(call, "CREATE", sent, None, call.target.subresource)
        if await self.webhooks.mutate(attrs, call.warn):
            for problem in decode.validate_object(sent, definition, strict=call.field_validation):
                call.warn(problem)
        await self.webhooks.validate(attrs, call.warn)

    async def _mutate(
        self, call: Call, new: Object, old: Object, subresource: str, finish: Finish | None, form: Form | None
    ) -> None:
        """Let webhooks change an update (in place), with its defaults, before the kind's rules see it. Raises ApiError."""
        if form is not None:
            attrs = self.attributes(call, "UPDATE", form.of(new), form.of(old), subresource)
            if await self.webhooks.mutate(attrs, call.warn) and attrs.object is not None:
                form.take(new, attrs.object)
            return
        if finish is not None and subresource not in WHOLE:
            return
        metadata.carry(new["metadata"], old["metadata"])
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if subresource == "status":
            self._keep_all_but_status(new, old)
        call.served.kind.default(new)
        was = new["metadata"]
        if await self.webhooks.mutate(self.attributes(call, "UPDATE", new, old, subresource), call.warn):
            self._mutated(call, new, was)

    async def _ask_others(
        self, call: Call, new: Object, old: Object, subresource: str, hooked: bool, form: Form | None
    ) -> None:
        """What is judged by policies, webhooks (`hooked`: some may concern this kind) and authorizers. Raises ApiError."""
        if hooked:
            shown = (new, old) if form is None else (form.of(new), form.of(old))
            await self.webhooks.validate(self.attributes(call, "UPDATE", *shown, subresource), call.warn)
        for plugin in self._judges(call.served):
            await plugin.judge(self.attributes(call, "UPDATE", new, old, subresource))

    def _mutated(self, call: Call, obj: Object, was: dict[str, Any]) -> dict[str, Any]:
        """What webhooks left: its metadata, checked and with the identity that it had; defaults again. Raises ApiError."""
        meta = metadata.check(obj)
        for field in ("name", "namespace", "resourceVersion", *metadata.SYSTEM):
            if field in was:
                meta[field] = was[field]
            else:
                meta.pop(field, None)
        decoding.check_type(call.served, obj)
        decoding.check_fields(call, obj)
        call.served.kind.default(obj)
        return meta

    def _check_identity(self, served: Served, new: Object, old: Object, entry: Entry) -> None:
        """The same object, and not an older state of it. Raises ApiError 400, 409."""
        meta, was = metadata.check(new), old["metadata"]
        resource = served.resource
        metadata.check_name(meta, was["name"])
        if resource.namespaced and meta.setdefault("namespace", was["namespace"]) != was["namespace"]:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        decoding.check_type(served, new)
        if meta.get("uid") and meta["uid"] != was["uid"]:
            detail = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {was['uid']}"
            raise conflict(resource.plural, was["name"], detail, resource.group)
        revision = metadata.revision_of(meta)
        if revision and revision != entry.revision:
            raise conflict(resource.plural, was["name"], MODIFIED, resource.group)

    async def _finish(
        self,
        call: Call,
        new: Object,
        old: Object,
        subresource: str,
        finish: Finish | None,
        owned: bool,
    ) -> bool:
        """Turn what the client wants into what will be stored, in place. True: nothing changes."""
        served, kind = call.served, call.served.kind
        metadata.carry(new["metadata"], old["metadata"])
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if owned:
            ownership.settle(new["metadata"])
        if finish is not None:
            errors = finish(call, new, old) + self._judge_metadata(kind, new, old)
            errors += metadata.validate_update(new["metadata"], old["metadata"])
        elif subresource == "status":
            self._keep_all_but_status(new, old)
            decoding.check_status(call, new)
            kind.prepare_status(new, old)
            errors, wrong = self._judge_metadata(kind, new, old), kind.validate_status(new, old)
            errors += wrong if kind.judge is None else await judged(kind, new, old, wrong)
        else:
            self._prepare_update(call, new, old)
            if _unchanged(new, old):
                return True
            self._count_generation(served, new, old)
            errors = self._judge_metadata(kind, new, old)
            errors += metadata.validate_update(new["metadata"], old["metadata"])
            wrong = kind.validate(new) + kind.validate_update(new, old)
            errors += wrong if kind.judge is None else await judged(kind, new, old, wrong)
        if errors:
            name = old["metadata"]["name"]
            raise invalid_object(served.resource.kind, name, errors, served.resource.group)
        attrs = self.attributes(call, "UPDATE", new, old, subresource)
        said = self.voices(served, subresource)
        for validate in said.validate:
            validate(attrs)
        if finish is None or subresource in WHOLE:
            self._allocate(served, attrs, said)
        if _unchanged(new, old):
            return True
        for text in kind.warnings(new) if not subresource else ():
            call.warn(text)
        if not subresource and references.outside(call.user):
            for text in references.warnings(self.registry, served.resource, new, old):
                call.warn(text)
        if not owned:
            ownership.track(call, new, old, subresource, rfc3339(self.clock.now()))
        return False

    @staticmethod
    def _judge_metadata(kind: Kind, new: Object, old: Object) -> list[FieldError]:
        """What is stored was judged when it came: the same again needs no second look."""
        return [] if new["metadata"] == old["metadata"] else metadata.validate(kind, new["metadata"])

    def _prepare_update(self, call: Call, new: Object, old: Object) -> None:
        kind = call.served.kind
        decoding.check_fields(call, new)
        kind.default(new)
        if kind.status:
            if "status" in old:
                new["status"] = copy(old["status"])
            else:
                new.pop("status", None)
        attrs = self.attributes(call, "UPDATE", new, old)
        for plugin in self.plugins(call.served):
            plugin.admit(attrs)
        kind.prepare_update(new, old)

    @staticmethod
    def _keep_all_but_status(new: Object, old: Object) -> None:
        """/status changes status, and labels, annotations and finalizers as upstream's built-in kinds let it."""
        for key in [k for k in new if k not in ("status", "metadata")]:
            if key not in old:
                del new[key]
        for key, value in old.items():
            if key not in ("status", "metadata"):
                new[key] = value
        was = old["metadata"]
        if "ownerReferences" in was:
            new["metadata"]["ownerReferences"] = was["ownerReferences"]
        else:
            new["metadata"].pop("ownerReferences", None)

    @staticmethod
    def _count_generation(served: Served, new: Object, old: Object) -> None:
        """+1 when anything but metadata and status differs."""
        if not served.kind.generation:
            return
        ignored = ("metadata", "status", "kind", "apiVersion") if served.kind.status else ("metadata",)
        if any(new.get(k) != old.get(k) for k in {*new, *old} if k not in ignored):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    async def _write(self, call: Call, new: Object, old: Object, entry: Entry) -> Outcome:
        """Store the update; an object whose deletion waited for its last finalizer goes instead. Raises Conflict."""
        removed = removable(call.served, new)
        if call.dry_run:
            if call.served.foreign and not removed:
                await call.served.storable(new)
            return Outcome(new, None, removed=removed)
        if removed:
            beside = self.beside(call, "DELETE", None, old)
            gone = await self.store.delete(entry.key, expect=entry.revision, beside=beside)
            new["metadata"]["resourceVersion"] = str(gone.revision)
            return Outcome(new, None, removed=True)
        beside = self.beside(call, "UPDATE", new, old)
        return Outcome(new, await self.put(call.served, entry.key, new, expect=entry.revision, beside=beside))

    def beside(self, call: Call, operation: Operation, new: Object | None, old: Object | None) -> Beside:
        """What plugins have stored in the same commit as a write (Plugin.beside)."""
        said = self.voices(call.served, "").beside
        if not said:
            return ALONE
        attrs = self.attributes(call, operation, new, old)
        return {key: value for beside in said for key, value in beside(attrs).items()}

    async def put(self, served: Served, key: str, obj: Object, expect: int, beside: Beside = ALONE) -> Entry:
        """Store an object; its entry, as `served` shows it. Raises Conflict, ApiError 500."""
        if not served.foreign:
            return await self.store.put(key, served.encode(obj), expect=expect, beside=beside)
        value, shown = await served.storable(obj)
        entry = await self.store.put(key, value, expect=expect)
        return Entry(entry.key, shown, entry.revision, entry.created)

    # -- parts

    def stored(self, served: Served, namespace: str, name: str) -> Entry:
        """As it is kept (`Served.readable` shows it). Raises ApiError 404."""
        entry = self.store.get(served.key(namespace, name))
        if entry is None:
            raise served.not_found(name)
        return entry

    def kind(self, resource: Resource) -> Served:
        """Another kind than the call's own. Raises ApiError 404 when it is not served."""
        served = self.served.get((resource.group, resource.version, resource.plural))
        if served is None:
            raise path_not_found()
        return served

    def forget(self) -> None:
        """The set of kinds changed."""
        self._handling.clear()
        self._judging.clear()
        self._voices.clear()
        self.twins.forget()
        self.alike_puts.forget()

    def plugins(self, served: Served) -> tuple[Plugin, ...]:
        found = self._handling.get(served)
        if found is None:
            found = self._handling[served] = tuple(p for p in self._plugins if p.handles(served.kind))
        return found

    def _judges(self, served: Served) -> tuple[Plugin, ...]:
        found = self._judging.get(served)
        if found is None:
            found = self._judging[served] = tuple(p for p in self.plugins(served) if p.asks)
        return found

    def voices(self, served: Served, subresource: str) -> apart.Voices:
        """What `plugins` have to say to a write of the object itself, or through a subresource of it."""
        key = served, bool(subresource)
        found = self._voices.get(key)
        if found is None:
            found = self._voices[key] = apart.voices(self.plugins(served), main=not subresource)
        return found

    def likes(self, served: Served, subresource: str, media: str) -> Likes | None:
        """By what such patches, sent without parameters, are made of others like them; None: each is worked out by itself."""
        for likes in self._likes:
            if likes.possible(served, subresource, media):
                return likes if apart.suits(self, served, subresource, likes.field) else None
        return None

    def add_plugin(self, plugin: Plugin) -> None:
        """One more, after those that are there (security.py brings those that ask an authorizer)."""
        self._plugins = (*self._plugins, plugin)
        self.forget()

    def attributes(
        self, call: Call, operation: Operation, obj: Object | None, old: Object | None, subresource: str = ""
    ) -> AdmissionAttributes:
        target = call.target
        name = ((obj or old or {}).get("metadata") or {}).get("name", target.name)
        return AdmissionAttributes(
            operation,
            call.served.kind,
            call.user,
            target.namespace,
            name,
            self.registry,
            self.random,
            self.clock.now(),
            obj,
            old,
            subresource,
            call.dry_run,
            call.warnings,
            call.audit,
        )

    def new_uid(self) -> str:
        return metadata.uid(self.random)

    def require_resource_version(self, call: Call, obj: Object) -> None:
        """Kinds that forbid blind updates. Raises ApiError 422; 404 for what is not there to be updated."""
        served = call.served
        meta = obj.get("metadata") if isinstance(obj.get("metadata"), dict) else {}
        if served.kind.unconditional_update or metadata.revision_of(meta or {}):
            return
        self.stored(served, call.target.namespace, call.target.name)
        detail = "Invalid value: 0x0: must be specified for an update"
        cause = FieldError("FieldValueInvalid", "metadata.resourceVersion", detail)
        raise invalid_object(served.resource.kind, call.target.name, [cause], served.resource.group)


async def judged(kind: Kind, new: Object, old: Object | None, wrong: list[FieldError]) -> list[FieldError]:
    """All errors, with those that take long to find; others are served meanwhile."""
    judge = kind.judge
    return wrong if judge is None else wrong + await slices.run(lambda: judge(new, old, wrong))


def removable(served: Served, obj: Object) -> bool:
    """Deletion has begun and nothing holds the object any more."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if served.resource == NAMESPACES and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not meta.get("deletionGracePeriodSeconds")


def _unchanged(new: Object, old: Object) -> bool:
    """Equal as JSON (for Python alone, 1 equals true)."""
    if new != old:
        return False
    return orjson.dumps(new, option=orjson.OPT_SORT_KEYS) == orjson.dumps(old, option=orjson.OPT_SORT_KEYS)


def copy(value: T) -> T:
    """A deep copy of JSON values (the round trip through bytes is three times as fast as a walk)."""
    try:
        return cast(T, orjson.loads(orjson.dumps(value)))
    except (TypeError, orjson.JSONDecodeError):  # numbers beyond 64 bits, or nested deeper than the encoder goes
        return cast(T, _copied(value))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copied(v) for v in value]
    return value
