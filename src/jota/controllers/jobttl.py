"""TTL of finished jobs (`spec.ttlSecondsAfterFinished`). In: jobs. Out: deletes, in the background with their pods."""

from __future__ import annotations

from typing import Any, ClassVar

from jota.aio.clock import parse_rfc3339
from jota.controllers.controller import Context, Controller, own
from jota.controllers.job_plan import over
from jota.controllers.job_pods import JOBS
from jota.meta.errors import ApiError

Object = dict[str, Any]
LONGEST_NAP = 60.0
"""The wall clock may jump: a far deadline is looked at again at least this often."""


def plan(job: Object, now: float) -> float | None:
    """Seconds until the job expires (0 or less: now); None when it does not."""
    ttl, ended = job["spec"].get("ttlSecondsAfterFinished"), over(job)
    if ttl is None or ended is None or "deletionTimestamp" in job["metadata"]:
        return None
    return parse_rfc3339(ended["lastTransitionTime"]) + float(ttl) - now


class JobTtlController(Controller):
    name: ClassVar[str] = "ttl-after-finished"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = self.watch(JOBS, own, when=_expires)

    async def reconcile(self, key: str) -> float | None:
        job = self.jobs.get(key)
        left = plan(job, self.clock.now()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return min(left, LONGEST_NAP)
        meta = job["metadata"]
        try:
            # The cache may be old, and the TTL may have been raised meanwhile: the version is the precondition.
            await self.client.delete(
                JOBS,
                meta["name"],
                meta["namespace"],
                uid=meta["uid"],
                resource_version=meta["resourceVersion"],
                propagation="Foreground",
            )
        except ApiError as e:
            if e.code != 404:
                raise
        return None


def _expires(_old: Object | None, new: Object | None) -> bool:
    return new is not None and new["spec"].get("ttlSecondsAfterFinished") is not None and over(new) is not None
