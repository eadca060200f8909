"""The end of a namespace: everything in it is deleted, pods first, then its finalizer is taken off.

In: namespaces with a deletionTimestamp. Out: deletes of all their objects, five conditions that say how far it is, and,
when nothing is left, a PUT of /finalize without `kubernetes`, on which the API removes the namespace.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from jota.client.cache import GOES
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller, own
from jota.controllers.discovery import Discovery, discover
from jota.controllers.ownergraph import FOREGROUND, ORPHAN
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, PODS, Resource

Object = dict[str, Any]

FINALIZER = "kubernetes"
FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Seconds between looks at a namespace in which something lingers: at first, doubling, and at most."""
PER_OBJECT = 0.0005
"""Seconds that each object found adds to that: a look at tens of thousands takes its time."""


class _Meta(msgspec.Struct, gc=False):
    name: str
    deletionTimestamp: str | None = None
    finalizers: list[str] | None = None

    @property
    def asked(self) -> bool:
        """Its deletion is under way as a namespace's end wants it; to ask again would change nothing."""
        return self.deletionTimestamp is not None and not {ORPHAN, FOREGROUND}.intersection(self.finalizers or ())


class _Item(msgspec.Struct, gc=False):
    metadata: _Meta


class _Items(msgspec.Struct):
    items: list[_Item] = []


@dataclass(slots=True)
class Content:
    """What was found in a namespace after one pass of deleting."""

    left: dict[str, int] = field(default_factory=dict)
    """"pods." or "deployments.apps" -> how many are still there."""
    finalizers: Counter[str] = field(default_factory=Counter)
    """Finalizer -> how many objects it holds."""
    errors: list[str] = field(default_factory=list)
    undiscovered: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.left and not self.errors and not self.undiscovered


def conditions_of(old: list[Object], content: Content, now: float) -> list[Object]:
    """The five conditions of a terminating namespace."""
    left = ", ".join(f"{name} has {n} resource instances" for name, n in sorted(content.left.items()))
    held = ", ".join(f"{name} in {n} resource instances" for name, n in sorted(content.finalizers.items()))
    rows = (
        (
            "NamespaceDeletionDiscoveryFailure",
            "; ".join(f"{gv}: {why}" for gv, why in sorted(content.undiscovered.items())),
            ("DiscoveryFailed", "Discovery failed for some groups, {0} failing: {1}"),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "",
            ("GroupVersionParsingFailed", "{1}"),
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            "; ".join(content.errors),
            ("ContentDeletionFailed", "Failed to delete all resource types, {0} remaining: {1}"),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            left,
            ("SomeResourcesRemain", "Some resources are remaining: {1}"),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            held,
            ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: {1}"),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    )
    out = old
    for type_, detail, bad, good in rows:
        number = len(content.undiscovered) if "Discovery" in type_ else len(content.errors)
        reason, text = bad if detail else good
        out = conditions.put(out, type_, str(bool(detail)), reason, text.format(number, detail), now)
    return out


class NamespaceController(Controller):
    name: ClassVar[str] = "namespace"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.watch(NAMESPACES, own)
        self.pods = self.watch(PODS, lambda p: (p.metadata.namespace,), when=self._last_pod, on=GOES, type=Pod)

        self._looks: dict[str, int] = {}
        """Namespace -> how often it was found not to be empty."""

    def _last_pod(self, old: Pod | None, new: Pod | None) -> bool:
        """The last pod of a closing namespace went: the rest may go now."""
        assert old is not None
        namespace = self.namespaces.get(old.metadata.namespace)
        closing = namespace is not None and "deletionTimestamp" in namespace["metadata"]
        return closing and not self.pods.any(old.metadata.namespace)

    async def reconcile(self, key: str) -> float | None:
        namespace = self.namespaces.get(key)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            self._looks.pop(key, None)
            return None
        if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            namespace = await self._status(key, namespace, (namespace.get("status") or {}).get("conditions") or [])
        content = await self._empty(key, await discover(self.client))
        before = (namespace.get("status") or {}).get("conditions") or []
        after = conditions_of(before, content, self.clock.now())
        if after != before:
            namespace = await self._status(key, namespace, after)
        if not content.clean:
            looks = self._looks[key] = self._looks.get(key, -1) + 1
            return max(min(LAST_LOOK, FIRST_LOOK * 2.0 ** min(looks, 10)), PER_OBJECT * sum(content.left.values()))
        rest = [f for f in namespace["spec"].get("finalizers") or () if f != FINALIZER]
        finalized = {**namespace, "spec": {**namespace["spec"], "finalizers": rest}}
        try:
            await self.client.update(NAMESPACES, finalized, "finalize")
        except ApiError as e:
            if e.code != 404:
                raise
        return None

    async def _status(self, key: str, namespace: Object, conds: list[Object]) -> Object:
        status = {**(namespace.get("status") or {}), "phase": "Terminating"}
        if conds:
            status["conditions"] = conds
        written = await self.client.update(NAMESPACES, {**namespace, "status": status}, "status")
        self.wrote(key, self.namespaces, written)
        return written

    async def _empty(self, name: str, found: Discovery) -> Content:
        """Delete what can be deleted now. While pods are left, nothing that they may need is touched."""
        content = Content(undiscovered=found.failed)
        await self._clear(name, PODS, found.resources.get(PODS, frozenset({"deletecollection"})), content)
        if content.left:
            return content
        for resource in found.with_verbs("list", "delete"):
            if resource.namespaced and resource != PODS:
                await self._clear(name, resource, found.resources[resource], content)
        return content

    async def _clear(self, namespace: str, resource: Resource, verbs: frozenset[str], content: Content) -> None:
        try:
            items = await self._list(namespace, resource)
            if not all(item.metadata.asked for item in items):
                await self._delete_all(namespace, resource, verbs, items)
                items = await self._list(namespace, resource)
        except ApiError as e:
            if e.code not in (404, 405):  # the resource went away meanwhile, or does not do this
                content.errors.append(f"{resource.group_resource}: {e}")
            return
        if items:
            content.left[f"{resource.plural}.{resource.group}"] = len(items)
            content.finalizers.update(f for i in items for f in i.metadata.finalizers or ())

    async def _list(self, namespace: str, resource: Resource) -> list[_Item]:
        return (await self.client.list(resource, namespace, metadata=True, type=_Items)).items

    async def _delete_all(self, namespace: str, resource: Resource, verbs: frozenset[str], items: list[_Item]) -> None:
        if "deletecollection" in verbs:
            await self.client.delete_in_pieces(resource, namespace, propagation="Background")
            return
        for item in items:
            try:
                await self.client.delete(resource, item.metadata.name, namespace, propagation="Background")
            except ApiError as e:
                if e.code != 404:
                    raise
