"""What the scheduler says of a pod, to everybody: its own condition, events, and to victims that they must go.

In: a pod and why it was refused, or what was done with it. Out: writes through the API. Called by scheduler.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.scheduler.pod import Pod
from jota.scheduler.preemption import Candidate


class Reporter:
    def __init__(self, client: Client, clock: Clock, events: Mapping[str, EventRecorder]) -> None:
        """`events`: a recorder for each scheduler name."""
        self._client, self._clock, self._events = client, clock, events

    def tell(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        self._events[pod.spec.schedulerName].event(_reference(pod), kind, reason, message)

    async def refused(self, pod: Pod, message: str, candidate: Candidate | None, reason: str) -> None:
        """Say why in the pod's own condition and in an event, so that every client shows it; quiet when nothing changed.

        With a candidate, its victims are sent away once the pod is nominated. Raises ApiError, ConnectionError, TimeoutError.
        """
        known = next((c for c in pod.status.conditions or () if c.type == "PodScheduled"), None)
        same = known is not None and known.status == "False" and known.message == message
        nominated = candidate.node if candidate is not None else ""
        if not same or (nominated and pod.status.nominatedNodeName != nominated):
            self.tell(pod, "Warning", "FailedScheduling", message)
            await self._write_condition(pod, message, nominated, reason)
        if candidate is not None:
            await self._evict(pod, candidate)  # also when all was told: whoever told it may not have come so far

    async def _write_condition(self, pod: Pod, message: str, nominated: str, reason: str) -> None:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": rfc3339(self._clock.now()),
        }
        status: dict[str, Any] = {"conditions": [condition]}
        if nominated:
            status["nominatedNodeName"] = nominated
        meta = pod.metadata
        patch = {"status": status}
        await self._client.patch(
            PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status", answer=False
        )

    async def _evict(self, pod: Pod, candidate: Candidate) -> None:
        """Mark and delete the victims; they get their own grace period."""
        for victim in candidate.victims:
            if victim.terminating:
                continue
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{pod.spec.schedulerName}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": rfc3339(self._clock.now()),
            }
            patch = {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    PODS, victim.name, victim.namespace, patch, type="strategic", subresource="status", answer=False
                )
                await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid, answer=False)
            except ApiError as error:
                if error.code not in (404, 409):  # gone, or another pod by now
                    raise
                continue
            reference = {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": victim.namespace,
                "name": victim.name,
                "uid": victim.uid,
            }
            text = f"Preempted by pod {pod.metadata.uid} on node {candidate.node}"
            self._events[pod.spec.schedulerName].event(reference, "Normal", "Preempted", text)


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
