"""A Job's next step. Pure. In: the job, its pods, what is remembered of failures, the time. Out: pods to make and remove,
the status to write, finalizers to take off, when to look again. job.py carries it out, in exactly this order.

Counting is exact under crashes: a pod keeps the finalizer batch.kubernetes.io/job-tracking until its uid stands in
`status.uncountedTerminatedPods`; once the finalizer is seen gone, one write moves the uid into the counter.

    pod fails -> uid in uncounted.failed (write) -> finalizer off -> uid out, failed + 1 (write)

Ends in two steps, as upstream since 1.31: FailureTarget or SuccessCriteriaMet first, and Failed or Complete once no pod
is left. Next: job_policies.py, job_pods.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.controllers import conditions, job_indexes, job_policies
from jota.controllers.job_pods import (
    FINALIZER,
    finished_at,
    ignored_failures,
    index_failures,
    index_of,
    removal_rank,
)
from jota.controllers.views import Pod

Object = dict[str, Any]

BURST = 500
"""Pods created or deleted in one step, and uids kept uncounted at once (upstream's bounds)."""
BACKOFF_BASE, BACKOFF_MAX = 10.0, 600.0
"""Seconds before a failed pod is replaced: base x 2^(failures in a row - 1), at most the maximum."""
FAILURE, SUCCESS = "FailureTarget", "SuccessCriteriaMet"


class Record(NamedTuple):
    """Failures since the last success, and when the last one happened (epoch seconds)."""

    failures: int = 0
    last: float = 0.0


@dataclass(slots=True, frozen=True)
class New:
    """A pod to create: its completion index (None in NonIndexed jobs) and the failures that its index had before."""

    index: int | None = None
    failures: int = 0
    ignored: int = 0


@dataclass(slots=True)
class Plan:
    create: list[New] = field(default_factory=list)
    drop: list[Pod] = field(default_factory=list)
    """To delete without counting them (too many, or suspended): the finalizer goes first."""
    kill: list[Pod] = field(default_factory=list)
    """To delete because the job is over."""
    status: Object = field(default_factory=dict)
    untrack: list[Pod] = field(default_factory=list)
    """To take the finalizer off, after the status was written."""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    record: Record = field(default_factory=Record)
    again: float | None = None


class End(NamedTuple):
    type: str
    reason: str
    message: str


def plan(job: Object, pods: list[Pod], record: Record, now: float) -> Plan:
    """The next step of a job that is not finished (see `over`)."""
    return _Step(job, pods, record, now).take()


def over(job: Object) -> Object | None:
    """The condition Complete or Failed that ended a job."""
    found = (job.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


class _Step:
    """One step's working state; `take` tells the story."""

    def __init__(self, job: Object, pods: list[Pod], record: Record, now: float) -> None:
        self.job, self.spec, self.pods, self.now = job, job["spec"], pods, now
        self.old: Object = job.get("status") or {}
        self.status: Object = {**self.old}
        self.out = Plan(record=record)
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.completions: int | None = self.spec.get("completions")
        self.per_index: int | None = self.spec.get("backoffLimitPerIndex") if self.indexed else None
        self.only_failed = self.spec.get("podReplacementPolicy") == "Failed"
        self.suspended = bool(self.spec.get("suspend"))
        self.closing = "deletionTimestamp" in job["metadata"]
        uncounted = self.old.get("uncountedTerminatedPods") or {}
        self.waiting = {way: list(uncounted.get(way) or ()) for way in ("succeeded", "failed")}
        self.tracked = [p for p in pods if FINALIZER in (p.metadata.finalizers or ())]
        self.active = [p for p in pods if p.active]
        self.terminating = sum(p.terminating and not p.finished for p in pods)

    def take(self) -> Plan:
        self._count_untracked()
        self._observe()
        if not self.status.get("startTime") and not self.suspended:
            self.status["startTime"] = rfc3339(self.now)
        end = self._end()
        if end is not None:
            self.out.kill = self.active
        elif not self.closing:
            self._suspend_or_resume()
            self._size()
            end = self._completed()
        self._track(end)
        self._conclude(end)
        self._finish_status()
        return self.out

    # -- counting

    def _count_untracked(self) -> None:
        """Uids whose pods have lost the finalizer move from the uncounted list into the counters."""
        held = {p.metadata.uid for p in self.tracked}
        for way, uids in self.waiting.items():
            gone = [u for u in uids if u not in held]
            if gone and not (self.indexed and way == "succeeded"):
                self.status[way] = (self.status.get(way) or 0) + len(gone)
            self.waiting[way] = [u for u in uids if u in held]

    def _observe(self) -> None:
        """What has succeeded and failed, newly finished pods included."""
        known = {u for uids in self.waiting.values() for u in uids}
        new = [p for p in self.tracked if p.metadata.uid not in known]
        self.new_succeeded = [p for p in new if p.status.phase == "Succeeded"]
        self.new_failed = [p for p in new if self._failed(p)]
        self.verdicts = {p.metadata.uid: job_policies.judge(self.job, p) for p in self.new_failed}
        counted = sum(self.verdicts[p.metadata.uid].action != "Ignore" for p in self.new_failed)
        self.failed = (self.status.get("failed") or 0) + len(self.waiting["failed"]) + counted
        self.failed_indexes: set[int] = set()
        self.delayed: dict[int, Pod] = {}
        if self.indexed:
            limit = self.completions or 0
            self.done = job_indexes.parse(self.old.get("completedIndexes"), limit)
            self.done |= {i for p in self.new_succeeded if (i := index_of(p)) is not None and i < limit}
            self.succeeded = len(self.done)
            if self.per_index is not None:
                self._observe_indexes(limit)
        else:
            fresh = len(self.new_succeeded)
            self.succeeded = (self.status.get("succeeded") or 0) + len(self.waiting["succeeded"]) + fresh
        self._remember()

    def _failed(self, pod: Pod) -> bool:
        """A deleted pod counts at once, unless replacements must wait for the real end."""
        if pod.status.phase == "Failed":
            return True
        return not self.only_failed and pod.terminating and not pod.finished

    def _observe_indexes(self, limit: int) -> None:
        """Which indexes failed for good; the last failed pod of any other stays until its replacement carries its count."""
        self.failed_indexes = job_indexes.parse(self.old.get("failedIndexes"), limit)
        running = {index_of(p) for p in self.active}
        for pod in self.new_failed:
            index = index_of(pod)
            if index is None or index >= limit or index in self.done:
                continue
            action = self.verdicts[pod.metadata.uid].action
            failures = index_failures(pod) + (action != "Ignore")
            if action == "FailIndex" or failures > (self.per_index or 0):
                self.failed_indexes.add(index)
            elif index not in running and _later(pod, self.delayed.get(index)):
                self.delayed[index] = pod
        self.delayed = {i: p for i, p in self.delayed.items() if i not in self.failed_indexes}

    def _remember(self) -> None:
        """Failures in a row decide how long to wait before the next attempt."""
        new = [(finished_at(p, self.now), p in self.new_failed) for p in (*self.new_succeeded, *self.new_failed)]
        for at, failed in sorted(new):
            record = self.out.record
            self.out.record = Record(record.failures + 1, max(at, record.last)) if failed else Record()

    # -- deciding

    def _end(self) -> End | None:
        """Why the job is over, if it is."""
        found = self.old.get("conditions") or []
        for type_ in (SUCCESS, FAILURE):
            condition = conditions.find(found, type_)
            if condition is not None and condition["status"] == "True":
                return End(type_, condition.get("reason", ""), condition.get("message", ""))
        return self._failure() or self._success_policy()

    def _failure(self) -> End | None:
        for verdict in self.verdicts.values():
            if verdict.action == "FailJob":
                return End(FAILURE, "PodFailurePolicy", verdict.message)
        limit = int(self.spec.get("backoffLimit", 6))
        if self.failed > limit or self._restarted_too_often(limit):
            return End(FAILURE, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is not None and not self.suspended and self.status.get("startTime"):
            left = parse_rfc3339(self.status["startTime"]) + deadline - self.now
            if left <= 0:
                return End(FAILURE, "DeadlineExceeded", "Job was active longer than specified deadline")
            self._look_again(left)
        return self._failed_by_indexes()

    def _restarted_too_often(self, limit: int) -> bool:
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(
            s.restartCount
            for p in self.active
            for s in (*(p.status.containerStatuses or ()), *(p.status.initContainerStatuses or ()))
        )
        return bool(restarts) and int(restarts) >= limit

    def _failed_by_indexes(self) -> End | None:
        most = self.spec.get("maxFailedIndexes")
        if most is not None and len(self.failed_indexes) > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return End(FAILURE, "MaxFailedIndexesExceeded", text)
        if self.failed_indexes and len(self.failed_indexes) + self.succeeded >= (self.completions or 0):
            return End(FAILURE, "FailedIndexes", "Job has failed indexes")
        return None

    def _success_policy(self) -> End | None:
        if not self.indexed:
            return None
        message = job_policies.success(self.job, self.done)
        return End(SUCCESS, "SuccessPolicy", message) if message else None

    def _completed(self) -> End | None:
        if self.completions is None:
            done = self.succeeded > 0 and not self.active and not self.out.create
        else:
            done = self.succeeded >= self.completions
        if not done:
            return None
        self.out.create = []
        return End(SUCCESS, "CompletionsReached", "Reached expected number of succeeded pods")

    def _suspend_or_resume(self) -> None:
        found = self.status.get("conditions") or []
        was = conditions.find(found, "Suspended")
        if self.suspended and not (was and was["status"] == "True"):
            found = conditions.put(found, "Suspended", "True", "JobSuspended", "Job suspended", self.now, probed=True)
            self.out.events.append(("Normal", "Suspended", "Job suspended"))
        elif not self.suspended and was and was["status"] == "True":
            found = conditions.put(found, "Suspended", "False", "JobResumed", "Job resumed", self.now, probed=True)
            self.status["startTime"] = rfc3339(self.now)  # the deadline starts anew
            self.out.events.append(("Normal", "Resumed", "Job resumed"))
        if found:
            self.status["conditions"] = found

    def _size(self) -> None:
        """How many pods run now."""
        if self.suspended:
            self.out.drop = self.active[:BURST]
            return
        parallel = self.spec.get("parallelism", 1)
        if self.completions is None:
            wanted = len(self.active) if self.succeeded > 0 else parallel
            wanted = min(wanted, parallel)
        else:
            wanted = max(0, min(self.completions - self.succeeded - len(self.failed_indexes), parallel))
        self.out.drop = self._surplus(wanted)[:BURST]
        if self.out.drop:
            return
        missing = wanted - len(self.active) - (self.terminating if self.only_failed else 0)
        if missing > 0:
            self._create(min(missing, BURST))

    def _surplus(self, wanted: int) -> list[Pod]:
        ranked = sorted(self.active, key=lambda p: removal_rank(p, self.now))
        extra: list[Pod] = []
        if self.indexed:
            kept: set[int] = set()
            for pod in reversed(ranked):
                index = index_of(pod)
                bad = index is None or index >= (self.completions or 0) or index in kept or index in self.done
                if bad or index in self.failed_indexes:
                    extra.append(pod)
                elif index is not None:
                    kept.add(index)
        names = {p.key for p in extra}
        rest = [p for p in ranked if p.key not in names]
        return extra + rest[: max(0, len(rest) - wanted)]

    def _create(self, count: int) -> None:
        if self.per_index is None:
            failures, last = self.out.record
            if failures and (left := last + _delay(failures) - self.now) > 0:
                return self._look_again(left)
        if not self.indexed:
            self.out.create = [New()] * count
            return None
        taken = {i for p in self.active if (i := index_of(p)) is not None} | self.done | self.failed_indexes
        if self.only_failed:
            taken |= {i for p in self.pods if p.terminating and not p.finished and (i := index_of(p)) is not None}
        taken |= self._resting()
        for index in job_indexes.pending(taken, self.completions or 0, count):
            before = self.delayed.get(index)
            if before is None:
                self.out.create.append(New(index))
            else:
                ignored = self.verdicts[before.metadata.uid].action == "Ignore"
                failures, skipped = index_failures(before) + (not ignored), ignored_failures(before) + ignored
                self.out.create.append(New(index, failures, skipped))
        return None

    def _resting(self) -> set[int]:
        """Indexes whose own back-off still runs."""
        out: set[int] = set()
        for index, pod in self.delayed.items():
            failures = index_failures(pod) + ignored_failures(pod) + 1
            left = finished_at(pod, self.now) + _delay(failures) - self.now
            if left > 0:
                out.add(index)
                self._look_again(left)
        return out

    # -- writing down

    def _track(self, end: End | None) -> None:
        """Put finished pods on record; those whose record stands may lose their finalizer after this write."""
        known = {u for uids in self.waiting.values() for u in uids}
        room = BURST - len(known)
        dropped = {p.metadata.uid for p in self.out.drop}
        stays = {p.metadata.uid for p in self.delayed.values()} if end is None and not self.closing else set()
        for pod in self.tracked:
            uid = pod.metadata.uid
            if uid in known:
                self.out.untrack.append(pod)
                continue
            ended = pod.finished or self._failed(pod) or end is not None or self.closing
            if not ended or uid in stays or uid in dropped:
                continue
            way = self._way(pod, end)
            if way and room <= 0:
                self._look_again(0.0)
                break
            if way:
                self.waiting[way].append(uid)
                room -= 1
            self.out.untrack.append(pod)

    def _way(self, pod: Pod, end: End | None) -> str:
        """Which counter a finished (or, at the end of the job, any) pod belongs to; "" for none."""
        index = index_of(pod)
        if self.indexed and (index is None or index >= (self.completions or 0)):
            return ""
        if pod.status.phase == "Succeeded":
            return "" if self.indexed else "succeeded"  # completedIndexes already says it
        killed = end is not None and end.type == FAILURE and not pod.finished
        if not self._failed(pod) and not killed:
            return ""
        verdict = self.verdicts.get(pod.metadata.uid)
        return "" if verdict is not None and verdict.action == "Ignore" else "failed"

    def _conclude(self, end: End | None) -> None:
        if end is None:
            return
        found = conditions.put(
            self.status.get("conditions") or [], end.type, "True", end.reason, end.message, self.now, probed=True
        )
        quiet = not self.active and not self.terminating and not self.out.untrack
        if quiet and not any(self.waiting.values()):
            final = "Complete" if end.type == SUCCESS else "Failed"
            found = conditions.put(found, final, "True", end.reason, end.message, self.now, probed=True)
            if final == "Complete":
                self.status["completionTime"] = rfc3339(self.now)
                self.out.events.append(("Normal", "Completed", "Job completed"))
            else:
                self.out.events.append(("Warning", end.reason, end.message))
        self.status["conditions"] = found

    def _finish_status(self) -> None:
        gone = {p.metadata.uid for p in (*self.out.drop, *self.out.kill)}
        left = [p for p in self.active if p.metadata.uid not in gone]
        self.status["active"] = len(left) + len(self.out.create)
        self.status["ready"] = sum(p.ready for p in left)
        self.status["terminating"] = self.terminating + len(gone)
        if self.indexed:
            self.status["succeeded"] = self.succeeded
            self.status["completedIndexes"] = job_indexes.render(self.done)
        if self.per_index is not None:
            self.status["failedIndexes"] = job_indexes.render(self.failed_indexes)
        self.status["uncountedTerminatedPods"] = {way: uids for way, uids in self.waiting.items() if uids}
        # Numbers and texts that say nothing are left out; these three are pointers upstream and stay.
        keep = ("ready", "terminating", "uncountedTerminatedPods", "failedIndexes")
        self.out.status = {k: v for k, v in self.status.items() if v or k in keep}

    def _look_again(self, seconds: float) -> None:
        self.out.again = seconds if self.out.again is None else min(self.out.again, seconds)


def _delay(failures: int) -> float:
    return min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** min(failures - 1, 10))


def _later(pod: Pod, other: Pod | None) -> bool:
    """The pod that carries the higher count of its index."""
    if other is None:
        return True
    mine, theirs = ((index_failures(p) + ignored_failures(p), p.created) for p in (pod, other))
    return bool(mine > theirs)
