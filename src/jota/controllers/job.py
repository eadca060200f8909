"""Job: pods that run to their end. In: jobs and their pods. Out: creates, deletes, finalizers, the status.

The decision is job_plan.py's. The order of doing is what makes counts exact: pods are made and removed, then the status
with the uids on record is written, then finalizers come off; seeing them gone is the next reconcile's work.
Pods that carry the finalizer but belong to no living job are set free here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.client.pods import OWNERS
from jota.controllers import claim, job_plan, podclaim
from jota.controllers.controller import Context, Controller, own
from jota.controllers.job_pods import FINALIZER, JOBS, build
from jota.controllers.views import Pod, mine_or_nobodys
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.meta.selectors import from_object

Object = dict[str, Any]

STRAY = "!"
"""Prefix of keys that name a pod with the finalizer and without a job."""
MANAGER = "kubernetes.io/job-controller"


class JobController(Controller):
    name: ClassVar[str] = "job"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = self.watch(JOBS, own)
        self.pods = self.watch(PODS, self._keys_of_pod, type=Pod, of=mine_or_nobodys("Job", "batch"))
        podclaim.index(self.pods)
        self.pods.add_index("job", _job_of, on=OWNERS)
        self.events = context.recorder("job-controller")
        self._records: dict[str, job_plan.Record] = {}

    def _keys_of_pod(self, pod: Pod) -> Iterable[str]:
        if pod.metadata.controller is not None:
            return _job_of(pod)
        if FINALIZER in (pod.metadata.finalizers or ()):
            return [STRAY + pod.key]
        return [
            own(job)[0]
            for job in self.jobs.list(pod.metadata.namespace)
            if from_object(job["spec"].get("selector")).matches(pod.metadata.labels)
        ]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(STRAY):
            await self._free_stray(key)
            return None
        job = self.jobs.get(key)
        if job is None:
            self._records.pop(key, None)
            await self._untrack(key, self._left_behind(key))
            return None
        if job["spec"].get("managedBy") not in (None, "", MANAGER):
            return None
        if job_plan.over(job):
            self._records.pop(key, None)
            await self._untrack(key, podclaim.of(self.pods, job))
            return None
        pods, patched = await self._claim(key, job)
        if patched:
            return 0.0
        decided = job_plan.plan(job, pods, self._records.get(key, job_plan.Record()), self.clock.now())
        failure = await self._carry_out(key, job, decided)
        await self._write(key, job, decided)
        await self._untrack(key, decided.untrack)
        if failure is not None:
            raise failure
        return decided.again

    # -- reading

    def _left_behind(self, key: str) -> list[Pod]:
        """Pods of a job that is gone."""
        return list(self.pods.by_index("job", key))

    async def _claim(self, key: str, job: Object) -> tuple[list[Pod], bool]:
        """(the job's pods, whether some were adopted or released just now). Adopted pods are tracked from here on."""
        namespace = job["metadata"]["namespace"]
        here = [*podclaim.of(self.pods, job), *self.pods.by_index("controller", f"orphans of {namespace}")]
        found = claim.plan(job, from_object(job["spec"].get("selector")), (podclaim.candidate(p) for p in here))
        found.adopt = [c for c in found.adopt if not c.item.finished]
        done = await claim.apply(self.client, PODS, JOBS, job, found)
        adopted = {c.uid for c in found.adopt}
        for pod in done:
            finalizers = [f for f in pod["metadata"].get("finalizers") or () if f != FINALIZER]
            wanted = [*finalizers, FINALIZER] if pod["metadata"]["uid"] in adopted else finalizers
            self.wrote(key, self.pods, await self._finalizers(pod["metadata"], wanted) or pod)
        # A crash between adoption and its finalizer would leave a pod that runs for us and is never counted.
        loose = [p.metadata for p in found.owned if p.active and FINALIZER not in (p.metadata.finalizers or ())]
        for m in loose:
            meta = {"name": m.name, "namespace": m.namespace, "uid": m.uid, "resourceVersion": m.resourceVersion}
            if tracked := await self._finalizers(meta, [*(m.finalizers or ()), FINALIZER]):
                self.wrote(key, self.pods, tracked)
        return found.owned, bool(done or loose)

    # -- doing

    async def _carry_out(self, key: str, job: Object, decided: job_plan.Plan) -> Exception | None:
        """Pods removed and made; what failed counts as not done in the status."""
        for pods, tracked in ((decided.drop, False), (decided.kill, True)):
            results = await asyncio.gather(*(self._delete(key, job, p, tracked) for p in pods), return_exceptions=True)
            if failed := _first(results):
                text = f"Error deleting: {failed}"
                self.events.event(job, "Warning", "FailedDelete", text)
                return failed
        batch, made = 1, 0
        while made < len(decided.create):
            new = decided.create[made : made + batch]
            results = await asyncio.gather(*(self._create(key, job, n) for n in new), return_exceptions=True)
            if failed := _first(results):
                decided.status["active"] -= len(decided.create) - made - sum(r is None for r in results)
                if isinstance(failed, ApiError) and any(c.reason == "NamespaceTerminating" for c in failed.causes):
                    return None
                self.events.event(job, "Warning", "FailedCreate", f"Error creating: {failed}")
                return failed
            made, batch = made + len(new), batch * 2
        return None

    async def _create(self, key: str, job: Object, new: job_plan.New) -> None:
        pod = await self.client.create(PODS, build(job, new.index, new.failures, new.ignored))
        self.wrote(key, self.pods, pod)
        self.events.event(job, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    async def _delete(self, key: str, job: Object, pod: Pod, tracked: bool) -> None:
        meta = pod.metadata
        if not tracked:
            await self._untrack(key, [pod])
        try:
            gone = await self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
        except ApiError as e:
            if e.code not in (404, 409):
                raise
            return
        self.wrote(key, self.pods, gone)
        self.events.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name}")

    async def _write(self, key: str, job: Object, decided: job_plan.Plan) -> None:
        """The status; the memory of failures and the events stand only once it is written."""
        if decided.status != job.get("status"):
            written = await self.client.update(JOBS, {**job, "status": decided.status}, "status")
            self.wrote(key, self.jobs, written)
            for type_, reason, message in decided.events:
                self.events.event(job, type_, reason, message)
        self._records[key] = decided.record

    async def _untrack(self, key: str, pods: Iterable[Pod]) -> None:
        """Take the finalizer off."""
        metas = [p.metadata for p in pods if FINALIZER in (p.metadata.finalizers or ())]
        results = await asyncio.gather(
            *(
                self._finalizers(
                    {"name": m.name, "namespace": m.namespace, "uid": m.uid, "resourceVersion": m.resourceVersion},
                    [f for f in m.finalizers or () if f != FINALIZER],
                )
                for m in metas
            ),
            return_exceptions=True,
        )
        for patched in results:
            if isinstance(patched, dict):
                self.wrote(key, self.pods, patched)
        if failed := _first(results):
            raise failed

    async def _finalizers(self, meta: Object, wanted: list[str]) -> Object | None:
        """Replace the whole list, safe against concurrent changes by the resourceVersion. None when the pod is gone."""
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": wanted}}
        try:
            return await self.client.patch(PODS, meta["name"], meta["namespace"], patch)
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    async def _free_stray(self, key: str) -> None:
        pod = self.pods.get(key.removeprefix(STRAY))
        if pod is not None and pod.metadata.controller is None:
            await self._untrack(key, [pod])
            for job in self.jobs.list(pod.metadata.namespace):
                if from_object(job["spec"].get("selector")).matches(pod.metadata.labels):
                    self.queue.add(own(job)[0])


def _first(results: Iterable[object]) -> Exception | None:
    """The first failure among gathered results; what is no plain error (a cancellation) is raised."""
    failed = [r for r in results if isinstance(r, BaseException)]
    for error in failed:
        if not isinstance(error, Exception):
            raise error
    return failed[0] if failed else None  # type: ignore[return-value]


def _job_of(pod: Pod) -> list[str]:
    owner = pod.metadata.controller
    if owner is None or owner.kind != "Job" or owner.group != "batch":
        return []
    return [key_of(pod.metadata.namespace, owner.name)]
