"""What the scheduler says of a pod, to everybody: its own condition, events, and to victims that they must go.

In: a pod and why it was refused, or what was done with it. Out: writes through the API. Called by scheduler.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.scheduler.nominations import Nominations
from jota.scheduler.pod import Pod
from jota.scheduler.preemption import Candidate, Placed

log = logging.getLogger("jota.scheduler")
T = TypeVar("T")
Object = dict[str, Any]


@dataclass(slots=True, eq=False)
class Report:
    """That a pod was refused and who must go for it, and how far this has been carried out."""

    pod: Pod
    message: str
    candidate: Candidate | None = None
    reason: str = "Unschedulable"
    given_up: bool = False
    """It is to be nominated no more."""
    nominated: Placed | None = None
    """The room that it is told of."""
    begun: bool = False
    """There is an event."""
    told: bool = False
    """The pod's condition says it."""
    marked: set[str] = field(default_factory=set)
    """Uids of victims whose condition says that they must go."""
    displaced: list[Placed] = field(init=False)
    """Less important pods that are still to be nominated no more."""
    left: list[Placed] = field(init=False)
    """Victims that are still to be sent away."""

    def __post_init__(self) -> None:
        self.displaced = [] if self.candidate is None else [*self.candidate.displaced]
        self.left = [] if self.candidate is None else [v for v in self.candidate.victims if not v.terminating]

    @property
    def done(self) -> bool:
        return self.told and not self.displaced and not self.left


class Reporter:
    def __init__(
        self, client: Client, clock: Clock, events: Mapping[str, EventRecorder], nominations: Nominations
    ) -> None:
        """`events`: a recorder for each scheduler name."""
        self._client, self._clock, self._events, self._nominations = client, clock, events, nominations

    def tell(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        self._events[pod.spec.schedulerName].event(_reference(pod), kind, reason, message)

    async def refused(self, report: Report) -> None:
        """Say why in the pod's own condition and in an event, so that every client shows it; quiet when nothing changed.

        With a candidate, its victims are sent away once the pod is nominated. Raises ApiError, ConnectionError, TimeoutError.
        """
        patch = self._begin(report)
        if patch is not None:
            await self._patch(report.pod.metadata.name, report.pod.metadata.namespace, patch)
        self._told(report)
        while report.displaced:
            await self._displace(report.displaced[0])
            report.displaced.pop(0)
        while report.left:  # also when all was told: whoever told it may not have come so far
            await self._evict(report, report.left[0])
            report.left.pop(0)

    async def refused_together(self, reports: Sequence[Report]) -> None:
        """The same for many, in one request each for all that is done alike, as far as the server can. How far that is, the
        reports say; `refused` does the rest. Raises ApiError, ConnectionError, TimeoutError.

        Victims of one pod are sent away together or one by one: who cannot be marked spares those behind it."""
        begun = [(report, self._begin(report)) for report in reports]
        news = [(r.pod.metadata.namespace, r.pod.metadata.name, patch) for r, patch in begun if patch is not None]
        displaced = [p for report in reports for p in report.displaced]
        told = await self._patch_each([*news, *((p.namespace, p.name, _nominated_no_more(p)) for p in displaced)])
        for report, patch in begun:
            meta = report.pod.metadata
            report.displaced = [p for p in report.displaced if (p.namespace, p.name) not in told]
            if patch is None or (meta.namespace, meta.name) in told:
                self._told(report)
        marks = [(v.namespace, v.name, self._mark(report, v)) for v, report in _victims(r for r in reports if r.told)]
        marked = await self._patch_each(marks)
        ready = []
        for report in reports:
            report.marked = {v.uid for v in report.left if (v.namespace, v.name) in marked}
            if report.told and len(report.marked) == len(report.left):
                ready.append(report)
        gone = set[str]()
        for namespace, victims in _by(lambda going: going[0].namespace, _victims(ready)):
            wanted = [(v.name, v.uid) for v, _ in victims]
            answers = await self._client.delete_each(PODS, wanted, namespace)
            for (victim, report), done in zip(victims, answers, strict=True):
                if done:
                    gone.add(victim.uid)
                    self._preempted(report, victim)
        for report in reports:
            report.left = [v for v in report.left if v.uid not in gone]

    def _begin(self, report: Report) -> Object | None:
        """The patch that says it; None when that was said. Tells it in an event, once."""
        if report.told:
            return None
        pod, candidate = report.pod, report.candidate
        kept = self._nominations.get(pod.metadata.uid)  # to somebody more important the room may be lost by now
        report.nominated = kept if candidate is not None and _same_room(kept, candidate) else None
        nominated = report.nominated.node if report.nominated is not None else ""
        known = next((c for c in pod.status.conditions or () if c.type == "PodScheduled"), None)
        same = known is not None and known.status == "False" and known.message == report.message
        stale = report.given_up and bool(pod.status.nominatedNodeName)
        if same and not stale and (not nominated or pod.status.nominatedNodeName == nominated):
            return None
        if not report.begun:
            report.begun = True
            self.tell(pod, "Warning", "FailedScheduling", report.message)
        status: Object = {"conditions": [self._condition("PodScheduled", "False", report.reason, report.message)]}
        if nominated or stale:
            status["nominatedNodeName"] = nominated or None
        return {"status": status}

    async def _displace(self, pod: Placed) -> None:
        """No reason to stop when it fails (upstream, too): the pod is told so again when it is refused itself."""
        try:
            await self._patch(pod.name, pod.namespace, _nominated_no_more(pod))
        except ApiError as error:
            if error.code not in (404, 409):  # gone, or another pod by now
                log.warning("%s/%s stays nominated to %s: %s", pod.namespace, pod.name, pod.node, error)

    def _told(self, report: Report) -> None:
        report.told, room = True, report.nominated
        if room is not None and not _same_room(self._nominations.get(room.uid), room):
            report.displaced.append(room)  # it was lost while this was on its way

    async def _evict(self, report: Report, victim: Placed) -> None:
        """Mark and delete a victim; it gets its own grace period."""
        try:
            if victim.uid not in report.marked:
                await self._patch(victim.name, victim.namespace, self._mark(report, victim))
                report.marked.add(victim.uid)
            await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid, answer=False)
        except ApiError as error:
            if error.code not in (404, 409):  # gone, or another pod by now
                raise
            return
        self._preempted(report, victim)

    def _mark(self, report: Report, victim: Placed) -> Object:
        text = f"{report.pod.spec.schedulerName}: preempting to accommodate a higher priority pod"
        condition = self._condition("DisruptionTarget", "True", "PreemptionByScheduler", text)
        return {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}

    def _preempted(self, report: Report, victim: Placed) -> None:
        assert report.candidate is not None
        reference = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": victim.namespace,
            "name": victim.name,
            "uid": victim.uid,
        }
        text = f"Preempted by pod {report.pod.metadata.uid} on node {report.candidate.node}"
        self._events[report.pod.spec.schedulerName].event(reference, "Normal", "Preempted", text)

    def _condition(self, type: str, status: str, reason: str, message: str) -> Object:
        now = rfc3339(self._clock.now())
        return {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}

    async def _patch(self, name: str, namespace: str, patch: Object) -> None:
        await self._client.patch(PODS, name, namespace, patch, type="strategic", subresource="status", answer=False)

    async def _patch_each(self, patches: Iterable[tuple[str, str, Object]]) -> set[tuple[str, str]]:
        """Of pods by namespace and name; those for which it is done."""
        done = set[tuple[str, str]]()
        for namespace, several in _by(lambda one: one[0], patches):
            bodies = [(name, patch) for _, name, patch in several]
            answers = await self._client.patch_each(PODS, bodies, namespace, "strategic", "status")
            done.update((namespace, name) for (name, _), answer in zip(bodies, answers, strict=True) if answer)
        return done


def _same_room(kept: Placed | None, room: Placed | Candidate) -> bool:
    return kept is not None and kept.node == room.node


def _nominated_no_more(pod: Placed) -> Object:
    return {"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": None}}


def _victims(reports: Iterable[Report]) -> Iterable[tuple[Placed, Report]]:
    """Each once, whoever needs its room, too."""
    return {v.uid: (v, report) for report in reports for v in report.left}.values()


def _by(namespace: Callable[[T], str], items: Iterable[T]) -> Iterable[tuple[str, list[T]]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(namespace(item), []).append(item)
    return found.items()


def _reference(pod: Pod) -> dict[str, Any]:
    meta = pod.metadata
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "resourceVersion": meta.resourceVersion,
    }
