"""DaemonSet: one pod on every node that fits. In: sets, nodes, pods, revisions. Out: pods, revisions, the status.

daemonset_plan.py decides. A pod that failed is removed after a pause that doubles, so that a daemon which cannot start
does not burn the cluster. Next: history.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from jota.controllers import history, podclaim
from jota.controllers.controller import Context, Controller, own, owned_by
from jota.controllers.daemonset_plan import DAEMONSETS, FAILED_BASE, FAILED_MAX, Plan, build, plan
from jota.controllers.history import CONTROLLERREVISIONS, HASH
from jota.controllers.views import Pod, alike, controlled_by, mine_or_nobodys
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS
from jota.meta.selectors import from_object

Object = dict[str, Any]


class DaemonSetController(Controller):
    name: ClassVar[str] = "daemonset"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = self.watch(DAEMONSETS, own)
        self.pods = self.watch(PODS, self._keys_of_pod, type=Pod, alike=alike, of=mine_or_nobodys("DaemonSet", "apps"))
        podclaim.index(self.pods)
        self.revisions = self.watch(CONTROLLERREVISIONS, owned_by("DaemonSet", "apps"))
        history.index(self.revisions)
        self.nodes = self.watch(NODES, lambda _: list(self.sets.keys()), when=_changes_fit)
        self.events = context.recorder("daemonset-controller")
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        """(key, node) -> failed pods removed in a row, and when the last one was (monotonic)."""

    def _keys_of_pod(self, pod: Pod) -> Iterable[str]:
        if pod.metadata.controller is not None:
            return controlled_by("DaemonSet", "apps")(pod)
        return [
            own(one)[0]
            for one in self.sets.list(pod.metadata.namespace)
            if from_object(one["spec"].get("selector")).matches(pod.metadata.labels)
        ]

    async def reconcile(self, key: str) -> float | None:
        owner = self.sets.get(key)
        if owner is None:
            self._failures = {k: v for k, v in self._failures.items() if k[0] != key}
            return None
        selector = from_object(owner["spec"].get("selector"))
        if selector.empty:
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self.events.event(owner, "Warning", "SelectingAll", text)
            return None
        owned, done = await podclaim.settle(self.client, self.pods, DAEMONSETS, owner, selector)
        for patched in done:
            self.wrote(key, self.pods, patched)
        adopted = await history.adopt(self.client, self.revisions, DAEMONSETS, owner, selector)
        for patched in adopted:
            self.wrote(key, self.revisions, patched)
        return 0.0 if done or adopted else await self._sync(key, owner, owned)

    async def _sync(self, key: str, owner: Object, pods: list[Pod]) -> float | None:
        revisions = history.of(self.revisions, owner)
        wanted = history.plan(owner, DAEMONSETS, revisions, HASH)
        if wanted.create is not None and "deletionTimestamp" in owner["metadata"]:
            return None  # what it had is orphaned, or deleted, and nothing new begins
        kept = await history.keep(self.client, owner, DAEMONSETS, wanted)
        for one in kept.written:
            self.wrote(key, self.revisions, one)
        if kept.current is None:
            status = {**_EMPTY, **(owner.get("status") or {})}
            await self._write(key, owner, {**status, "collisionCount": (status.get("collisionCount") or 0) + 1})
            return 0.0
        hash_ = history.hash_of(kept.current)
        decided = plan(owner, self.nodes.list(), pods, hash_, self.clock.now())
        failure = await self._carry_out(key, owner, decided, hash_)
        if decided.status != owner.get("status"):
            await self._write(key, owner, decided.status)
        if failure is not None:
            raise failure
        live = {(p.metadata.labels or {}).get(HASH, "") for p in pods} | {hash_}
        limit = owner["spec"].get("revisionHistoryLimit")
        latest = {r["metadata"]["name"]: r for r in (*revisions, *kept.written)}
        await history.prune(
            self.client, history.superfluous(list(latest.values()), live, 10 if limit is None else limit)
        )
        return decided.again

    async def _write(self, key: str, owner: Object, status: Object) -> None:
        self.wrote(key, self.sets, await self.client.update(DAEMONSETS, {**owner, "status": status}, "status"))

    # -- doing

    async def _carry_out(self, key: str, owner: Object, decided: Plan, hash_: str) -> Exception | None:
        try:
            for pod in decided.failed:
                if (left := self._pause(key, pod)) > 0:
                    decided.again = left if decided.again is None else min(decided.again, left)
                    continue
                what = "Failed" if pod.status.phase == "Failed" else "Succeeded"
                end = "kill" if what == "Failed" else "delete"
                text = f"Found {what.lower()} daemon pod {pod.key} on node {pod.target}, will try to {end} it"
                self.events.event(owner, "Warning" if what == "Failed" else "Normal", f"{what}DaemonPod", text)
                await self._delete(key, owner, pod)
            await asyncio.gather(*(self._delete(key, owner, p) for p in decided.delete))
            batch, made = 1, 0
            while made < len(decided.create):
                nodes = decided.create[made : made + batch]
                await asyncio.gather(*(self._create(key, owner, n, hash_) for n in nodes))
                made, batch = made + len(nodes), batch * 2
        except ApiError as e:
            return e
        return None

    def _pause(self, key: str, pod: Pod) -> float:
        """Seconds to wait before this failed pod is removed; 0 when its time has come (which is noted)."""
        now, slot = self.clock.monotonic(), (key, pod.target)
        count, last = self._failures.get(slot, (0, 0.0))
        delay = min(FAILED_MAX, FAILED_BASE * 2.0 ** min(count - 1, 12)) if count else 0.0
        if count and now - last > 2 * FAILED_MAX:
            count, delay = 0, 0.0
        if (left := last + delay - now) > 0 and count:
            return left
        self._failures[slot] = (count + 1, now)
        return 0.0

    async def _create(self, key: str, owner: Object, node: str, hash_: str) -> None:
        try:
            pod = await self.client.create(PODS, build(owner, node, hash_))
        except ApiError as e:
            if any(c.reason == "NamespaceTerminating" for c in e.causes):
                return
            self.events.event(owner, "Warning", "FailedCreate", f"Error creating: {e}")
            raise
        self.wrote(key, self.pods, pod)
        self.events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    async def _delete(self, key: str, owner: Object, pod: Pod) -> None:
        meta = pod.metadata
        try:
            self.wrote(key, self.pods, await self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid))
        except ApiError as e:
            if e.code not in (404, 409):
                self.events.event(owner, "Warning", "FailedDelete", f"Error deleting: {e}")
                raise
            return
        self.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name}")


_EMPTY = dict.fromkeys(("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"), 0)


def _changes_fit(old: Object | None, new: Object | None) -> bool:
    """A node came, went, or changed what decides about its daemons; heartbeats do not."""
    if old is None or new is None:
        return True
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        return True
    return bool((old.get("spec") or {}).get("taints") != (new.get("spec") or {}).get("taints"))
