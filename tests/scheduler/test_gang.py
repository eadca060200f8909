"""Gangs on the real API server: all or none, what is missing is told, nobody is blocked, nobody is evicted for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from jota.api.config import ApiConfig
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, NODES, PODGROUPS, PODS, SERVICEACCOUNTS, Resource
from jota.scheduler.podgroups import COSCHEDULING, LABEL
from jota.scheduler.resources import DEVICECLASSES, RESOURCECLAIMS, RESOURCESLICES
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

from .dra import claim, device, device_class, slice_, uses
from .test_scheduler import ACCOUNT, add_node, node, pod, where

Object = dict[str, Any]
CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
SERVED = {"scheduling.k8s.io/v1beta1": True}


@asynccontextmanager
async def cluster(*nodes: Object, served: bool = True) -> AsyncIterator[ApiServer]:
    async with ApiServer(config=ApiConfig(runtime_config=SERVED if served else {})) as api:
        for n in nodes:
            await add_node(api, n)
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        task = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(1)).run())
        try:
            yield api
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def told(*nodes: Object, served: bool = True) -> Callable[[Callable[[ApiServer], Awaitable[None]]], None]:
    def run(story: Callable[[ApiServer], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with cluster(*nodes, served=served) as api:
                await story(api)

        asyncio.run(whole())

    return run


def member(name: str, group: str, cpu: str = "1", **spec: Any) -> Object:
    return pod(name, cpu, schedulingGroup={"podGroupName": group}, **spec)


def group(name: str, count: int, **spec: Any) -> Object:
    policy = {"gang": {"minCount": count}} if count else {"basic": {}}
    return {"metadata": {"name": name}, "spec": {"schedulingPolicy": policy, **spec}}


async def gang(api: ApiServer, name: str, count: int, cpu: str = "1", pods: int = 0, **spec: Any) -> None:
    group_spec = spec.pop("group", {})
    await api.client.create(PODGROUPS, group(name, count, **group_spec), "default")
    for n in range(pods or count):
        await api.client.create(PODS, member(f"{name}-{n}", name, cpu, **spec), "default")


async def placed(api: ApiServer, name: str) -> list[str]:
    """The nodes of a gang's pods that have one."""
    return sorted(n for pod, n in (await where(api)).items() if pod.startswith(name + "-") and n)


async def reap(api: ApiServer) -> list[str]:
    """What the node agents would do: let the pods go that were told to."""
    gone = [
        p["metadata"]["name"] for p in (await api.client.list(PODS))["items"] if "deletionTimestamp" in p["metadata"]
    ]
    for name in gone:
        await api.client.delete(PODS, name, "default", grace=0)
    await api.advance(20)
    return gone


async def message(api: ApiServer, name: str) -> str:
    found = await api.client.get(PODS, name, "default")
    return next((c["message"] for c in found["status"]["conditions"] if c["type"] == "PodScheduled"), "")


async def condition(api: ApiServer, name: str) -> Object:
    found = await api.client.get(PODGROUPS, name, "default")
    return next(iter((found.get("status") or {}).get("conditions") or ()), {})


def test_a_gang_that_fits_is_placed_whole_and_its_group_says_so() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 4)
        await api.advance(3)
        assert await placed(api, "g") == ["a", "a", "b", "b"]
        assert (await condition(api, "g"))["status"] == "True"
        assert (await condition(api, "g"))["reason"] == "Scheduled"

    told(node("a", "2"), node("b", "2"))(story)


def test_a_gang_that_does_not_fit_holds_nothing_and_blocks_nobody() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "big", 5)
        await api.advance(3)
        assert await placed(api, "big") == []
        assert (await message(api, "big-0")).startswith(
            'PodGroup "big": 4 of the 5 pods that must be placed together fit: 0/2 nodes are available: '
        )
        assert "2 Insufficient cpu" in await message(api, "big-4")
        told_group = await condition(api, "big")
        assert (told_group["status"], told_group["reason"]) == ("False", "Unschedulable")
        await gang(api, "small", 3)
        await api.client.create(PODS, pod("alone", "1"), "default")
        await api.advance(3)
        assert len(await placed(api, "small")) == 3
        assert (await where(api))["alone"], "what the large gang could not use is free for others"
        await add_node(api, node("c", "4"))
        await api.advance(20)
        assert await placed(api, "big") == [], "four are not five"
        await add_node(api, node("d", "1"))
        await api.advance(20)
        assert await placed(api, "big") == ["c", "c", "c", "c", "d"]

    told(node("a", "2"), node("b", "2"))(story)


def test_pods_wait_for_their_group_and_for_each_other_and_say_how_many_are_missing() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PODS, member("g-0", "g"), "default")
        await api.advance(3)
        assert await message(api, "g-0") == 'waiting for PodGroup "g" to be created'
        await api.client.create(PODGROUPS, group("g", 3), "default")
        await api.advance(3)
        assert await message(api, "g-0") == 'waiting for 2 more pod(s) of PodGroup "g": 1 of 3 are there'
        assert (await condition(api, "g"))["message"] == await message(api, "g-0")
        await api.client.create(PODS, member("g-1", "g"), "default")
        await api.advance(3)
        assert await placed(api, "g") == []
        assert "waiting for 1 more pod(s)" in await message(api, "g-1")
        await api.client.create(PODS, member("g-2", "g"), "default")
        await api.advance(3)
        assert len(await placed(api, "g")) == 3

    told(node("a", "4"))(story)


def test_two_gangs_for_one_room_do_not_lock_each_other_out() -> None:
    """Interleaved creation is what deadlocks schedulers that place pod by pod."""

    async def story(api: ApiServer) -> None:
        for name in ("one", "two"):
            await api.client.create(PODGROUPS, group(name, 3), "default")
        for n in range(3):
            for name in ("one", "two"):
                await api.client.create(PODS, member(f"{name}-{n}", name), "default")
        await api.advance(10)
        assert sorted([len(await placed(api, "one")), len(await placed(api, "two"))]) == [0, 3]
        winner = "one" if await placed(api, "one") else "two"
        for n in range(3):
            await api.client.delete(PODS, f"{winner}-{n}", "default", grace=0)
        await api.advance(20)
        assert len(await placed(api, "two" if winner == "one" else "one")) == 3

    told(node("a", "2"), node("b", "2"))(story)


def test_more_than_the_minimum_are_placed_as_far_as_they_fit_and_late_ones_join() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 2, pods=4)
        await api.advance(3)
        assert len(await placed(api, "g")) == 3
        waiting = next(n for n, where_ in (await where(api)).items() if not where_)
        assert "Insufficient cpu" in await message(api, waiting)
        await add_node(api, node("b", "1"))
        await api.advance(20)
        assert len(await placed(api, "g")) == 4

    told(node("a", "3"))(story)


def test_a_basic_group_places_each_pod_for_itself() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 0, pods=3)
        await api.advance(3)
        assert len(await placed(api, "g")) == 2

    told(node("a", "2"))(story)


def test_a_topology_keeps_the_gang_in_one_domain() -> None:
    async def story(api: ApiServer) -> None:
        for name, rack in (("a", "1"), ("b", "2"), ("c", "2")):
            made = node(name, "2")
            made["metadata"]["labels"] = {"rack": rack}
            await add_node(api, made)
        wish = {"schedulingConstraints": {"topology": [{"key": "rack"}]}}
        await gang(api, "g", 3, group=wish)
        await api.advance(3)
        assert set(await placed(api, "g")) == {"b", "c"}
        await gang(api, "h", 3, group=wish)
        await api.advance(3)
        assert await placed(api, "h") == [], "one is left in rack 2 and two in rack 1"
        assert "2 of the 3 pods" in await message(api, "h-0")
        await gang(api, "k", 2, group={"schedulingConstraints": {"topology": [{"key": "row"}]}})
        await api.advance(3)
        assert "3 node(s) without the label of the group's topology" in await message(api, "k-0")
        await api.client.patch(NODES, "a", "", {"metadata": {"labels": {"row": "1"}}})
        await api.advance(15)
        assert await placed(api, "k") == ["a", "a"]

    told()(story)


def test_preemption_sends_pods_away_only_when_the_whole_gang_gets_in() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(CLASSES, {"metadata": {"name": "high"}, "value": 1000})
        for n in range(4):
            await api.client.create(PODS, pod(f"low{n}", "1"), "default")
        await api.advance(2)
        high = {"priorityClassName": "high"}
        await gang(api, "huge", 5, **high, group=high)
        await api.advance(5)
        assert await reap(api) == [], "five would not fit even alone: nobody goes"
        await gang(api, "fits", 3, **high, group=high)
        await api.advance(5)
        assert await placed(api, "fits") == [], "its room is still being cleared"
        assert len(await reap(api)) == 3, "no more victims than needed"
        assert len(await placed(api, "fits")) == 3
        assert await placed(api, "huge") == []

    told(node("a", "2"), node("b", "2"))(story)


def test_a_group_that_is_disrupted_as_a_whole_goes_as_a_whole() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(CLASSES, {"metadata": {"name": "high"}, "value": 1000})
        await gang(api, "low", 3, group={"disruptionMode": {"all": {}}})
        await api.advance(3)
        assert len(await placed(api, "low")) == 3
        await api.client.create(PODS, pod("vip", "2", priorityClassName="high"), "default")
        await api.advance(5)
        assert sorted(await reap(api)) == ["low-0", "low-1", "low-2"]
        assert (await where(api))["vip"]

    told(node("a", "2"), node("b", "2"))(story)


def test_the_priority_of_the_group_decides_which_gang_is_first() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(CLASSES, {"metadata": {"name": "high"}, "value": 1000})
        await gang(api, "low", 2)
        await gang(api, "high", 2, group={"priorityClassName": "high"})
        await api.advance(2)
        assert (await api.client.get(PODGROUPS, "high", "default"))["spec"]["priority"] == 1000
        await add_node(api, node("a", "2"))
        await api.advance(20)
        assert len(await placed(api, "high")) == 2
        assert await placed(api, "low") == []

    told()(story)


def test_a_lost_member_is_replaced_alone_and_a_new_scheduler_knows_who_is_there() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 3)
        await api.advance(3)
        rival = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(2)).run())
        await api.client.delete(PODS, "g-0", "default", grace=0)
        await api.client.create(PODS, member("g-3", "g"), "default")
        await api.advance(5)
        rival.cancel()
        await asyncio.gather(rival, return_exceptions=True)
        assert len(await placed(api, "g")) == 3

    told(node("a", "4"))(story)


def test_the_last_pods_of_a_job_do_not_wait_for_those_that_are_done() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 3)
        await api.advance(3)
        for n in range(3):
            await api.client.patch(PODS, f"g-{n}", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
        await api.client.create(PODS, member("g-3", "g"), "default")
        await api.advance(3)
        assert len(await placed(api, "g")) == 4
        for n in range(4):
            await api.client.delete(PODS, f"g-{n}", "default", grace=0)
        await api.client.create(PODS, member("g-4", "g"), "default")
        await api.advance(3)
        assert await placed(api, "g") == [], "a new gang begins anew"

    told(node("a", "4"))(story)


class Stumbling(Client):
    """Fails the first binding of one pod, as a server does that goes away at the wrong moment."""

    def __init__(self, inner: Client, name: str) -> None:
        self.__dict__.update(inner.__dict__)
        self.name, self.failed = name, 0

    async def create(self, resource: Resource, obj: Any, namespace: str = "", **more: Any) -> Any:
        if more.get("subresource") == "binding" and more.get("name") == self.name and not self.failed:
            self.failed += 1
            raise ConnectionError("cut off")
        return await super().create(resource, obj, namespace, **more)


def test_a_member_whose_binding_fails_is_bound_later() -> None:
    async def story() -> None:
        async with ApiServer(config=ApiConfig(runtime_config=SERVED)) as api:
            await add_node(api, node("a", "3"))
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            client = Stumbling(api.client, "g-1")
            task = asyncio.create_task(Scheduler(client, clock=api.clock, random=Random(1)).run())
            await gang(api, "g", 3)
            await api.advance(10)
            assert client.failed == 1
            assert await placed(api, "g") == ["a", "a", "a"]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


class Recording(Client):
    """Fails the first allocation of one claim, and notes the order of bindings and allocations."""

    def __init__(self, inner: Client, claim: str) -> None:
        self.__dict__.update(inner.__dict__)
        self.claim, self.seen = claim, list[str]()

    async def create(self, resource: Resource, obj: Any, namespace: str = "", **more: Any) -> Any:
        if more.get("subresource") == "binding":
            self.seen.append("bound")
        return await super().create(resource, obj, namespace, **more)

    async def update(self, resource: Resource, obj: Any, subresource: str = "") -> Any:
        if resource == RESOURCECLAIMS and subresource == "status":
            name = obj["metadata"]["name"]
            if name == self.claim and "failed" not in self.seen:
                self.seen.append("failed")
                raise ConnectionError("cut off")
            self.seen.append(name)
        return await super().update(resource, obj, subresource)


def test_no_member_is_bound_before_the_devices_of_all_are_ready() -> None:
    async def story() -> None:
        async with ApiServer(config=ApiConfig(runtime_config=SERVED)) as api:
            await add_node(api, node("a", "3"))
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            await api.client.create(DEVICECLASSES, device_class())
            await api.client.create(RESOURCESLICES, slice_("a", device("g0"), device("g1")))
            client = Recording(api.client, "c1")
            task = asyncio.create_task(Scheduler(client, clock=api.clock, random=Random(1)).run())
            await api.client.create(PODGROUPS, group("g", 2), "default")
            for n in range(2):
                await api.client.create(RESOURCECLAIMS, claim(f"c{n}"), "default")
                await api.client.create(PODS, member(f"g-{n}", "g", **uses(f"c{n}")), "default")
            await api.advance(20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await placed(api, "g") == ["a", "a"]
            assert "failed" in client.seen
            assert client.seen[-2:] == ["bound", "bound"], client.seen
            assert client.seen.count("bound") == 2

    asyncio.run(story())


def test_the_label_of_scheduling_x_k8s_io_makes_a_gang_where_its_resource_exists() -> None:
    names = {"plural": "podgroups", "singular": "podgroup", "kind": "PodGroup", "listKind": "PodGroupList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    crd = {
        "metadata": {"name": "podgroups.scheduling.x-k8s.io"},
        "spec": {"group": "scheduling.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }

    def labelled(name: str) -> Object:
        made = pod(name, "1")
        made["metadata"]["labels"] = {LABEL: "g"}
        return made

    async def story(api: ApiServer) -> None:
        await api.client.create(PODS, labelled("before"), "default")
        await api.advance(3)
        assert (await where(api))["before"], "without the resource the label means nothing, as upstream"
        await api.client.create(CRDS, crd)
        await api.advance(15)
        made = {"apiVersion": COSCHEDULING.api_version, "kind": "PodGroup", "metadata": {"name": "g"}}
        await api.client.create(COSCHEDULING, {**made, "spec": {"minMember": 4}}, "default")
        for n in range(2):
            await api.client.create(PODS, labelled(f"g-{n}"), "default")
        await api.advance(3)
        assert await placed(api, "g") == []
        assert await message(api, "g-0") == 'waiting for 1 more pod(s) of PodGroup "g": 3 of 4 are there'
        await api.client.create(PODS, labelled("g-2"), "default")
        await api.advance(3)
        assert len(await placed(api, "g")) == 3
        events = (await api.client.list(EVENTS, "default"))["items"]
        assert any(e["involvedObject"]["kind"] == "PodGroup" and e["reason"] == "Scheduled" for e in events)

    told(node("a", "4"))(story)


def test_a_server_that_does_not_serve_groups_says_so_in_the_pod() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PODS, member("g-0", "g"), "default")
        await api.advance(5)
        assert "--runtime-config=scheduling.k8s.io/v1beta1=true" in await message(api, "g-0")
        await api.client.delete(PODS, "g-0", "default", grace=0)
        await api.client.create(PODS, pod("other"), "default")
        await api.advance(2)
        assert (await where(api))["other"] == "a"

    told(node("a"), served=False)(story)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"schedulingPolicy": {}}, "spec.schedulingPolicy"),
        ({"schedulingPolicy": {"gang": {"minCount": 0}}}, "spec.schedulingPolicy.gang.minCount"),
        ({"schedulingPolicy": {"basic": {}, "gang": {"minCount": 1}}}, "spec.schedulingPolicy"),
        ({"schedulingPolicy": {"basic": {}}, "parentCompositePodGroupName": "p"}, "spec.parentCompositePodGroupName"),
        ({"schedulingPolicy": {"basic": {}}, "resourceClaims": [{"name": "c"}]}, "spec.resourceClaims"),
        ({"schedulingPolicy": {"basic": {}}, "preemptionPolicy": "Maybe"}, "spec.preemptionPolicy"),
    ],
)
def test_groups_that_cannot_be_honoured_are_refused(spec: Object, field: str) -> None:
    async def story(api: ApiServer) -> None:
        with pytest.raises(ApiError) as refused:
            await api.client.create(PODGROUPS, {"metadata": {"name": "g"}, "spec": spec}, "default")
        assert refused.value.code in (403, 422)
        assert "preemptionPolicy" in field or field in str(refused.value)

    told()(story)


def test_only_the_number_of_a_gang_may_change() -> None:
    async def story(api: ApiServer) -> None:
        await gang(api, "g", 5, pods=3)
        await api.advance(3)
        assert await placed(api, "g") == []
        with pytest.raises(ApiError, match="field is immutable"):
            change = {"spec": {"schedulingPolicy": {"gang": None, "basic": {}}}}
            await api.client.patch(PODGROUPS, "g", "default", change)
        await api.client.patch(PODGROUPS, "g", "default", {"spec": {"schedulingPolicy": {"gang": {"minCount": 3}}}})
        await api.advance(3)
        assert len(await placed(api, "g")) == 3

    told(node("a", "4"))(story)
