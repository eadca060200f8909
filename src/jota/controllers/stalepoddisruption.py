"""Takes back the condition DisruptionTarget of pods that were to be deleted, and were not: whoever said so may have died in between.

In: pods with the condition that are not being deleted. Out: the condition, False, two minutes after it was set. As part of
upstream's disruption controller; what a kubelet says of itself may take as long as it likes.
"""

from __future__ import annotations

from typing import ClassVar

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.client.informer import split_key
from jota.client.podparts import Condition
from jota.client.pods import CONDITIONS
from jota.controllers.controller import Context, Controller
from jota.controllers.views import Pod, pod_key
from jota.meta.errors import ApiError
from jota.meta.resource import PODS

TYPE, OF_KUBELET = "DisruptionTarget", "TerminationByKubelet"
TIMEOUT = 120.0
"""Seconds (upstream's stalePodDisruptionTimeout)."""


def announced(pod: Pod) -> Condition | None:
    """The condition, if the pod is to go and neither goes nor has ended."""
    if pod.terminating or pod.finished:
        return None
    for condition in pod.status.conditions or ():
        if condition.type == TYPE and condition.status == "True" and condition.reason != OF_KUBELET:
            return condition
    return None


class StalePodDisruptionController(Controller):
    name: ClassVar[str] = "stale-pod-disruption"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch(
            PODS, pod_key, when=lambda _, new: new is not None and announced(new) is not None, on=CONDITIONS, type=Pod
        )

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.get(key)
        condition = announced(pod) if pod is not None else None
        if pod is None or condition is None:
            return None
        now = self.clock.now()
        since = parse_rfc3339(condition.lastTransitionTime) if condition.lastTransitionTime else 0.0
        if (left := since + TIMEOUT - now) > 0:
            return left
        namespace, name = split_key(key)
        gone = {"reason": None, "message": None}
        changed = {"type": TYPE, "status": "False", "lastTransitionTime": rfc3339(now), **gone}
        meta = {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resourceVersion}
        patch = {"metadata": meta, "status": {"conditions": [changed]}}
        try:
            written = await self.client.patch(PODS, name, namespace, patch, type="strategic", subresource="status")
        except ApiError as e:
            if e.code == 409:
                return 0.0  # it has changed: look again
            if e.code != 404:
                raise
            return None
        self.wrote(key, self.pods, written)
        return None
