"""The scheduler dies at its n-th write while it places a gang, pods with claims, or pods that displace others; the next one ends
the work, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from tests.controllers.test_crash_at_every_step import Dying

from jota.api.config import ApiConfig
from jota.client.client import Client
from jota.meta.resource import PODS, SERVICEACCOUNTS
from jota.scheduler.resources import DEVICECLASSES, RESOURCECLAIMS, RESOURCESLICES
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

from .dra import claim, device, device_class, slice_, uses
from .test_gang import SERVED, gang
from .test_preemption import PRIORITIES
from .test_scheduler import ACCOUNT, add_node, node, pod, where

Object = dict[str, Any]


async def told(story: Callable[[ApiServer], Awaitable[None]], at: int, after: bool) -> tuple[Object, bool]:
    """(what came of it, whether the first scheduler died)."""
    async with ApiServer(config=ApiConfig(runtime_config=SERVED)) as api:
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        for name in ("a", "b"):
            await add_node(api, node(name, "2"))
        await story(api)
        transport = Dying(api.client.transport, at, after)
        for client in (Client(transport), api.client):
            task = asyncio.create_task(Scheduler(client, clock=api.clock, random=Random(1)).run())
            await api.advance(20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        claims = (await api.client.list(RESOURCECLAIMS, "default"))["items"]
        devices = [d for c in claims for d in c["status"]["allocation"]["devices"]["results"]]
        used = [c["name"] for claim in claims for c in claim["status"]["reservedFor"]]
        placed = [bool(n) for n in (await where(api)).values()]
        found = {"placed": placed, "devices": len({(d["pool"], d["device"]) for d in devices}), "used": sorted(used)}
        for one in claims:
            home = (await where(api))[one["status"]["reservedFor"][0]["name"]]
            assert all(d["pool"] == home for d in one["status"]["allocation"]["devices"]["results"])
        return found, transport.dead


async def a_gang(api: ApiServer) -> None:
    await gang(api, "g", 4)


async def pods_with_claims(api: ApiServer) -> None:
    await api.client.create(DEVICECLASSES, device_class())
    for name in ("a", "b"):
        await api.client.create(RESOURCESLICES, slice_(name, device("g0"), device("g1")))
    for n in range(3):
        await api.client.create(RESOURCECLAIMS, claim(f"c{n}"), "default")
        await api.client.create(PODS, pod(f"p{n}", **uses(f"c{n}")), "default")


async def pods_that_displace_others(api: ApiServer) -> None:
    """Both nodes are full of less important pods."""
    high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 9}
    await api.client.create(PRIORITIES, high)
    for n, home in enumerate("aabb"):
        low = pod(f"low-{n}", "1", nodeName=home, terminationGracePeriodSeconds=0)
        await api.client.create(PODS, low, "default")
    for n in range(2):
        await api.client.create(PODS, pod(f"top-{n}", "2", priorityClassName="high"), "default")


@pytest.mark.fault
@pytest.mark.parametrize(("story", "writes"), [(a_gang, 4), (pods_with_claims, 9), (pods_that_displace_others, 4)])
@pytest.mark.parametrize("after", [False, True])
def test_the_next_scheduler_ends_what_a_dead_one_began(
    story: Callable[[ApiServer], Awaitable[None]], writes: int, after: bool
) -> None:
    async def tell() -> None:
        wanted, _ = await told(story, -1, False)
        assert all(wanted["placed"])
        deaths = 0
        for at in range(1, 60):
            found, died = await told(story, at, after)
            assert found == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
            if not died:
                break
            deaths += 1
        assert deaths >= writes

    asyncio.run(tell())
