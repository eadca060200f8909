"""A kubelet whose containers end as a test says, and short forms of jobs: for stories about workloads that finish."""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339
from jota.meta.resource import PODS

from .stories import Kubelet

Object = dict[str, Any]


def job(name: str = "work", policy: str = "Never", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {
            "template": {"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "work:1"}]}},
            **spec,
        },
    }


class Runner(Kubelet):
    """`outcome(pod)` gives the exit code of a running pod's container, or None while it runs on."""

    def outcome(self, pod: Object) -> int | None:
        return 0

    async def tick(self) -> bool:
        changed = await super().tick()
        for pod in (await self.api.client.list(PODS))["items"]:
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                code = self.outcome(pod)
                if code is not None:
                    await self.finish(pod, code)
                    changed = True
        return changed

    async def finish(self, pod: Object, code: int, **more: Any) -> None:
        meta, now = pod["metadata"], rfc3339(self.api.clock.now())
        ended = {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": now}}}
        ended |= {"ready": False, "restartCount": 0, "image": "work:1", "imageID": "", "lastState": {}}
        phase = "Failed" if code else "Succeeded"
        status = {"phase": phase, "containerStatuses": [ended], "conditions": [], **more}
        await self.api.client.patch(PODS, meta["name"], meta["namespace"], {"status": status}, subresource="status")

    async def rest(self, seconds: float = 60.0) -> None:
        """Let time pass with the kubelet at work."""
        end = self.api.clock.now() + seconds
        while self.api.clock.now() < end:
            await self.api.advance(0.5)
            await self.tick()


def index_of(pod: Object) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def reasons(obj: Object) -> dict[str, str]:
    """Condition type -> reason, of the true ones."""
    return {c["type"]: c["reason"] for c in obj["status"].get("conditions", ()) if c["status"] == "True"}
