"""Pods with resource claims on the real API server: allocated, reserved, told why not, given back. Scheduler and controllers together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from jota.controllers.controller import ControllerConfig
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.podgc import PodGarbageCollector
from jota.controllers.resourceclaim import ResourceClaimController
from jota.controllers.table import run_controllers
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, NODES, PODS, SERVICEACCOUNTS, Resource
from jota.scheduler.resources import DEVICECLASSES, DEVICETAINTRULES, RESOURCECLAIMS, RESOURCESLICES
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

from .dra import claim, claim_spec, device, device_class, request, slice_, uses
from .test_scheduler import ACCOUNT, add_node, node, pod, where

Object = dict[str, Any]
TEMPLATES = Resource("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
GPU = device_class("gpu", 'device.driver == "gpu.example.com"')


def told(story: Callable[[ApiServer], Awaitable[None]], *nodes: str) -> None:
    """Two nodes with two devices each, unless others are named."""

    async def run() -> None:
        async with ApiServer() as api:
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            await api.client.create(DEVICECLASSES, GPU)
            for name in nodes or ("a", "b"):
                await add_node(api, node(name, "4"))
                devices = (device("g0", index=0), device("g1", index=1))
                await api.client.create(RESOURCESLICES, slice_(name, *devices))
            stop = asyncio.Event()
            work = (ResourceClaimController, GarbageCollector, PodGarbageCollector)
            tasks = [
                asyncio.ensure_future(
                    run_controllers(api.client, api.clock, ControllerConfig(), stop, random=Random(7), controllers=work)
                ),
                asyncio.ensure_future(Scheduler(api.client, clock=api.clock, random=Random(1)).run()),
            ]
            try:
                await api.settle()
                await story(api)
            finally:
                stop.set()
                tasks[1].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


async def get_claim(api: ApiServer, name: str) -> Object:
    return dict(await api.client.get(RESOURCECLAIMS, name, "default"))


def devices_of(claim: Object) -> list[str]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return [f"{r['pool']}/{r['device']}" for r in (allocation.get("devices") or {}).get("results") or ()]


def consumers(claim: Object) -> list[str]:
    return [c["name"] for c in (claim.get("status") or {}).get("reservedFor") or ()]


async def message(api: ApiServer, name: str) -> str:
    found = await api.client.get(PODS, name, "default")
    return next((c["message"] for c in found["status"].get("conditions", ()) if c["type"] == "PodScheduled"), "")


async def create(api: ApiServer, resource: Resource, *objects: Object) -> None:
    for obj in objects:
        await api.client.create(resource, obj, "default")


def test_a_claim_is_allocated_and_reserved_before_its_pod_is_bound_and_freed_after_it_ended() -> None:
    async def story(api: ApiServer) -> None:
        await create(api, RESOURCECLAIMS, claim("c"))
        await create(api, PODS, pod("p", **uses("c")))
        await api.advance(3)
        home = (await where(api))["p"]
        made = await get_claim(api, "c")
        assert devices_of(made) == [f"{home}/g0"]
        assert consumers(made) == ["p"]
        assert made["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
        here = {"key": "metadata.name", "operator": "In", "values": [home]}
        assert made["status"]["allocation"]["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": [here]}]}
        await api.client.patch(PODS, "p", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
        await api.advance(3)
        made = await get_claim(api, "c")
        assert devices_of(made) == consumers(made) == []
        assert not made["metadata"].get("finalizers")

    told(story)


def test_claims_are_made_from_templates_one_per_pod_and_go_with_them() -> None:
    async def story(api: ApiServer) -> None:
        spec = {"metadata": {"labels": {"from": "template"}}, "spec": claim_spec(request())}
        await create(api, PODS, pod("early", **uses(template="gpus")))
        await api.advance(2)
        assert 'resourceclaim of the pod\'s entry "t" is not created yet' in await message(api, "early")
        await create(api, TEMPLATES, {"metadata": {"name": "gpus"}, "spec": spec})
        await create(api, PODS, *(pod(f"p{n}", **uses(template="gpus")) for n in range(5)))
        await api.advance(15)
        placed = await where(api)
        assert sorted(filter(None, placed.values())) == ["a", "a", "b", "b"]
        claims = (await api.client.list(RESOURCECLAIMS, "default"))["items"]
        assert len(claims) == 6
        assert sorted(d for c in claims for d in devices_of(c)) == ["a/g0", "a/g1", "b/g0", "b/g1"], "each once"
        waiting = [n for n, home in placed.items() if not home]
        assert len(waiting) == 2
        assert "cannot allocate all claims: resource claim" in await message(api, waiting[0])
        assert "1 device(s) of class gpu wanted, 0 of 2 free" in await message(api, waiting[0])
        one = next(c for c in claims if c["metadata"]["ownerReferences"][0]["name"] == "early")
        assert one["metadata"]["name"].startswith("early-t-")
        assert one["metadata"]["labels"] == {"from": "template"}
        assert one["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"] == "t"
        early = await api.client.get(PODS, "early", "default")
        assert early["status"]["resourceClaimStatuses"] == [{"name": "t", "resourceClaimName": one["metadata"]["name"]}]
        # A pod ends: its claim goes, and one of those that wait takes the device.
        ended = next(n for n, home in placed.items() if home)
        await api.client.patch(PODS, ended, "default", {"status": {"phase": "Succeeded"}}, subresource="status")
        await api.advance(15)
        assert len((await api.client.list(RESOURCECLAIMS, "default"))["items"]) == 5
        assert len([n for n, home in (await where(api)).items() if not home]) == 1

    told(story)


def test_a_shared_claim_keeps_its_pods_on_one_node_and_is_freed_by_the_last() -> None:
    async def story(api: ApiServer) -> None:
        await create(api, RESOURCECLAIMS, claim("shared"))
        await create(api, PODS, *(pod(f"p{n}", **uses("shared")) for n in range(3)))
        await api.advance(3)
        assert len(set((await where(api)).values())) == 1
        assert sorted(consumers(await get_claim(api, "shared"))) == ["p0", "p1", "p2"]
        for name in ("p0", "p1"):
            await api.client.delete(PODS, name, "default", grace=0)
        await api.advance(3)
        shared = await get_claim(api, "shared")
        assert consumers(shared) == ["p2"]
        assert len(devices_of(shared)) == 1
        await api.client.delete(RESOURCECLAIMS, "shared", "default")
        await api.advance(3)
        assert (await get_claim(api, "shared"))["metadata"]["deletionTimestamp"], "it is in use"
        await create(api, PODS, pod("late", **uses("shared")))
        await api.advance(3)
        assert 'resourceclaim "shared" is being deleted' in await message(api, "late")
        await api.client.delete(PODS, "p2", "default", grace=0)
        await api.advance(3)
        with pytest.raises(ApiError, match="not found"):
            await get_claim(api, "shared")

    told(story)


def test_the_reasons_of_refusal_name_the_claim() -> None:
    async def story(api: ApiServer) -> None:
        derived = request("r", derivedAttributes=[{"name": "x", "expression": "1"}])
        await create(api, RESOURCECLAIMS, claim("classless", request("r", "tpu")), claim("derived", derived))
        await create(api, RESOURCECLAIMS, claim("huge", request("r", count=3)))
        for n, name in enumerate(("missing", "classless", "derived", "huge")):
            await create(api, PODS, pod(f"p{n}", **uses(name)))
        await api.advance(3)
        texts = [(await message(api, f"p{n}")).partition(" preemption:")[0] for n in range(4)]
        assert texts == [
            '0/2 nodes are available: resourceclaim "missing" not found.',
            '0/2 nodes are available: resourceclaim "classless" asks for device class "tpu", which does not exist.',
            '0/2 nodes are available: resourceclaim "derived" request "r": derivedAttributes are not supported.',
            '0/2 nodes are available: 2 cannot allocate all claims: resource claim "huge", request "r": '
            "3 device(s) of class gpu wanted, 2 of 2 free.",
        ]
        await api.client.create(DEVICECLASSES, device_class("tpu", "true"))
        await create(api, RESOURCECLAIMS, claim("missing"))
        await api.advance(15)
        placed = await where(api)
        assert placed["p0"]
        assert placed["p1"], "a class and a claim that come later help"

    told(story)


def test_an_allocation_that_nobody_uses_does_not_tie_a_pod_to_a_full_node() -> None:
    async def story(api: ApiServer) -> None:
        made = claim("c")
        await create(api, RESOURCECLAIMS, made)
        await create(api, PODS, pod("first", **uses("c")))
        await api.advance(3)
        home = (await where(api))["first"]
        # The pod vanishes and the claim stays allocated, as after a crash between two writes.
        stored = await get_claim(api, "c")
        await api.client.delete(PODS, "first", "default", grace=0)
        await api.advance(3)
        fresh = await get_claim(api, "c")
        kept = {"allocation": stored["status"]["allocation"]}
        await api.client.update(RESOURCECLAIMS, {**fresh, "status": kept}, subresource="status")
        await create(api, PODS, pod("filler", "3900m", nodeSelector={"kubernetes.io/hostname": home}))
        await api.advance(1)
        await create(api, PODS, pod("second", "1", **uses("c")))
        await api.advance(20)
        assert (await where(api))["second"] not in ("", home)
        assert devices_of(await get_claim(api, "c"))[0].partition("/")[0] == (await where(api))["second"]

    async def labelled(api: ApiServer) -> None:
        for name in ("a", "b"):
            await api.client.patch(NODES, name, "", {"metadata": {"labels": {"kubernetes.io/hostname": name}}})
        await story(api)

    told(labelled)


def test_no_further_pod_gets_a_claim_whose_device_is_condemned() -> None:
    async def story(api: ApiServer) -> None:
        await create(api, RESOURCECLAIMS, claim("c"))
        await create(api, PODS, pod("first", **uses("c")))
        await api.advance(3)
        home = (await where(api))["first"]
        found = next(s for s in (await api.client.list(RESOURCESLICES))["items"] if s["spec"]["nodeName"] == home)
        found["spec"]["devices"][0]["taints"] = [{"key": "sick", "effect": "NoExecute"}]
        await api.client.update(RESOURCESLICES, found)
        await create(api, PODS, pod("second", **uses("c")))
        await api.advance(3)
        assert (await where(api))["second"] == ""
        text = f'resourceclaim "c" holds device gpu.example.com/{home}/g0, which has a NoExecute taint'
        assert text in await message(api, "second")

    told(story)


def test_a_taint_rule_keeps_devices_from_being_given() -> None:
    async def story(api: ApiServer) -> None:
        rule = {"deviceSelector": {"pool": "a"}, "taint": {"key": "service", "effect": "NoSchedule"}}
        await api.client.create(DEVICETAINTRULES, {"metadata": {"name": "r"}, "spec": rule})
        await create(api, RESOURCECLAIMS, claim("c", request(count=2)), claim("d", request(count=2)))
        await create(api, PODS, pod("p", **uses("c")))
        await api.advance(3)
        await create(api, PODS, pod("q", **uses("d")))
        await api.advance(3)
        assert (await where(api)) == {"p": "b", "q": ""}
        assert "0 of 2 free (2 tainted)" in await message(api, "q")
        await api.client.delete(DEVICETAINTRULES, "r")
        await api.advance(15)
        assert (await where(api))["q"] == "a"

    told(story)


def test_two_schedulers_allocate_each_claim_once() -> None:
    async def story(api: ApiServer) -> None:
        rival = asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(2)).run())
        await create(api, RESOURCECLAIMS, *(claim(f"c{n}") for n in range(4)))
        await create(api, PODS, *(pod(f"p{n}", **uses(f"c{n}")) for n in range(4)))
        await api.advance(30)
        rival.cancel()
        await asyncio.gather(rival, return_exceptions=True)
        claims = (await api.client.list(RESOURCECLAIMS, "default"))["items"]
        assert all(len(devices_of(c)) == 1 for c in claims)
        assert all((await where(api)).values())

    told(story)


def test_a_pod_that_chose_its_node_itself_may_use_an_allocated_claim() -> None:
    async def story(api: ApiServer) -> None:
        await create(api, RESOURCECLAIMS, claim("c"))
        await create(api, PODS, pod("p", **uses("c")))
        await api.advance(3)
        home = (await where(api))["p"]
        await create(api, PODS, pod("own", nodeName=home, **uses("c")))
        await api.advance(3)
        assert sorted(consumers(await get_claim(api, "c"))) == ["own", "p"]

    told(story)


def test_admin_access_needs_a_labelled_namespace_and_sees_what_others_have() -> None:
    async def story(api: ApiServer) -> None:
        watch = claim("watch", request("all", adminAccess=True, allocationMode="All"))
        with pytest.raises(ApiError, match="admin access to devices requires"):
            await api.client.create(RESOURCECLAIMS, watch, "default")
        await api.client.patch(
            NAMESPACES, "default", "", {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        )
        await create(api, RESOURCECLAIMS, claim("c", request(count=2)), watch)
        await create(api, PODS, pod("p", **uses("c")))
        await api.advance(3)
        await create(api, PODS, pod("monitor", **uses("watch")))
        await api.advance(3)
        assert (await where(api)) == {"p": "a", "monitor": "a"}
        assert devices_of(await get_claim(api, "watch")) == ["a/g0", "a/g1"]

    told(story, "a")


def test_a_selector_that_does_not_compile_is_refused_when_it_is_written() -> None:
    async def story(api: ApiServer) -> None:
        with pytest.raises(ApiError, match=r"spec.devices.requests\[0\].exactly.selectors\[0\].cel.expression"):
            await api.client.create(RESOURCECLAIMS, claim("c", request("r", "gpu", "1 +")), "default")
        with pytest.raises(ApiError, match="must evaluate to bool"):
            await api.client.create(DEVICECLASSES, device_class("odd", "'text'"))

    told(story)


def test_pods_without_claims_cost_no_look_at_devices() -> None:
    async def story(api: ApiServer) -> None:
        channel = api.api.served[("resource.k8s.io", "v1", "resourceslices")].channel
        before = len(list(channel.watchers()))
        await create(api, PODS, pod("plain"))
        await api.advance(3)
        assert (await where(api))["plain"]
        assert len(list(channel.watchers())) == before
        await create(api, RESOURCECLAIMS, claim("c"))
        await create(api, PODS, pod("claiming", **uses("c")))
        await api.advance(3)
        assert (await where(api))["claiming"]
        assert len(list(channel.watchers())) == before + 1, "read from the first pod on that needs them"

    told(story)
