"""Who is nominated, and when no more: what status.nominatedNodeName says must be so."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import orjson
import pytest
from tests.scheduler.test_meanwhile import Gate, Request, cluster
from tests.scheduler.test_preemption import PRIORITIES
from tests.scheduler.test_scheduler import add_node, node, pod, where

from jota.meta.resource import NODES, PODS
from jota.scheduler.pod import Pod
from jota.scheduler.queue import Waiting
from jota.scheduler.scheduler import Scheduler
from jota.scheduler.snapshot import Node
from jota.testing.cluster import ApiServer

MIDDLE = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "middle"}, "value": 5}


async def nominated(api: ApiServer, name: str) -> str:
    status: dict[str, Any] = (await api.client.get(PODS, name, "default"))["status"]
    return str(status.get("nominatedNodeName", ""))


async def less_important_ones(api: ApiServer, count: int = 1) -> None:
    """On each of the nodes n0 .. a pod that takes its time to end, and for its room a less important one than will come."""
    await api.client.create(PRIORITIES, MIDDLE)
    for n in range(count):
        await api.client.create(PODS, pod(f"low-{n}", cpu="800m"), "default")
    await api.advance(1)
    for n in range(count):
        await api.client.create(PODS, pod(f"middle-{n}", cpu="800m", priorityClassName="middle"), "default")
    await api.advance(1)


async def important_ones(api: ApiServer, count: int = 1) -> None:
    made = [pod(f"high-{n}", cpu="800m", priorityClassName="high") for n in range(count)]
    await asyncio.gather(*(api.client.create(PODS, one, "default") for one in made))
    await api.advance(1)


def test_a_mistake_about_one_leaves_no_other_in_the_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody binds them then: they are tried again, those too that had moved into their rooms."""

    async def story() -> None:
        async with ApiServer() as api:
            scheduler = Scheduler(api.client, clock=api.clock, random=Random(1))
            for n in range(3):
                scheduler._nodes.put_node(msgspec.convert(node(f"n{n}"), Node))
            group = []
            for n in range(3):
                made = pod(f"p{n}", cpu="800m", schedulerName="default-scheduler")
                made["metadata"] |= {"uid": f"u{n}", "namespace": "default"}
                one = Pod.from_json(orjson.dumps(made))
                group.append(Waiting(one, scheduler._shapes.of(one), (0, 0.0, n)))
            scheduler._keep_room(group[0].pod, "n0")
            tried = []

            def fails(*_: Any) -> None:
                tried.append(scheduler._nodes.used("cpu").tolist())
                raise RuntimeError("a plugin's mistake")

            with monkeypatch.context() as patched:
                patched.setattr(scheduler, "_place_one", fails)
                with pytest.raises(RuntimeError, match="mistake"):
                    scheduler._decide(group)
            assert tried == [[800, 0, 0]]
            assert scheduler._nodes.used("cpu").tolist() == [0, 0, 0]
            placed, refused = scheduler._decide(group)
            assert sorted(slot for _, slot in placed) == [0, 1, 2]
            assert not refused

    asyncio.run(story())


@pytest.mark.parametrize("count", [1, 3])
def test_a_more_important_pod_takes_the_nomination_of_a_less_important_one(count: int) -> None:
    """Alone, and many of them in one request."""

    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(count))) as (api, _):
            await less_important_ones(api, count)
            names = [f"n{n}" for n in range(count)]
            assert sorted([await nominated(api, f"middle-{n}") for n in range(count)]) == names
            await important_ones(api, count)
            assert sorted([await nominated(api, f"high-{n}") for n in range(count)]) == names
            assert [await nominated(api, f"middle-{n}") for n in range(count)] == [""] * count
            for n in range(count):
                await api.client.delete(PODS, f"low-{n}", "default", grace=0)
            await api.advance(15)
            placed = await where(api)
            assert sorted(placed[f"high-{n}"] for n in range(count)) == names
            assert {placed[f"middle-{n}"] for n in range(count)} == {""}

    asyncio.run(story())


def test_a_nomination_that_is_lost_before_it_was_told_is_not_told() -> None:
    """What the less important pod's report says is sent after a more important one has taken its room."""

    async def story() -> None:
        async with cluster(node("n0")) as (api, gate):
            first = True

            def telling(request: Request) -> bool:
                return request[0] == "PATCH" and "middle-0/status" in request[1] and first

            gate.breaks = telling
            await less_important_ones(api)
            first = False
            gate.holds = lambda request: request[0] == "PATCH" and "middle-0/status" in request[1]
            await api.advance(12)  # it is refused once more
            await important_ones(api)
            gate.open.set()
            await api.advance(1)
            assert await nominated(api, "high-0") == "n0"
            assert await nominated(api, "middle-0") == ""

    asyncio.run(story())


@pytest.mark.parametrize("gone", [False, True])
def test_a_nomination_that_cannot_be_taken_back_stops_nobody(gone: bool) -> None:
    async def story() -> None:
        async with cluster(node("n0")) as (api, gate):
            await less_important_ones(api)
            if gone:
                await gone_meanwhile(api, gate)
            else:
                gate.breaks = lambda request: request[0] == "PATCH" and "middle-0/status" in request[1]
                await important_ones(api)
                gate.breaks = lambda _: False
            await api.client.delete(PODS, "low-0", "default", grace=0)
            await api.advance(30)
            assert (await where(api))["high-0"] == "n0"
            if not gone:
                assert await nominated(api, "middle-0") == "", "it was told when it was refused the next time"

    asyncio.run(story())


async def gone_meanwhile(api: ApiServer, gate: Gate) -> None:
    gate.holds = lambda request: request[0] == "PATCH" and "/pods/" in request[1]
    await important_ones(api)
    await api.client.delete(PODS, "middle-0", "default", grace=0)
    gate.open.set()
    await api.advance(1)


def test_a_pod_that_finds_nobody_to_send_away_is_nominated_no_more() -> None:
    async def story() -> None:
        async with cluster(node("n0")) as (api, _):
            await less_important_ones(api)
            assert await nominated(api, "middle-0") == "n0"
            await api.client.delete(NODES, "n0")
            await add_node(api, node("n1", cpu="100m"))
            await api.advance(15)
            assert await nominated(api, "middle-0") == ""

    asyncio.run(story())


def test_a_pod_that_is_bound_is_nominated_no_more() -> None:
    async def story() -> None:
        async with cluster(node("n0"), node("n1")) as (api, _):
            await less_important_ones(api, 2)
            for n in range(2):
                await api.client.delete(PODS, f"low-{n}", "default", grace=0)
            await api.advance(15)
            placed = await where(api)
            assert sorted(placed.values()) == ["n0", "n1"]
            assert [await nominated(api, name) for name in placed] == ["", ""]
            found = await api.client.list(PODS, "default", fields="status.nominatedNodeName=n0")
            assert found["items"] == []

    asyncio.run(story())
