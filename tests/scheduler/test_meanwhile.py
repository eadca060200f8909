"""What happens between a decision and its end: nothing that comes meanwhile may be lost, and nobody is counted who is not there.

The stories hold back what the scheduler writes, let something happen, and let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from tests.scheduler.test_preemption import PRIORITIES
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod, where

from jota.client.client import Client
from jota.client.transport import Reply
from jota.meta.resource import NODES, PODS, SERVICEACCOUNTS, SERVICES
from jota.scheduler import scheduler as engine
from jota.scheduler.config import parse
from jota.scheduler.profile import Settings
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

Request = tuple[str, str]
"""(method, path)"""


class Gate:
    """A transport that holds back chosen requests, or loses their answers."""

    several = True

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.open = asyncio.Event()
        self.holds: Callable[[Request], bool] = lambda request: False
        self.loses: Callable[[Request], bool] = lambda request: False
        """The request is carried out; a second later the caller is told that the connection broke."""
        self.breaks: Callable[[Request], bool] = lambda request: False
        """The request is not even sent."""
        self.requests: list[Request] = []

    async def request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Reply:
        asked = method, path
        self.requests.append(asked)
        if self.holds(asked):
            await self.open.wait()
        if self.breaks(asked):
            raise ConnectionError("not sent")
        reply = await self._inner.request(method, path, *args, **kwargs)
        if self.loses(asked):
            for _ in range(20):
                await asyncio.sleep(0)  # whoever watches sees what was done before the writer hears of it
            raise ConnectionError("the answer was lost")
        return reply

    def watch(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.watch(*args, **kwargs)

    async def close(self) -> None:
        await self._inner.close()


def bindings(request: Request) -> bool:
    return request[0] == "POST" and "binding" in request[1]


@asynccontextmanager
async def cluster(*nodes: dict[str, Any], settings: Settings | None = None) -> AsyncIterator[tuple[ApiServer, Gate]]:
    async with ApiServer() as api:
        for n in nodes:
            await add_node(api, n)
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 9}
        await api.client.create(PRIORITIES, high)
        gate = Gate(api.client.transport)
        scheduler = Scheduler(Client(gate), clock=api.clock, random=Random(1), settings=settings)
        task = asyncio.create_task(scheduler.run())
        await api.advance(1)
        try:
            yield api, gate
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four writes of the scheduler at a time, so that a story can hold all of them."""
    monkeypatch.setattr(engine, "_GROUP", 4)
    monkeypatch.setattr(engine, "_BINDS_IN_FLIGHT", 4)


async def full(api: ApiServer, gate: Gate) -> None:
    """The bindings of four pods are on their way, and four larger ones are refused."""
    gate.holds = bindings
    for size, cpu in (("small", "200m"), ("large", "900m")):
        await asyncio.gather(*(api.client.create(PODS, pod(f"{size}-{n}", cpu), "default") for n in range(4)))
        await api.advance(0)


@pytest.mark.usefixtures("few_places")
def test_a_node_that_comes_while_pods_are_being_refused_is_taken() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            await full(api, gate)
            await add_node(api, node("b", cpu="8"))
            await api.advance(0)
            gate.open.set()
            await api.advance(15)
            placed = await where(api)
            assert {placed[f"large-{n}"] for n in range(4)} == {"b"}, placed

    asyncio.run(story())


@pytest.mark.usefixtures("few_places")
def test_pods_that_change_or_go_while_they_are_being_refused() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            await full(api, gate)
            await api.client.patch(PODS, "large-1", "default", {"metadata": {"labels": {"now": "other"}}})
            await api.client.delete(PODS, "large-2", "default", grace=0)
            await api.client.delete(PODS, "large-3", "default", grace=0)
            await api.client.create(PODS, pod("large-3", cpu="7"), "default")
            await api.advance(0)
            gate.open.set()
            await api.advance(15)
            await add_node(api, node("b", cpu="1"))
            await add_node(api, node("c", cpu="1"))
            await add_node(api, node("d", cpu="8"))
            await api.advance(15)
            placed = await where(api)
            assert placed["large-3"] == "d", placed
            assert all(placed.values()), placed

    asyncio.run(story())


@pytest.mark.usefixtures("few_places")
def test_a_pod_that_changes_while_its_likes_are_being_bound_is_bound_once() -> None:
    async def story() -> None:
        async with cluster(node("a", cpu="8")) as (api, gate):
            gate.holds = bindings
            await asyncio.gather(*(api.client.create(PODS, pod(f"p{n}"), "default") for n in range(8)))
            await api.advance(0)
            for n in range(8):
                await api.client.patch(PODS, f"p{n}", "default", {"metadata": {"labels": {"now": "other"}}})
            await api.advance(0)
            gate.open.set()
            await api.advance(5)
            assert set((await where(api)).values()) == {"a"}
            assert [path for _, path in filter(bindings, gate.requests)] == ["/api/v1/namespaces/default/bindings"] * 2

    asyncio.run(story())


def test_a_binding_whose_answer_was_lost_is_still_counted() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            gate.loses = bindings
            await api.client.create(PODS, pod("first", cpu="800m"), "default")
            await api.advance(15)
            assert (await where(api))["first"] == "a"
            gate.loses = lambda request: False
            await api.client.create(PODS, pod("second", cpu="800m"), "default")
            await api.advance(15)
            assert (await where(api))["second"] == "", "the node is full"

    asyncio.run(story())


def test_a_pod_that_began_to_go_while_it_was_being_bound_is_not_tried_again() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            gate.holds = bindings
            one = pod("one", terminationGracePeriodSeconds=60)
            one["metadata"]["finalizers"] = ["jota.dev/test"]
            await api.client.create(PODS, one, "default")
            await api.advance(0)
            await api.client.delete(PODS, "one", "default", grace=60)
            await api.advance(0)
            gate.open.set()
            await api.advance(120)
            assert len([*filter(bindings, gate.requests)]) == 1

    asyncio.run(story())


def evictions(request: Request) -> bool:
    return request[0] == "DELETE" and "/pods/low" in request[1]


def test_an_eviction_that_fails_is_tried_again() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            await api.client.create(PODS, pod("low", cpu="800m"), "default")
            await api.advance(1)
            gate.breaks = evictions
            await api.client.create(PODS, pod("top", cpu="800m", priorityClassName="high"), "default")
            await api.advance(1)
            gate.breaks = lambda request: False
            await api.advance(15)
            assert (await where(api)).get("low") is None or await gone(api, "low")
            await api.client.delete(PODS, "low", "default", grace=0)
            await api.advance(15)
            assert (await where(api))["top"] == "a"

    asyncio.run(story())


async def gone(api: ApiServer, name: str) -> bool:
    """Whether the pod is on its way out."""
    return "deletionTimestamp" in (await api.client.get(PODS, name, "default"))["metadata"]


def test_a_new_scheduler_sends_away_whom_a_dead_one_had_only_chosen() -> None:
    async def story() -> None:
        async with cluster(node("a")) as (api, gate):
            await api.client.create(PODS, pod("low", cpu="800m"), "default")
            await api.advance(1)
            gate.breaks = lambda request: evictions(request) or "low/status" in request[1]
            await api.client.create(PODS, pod("top", cpu="800m", priorityClassName="high"), "default")
            await api.advance(1)
            top = await api.client.get(PODS, "top", "default")
            assert top["status"]["nominatedNodeName"] == "a"
            assert not await gone(api, "low")
            gate.breaks = lambda request: True
            heir = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(2)).run())
            await api.advance(15)
            assert await gone(api, "low")
            heir.cancel()
            await asyncio.gather(heir, return_exceptions=True)

    asyncio.run(story())


def test_a_node_that_is_lost_while_pods_are_bound_to_it() -> None:
    async def story() -> None:
        async with cluster(node("a"), node("b")) as (api, gate):
            gate.holds = bindings
            for n in range(4):
                await api.client.create(PODS, pod(f"p{n}", cpu="400m"), "default")
            await api.advance(0)
            await api.client.delete(NODES, "a")
            await api.advance(0)
            gate.open.set()
            await api.advance(15)
            placed = await where(api)
            assert all(placed.values())
            await api.client.create(PODS, pod("later", cpu="200m"), "default")
            await api.client.create(PODS, pod("last", cpu="300m"), "default")
            await api.advance(15)
            placed = await where(api)
            assert placed["later"] == "b"
            assert placed["last"] == ""

    asyncio.run(story())


def test_a_service_that_goes_no_longer_spreads_pods_by_the_clusters_rule() -> None:
    rule = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    arguments = {"defaultingType": "List", "defaultConstraints": [rule]}
    profile = {"pluginConfig": [{"name": "PodTopologySpread", "args": arguments}]}
    api_version = "kubescheduler.config.k8s.io/v1"
    config = {"kind": "KubeSchedulerConfiguration", "apiVersion": api_version, "profiles": [profile]}

    async def story() -> None:
        hosts = [node("a", cpu="4"), node("b", cpu="1")]
        for host in hosts:
            host["metadata"]["labels"] = {"kubernetes.io/hostname": host["metadata"]["name"]}
        async with cluster(*hosts, settings=parse(config)) as (api, _):
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
            service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
            await api.client.create(SERVICES, service, "default")
            for n in range(3):
                one = pod(f"web-{n}", cpu="900m")
                one["metadata"]["labels"] = {"app": "web"}
                await api.client.create(PODS, one, "default")
                await api.advance(1)
            one["metadata"]["name"] = "web-3"
            await api.client.create(PODS, one, "default")
            await api.advance(1)
            assert sorted((await where(api)).values()) == ["", "a", "a", "b"]
            await api.client.delete(SERVICES, "web", "default")
            await api.advance(15)
            assert sorted((await where(api)).values()) == ["a", "a", "a", "b"]

    asyncio.run(story())
