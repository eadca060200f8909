"""Tier 1 of the conformance capabilities, rows sched/predicates, sched/preemption, sched/limitrange and
sched/noexecute-taint-eviction: each test is named after its row and quotes the conformance tests that it stands for.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from tests.scheduler.test_preemption import PRIORITIES
from tests.scheduler.test_scheduler import cluster, node, pod, where

from jota.controllers.controller import ControllerConfig
from jota.controllers.table import run_controllers
from jota.controllers.tainteviction import TaintEvictionController
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, NODES, PODS, Resource
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
LIMITRANGES = Resource("", "v1", "limitranges", "LimitRange")


async def refusal(api: ApiServer, name: str) -> str:
    """The message of PodScheduled=False, which is also in an event."""
    found = await api.client.get(PODS, name, "default")
    (told,) = [c for c in found["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert (told["status"], told["reason"]) == ("False", "Unschedulable")
    events = (await api.client.list(EVENTS, "default"))["items"]
    said = [e for e in events if e["involvedObject"]["name"] == name and e["reason"] == "FailedScheduling"]
    assert said[0]["type"] == "Warning"
    assert told["message"] in {e["message"] for e in said}
    return str(told["message"])


def test_sched_predicates_resources() -> None:
    """validates resource limits of pods that are allowed to run"""

    async def story() -> None:
        async with cluster(node("a", cpu="1"), node("b", cpu="2")) as api:
            for n in range(3):
                await api.client.create(PODS, pod(f"fill{n}", cpu="700m"), "default")
            await api.advance(1)
            assert sorted((await where(api)).values()) == ["a", "b", "b"]
            await api.client.create(PODS, pod("more", cpu="700m"), "default")
            await api.advance(1)
            assert (await refusal(api, "more")).startswith("0/2 nodes are available: 2 Insufficient cpu.")

    asyncio.run(story())


def test_sched_predicates_node_selector() -> None:
    """validates that NodeSelector is respected if matching; if not matching"""

    async def story() -> None:
        async with cluster(node("a"), node("b")) as api:
            wish = {"kubernetes.io/e2e": "42"}
            await api.client.create(PODS, pod("restricted", nodeSelector=wish), "default")
            await api.advance(1)
            message = await refusal(api, "restricted")
            assert "2 node(s) didn't match Pod's node affinity/selector" in message
            await api.client.patch(NODES, "b", "", {"metadata": {"labels": wish}})
            await api.advance(15)
            assert (await where(api))["restricted"] == "b"

    asyncio.run(story())


def on_port(name: str, ip: str, protocol: str = "TCP", port: int = 54322) -> Object:
    body = pod(name)
    wanted = {"containerPort": 8080, "hostPort": port, "protocol": protocol, "hostIP": ip}
    body["spec"]["containers"][0]["ports"] = [wanted]
    return body


def test_sched_predicates_host_ports() -> None:
    """validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP; that
    there is no conflict between pods with same hostPort but different hostIP and protocol"""

    async def story() -> None:
        async with cluster(node("a")) as api:
            for body in (
                on_port("one", "127.0.0.1"),
                on_port("two", "10.0.0.9"),
                on_port("three", "10.0.0.9", "UDP"),
                on_port("four", "0.0.0.0", port=54323),
            ):
                await api.client.create(PODS, body, "default")
            await api.advance(1)
            assert set((await where(api)).values()) == {"a"}
            for name, ip, port in (
                ("any", "0.0.0.0", 54322),
                ("same", "10.0.0.9", 54322),
                ("under", "127.0.0.1", 54323),
            ):
                await api.client.create(PODS, on_port(name, ip, port=port), "default")
                await api.advance(1)
                assert "1 node(s) didn't have free ports for the requested pod ports" in await refusal(api, name)

    asyncio.run(story())


async def priority(api: ApiServer, name: str, value: int) -> None:
    body = {"metadata": {"name": name}, "value": value, "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    await api.client.create(PRIORITIES, body)


@pytest.mark.parametrize("class_", ["high", "system-cluster-critical"])
def test_sched_preemption(class_: str) -> None:
    """validates basic preemption works; validates lower priority pod preemption by critical pod; validates pod disruption
    condition is added to the preempted pod; an extended resource that was patched into the node's status"""

    async def story() -> None:
        async with cluster(node("a")) as api:
            await priority(api, "low", 1)
            await priority(api, "high", 1000)
            extended = [
                {"op": "add", "path": f"/status/{f}/scheduling.k8s.io~1foo", "value": "5"}
                for f in ("capacity", "allocatable")
            ]
            await api.client.patch(NODES, "a", "", extended, "json", subresource="status")
            amount = {"scheduling.k8s.io/foo": "3"}

            def wants(name: str, **spec: Any) -> Object:
                body = pod(name, **spec)
                body["spec"]["containers"][0]["resources"] = {"requests": amount, "limits": amount}
                return body

            victim = wants("victim", priorityClassName="low")
            victim["metadata"]["finalizers"] = ["example.com/test-finalizer"]
            await api.client.create(PODS, victim, "default")
            await api.advance(1)
            namespace = "kube-system" if class_.startswith("system") else "default"
            await api.client.create(PODS, wants("preemptor", priorityClassName=class_), namespace)
            await api.advance(5)
            found = await api.client.get(PODS, "victim", "default")
            assert "deletionTimestamp" in found["metadata"], "deleted, and visible by its finalizer"
            (target,) = [c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget"]
            assert (target["status"], target["reason"]) == ("True", "PreemptionByScheduler")
            waiting = await api.client.get(PODS, "preemptor", namespace)
            assert waiting["status"]["nominatedNodeName"] == "a"
            await api.client.patch(PODS, "victim", "default", {"metadata": {"finalizers": None}})
            await api.client.delete(PODS, "victim", "default", grace=0)
            await api.advance(15)
            assert (await api.client.get(PODS, "preemptor", namespace))["spec"]["nodeName"] == "a"

    asyncio.run(story())


def test_sched_priorityclass_api() -> None:
    """verify PriorityClass endpoints can be operated with different HTTP methods: values are for ever, `system-` is taken"""

    async def story() -> None:
        async with ApiServer() as api:
            await priority(api, "p1", 1)
            await priority(api, "p2", 2)
            await api.client.patch(PRIORITIES, "p1", "", {"description": "first"})
            for change in ({"value": 3}, {"preemptionPolicy": "Never"}):
                with pytest.raises(ApiError) as refused:
                    await api.client.patch(PRIORITIES, "p1", "", change)
                assert refused.value.code in (403, 422)
            with pytest.raises(ApiError) as refused:
                await priority(api, "system-mine", 5)
            assert refused.value.code in (403, 422)
            with pytest.raises(ApiError) as refused:
                await priority(api, "giant", 2_000_000_000)
            assert refused.value.code in (403, 422)
            got = await api.client.get(PRIORITIES, "p1")
            assert (got["value"], got["description"]) == (1, "first")

    asyncio.run(story())


def test_sched_limitrange() -> None:
    """should create a LimitRange with defaults and ensure pod has those defaults applied; list, patch and delete a collection"""

    async def story() -> None:
        async with cluster(node("a")) as api:
            limit = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}
            limit |= {"min": {"cpu": "50m"}, "max": {"cpu": "500m"}}
            body = {"metadata": {"name": "range", "labels": {"e": "x"}}, "spec": {"limits": [limit]}}
            await api.client.create(LIMITRANGES, body, "default")
            empty = pod("empty")
            del empty["spec"]["containers"][0]["resources"]
            made = await api.client.create(PODS, empty, "default")
            assert made["spec"]["containers"][0]["resources"] == {
                "limits": {"cpu": "500m"},
                "requests": {"cpu": "100m"},
            }
            for cpu in ("10m", "600m"):
                bad = pod("bad", cpu=cpu)
                bad["spec"]["containers"][0]["resources"]["limits"] = {"cpu": cpu}
                with pytest.raises(ApiError) as refused:
                    await api.client.create(PODS, bad, "default")
                assert refused.value.code == 403
            await api.client.patch(
                LIMITRANGES, "range", "default", {"spec": {"limits": [{**limit, "min": {"cpu": "1m"}}]}}
            )
            await api.client.create(PODS, pod("small", cpu="10m"), "default")
            await api.client.delete_collection(LIMITRANGES, "default", labels="e=x")
            assert not (await api.client.list(LIMITRANGES))["items"]

    asyncio.run(story())


def test_sched_noexecute_taint_eviction() -> None:
    """NoExecuteTaintManager, single and multiple pods: removing taint cancels eviction; evicts pods with minTolerationSeconds"""

    async def story() -> None:
        async with cluster(node("a"), node("b")) as api:
            stop = asyncio.Event()
            work = run_controllers(
                api.client,
                api.clock,
                ControllerConfig(),
                stop,
                random=Random(1),
                controllers=(TaintEvictionController,),
            )
            task = asyncio.create_task(work)
            taint = {"key": "kubernetes.io/e2e-evict-taint-key", "value": "evictTaintVal", "effect": "NoExecute"}

            def tolerant(name: str, seconds: int | None) -> Object:
                extra = {} if seconds is None else {"tolerationSeconds": seconds}
                return pod(name, nodeName="a", tolerations=[{**taint, "operator": "Equal", **extra}])

            for body in (
                pod("none", nodeName="a"),
                tolerant("soon", 5),
                tolerant("late", 20),
                tolerant("always", None),
            ):
                await api.client.create(PODS, body, "default")
            await api.client.create(PODS, pod("elsewhere", nodeName="b"), "default")
            made = await api.client.get(PODS, "none", "default")
            assert {(t["key"], t["tolerationSeconds"]) for t in made["spec"]["tolerations"]} == {
                ("node.kubernetes.io/not-ready", 300),
                ("node.kubernetes.io/unreachable", 300),
            }
            await api.advance(1)
            await api.client.patch(NODES, "a", "", {"spec": {"taints": [taint]}})
            await api.advance(2)
            assert await leaving(api) == {"none"}
            await api.advance(6)
            assert await leaving(api) == {"none", "soon"}
            await api.client.patch(NODES, "a", "", {"spec": {"taints": None}})
            await api.advance(60)
            assert await leaving(api) == {"none", "soon"}, "with the taint gone, late stays"
            stop.set()
            await task

    asyncio.run(story())


async def leaving(api: ApiServer) -> set[str]:
    """Pods that are deleted, which all say why."""
    out = set()
    for found in (await api.client.list(PODS, "default"))["items"]:
        if "deletionTimestamp" in found["metadata"]:
            (target,) = [c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget"]
            assert target["reason"] == "DeletionByTaintManager"
            out.add(found["metadata"]["name"])
    return out
