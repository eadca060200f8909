"""CronJob: jobs at given times. In: cron jobs, their jobs, the clock. Out: jobs made and removed, the status.

`plan` decides. A job's name comes from its scheduled minute, so a start that was written but not noted (a crash) is found
again instead of repeated. The clock is asked at least every half minute: it may jump. Next: cron.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.controllers import claim, cron
from jota.controllers.controller import Context, Controller, controller_of, own, owned_by
from jota.controllers.job_plan import over
from jota.controllers.job_pods import JOBS
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

Object = dict[str, Any]
Note = tuple[str, str, str]

CRONJOBS = Resource("batch", "v1", "cronjobs", "CronJob")
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
LONGEST_NAP = 30.0
TOO_MANY = 100
"""Missed times beyond which a warning is given (upstream's number)."""


@dataclass(slots=True)
class Plan:
    status: Object
    start: float | None = None
    """The scheduled time (epoch seconds) to start a job for."""
    replace: list[Object] = field(default_factory=list)
    """Running jobs to delete first."""
    expired: list[Object] = field(default_factory=list)
    """Finished jobs beyond the history limits."""
    events: list[Note] = field(default_factory=list)
    again: float | None = None


def plan(owner: Object, jobs: list[Object], now: float) -> Plan:
    """`jobs`: all that this cron job controls."""
    out = Plan(dict(owner.get("status") or {}))
    _settle_active(owner, jobs, out)
    spec = owner["spec"]
    out.expired = _expired(jobs, "Complete", spec.get("successfulJobsHistoryLimit"))
    out.expired += _expired(jobs, "Failed", spec.get("failedJobsHistoryLimit"))
    if "deletionTimestamp" in owner["metadata"] or spec.get("suspend"):
        return out
    try:
        zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
    except (ValueError, OSError, KeyError):
        text = f'invalid timeZone: "{spec["timeZone"]}": unknown time zone {spec["timeZone"]}'
        out.events.append(("Warning", "UnknownTimeZone", text))
        return out
    try:
        schedule = cron.parse(spec["schedule"], zone)
    except ValueError as e:
        text = f'unparseable schedule "{spec["schedule"]}": {e}'
        out.events.append(("Warning", "UnparseableSchedule", text))
        return out
    following = schedule.after(now)
    if following is None:  # the 31st of February: upstream finds no time between two of its times
        text = f"invalid schedule: {spec['schedule']} : time difference between two schedules is less than 1 second"
        out.events.append(("Warning", "InvalidSchedule", text))
        return out
    _decide(owner, jobs, schedule, now, out)
    out.again = min(LONGEST_NAP, following - now + 0.1)
    return out


def _settle_active(owner: Object, jobs: list[Object], out: Plan) -> None:
    """status.active names exactly the jobs that run; what finished or vanished is said once."""
    by_uid = {j["metadata"]["uid"]: j for j in jobs}
    active = []
    for reference in out.status.get("active") or ():
        job = by_uid.pop(reference.get("uid"), None)
        ended = over(job) if job is not None else None
        name = reference.get("name", "")
        if job is None:
            out.events.append(("Normal", "MissingJob", f"Active job went missing: {name}"))
        elif ended is not None:
            out.events.append(("Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {ended['type']}"))
        else:
            active.append(reference)
    for job in by_uid.values():
        if over(job) is not None:
            continue
        if scheduled_time(owner, job) is not None:  # its start was carried out, and the writing down was not
            active.append(_reference(job))
        else:  # made by hand (kubectl create job --from): it counts for no policy
            text = f"Saw a job that the controller did not create or forgot: {job['metadata']['name']}"
            out.events.append(("Warning", "UnexpectedJob", text))
    out.status["active"] = active
    done = [(j.get("status") or {}).get("completionTime") for j in jobs if (over(j) or {}).get("type") == "Complete"]
    latest = max((t for t in (*done, out.status.get("lastSuccessfulTime")) if t), default=None)
    if latest:
        out.status["lastSuccessfulTime"] = latest
    started = [int(t) for j in jobs if (t := scheduled_time(owner, j)) is not None]
    last = out.status.get("lastScheduleTime")
    newest = max([*started, *([int(parse_rfc3339(last))] if last else [])], default=None)
    if newest is not None:
        out.status["lastScheduleTime"] = rfc3339(newest)
    if not active:
        del out.status["active"]


def _decide(owner: Object, jobs: list[Object], schedule: cron.Schedule, now: float, out: Plan) -> None:
    spec, last = owner["spec"], out.status.get("lastScheduleTime")
    since = parse_rfc3339(last or owner["metadata"]["creationTimestamp"])
    deadline = spec.get("startingDeadlineSeconds")
    earliest = since if deadline is None else max(since, now - deadline)
    due, missed = cron.last_missed(schedule, earliest, now)
    if due is None:
        if deadline is not None and (late := cron.last_missed(schedule, since, now)[0]) is not None:
            when = format_datetime(datetime.fromtimestamp(late, UTC))  # RFC 1123, as upstream has it
            out.events.append(("Warning", "MissSchedule", f"Missed scheduled time to start a job: {when}"))
        return
    if missed > TOO_MANY:
        text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        out.events.append(("Warning", "TooManyMissedTimes", text))
    noted = {r.get("uid") for r in out.status.get("active") or ()}
    running = [j for j in jobs if j["metadata"]["uid"] in noted]
    if running and spec.get("concurrencyPolicy") == "Forbid":
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        out.events.append(("Normal", "JobAlreadyActive", text))
        return
    if spec.get("concurrencyPolicy") == "Replace":
        out.replace = [j for j in running if "deletionTimestamp" not in j["metadata"]]
    out.start = due


def _expired(jobs: list[Object], type_: str, limit: int | None) -> list[Object]:
    if limit is None:
        return []
    ended = [j for j in jobs if (over(j) or {}).get("type") == type_ and "deletionTimestamp" not in j["metadata"]]
    ended.sort(key=lambda j: ((j.get("status") or {}).get("startTime") or "", j["metadata"]["name"]))
    return ended[: max(0, len(ended) - limit)]


def scheduled_time(owner: Object, job: Object) -> float | None:
    """The minute for which a job was started, from its name; None for jobs made by hand."""
    head, _, minute = job["metadata"]["name"].rpartition("-")
    return int(minute) * 60.0 if head == owner["metadata"]["name"] and minute.isdecimal() else None


def job_for(owner: Object, due: float) -> Object:
    """The job of a scheduled time."""
    meta, spec = owner["metadata"], owner["spec"]
    template = spec["jobTemplate"]
    given = template.get("metadata") or {}
    zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
    stamp = datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")
    metadata: Object = {
        "name": f"{meta['name']}-{int(due) // 60}",
        "namespace": meta["namespace"],
        "annotations": {**(given.get("annotations") or {}), SCHEDULED: stamp},
        "creationTimestamp": None,
        "ownerReferences": [claim.reference(owner, CRONJOBS.api_version, CRONJOBS.kind)],
    }
    if given.get("labels"):
        metadata["labels"] = dict(given["labels"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def _reference(job: Object) -> Object:
    meta = job["metadata"]
    out = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "namespace": meta["namespace"]}
    return {**out, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}


class CronJobController(Controller):
    name: ClassVar[str] = "cronjob"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.crons = self.watch(CRONJOBS, own)
        self.jobs = self.watch(JOBS, owned_by("CronJob", "batch"), when=_matters)
        self.jobs.add_index("controller", _controller)
        self.events = context.recorder("cronjob-controller")
        self._said: dict[str, frozenset[Note]] = {}
        """What the last look at each key had to say: that is not repeated on every look."""

    async def reconcile(self, key: str) -> float | None:
        owner = self.crons.get(key)
        if owner is None:
            self._said.pop(key, None)
            return None
        decided = plan(owner, list(self.jobs.by_index("controller", owner["metadata"]["uid"])), self.clock.now())
        for job in (*decided.replace, *decided.expired):
            await self._delete(key, owner, job)
        if decided.replace:
            gone = {j["metadata"]["uid"] for j in decided.replace}
            decided.status["active"] = [r for r in decided.status.get("active") or () if r.get("uid") not in gone]
        if decided.start is not None:
            await self._start(key, owner, decided)
        said = self._said.get(key, frozenset())
        for note in decided.events:
            if note not in said:
                self.events.event(owner, *note)
        self._said[key] = frozenset(decided.events)
        status = {k: v for k, v in decided.status.items() if v}
        if status != (owner.get("status") or {}):
            self.wrote(key, self.crons, await self.client.update(CRONJOBS, {**owner, "status": status}, "status"))
        return decided.again

    async def _start(self, key: str, owner: Object, decided: Plan) -> None:
        assert decided.start is not None
        try:
            job = await self.client.create(JOBS, job_for(owner, decided.start))
        except ApiError as e:
            if e.code != 409 or e.reason != "AlreadyExists":
                self.events.event(owner, "Warning", "FailedCreate", f"Error creating job: {e}")
                raise
            meta = owner["metadata"]
            job = await self.client.get(JOBS, f"{meta['name']}-{int(decided.start) // 60}", meta["namespace"])
            if (controller_of(job) or {}).get("uid") != meta["uid"]:
                text = f"Error creating job: {job['metadata']['name']} exists and belongs to something else"
                self.events.event(owner, "Warning", "FailedCreate", text)
                decided.status["lastScheduleTime"] = rfc3339(decided.start)
                return
        else:
            self.events.event(owner, "Normal", "SuccessfulCreate", f"Created job {job['metadata']['name']}")
        self.wrote(key, self.jobs, job)
        decided.status["lastScheduleTime"] = rfc3339(decided.start)
        active = decided.status.get("active") or []
        if over(job) is None and all(r.get("uid") != job["metadata"]["uid"] for r in active):
            decided.status["active"] = [*active, _reference(job)]

    async def _delete(self, key: str, owner: Object, job: Object) -> None:
        meta = job["metadata"]
        try:
            gone = await self.client.delete(
                JOBS, meta["name"], meta["namespace"], uid=meta["uid"], propagation="Background"
            )
        except ApiError as e:
            if e.code not in (404, 409):
                raise
            return
        self.wrote(key, self.jobs, gone)
        self.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted job {meta['name']}")


def _matters(old: Object | None, new: Object | None) -> bool:
    """A job appeared, went, or ended; its counts on the way do not matter here."""
    return old is None or new is None or (over(old) is None) != (over(new) is None)


def _controller(job: Object) -> list[str]:
    owner = controller_of(job)
    return [owner["uid"]] if owner is not None else []
