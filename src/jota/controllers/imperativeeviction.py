"""imperative-eviction.k8s.io/evictor: the responder that every pod has. When its turn comes it asks pods/eviction, again and again
while disruption budgets refuse, and tells in the Eviction how it goes. Upstream: pkg/controller/imperativeevictionresponder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from jota.aio.clock import rfc3339
from jota.controllers.controller import Context, Controller, Object, own
from jota.controllers.evictionrequest import TargetPod
from jota.kinds.common import moment
from jota.kinds.lifecycle.participants import IMPERATIVE
from jota.kinds.shape import deep, part, parts, text
from jota.meta import conditions
from jota.meta.errors import ApiError
from jota.meta.resource import EVICTIONS, PODS

FIRST, LONGEST = 5.0, 600.0
"""Seconds between two tries; doubled each time."""
HEARTBEAT = 180.0
"""Seconds between two signs of life."""
_ATTEMPTS = re.compile(r"\(attempts=(\d+)\)")
_MARKED = "marked for deletion via the /eviction subresource"


class ImperativeEvictionController(Controller):
    name: ClassVar[str] = "imperative-eviction-responder-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tried: dict[str, float] = {}
        """Pod uid -> when its eviction was refused last (epoch seconds); a new process tries at once."""
        self.evictions = self.watch(EVICTIONS, own)
        self.pods = self.watch(PODS, self._keys_of_pod, type=TargetPod)

    def _keys_of_pod(self, pod: TargetPod) -> Iterable[str]:
        uid = pod.metadata.uid
        return [own(e)[0] for e in self.evictions.list() if deep(e, "spec", "target", "pod").get("uid") == uid]

    async def reconcile(self, key: str) -> float | None:
        eviction = self.evictions.get(key)
        report = _turn(eviction) if eviction is not None else None
        if eviction is None or report is None:
            if eviction is not None:
                self._tried.pop(str(deep(eviction, "spec", "target", "pod").get("uid")), None)
            return None
        now, target = self.clock.now(), deep(eviction, "spec", "target", "pod")
        pod = self.pods.get(f"{eviction['metadata']['namespace']}/{target['name']}")
        said, over, expected, again = await self._respond(pod, target, report, now)
        changed = over or said != text(report, "message")
        changed |= expected is not None and rfc3339(expected) != report.get("expectedCompletionTime")
        if changed or (moment(report.get("heartbeatTime")) or 0.0) < now - HEARTBEAT + 1.0:
            new = {"name": IMPERATIVE, "message": said[:4000], "heartbeatTime": rfc3339(now)}
            if expected is not None or over:
                new["expectedCompletionTime"] = rfc3339(now if over or expected is None else max(expected, now))
            if over:
                new["completionTime"] = rfc3339(now)
            await self._tell(key, eviction, new)
        return min(again, HEARTBEAT) if again is not None else None

    async def _respond(
        self, pod: TargetPod | None, target: Object, report: Object, now: float
    ) -> tuple[str, bool, float | None, float | None]:
        """(what to say, whether it is over, when it will be, seconds after which to look again)."""
        name, last = text(target, "name"), text(report, "message")
        if pod is None or pod.metadata.uid != target.get("uid"):
            return f'"{name}" pod has been deleted and fully terminated', True, None, None
        if pod.metadata.deletionTimestamp:
            if pod.terminal:
                return (
                    f'"{name}" pod has been deleted and fully terminated (pod phase="{pod.status.phase}")',
                    True,
                    None,
                    None,
                )
            how = " via the /eviction subresource" if _MARKED in last else ""
            said = f'"{name}" pod has been marked for deletion{how} and is being terminated gracefully'
            return said, False, moment(pod.metadata.deletionTimestamp), HEARTBEAT
        if pod.terminal:
            return f'"{name}" pod has been fully terminated (pod phase="{pod.status.phase}")', True, None, None
        return await self._evict(pod, report, now)

    async def _evict(self, pod: TargetPod, report: Object, now: float) -> tuple[str, bool, float | None, float | None]:
        meta, last = pod.metadata, text(report, "message")
        found = _ATTEMPTS.search(last)
        attempts = int(found[1]) if found else 0
        due = self._tried.get(meta.uid, now) + _backoff(attempts - 1)
        if meta.uid in self._tried and due > now:
            return last, False, None, due - now
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta.name, "namespace": meta.namespace},
            "deleteOptions": {"preconditions": {"uid": meta.uid}},
        }
        try:
            await self.client.create(PODS, body, meta.namespace, subresource="eviction", name=meta.name)
        except ApiError as error:
            if error.code == 404:
                return last, False, None, FIRST  # its deletion is on the way to our cache
            self._tried[meta.uid] = now
            said = f'"{meta.name}" pod deletion via the /eviction subresource failed (attempts={attempts + 1}): {error}'
            return said, False, None, max(_backoff(attempts), float(error.retry_after or 0))
        self._tried.pop(meta.uid, None)
        return f'"{meta.name}" pod has been {_MARKED} and will be terminated gracefully', False, None, HEARTBEAT

    async def _tell(self, key: str, eviction: Object, report: Object) -> None:
        meta = eviction["metadata"]
        body: dict[str, Any] = {
            "apiVersion": EVICTIONS.api_version,
            "kind": EVICTIONS.kind,
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "status": {"responders": [report]},
        }
        try:
            written = await self.client.patch(
                EVICTIONS,
                meta["name"],
                meta["namespace"],
                body,
                type="apply",
                subresource="status",
                manager=self.name,
                force=True,
            )
        except ApiError as error:
            if error.code != 404:
                raise
        else:
            self.wrote(key, self.evictions, written)


def _turn(eviction: Object) -> Object | None:
    """Our report, when it is our turn and we are not done."""
    status = part(eviction, "status")
    if any(conditions.is_true(parts(status, "conditions"), kind) for kind in ("Failed", "TargetEvicted")):
        return None
    target = next((t for t in parts(status, "targetResponders") if t.get("name") == IMPERATIVE), None)
    report = next((r for r in parts(status, "responders") if r.get("name") == IMPERATIVE), None)
    if target is None or target.get("state") != "Active" or report is None or report.get("completionTime"):
        return None
    return report


def _backoff(attempts: int) -> float:
    return min(FIRST * 2.0 ** min(max(attempts, 0), 10), LONGEST)
