"""The garbage collector: what has lost its owners goes. In: the metadata of every object. Out: deletes and owner patches.

`plan` decides for one object from the state of its owners:
    some owner lives          -> keep; drop references to owners that are gone
    all gone                  -> delete (Background, or what its own finalizers ask for)
    rest waits in foreground  -> delete too, Foreground if it has dependents itself
and an object under deletion with finalizer `orphan` lets its dependents go free, with `foregroundDeletion` waits for those
that block it. Absence of an owner is always confirmed by a live GET. The graph is ownergraph.py's.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from jota.client.deletions import Deletions
from jota.client.informer import Informer
from jota.controllers.controller import Context, Controller
from jota.controllers.discovery import Discovery, discover
from jota.controllers.ownergraph import FOREGROUND, ORPHAN, Node, Owned, OwnerGraph
from jota.controllers.views import Lease, OwnerReference, Pod
from jota.meta.errors import ApiError
from jota.meta.resource import LEASES, PODS, Resource

log = logging.getLogger(__name__)
Object = dict[str, Any]

REDISCOVER = 10.0
"""Seconds between looks at discovery for resources that came or went."""
FILL_SECONDS = 30.0
ABSENT_REMEMBERED = 500
_IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""They have no owners, and there are many."""
_SHARED: dict[Resource, Any] = {PODS: Pod, LEASES: Lease}
"""What changes most often: of these the collector reads the one cache that others have, too."""


@dataclass(slots=True, frozen=True)
class Delete:
    policy: str


@dataclass(slots=True, frozen=True)
class DropOwners:
    """Keep the object; remove these owners' references. `unblock`: only stop blocking them (a cycle)."""

    uids: frozenset[str]
    unblock: bool = False


def plan(node: Node, states: dict[str, str], dependents: list[Node]) -> list[Delete | DropOwners]:
    """`states`: owner uid -> solid | absent | waiting (in foreground deletion) | unknown (cannot be told: keep)."""
    if not node.owners or (node.deleting and not node.held_by(FOREGROUND)):
        return []
    kinds = [states[r.uid] for r in node.owners]
    if "solid" in kinds or "unknown" in kinds:
        gone = frozenset(uid for uid, state in states.items() if state in ("absent", "waiting"))
        return [DropOwners(gone)] if gone and "solid" in kinds else []
    if node.deleting:
        return []
    if "waiting" in kinds and dependents:
        steps: list[Delete | DropOwners] = []
        if any(d.held_by(FOREGROUND) for d in dependents):
            # A circle of objects that block each other would never end.
            waiting = frozenset(uid for uid, state in states.items() if state == "waiting")
            steps.append(DropOwners(waiting, unblock=True))
        return [*steps, Delete("Foreground")]
    finalizers = node.meta.finalizers or ()
    return [Delete("Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background")]


class GarbageCollector(Controller):
    name: ClassVar[str] = "garbage-collector"
    workers: ClassVar[int] = 32
    """The dependents of one owner go together: as many as fill a commit of the store (upstream: 20)."""
    cheap: ClassVar[float] = math.inf
    """Each object is its own key, looked at once: there is nothing to gather by resting after it."""
    resync: ClassVar[float] = 600.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.graph = OwnerGraph()
        self._deletions = Deletions(self.client)
        self.events = context.recorder("garbage-collector-controller")
        self._caches: dict[Resource, Informer[Any]] = {}
        self._found = Discovery()
        self._absent: OrderedDict[tuple[str, str], None] = OrderedDict()
        """(namespace, uid) of owners that the API did not know: uids never come back."""

    def all_keys(self) -> Iterable[str]:
        return self.graph.owned()

    async def run(self) -> None:
        await self.follow()
        await self._fill()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rediscover(), name="garbage collector discovery")
            group.create_task(super().run(), name="garbage collector work")

    async def _fill(self) -> None:
        """Wait for the caches, so that the first look at each object need not ask the API for its owners."""
        try:
            async with asyncio.timeout(FILL_SECONDS):
                for cache in list(self._caches.values()):
                    await cache.synced()
        except TimeoutError:
            log.info("some caches are late; owners are asked for one by one")

    async def _rediscover(self) -> None:
        while True:
            await self.clock.sleep(REDISCOVER)
            await self.follow()

    async def follow(self) -> None:
        """Watch what is served now; forget what is not served any more."""
        try:
            found = await discover(self.client)
        except (ApiError, ConnectionError, TimeoutError):
            return  # the next look is soon
        self._found = found
        wanted = {r for r in found.with_verbs("list", "watch", "delete") if (r.group, r.plural) not in _IGNORED}
        fresh = wanted - self._caches.keys()
        for resource in fresh:
            if (shared := _SHARED.get(resource)) is not None:
                cache: Informer[Any] = self.context.informers.of(resource, type=shared)
            else:
                cache = self.context.informers.of(resource, type=Owned, metadata=True)
            self._caches[resource] = cache
            cache.add_handler(self._handler(resource))
        if fresh:
            self._look(self.graph.owned())  # an owner's kind may be known only now
        for resource in self._caches.keys() - wanted:
            if resource.api_version not in found.failed:
                cache = self._caches.pop(resource)
                if resource not in _SHARED:
                    self.context.informers.drop(cache)
                self._look(self.graph.drop(resource))

    def _handler(self, resource: Resource) -> Any:
        def changed(old: Owned | Pod | Lease | None, new: Owned | Pod | Lease | None) -> None:
            look = self.graph.change(resource, old.metadata if old else None, new.metadata if new else None)
            if look:
                self._look(uid for uid in look if not self._is_kept(uid))

        return changed

    def _look(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.queue.add(uid)

    def _is_kept(self, uid: str) -> bool:
        """Nothing is to be done about an object: all its owners are here to stay. Nearly every new object is such, and need not
        wait for its turn to be found so."""
        node = self.graph.get(uid)
        if node is None or node.deleting or not node.owners:
            return False
        for reference in node.owners:
            owner = self.graph.get(reference.uid)
            if owner is None or not self._is(owner, node, reference) or owner.held_by(FOREGROUND):
                return False
        return True

    # -- one object

    async def reconcile(self, key: str) -> float | None:
        node = self.graph.get(key)
        if node is None:
            return None
        if node.held_by(ORPHAN):
            await self._orphan(node)
            return None
        if node.held_by(FOREGROUND):
            blocking = [d for d in self.graph.dependents(key) if d.blocks(key)]
            if not blocking:
                await self._release(node, FOREGROUND)
                return None
            self._look(d.meta.uid for d in blocking if not d.deleting)
        states = {r.uid: await self._state(node, r) for r in node.owners}
        for step in plan(node, states, self.graph.dependents(key)):
            if isinstance(step, Delete):
                await self._delete(node, step.policy)
            else:
                node = await self._drop_owners(node, step)
        return None

    async def _state(self, node: Node, reference: OwnerReference) -> str:
        """One of solid, absent, waiting, unknown."""
        owner = self.graph.get(reference.uid)
        if owner is not None and self._is(owner, node, reference):
            return "waiting" if owner.held_by(FOREGROUND) else "solid"
        if owner is not None and owner.resource.namespaced and owner.meta.namespace != node.meta.namespace:
            self._tell_of_namespace(node, reference)
        mark = (node.meta.namespace, reference.uid)
        if mark in self._absent:
            return "absent"
        resource = self._found.kinds.get((reference.apiVersion, reference.kind))
        if resource is None or (resource.namespaced and not node.meta.namespace):
            return "unknown"  # a kind that nobody serves, or a reference that cannot be followed
        return await self._ask(node, reference, resource, mark)

    async def _ask(self, node: Node, reference: OwnerReference, resource: Resource, mark: tuple[str, str]) -> str:
        namespace = node.meta.namespace if resource.namespaced else ""
        try:
            owner = await self.client.get(resource, reference.name, namespace, type=Owned)
        except ApiError as e:
            if e.code != 404:
                raise
        else:
            if owner.metadata.uid == reference.uid:
                return "waiting" if Node(resource, owner.metadata).held_by(FOREGROUND) else "solid"
        self._absent[mark] = None
        if len(self._absent) > ABSENT_REMEMBERED:
            self._absent.popitem(last=False)
        return "absent"

    def _tell_of_namespace(self, node: Node, reference: OwnerReference) -> None:
        """Its owner is in another namespace, which none can be: what goes for that should not go without a word."""
        meta, r = node.meta, reference
        whom = {"apiVersion": node.resource.api_version, "kind": node.resource.kind}
        whom |= {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
        owner = f"[{r.apiVersion}/{r.kind}, namespace: {meta.namespace}, name: {r.name}, uid: {r.uid}]"
        text = f'ownerRef {owner} does not exist in namespace "{meta.namespace}"'
        self.events.event(whom, "Warning", "OwnerRefInvalidNamespace", text)

    @staticmethod
    def _is(owner: Node, node: Node, reference: OwnerReference) -> bool:
        """The reference really points at this object: same kind and name, same namespace or none."""
        resource = owner.resource
        same = (resource.group, resource.kind, owner.meta.name) == (reference.group, reference.kind, reference.name)
        return same and (not resource.namespaced or owner.meta.namespace == node.meta.namespace)

    # -- doing

    async def _orphan(self, node: Node) -> None:
        """Take our reference off every dependent; only then let the owner go."""
        for dependent in self.graph.dependents(node.meta.uid):
            await self._drop_owners(dependent, DropOwners(frozenset({node.meta.uid})))
        await self._release(node, ORPHAN)

    async def _release(self, node: Node, finalizer: str) -> None:
        rest = [f for f in node.meta.finalizers or () if f != finalizer]
        await self._patch(node, {"finalizers": rest})

    async def _drop_owners(self, node: Node, step: DropOwners) -> Node:
        references = []
        for reference in node.owners:
            if reference.uid in step.uids and not step.unblock:
                continue
            entry = {k: v for k in OWNER_FIELDS if (v := getattr(reference, k)) is not None}
            if reference.uid in step.uids:
                entry["blockOwnerDeletion"] = False
            references.append(entry)
        patched = await self._patch(node, {"ownerReferences": references})
        if patched is None:
            return node
        meta = msgspec.structs.replace(node.meta, resourceVersion=patched["metadata"]["resourceVersion"])
        return Node(node.resource, meta)

    async def _patch(self, node: Node, change: Object) -> Object | None:
        """Merge into the metadata, guarded by uid and resourceVersion (409: our cache is old, look again)."""
        meta = node.meta
        guarded = {"uid": meta.uid, "resourceVersion": meta.resourceVersion, **change}
        try:
            return await self.client.patch(node.resource, meta.name, meta.namespace, {"metadata": guarded})
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    async def _delete(self, node: Node, policy: str) -> None:
        meta = node.meta
        try:
            await self._deletions.delete(
                node.resource,
                meta.name,
                meta.namespace,
                uid=meta.uid,
                resource_version=meta.resourceVersion,
                propagation=policy,
            )
        except ApiError as e:
            if e.code != 404:
                raise


OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
