"""Who depends on whom, in memory: objects by uid, and their dependents, fed by metadata-only watches. Pure.

In: old and new metadata of any object. Out: uids that the garbage collector should look at. An owner that nobody has seen
may still exist (its watch may lag): the graph never concludes absence, the collector asks the API.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from jota.controllers.views import ObjectMeta, OwnerReference
from jota.meta.resource import Resource

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None
    ownerReferences: list[OwnerReference] | None = None
    finalizers: list[str] | None = None


AnyMeta = Meta | ObjectMeta
"""The graph takes the metadata of whatever cache there is: nearly all objects are pods, which others read anyway."""


class Owned(msgspec.Struct, gc=False):
    """An object as the collector keeps it."""

    metadata: Meta


class Node(msgspec.Struct, gc=False):
    resource: Resource
    meta: AnyMeta
    """As last seen."""

    @property
    def owners(self) -> list[OwnerReference]:
        return self.meta.ownerReferences or []

    @property
    def deleting(self) -> bool:
        return self.meta.deletionTimestamp is not None

    def held_by(self, finalizer: str) -> bool:
        """It is being deleted and waits for this finalizer."""
        return self.deleting and finalizer in (self.meta.finalizers or ())

    def blocks(self, owner: str) -> bool:
        """Its owner's foreground deletion waits for it."""
        return any(r.uid == owner and r.blockOwnerDeletion for r in self.owners)


class OwnerGraph:
    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        return [self._nodes[d] for d in self._dependents.get(uid, ())]

    def owned(self) -> Iterable[str]:
        """Uids of all objects with owners."""
        return [uid for uid, node in self._nodes.items() if node.owners]

    def change(self, resource: Resource, old: AnyMeta | None, new: AnyMeta | None) -> Collection[str]:
        """Take in one event; the uids to look at."""
        if new is None:
            return self._remove(old.uid) if old is not None else ()
        before = self._nodes.get(new.uid)
        if before is None:
            return self._add(Node(resource, new))
        if _same(before.meta, new):
            before.meta = new  # most events are about an object's status
            return ()
        node = self._nodes[new.uid] = Node(resource, new)
        had = {r.uid for r in before.owners}
        has = {r.uid for r in node.owners}
        for owner in had - has:
            self._forget(owner, new.uid)
        for owner in has - had:
            self._dependents.setdefault(owner, {})[new.uid] = None
        look = {new.uid} if node.owners or node.deleting else set()
        # Owners in foreground deletion may now be free of this object, or newly held by it.
        look |= {o for o in had | has if self._waits(o)}
        if node.held_by(FOREGROUND):
            look |= set(self._dependents.get(new.uid, ()))
        return look

    def _add(self, node: Node) -> Collection[str]:
        uid, owners = node.meta.uid, node.meta.ownerReferences or ()
        self._nodes[uid] = node
        for reference in owners:
            self._dependents.setdefault(reference.uid, {})[uid] = None
        if not owners and not node.deleting:
            return ()
        look = {uid, *(r.uid for r in owners if self._waits(r.uid))}
        if node.held_by(FOREGROUND):
            look.update(self._dependents.get(uid, ()))
        return look

    def drop(self, resource: Resource) -> set[str]:
        """The resource is not served any more: its objects are gone."""
        look: set[str] = set()
        for uid in [u for u, node in self._nodes.items() if node.resource == resource]:
            look |= self._remove(uid)
        return look

    def _remove(self, uid: str) -> set[str]:
        node = self._nodes.pop(uid, None)
        if node is None:
            return set()
        for reference in node.owners:
            self._forget(reference.uid, uid)
        return set(self._dependents.get(uid, ())) | {r.uid for r in node.owners if self._waits(r.uid)}

    def _forget(self, owner: str, dependent: str) -> None:
        dependents = self._dependents.get(owner, {})
        dependents.pop(dependent, None)
        if not dependents:
            self._dependents.pop(owner, None)

    def _waits(self, uid: str) -> bool:
        node = self._nodes.get(uid)
        return node is not None and node.held_by(FOREGROUND)


def _same(was: AnyMeta, now: AnyMeta) -> bool:
    """Nothing that the graph knows has changed."""
    return (
        was.deletionTimestamp == now.deletionTimestamp
        and was.ownerReferences == now.ownerReferences
        and was.finalizers == now.finalizers
    )
