"""A StatefulSet's next step. Pure. In: the set, its pods, its revisions. Out: pods to create and delete, the status.

With OrderedReady one thing happens at a time: the lowest missing ordinal is created once all below it are available; when
all stand, the highest surplus pod goes; when none is surplus, the highest pod of an old revision is replaced. Parallel
creates and removes at once, and still updates in order (at most maxUnavailable down). Next: statefulset.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jota.controllers.revisions import share
from jota.controllers.statefulset_pods import ordinal_of, revision_of, start_of
from jota.controllers.views import Pod

Object = dict[str, Any]

BURST = 500
"""Pods created in one step; seeing them is what starts the next."""


@dataclass(slots=True)
class Plan:
    create: list[tuple[int, bool]] = field(default_factory=list)
    """(ordinal, from the current instead of the update revision)."""
    delete: list[Pod] = field(default_factory=list)
    failed: list[Pod] = field(default_factory=list)
    """To delete because they ended; their successors come with the next step."""
    condemned: list[Pod] = field(default_factory=list)
    """All surplus pods, whether their turn has come or not: their claims may have to go with them."""
    status: Object = field(default_factory=dict)
    again: float | None = None


def plan(owner: Object, pods: list[Pod], current: str, update: str, now: float) -> Plan:
    """`current` and `update` name the revisions of the status and of the template."""
    return _Step(owner, pods, current, update, now).take()


class _Step:
    def __init__(self, owner: Object, pods: list[Pod], current: str, update: str, now: float) -> None:
        self.owner, self.spec, self.now = owner, owner["spec"], now
        self.current, self.update = current, update
        self.start, self.wanted = start_of(owner), int(owner["spec"].get("replicas", 1))
        self.ordered = self.spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        self.minimum = self.spec.get("minReadySeconds") or 0
        strategy = self.spec.get("updateStrategy") or {}
        self.rolling: Object | None = None
        if strategy.get("type", "RollingUpdate") == "RollingUpdate":
            self.rolling = strategy.get("rollingUpdate") or {}
        name = owner["metadata"]["name"]
        self.members = {o: p for p in pods if (o := ordinal_of(name, p.metadata.name)) is not None}
        self.out = Plan()

    def take(self) -> Plan:
        end = self.start + self.wanted
        surplus = sorted((o for o in self.members if not self.start <= o < end), reverse=True)
        self.out.condemned = [self.members[o] for o in surplus]
        if "deletionTimestamp" not in self.owner["metadata"] and self._fill(end) and self._shrink(surplus):
            self._roll(end)
        self._report()
        return self.out

    def _fill(self, end: int) -> bool:
        """Create what is missing; False when the order says to wait."""
        for ordinal in range(self.start, end):
            pod = self.members.get(ordinal)
            if pod is None:
                self.out.create.append((ordinal, self._from_current(ordinal)))
            elif pod.finished:
                if not pod.terminating:
                    self.out.failed.append(pod)
            elif self._available(pod) and not pod.terminating:
                continue
            if self.ordered or len(self.out.create) >= BURST:
                return False
        return True

    def _from_current(self, ordinal: int) -> bool:
        """Below the partition a pod is made anew from the revision that it had."""
        if self.rolling is None:
            return False
        return ordinal < self.start + int(self.rolling.get("partition") or 0)

    def _shrink(self, surplus: list[int]) -> bool:
        """Remove what is too much, highest ordinal first; False when the order says to wait. An unhealthy pod goes in its
        turn only when no lower one is unhealthy too (upstream's rule: a scale down halts while several are)."""
        sick = [o for o in surplus if not self._ready(self.members[o])]
        for ordinal in surplus:
            pod = self.members[ordinal]
            if pod.terminating:
                if self.ordered:
                    return False
                continue
            if self.ordered and not self._available(pod) and ordinal != min(sick, default=None):
                return False
            self.out.delete.append(pod)
            if self.ordered:
                return False
        return True

    def _roll(self, end: int) -> None:
        """Replace pods of old revisions, from the highest ordinal down to the partition."""
        if self.rolling is None:
            return
        partition = self.start + int(self.rolling.get("partition") or 0)
        room = self._max_unavailable() - sum(not self._healthy(o) for o in range(self.start, end))
        for ordinal in range(end - 1, max(partition, self.start) - 1, -1):
            pod = self.members.get(ordinal)
            if pod is None or pod in self.out.failed:
                continue
            old = revision_of(pod) != self.update and not pod.terminating
            if old and not self._healthy(ordinal):
                self.out.delete.append(pod)  # down already: replacing it costs nothing
            elif old and room > 0:
                self.out.delete.append(pod)
                room -= 1
            elif old or (room <= 0 and not self._healthy(ordinal)):
                return

    def _max_unavailable(self) -> int:
        value = (self.rolling or {}).get("maxUnavailable")
        return 1 if value is None else max(1, math.ceil(share(value, self.wanted)))

    def _healthy(self, ordinal: int) -> bool:
        pod = self.members.get(ordinal)
        return pod is not None and not pod.terminating and self._available(pod)

    @staticmethod
    def _ready(pod: Pod) -> bool:
        return pod.status.phase == "Running" and pod.ready

    def _available(self, pod: Pod) -> bool:
        if not self._ready(pod):
            return False
        left = pod.ready_since + self.minimum - self.now if self.minimum else 0.0
        if left > 0:
            self.out.again = left if self.out.again is None else min(self.out.again, left)
        return left <= 0

    def _report(self) -> None:
        pods = list(self.members.values())
        ready = [p for p in pods if self._ready(p)]
        living = [p for p in pods if not p.terminating]
        old = self.owner.get("status") or {}
        counts = {
            "readyReplicas": len(ready),
            "currentReplicas": sum(revision_of(p) == self.current for p in living),
            "updatedReplicas": sum(revision_of(p) == self.update for p in living),
        }
        status: Object = {"replicas": len(pods), "availableReplicas": sum(self._available(p) for p in ready)}
        status |= {k: v for k, v in counts.items() if v}
        status |= {"currentRevision": self.current, "updateRevision": self.update}
        status["observedGeneration"] = self.owner["metadata"].get("generation", 0)
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        status["collisionCount"] = old.get("collisionCount") or 0
        whole = self.wanted == len(pods) == len(ready) == counts["updatedReplicas"]
        if self.rolling is not None and whole and self.current != self.update:
            status["currentRevision"], status["currentReplicas"] = self.update, counts["updatedReplicas"]
        if not status.get("currentReplicas"):
            status.pop("currentReplicas", None)
        self.out.status = status
