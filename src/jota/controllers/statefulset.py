"""StatefulSet: pods with names and claims of their own, in order. In: sets, pods, claims, revisions. Out: the same, and status.

statefulset_plan.py decides; here pods get their claims before they are created, claims get the owners that the retention
policy asks for before their pods go, and revisions are kept. Next: history.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.controllers import claim, history, podclaim
from jota.controllers.controller import Context, Controller, own, owned_by
from jota.controllers.history import CONTROLLERREVISIONS, STATEFUL_HASH
from jota.controllers.statefulset_plan import Plan, plan
from jota.controllers.statefulset_pods import (
    PVCS,
    STATEFULSETS,
    build,
    claim_names,
    claim_owners,
    claims,
    conflicting,
    identity,
    ordinal_of,
    revision_of,
    stale,
)
from jota.controllers.views import Pod, alike, controlled_by, mine_or_nobodys
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.meta.selectors import LabelSelector, from_object

Object = dict[str, Any]

QUICKEST = 1.0
"""Seconds from the mark of somebody's deletion of a pod until a namesake may come. kubectl, waiting for a deletion, compares
uids once and then lists by name: it takes what is there by then for the pod that it waits for, and waits for ever. Kubelets
take longer to end a pod; ours can be faster with one that never ran."""


def selector_of(owner: Object) -> LabelSelector:
    return from_object(owner["spec"].get("selector"))


class StatefulSetController(Controller):
    name: ClassVar[str] = "statefulset"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = self.watch(STATEFULSETS, own)
        self.pods = self.watch(
            PODS, self._keys_of_pod, type=Pod, alike=alike, of=mine_or_nobodys("StatefulSet", "apps")
        )
        podclaim.index(self.pods)
        self.revisions = self.watch(CONTROLLERREVISIONS, owned_by("StatefulSet", "apps"))
        history.index(self.revisions)
        self.claims = self.watch(PVCS, self._keys_of_claim, when=lambda _, new: new is None)
        self.events = context.recorder("statefulset-controller")
        self._own: set[str] = set()
        """Uids of pods that this controller deletes itself: nobody waits for those."""
        self._marked: dict[str, float] = {}
        """Uid -> when its deletion by somebody else was seen (monotonic)."""
        self._until: dict[str, float] = {}
        """Key of a pod that went quickly -> when it may be made anew."""
        self.pods.add_handler(self._watch_ends, of=mine_or_nobodys("StatefulSet", "apps"))

    def _watch_ends(self, old: Pod | None, new: Pod | None) -> None:
        now = self.clock.monotonic()
        if new is not None:
            if new.terminating and new.metadata.uid not in self._own:
                self._marked.setdefault(new.metadata.uid, now)
            return
        assert old is not None
        self._own.discard(old.metadata.uid)
        until = self._marked.pop(old.metadata.uid, 0.0) + QUICKEST
        if until > now:
            self._until = {k: t for k, t in self._until.items() if t > now} | {old.key: until}

    def _rests(self, owner: Object, decided: Plan) -> dict[int, float]:
        """Ordinals whose pod went this moment -> seconds until it may be made anew."""
        meta, now = owner["metadata"], self.clock.monotonic()
        keys = ((o, key_of(meta["namespace"], f"{meta['name']}-{o}")) for o, _ in decided.create)
        return {o: self._until[key] - now for o, key in keys if self._until.get(key, 0.0) > now}

    def _keys_of_pod(self, pod: Pod) -> Iterable[str]:
        if pod.metadata.controller is not None:
            return controlled_by("StatefulSet", "apps")(pod)
        parent = pod.metadata.name.rpartition("-")[0]
        return [key_of(pod.metadata.namespace, parent)] if parent else []

    def _keys_of_claim(self, one: Object) -> Iterable[str]:
        """A claim is gone: a set may have waited for that to make its pod anew."""
        namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
        for owner in self.sets.list(namespace):
            for template in owner["spec"].get("volumeClaimTemplates") or ():
                pod = name.removeprefix(f"{template['metadata']['name']}-")
                if pod != name and ordinal_of(owner["metadata"]["name"], pod) is not None:
                    yield own(owner)[0]

    async def reconcile(self, key: str) -> float | None:
        owner = self.sets.get(key)
        if owner is None:
            return None
        pods, patched = await self._claim(key, owner)
        adopted = await history.adopt(self.client, self.revisions, STATEFULSETS, owner, selector_of(owner))
        for one in adopted:
            self.wrote(key, self.revisions, one)
        if patched or adopted:
            return 0.0
        revisions = history.of(self.revisions, owner)
        wanted = history.plan(owner, STATEFULSETS, revisions, STATEFUL_HASH)
        if wanted.create is not None and "deletionTimestamp" in owner["metadata"]:
            return None  # what it had is orphaned, or deleted, and nothing new begins
        kept = await history.keep(self.client, owner, STATEFULSETS, wanted)
        for one in kept.written:
            self.wrote(key, self.revisions, one)
        if kept.current is None:
            return await self._collided(key, owner)
        update = kept.current
        current = self._current(owner, revisions) or update
        decided = plan(owner, pods, current["metadata"]["name"], update["metadata"]["name"], self.clock.now())
        rests = self._rests(owner, decided)
        decided.create = [(o, old) for o, old in decided.create if o not in rests]
        failure = await self._carry_out(key, owner, decided, pods, current, update)
        if decided.status != owner.get("status"):
            written = await self.client.update(STATEFULSETS, {**owner, "status": decided.status}, "status")
            self.wrote(key, self.sets, written)
        if failure is not None:
            raise failure
        await self._prune(owner, [*revisions, *kept.written], pods, decided.status)
        return min((t for t in (decided.again, *rests.values()) if t is not None), default=None)

    # -- reading

    async def _claim(self, key: str, owner: Object) -> tuple[list[Pod], bool]:
        """Pods are members by name first, then by labels."""
        meta = owner["metadata"]
        orphans = self.pods.by_index("controller", f"orphans of {meta['namespace']}")
        members = [p for p in orphans if ordinal_of(meta["name"], p.metadata.name) is not None]
        here = [*podclaim.of(self.pods, owner), *members]
        found = podclaim.plan(owner, selector_of(owner), here)
        done = await claim.apply(self.client, PODS, STATEFULSETS, owner, found)
        for patched in done:
            self.wrote(key, self.pods, patched)
        return found.owned, bool(done)

    def _current(self, owner: Object, revisions: list[Object]) -> Object | None:
        name = (owner.get("status") or {}).get("currentRevision")
        return next((r for r in revisions if r["metadata"]["name"] == name), None)

    # -- doing

    async def _carry_out(
        self, key: str, owner: Object, decided: Plan, pods: list[Pod], current: Object, update: Object
    ) -> Exception | None:
        try:
            await self._retain(key, owner, pods, decided)
            for pod in (*decided.failed, *decided.delete):
                await self._delete(key, owner, pod, failed=pod in decided.failed)
            ready = [(o, old) for o, old in decided.create if not self._waits_for_claim(owner, o)]
            makes = [self._create(key, owner, o, current if old else update) for o, old in ready]
            for start in range(0, len(makes), 50):
                await asyncio.gather(*makes[start : start + 50])
        except ApiError as e:
            return e
        return None

    def _waits_for_claim(self, owner: Object, ordinal: int) -> bool:
        """A claim of the pod before it is about to go (scaled down and up again under whenScaled: Delete)."""
        meta = owner["metadata"]
        pod = f"{meta['name']}-{ordinal}"
        found = (self.claims.get(key_of(meta["namespace"], name)) for name in claim_names(owner, pod).values())
        return any(one is not None and stale(one, pod) for one in found)

    async def _create(self, key: str, owner: Object, ordinal: int, revision: Object) -> None:
        meta = revision["metadata"]
        body = build(owner, history.template_of(revision), meta["name"], ordinal)
        name, set_name = body["metadata"]["name"], owner["metadata"]["name"]
        try:
            for one in claims(owner, name):
                await self._create_claim(key, owner, one, name)
            made = await self.client.create(PODS, body)
        except ApiError as e:
            if any(c.reason == "NamespaceTerminating" for c in e.causes):
                return
            text = f"create Pod {name} in StatefulSet {set_name} failed error: {e}"
            self.events.event(owner, "Warning", "FailedCreate", text)
            raise
        self.wrote(key, self.pods, made)
        text = f"create Pod {name} in StatefulSet {set_name} successful"
        self.events.event(owner, "Normal", "SuccessfulCreate", text)

    async def _create_claim(self, key: str, owner: Object, wanted: Object, pod: str) -> None:
        meta = wanted["metadata"]
        if self.claims.get(key_of(meta["namespace"], meta["name"])) is not None:
            return
        try:
            self.wrote(key, self.claims, await self.client.create(PVCS, wanted))
        except ApiError as e:
            if e.code != 409 or e.reason != "AlreadyExists":
                raise
            return
        text = f"create Claim {meta['name']} Pod {pod} in StatefulSet {owner['metadata']['name']} success"
        self.events.event(owner, "Normal", "SuccessfulCreate", text)

    async def _retain(self, key: str, owner: Object, pods: list[Pod], decided: Plan) -> None:
        """Owner references of claims follow the retention policy; pods carry their identity labels."""
        meta = owner["metadata"]
        if "deletionTimestamp" in meta:
            return
        doomed = {p.metadata.uid for p in decided.condemned}
        for pod in pods:
            if missing := identity(owner, pod):
                patch = {"metadata": {"uid": pod.metadata.uid, "labels": missing}}
                self.wrote(key, self.pods, await self.client.patch(PODS, pod.metadata.name, meta["namespace"], patch))
            for name in claim_names(owner, pod.metadata.name).values():
                found = self.claims.get(key_of(meta["namespace"], name))
                if found is None:
                    continue
                have = found["metadata"].get("ownerReferences") or []
                if conflicting(owner, have, pod):
                    text = f"PersistentVolumeClaim {name} is controlled by another owner: the retention policy does not apply to it"
                    self.events.event(owner, "Warning", "ConflictingController", text)
                wanted = claim_owners(owner, have, pod, condemned=pod.metadata.uid in doomed)
                if wanted != have:
                    changed = {**found, "metadata": {**found["metadata"], "ownerReferences": wanted}}
                    self.wrote(key, self.claims, await self.client.update(PVCS, changed))

    async def _delete(self, key: str, owner: Object, pod: Pod, *, failed: bool) -> None:
        meta, set_name = pod.metadata, owner["metadata"]["name"]
        if failed:
            type_, what = ("Warning", "Failed") if pod.status.phase == "Failed" else ("Normal", "Terminated")
            text = f"StatefulSet {meta.namespace}/{set_name} is recreating {what.lower()} Pod {meta.name}"
            self.events.event(owner, type_, f"Recreating{what}Pod", text)
        self._own.add(meta.uid)
        try:
            self.wrote(key, self.pods, await self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid))
        except ApiError as e:
            if e.code not in (404, 409):
                text = f"delete Pod {meta.name} in StatefulSet {set_name} failed error: {e}"
                self.events.event(owner, "Warning", "FailedDelete", text)
                raise
            return
        text = f"delete Pod {meta.name} in StatefulSet {set_name} successful"
        self.events.event(owner, "Normal", "SuccessfulDelete", text)

    async def _collided(self, key: str, owner: Object) -> float | None:
        status = {"replicas": 0, **(owner.get("status") or {})}
        status["collisionCount"] = (status.get("collisionCount") or 0) + 1
        self.wrote(key, self.sets, await self.client.update(STATEFULSETS, {**owner, "status": status}, "status"))
        return 0.0

    async def _prune(self, owner: Object, revisions: list[Object], pods: list[Pod], status: Object) -> None:
        live = {revision_of(p) for p in pods} | {status["currentRevision"], status["updateRevision"]}
        latest = {r["metadata"]["name"]: r for r in revisions}
        limit = owner["spec"].get("revisionHistoryLimit")
        await history.prune(
            self.client, history.superfluous(list(latest.values()), live, 10 if limit is None else limit)
        )
