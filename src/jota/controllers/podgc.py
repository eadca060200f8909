"""Pods that nobody else removes: finished ones beyond a threshold, those of vanished nodes, and those that terminate without a
node or on one that is out of service. In: pods and nodes. Out: forced deletes. `plan` decides over all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from jota.client.informer import split_key
from jota.controllers.attachdetach_plan import OUT_OF_SERVICE
from jota.controllers.controller import Context, Sweep
from jota.controllers.disruption import mark
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS

AT_ONCE = 32
"""Removals in flight: they share the store's commits."""
QUARANTINE = 40.0
"""Seconds that a node must be unknown before its pods count as orphans (its object may be about to come back)."""


@dataclass(slots=True)
class Plan:
    finished: list[Pod] = field(default_factory=list)
    orphaned: list[Pod] = field(default_factory=list)
    unscheduled: list[Pod] = field(default_factory=list)
    stranded: list[Pod] = field(default_factory=list)
    """Terminating on nodes that somebody declared out of service."""


def plan(pods: Iterable[Pod], gone_nodes: set[str], threshold: int, out_of_service: Collection[str] = ()) -> Plan:
    """`gone_nodes`: nodes that are certain not to exist. `threshold`: finished pods to keep; 0 or less keeps all.

    `out_of_service`: nodes that are not ready and bear the out-of-service taint.
    """
    out, finished = Plan(), []
    for pod in pods:
        if pod.spec.nodeName in gone_nodes:
            out.orphaned.append(pod)
        elif pod.terminating and pod.spec.nodeName in out_of_service:
            out.stranded.append(pod)
        elif pod.finished:
            finished.append(pod)
        elif pod.terminating and not pod.spec.nodeName:
            out.unscheduled.append(pod)
    if 0 < threshold < len(finished):
        finished.sort(key=lambda p: (p.created, p.key))
        out.finished = finished[: len(finished) - threshold]
    return out


class PodGarbageCollector(Sweep):
    name: ClassVar[str] = "pod-garbage-collector"
    period: ClassVar[float] = 20.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch(PODS, type=Pod)
        self.nodes = self.watch(NODES)
        self._missing: dict[str, float] = {}
        """Node name -> when it was first missed (monotonic)."""

    async def sweep(self) -> None:
        threshold, closed = self.config.terminated_pod_threshold, {n for n in self.nodes.keys() if self._closed(n)}  # noqa: SIM118
        decided = plan(self.pods.list(), await self._gone(), threshold, closed)
        await self._remove_all(decided.orphaned, "PodGC: node no longer exists")
        await self._remove_all(decided.stranded, "PodGC: node is out of service")
        await self._remove_all([*decided.unscheduled, *decided.finished])

    async def _remove_all(self, pods: list[Pod], why: str = "") -> None:
        """What one pod is refused does not keep the others. Raises the first failure, after all were tried."""
        failed: list[BaseException] = []
        for start in range(0, len(pods), AT_ONCE):
            some = [self._remove(pod, why) for pod in pods[start : start + AT_ONCE]]
            failed += [e for e in await asyncio.gather(*some, return_exceptions=True) if e is not None]
        if failed:
            raise failed[0]

    def _closed(self, name: str) -> bool:
        node = self.nodes.get(name) or {}
        taints = {t["key"] for t in (node.get("spec") or {}).get("taints") or ()}
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in (node.get("status") or {}).get("conditions") or ()
        )
        return OUT_OF_SERVICE in taints and not ready

    async def _gone(self) -> set[str]:
        """Nodes that pods name, that were missed for the quarantine, and that the API itself does not know."""
        now = self.clock.monotonic()
        missing = {p.spec.nodeName for p in self.pods.list() if p.spec.nodeName} - set(self.nodes.keys())
        self._missing = {name: self._missing.get(name, now) for name in missing if name}
        return {n for n, since in self._missing.items() if now - since >= QUARANTINE and await self._absent(n)}

    async def _absent(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except ApiError as e:
            if e.code == 404:
                return True
            raise
        return False

    async def _remove(self, pod: Pod, why: str = "") -> None:
        namespace, name = split_key(pod.key)
        try:
            if why and not pod.finished:
                # Job controllers must see the end of the pod, not only its absence.
                await mark(self.client, pod, "DeletionByPodGC", why, self.clock.now(), failed=True)
            await self.client.delete(PODS, name, namespace, grace=0, uid=pod.metadata.uid, answer=False)
        except ApiError as e:
            if e.code not in (404, 409):
                raise
