"""Deployment: rollouts. In: deployments, their ReplicaSets, pods (only to see whether old ones still run). Out: sized
ReplicaSets and the status. The decisions are rollout.py's and rollout_status.py's; here they are carried out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.cache import GOES
from jota.client.pods import FINISHED
from jota.controllers import claim, rollout
from jota.controllers.controller import Context, Controller, controller_of, own, owned_by
from jota.controllers.revisions import REVISION, comparable, find_new, notes_of, replicas
from jota.controllers.rollout_status import failed_create, status_of
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, PODS, REPLICASETS
from jota.meta.selectors import from_object

Object = dict[str, Any]


class DeploymentController(Controller):
    name: ClassVar[str] = "deployment"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployments = self.watch(DEPLOYMENTS, own)
        self.sets = self.watch(REPLICASETS, self._keys_of_set)
        # Recreate waits for the old pods to be gone: only the last steps of a pod matter here.
        self.pods = self.watch(PODS, self._keys_of_pod, when=_left, on=FINISHED | GOES, type=Pod)
        self.events = context.recorder("deployment-controller")

    def _keys_of_set(self, one: Object) -> Iterable[str]:
        if controller_of(one) is not None:
            return owned_by("Deployment", "apps")(one)
        labels = one["metadata"].get("labels")
        return [
            own(d)[0]
            for d in self.deployments.list(one["metadata"]["namespace"])
            if from_object(d["spec"].get("selector")).matches(labels)
        ]

    def _keys_of_pod(self, pod: Pod) -> Iterable[str]:
        owner = pod.metadata.controller
        if owner is None or owner.kind != "ReplicaSet":
            return ()
        one = self.sets.get(f"{pod.metadata.namespace}/{owner.name}")
        return owned_by("Deployment", "apps")(one) if one is not None else ()

    async def reconcile(self, key: str) -> float | None:
        deployment = self.deployments.get(key)
        if deployment is None:
            return None
        selector = from_object(deployment["spec"].get("selector"))
        if selector.empty:
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self.events.event(deployment, "Warning", "SelectingAll", text)
            return None
        sets = await self._claim(key, deployment, selector)
        plan = rollout.plan(deployment, sets, self._old_pods_running(deployment, sets))
        created, sized = None, {}
        if plan.create is not None:
            created = await self._create(key, deployment, plan)
            if created is None:
                return None
        for change in plan.changes:
            one = await self._change(key, deployment, change)
            sized[one["metadata"]["uid"]] = one
        for one in plan.delete:
            await self._delete(one)
        gone = {s["metadata"]["uid"] for s in plan.delete}
        new = created or plan.new
        old = [sized.get(s["metadata"]["uid"], s) for s in plan.old if s["metadata"]["uid"] not in gone]
        new = sized.get(new["metadata"]["uid"], new) if new else None
        return await self._report(key, deployment, plan, new, old, created is not None)

    # -- reading

    async def _claim(self, key: str, deployment: Object, selector: Any) -> list[Object]:
        here = self.sets.list(deployment["metadata"]["namespace"])
        found = claim.plan(deployment, selector, [_candidate(s) for s in here])
        done = await claim.apply(self.client, REPLICASETS, DEPLOYMENTS, deployment, found)
        for patched in done:
            self.wrote(key, self.sets, patched)
        adopted = {c.uid for c in found.adopt}
        return [*found.owned, *(d for d in done if d["metadata"]["uid"] in adopted)]

    def _old_pods_running(self, deployment: Object, sets: list[Object]) -> bool:
        if (deployment["spec"].get("strategy") or {}).get("type") != "Recreate":
            return False
        new = find_new(deployment, sets)
        old = {s["metadata"]["uid"] for s in sets if s is not new}
        return any(
            not p.finished and p.metadata.controller is not None and p.metadata.controller.uid in old
            for p in self.pods.list(deployment["metadata"]["namespace"])
        )

    # -- doing

    async def _create(self, key: str, deployment: Object, plan: rollout.Plan) -> Object | None:
        """The new set; None when another try is needed after what was learnt was written down."""
        assert plan.create is not None
        try:
            made = await self.client.create(REPLICASETS, plan.create)
        except ApiError as e:
            if e.code == 409 and e.reason == "AlreadyExists":
                return await self._collided(key, deployment, plan.create)
            if any(c.reason == "NamespaceTerminating" for c in e.causes):
                return None
            text = f'Failed to create new replica set "{plan.create["metadata"]["name"]}": {e}'
            self.events.event(deployment, "Warning", "ReplicaSetCreateError", text)
            status = failed_create(deployment, plan.new, plan.old, text, self.clock.now())
            await self._write_status(key, deployment, status)
            raise
        self.wrote(key, self.sets, made)
        if replicas(made):
            self._scaled(deployment, made, 0, replicas(made))
        return made

    async def _collided(self, key: str, deployment: Object, wanted: Object) -> Object | None:
        """The name is taken: by our own set that the cache did not show yet, or by something else (then hash anew)."""
        meta = wanted["metadata"]
        there = await self.client.get(REPLICASETS, meta["name"], meta["namespace"])
        owner = controller_of(there)
        ours = owner is not None and owner["uid"] == deployment["metadata"]["uid"]
        if ours and comparable(there["spec"]["template"]) == comparable(wanted["spec"]["template"]):
            self.wrote(key, self.sets, there)
            return there
        status = deployment.get("status") or {}
        collisions = (status.get("collisionCount") or 0) + 1
        await self._write_status(key, deployment, {**status, "collisionCount": collisions})
        return None

    async def _change(self, key: str, deployment: Object, change: rollout.Change) -> Object:
        before = replicas(change.set)
        meta = {**change.set["metadata"], "annotations": change.notes}
        wanted = {**change.set, "metadata": meta, "spec": {**change.set["spec"], "replicas": change.size}}
        written = await self.client.update(REPLICASETS, wanted)
        self.wrote(key, self.sets, written)
        if before != change.size:
            self._scaled(deployment, written, before, change.size)
        return written

    def _scaled(self, deployment: Object, one: Object, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        text = f"Scaled {way} replica set {one['metadata']['name']} from {before} to {after}"
        self.events.event(deployment, "Normal", "ScalingReplicaSet", text)

    async def _delete(self, one: Object) -> None:
        meta = one["metadata"]
        try:
            await self.client.delete(
                REPLICASETS, meta["name"], meta["namespace"], uid=meta["uid"], propagation="Background"
            )
        except ApiError as e:
            if e.code not in (404, 409):
                raise

    async def _report(
        self, key: str, deployment: Object, plan: rollout.Plan, new: Object | None, old: list[Object], created: bool
    ) -> float | None:
        status, again = status_of(deployment, new, old, self.clock.now(), created)
        if plan.revision and notes_of(deployment).get(REVISION) != plan.revision:
            meta = deployment["metadata"]
            patch = {"metadata": {"uid": meta["uid"], "annotations": {REVISION: plan.revision}}}
            patched = await self.client.patch(DEPLOYMENTS, meta["name"], meta["namespace"], patch)
            self.wrote(key, self.deployments, patched)
            if patched["metadata"].get("generation") != meta.get("generation"):
                return 0.0  # the spec changed under us: the status belongs to an older one, look again first
            deployment = patched
        if status != deployment.get("status"):
            await self._write_status(key, deployment, status)
        return again

    async def _write_status(self, key: str, deployment: Object, status: Object) -> None:
        self.wrote(
            key, self.deployments, await self.client.update(DEPLOYMENTS, {**deployment, "status": status}, "status")
        )


def _candidate(one: Object) -> claim.Candidate:
    meta = one["metadata"]
    return claim.Candidate(
        meta["name"],
        meta["uid"],
        meta["resourceVersion"],
        meta.get("labels") or {},
        meta.get("ownerReferences") or [],
        "deletionTimestamp" in meta,
        one,
    )


def _left(old: Pod | None, new: Pod | None) -> bool:
    """A pod stopped running for good."""
    return new is None or (new.finished and not (old is not None and old.finished))
