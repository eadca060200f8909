"""The wall clock jumps, by a day, forth and back: nothing is lost, nobody is evicted, work goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.aio.clock import rfc3339_micro
from jota.controllers.controller import ControllerConfig
from jota.controllers.table import run_controllers
from jota.meta.resource import DEPLOYMENTS, LEASES, NODES, PODS
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock

DAY = 86400.0


class JumpingClock(VirtualClock):
    """Virtual time whose wall clock can be set; the monotonic one goes on as ever."""

    jump = 0.0

    def now(self) -> float:
        return super().now() + self.jump


def deployment(name: str) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def beat(api: ApiServer, clock: JumpingClock) -> None:
    """What a node agent does: renew the lease every ten seconds, by the same (jumping) wall clock."""
    status = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}
    await api.client.create(NODES, {"metadata": {"name": "n"}, "spec": {}, "status": status})
    lease = {"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}}
    await api.client.create(LEASES, lease, "kube-node-lease")
    while True:
        patch = {"spec": {"renewTime": rfc3339_micro(clock.now())}}
        await api.client.patch(LEASES, "n", "kube-node-lease", patch)
        await clock.sleep(10)


@pytest.mark.parametrize("jump", [DAY, -DAY, 365 * DAY])
def test_a_jump_evicts_nobody_and_stops_nothing(jump: float) -> None:
    async def story() -> None:
        clock = JumpingClock()
        async with ApiServer(clock=clock) as api:
            stop = asyncio.Event()
            tasks = [
                asyncio.create_task(run_controllers(api.client, clock, ControllerConfig(), stop)),
                asyncio.create_task(beat(api, clock)),
            ]
            await clock.advance(30)
            await api.client.create(DEPLOYMENTS, deployment("before"), "default")
            await clock.advance(30)
            for pod in (await api.client.list(PODS, "default"))["items"]:
                target = {"target": {"kind": "Node", "name": "n"}}
                await api.client.create(PODS, target, "default", "binding", pod["metadata"]["name"])
            uids = {p["metadata"]["uid"] for p in (await api.client.list(PODS, "default"))["items"]}
            clock.jump = jump
            await clock.advance(200)
            node = await api.client.get(NODES, "n")
            ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
            assert ready["status"] == "True"
            assert {p["metadata"]["uid"] for p in (await api.client.list(PODS, "default"))["items"]} == uids
            await api.client.create(DEPLOYMENTS, deployment("after"), "default")
            await clock.advance(30)
            assert len((await api.client.list(PODS, "default"))["items"]) == 4
            stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(story())
