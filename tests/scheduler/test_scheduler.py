"""Stories on the real API server: pods find nodes, refusals are told and mended, two schedulers and kills do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from jota.client.informers import Informers
from jota.client.pods import Pod
from jota.meta.resource import EVENTS, NODES, PODS, SERVICEACCOUNTS
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

READY = {"type": "Ready", "status": "True"}
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}


def pod(name: str, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def node(name: str, cpu: str = "1") -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": "4Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"allocatable": allocatable, "capacity": allocatable, "conditions": [READY]},
    }


@asynccontextmanager
async def cluster(*nodes: dict[str, Any]) -> AsyncIterator[ApiServer]:
    async with ApiServer() as api:
        for n in nodes:
            await add_node(api, n)
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        task = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(1)).run())
        try:
            yield api
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def add_node(api: ApiServer, n: dict[str, Any]) -> None:
    made = await api.client.create(NODES, n)
    made["status"] = n["status"]
    await api.client.update(NODES, made, subresource="status")


async def where(api: ApiServer) -> dict[str, str]:
    listed = await api.client.list(PODS)
    return {p["metadata"]["name"]: p["spec"].get("nodeName", "") for p in listed["items"]}


def test_pods_spread_over_nodes_and_are_bound() -> None:
    async def story() -> None:
        async with cluster(node("a"), node("b")) as api:
            for n in range(6):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            await api.advance(1)
            placed = await where(api)
            assert sorted(placed.values()) == ["a"] * 3 + ["b"] * 3
            events = await api.client.list(EVENTS, "default")
            assert any(
                e["reason"] == "Scheduled" and e["message"].startswith("Successfully assigned default/p")
                for e in events["items"]
            )

    asyncio.run(story())


def test_the_cache_of_pods_is_that_of_others_in_the_process() -> None:
    async def story() -> None:
        async with ApiServer() as api, asyncio.TaskGroup() as tasks:
            await add_node(api, node("a"))
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            informers = Informers(api.client, api.clock, Random(1))
            pods = informers.of(PODS, type=Pod)
            scheduler = Scheduler(api.client, clock=api.clock, random=Random(1), informers=informers)
            loops = [tasks.create_task(scheduler.run())]
            await api.settle()
            await api.client.create(PODS, pod("early"), "default")
            await api.advance(1)
            assert await where(api) == {"early": ""}, (
                "who shares a cache does not run it, and decides nothing before it is whole"
            )
            loops.append(tasks.create_task(informers.run()))
            await api.settle()
            await api.client.create(PODS, pod("late"), "default")
            await api.advance(1)
            assert await where(api) == {"early": "a", "late": "a"}
            assert {key: p.spec.nodeName for key, p in pods.items()} == {"default/early": "a", "default/late": "a"}
            for loop in loops:
                loop.cancel()

    asyncio.run(story())


def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_room_appears() -> None:
    async def story() -> None:
        async with cluster(node("a")) as api:
            await api.client.create(PODS, pod("big", cpu="3"), "default")
            await api.advance(1)
            big = await api.client.get(PODS, "big", "default")
            condition = next(c for c in big["status"]["conditions"] if c["type"] == "PodScheduled")
            assert condition["reason"] == "Unschedulable"
            assert condition["message"] == (
                "0/1 nodes are available: 1 Insufficient cpu. "
                "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            )
            await add_node(api, node("b", cpu="4"))
            await api.advance(15)
            assert (await where(api))["big"] == "b"

    asyncio.run(story())


def test_a_finished_pod_makes_room() -> None:
    async def story() -> None:
        async with cluster(node("a")) as api:
            await api.client.create(PODS, pod("first", cpu="800m"), "default")
            await api.advance(1)
            await api.client.create(PODS, pod("second", cpu="800m"), "default")
            await api.advance(1)
            assert (await where(api))["second"] == ""
            await api.client.patch(PODS, "first", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
            await api.advance(15)
            assert (await where(api))["second"] == "a"

    asyncio.run(story())


def test_a_pod_that_was_resized_to_less_makes_room_once_its_node_has_done_it() -> None:
    async def story() -> None:
        async with cluster(node("a")) as api:
            await api.client.create(PODS, pod("large", "900m"), "default")
            await api.advance(1)
            await shows(api, "large", "900m", 1)
            await api.client.create(PODS, pod("waits", "500m"), "default")
            await api.advance(1)
            patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}}
            await api.client.patch(PODS, "large", "default", patch, type="strategic", subresource="resize")
            await api.advance(1)
            assert (await where(api))["waits"] == ""
            await shows(api, "large", "200m", 2)
            await api.advance(1)
            assert (await where(api))["waits"] == "a"

    asyncio.run(story())


async def shows(api: ApiServer, name: str, cpu: str, generation: int) -> None:
    """The node says that the pod runs, with this much cpu."""
    given = {"allocatedResources": {"cpu": cpu}, "resources": {"requests": {"cpu": cpu}}}
    container = {"name": "c", "image": "x", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
    status = {"phase": "Running", "observedGeneration": generation, "containerStatuses": [{**container, **given}]}
    await api.client.patch(PODS, name, "default", {"status": status}, subresource="status")


def test_gated_pods_and_other_schedulers_pods_are_left_alone() -> None:
    async def story() -> None:
        async with cluster(node("a")) as api:
            await api.client.create(PODS, pod("gated", schedulingGates=[{"name": "wait"}]), "default")
            await api.client.create(PODS, pod("foreign", schedulerName="other"), "default")
            await api.advance(5)
            assert set((await where(api)).values()) == {""}
            (held,) = (await api.client.get(PODS, "gated", "default"))["status"]["conditions"]
            assert (held["type"], held["status"], held["reason"]) == ("PodScheduled", "False", "SchedulingGated")
            assert held["message"] == "Scheduling is blocked due to non-empty scheduling gates"
            await api.client.patch(PODS, "gated", "default", {"spec": {"schedulingGates": []}})
            await api.advance(5)
            assert (await where(api))["gated"] == "a"
            (free,) = (await api.client.get(PODS, "gated", "default"))["status"]["conditions"]
            assert (free["status"], free.get("reason")) == ("True", None)
            assert free["lastTransitionTime"]

    asyncio.run(story())


def test_higher_priority_goes_first() -> None:
    async def story() -> None:
        async with cluster() as api:
            await api.client.create(PODS, pod("low", cpu="800m"), "default")
            await api.client.create(
                PODS, pod("high", cpu="800m", priorityClassName="system-cluster-critical"), "default"
            )
            await api.advance(1)
            await add_node(api, node("a"))
            await api.advance(20)
            placed = await where(api)
            assert placed["high"] == "a", placed
            assert placed["low"] == ""

    asyncio.run(story())


def test_two_schedulers_racing_bind_each_pod_once_and_know_of_each_other() -> None:
    """What one decides while the other's last binding is on its way can be one too many: as upstream, the node refuses it
    (OutOfcpu)."""

    async def story() -> None:
        async with cluster(node("a"), node("b")) as api:
            rival = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(2)).run())
            for n in range(20):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            await api.advance(30)
            rival.cancel()
            await asyncio.gather(rival, return_exceptions=True)
            placed = await where(api)
            assert len(placed) == 20
            assert "" not in placed.values()
            assert abs(list(placed.values()).count("a") - 10) <= 1

    asyncio.run(story())


def test_a_new_scheduler_goes_on_where_the_old_one_was_killed() -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(
                SERVICEACCOUNTS,
                ACCOUNT,
                "default",
            )
            await add_node(api, node("a"))
            for n in range(12):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            for turns in range(1, 60, 3):
                task = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(turns)).run())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            task = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(0)).run())
            await api.advance(30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            placed = await where(api)
            assert list(placed.values()).count("a") == 10

    asyncio.run(story())
