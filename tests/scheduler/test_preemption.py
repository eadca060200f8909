"""Important pods displace less important ones: as few as possible, protected ones last, equals never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod, where

from jota.meta.resource import EVENTS, PODS, SERVICEACCOUNTS, Resource
from jota.node.hollow.fleet import Fleet
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Requests, Spec, shape_of
from jota.scheduler.preemption import Asked, Budget, Placed, find
from jota.scheduler.profile import default_profile
from jota.scheduler.scheduler import Scheduler
from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus, Snapshot
from jota.scheduler.terms import Group
from jota.testing.cluster import ApiServer

HOSTNAME = "kubernetes.io/hostname"
PRIORITIES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)


@asynccontextmanager
async def cluster(*nodes: dict[str, Any]) -> AsyncIterator[ApiServer]:
    """With simulated kubelets for the nodes, so that victims really go."""
    async with ApiServer() as api:
        for n in nodes:
            n["metadata"]["labels"] = {"jota.dev/hollow": "true"}
            await add_node(api, n)
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        for name, value in (("high", 100), ("middle", 50)):
            wanted = {
                "metadata": {"name": name},
                "value": value,
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
            }
            await api.client.create(PRIORITIES, wanted)
        fleet = Fleet(api.client, clock=api.clock, random=Random(1))
        fleet.nodes.names = lambda: [n["metadata"]["name"] for n in nodes]  # type: ignore[method-assign]
        tasks = [
            asyncio.create_task(Scheduler(api.client, clock=api.clock, random=Random(1)).run()),
            asyncio.create_task(fleet.pods.run()),
            asyncio.create_task(fleet.nodes.run()),
        ]
        try:
            await api.advance(1)
            yield api
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_a_more_important_pod_takes_the_room_of_a_less_important_one() -> None:
    async def story() -> None:
        async with cluster(node("n-0"), node("n-1")) as api:
            await api.client.create(PODS, pod("low", cpu="800m"), "default")
            await api.client.create(PODS, pod("mid", cpu="800m", priorityClassName="middle"), "default")
            await api.advance(1)
            placed = await where(api)
            assert sorted(placed.values()) == ["n-0", "n-1"]
            await api.client.create(PODS, pod("top", cpu="800m", priorityClassName="high"), "default")
            await api.advance(15)
            after = await where(api)
            assert after["top"] == placed["low"]
            assert "low" not in after
            assert after["mid"] == placed["mid"]
            events = (await api.client.list(EVENTS, "default"))["items"]
            assert any(e["reason"] == "Preempted" and e["involvedObject"]["name"] == "low" for e in events)

    asyncio.run(story())


def test_nobody_else_is_sent_away_while_the_first_victim_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with cluster(node("n-0"), node("n-1")) as api:
            for name in ("low-0", "low-1"):
                await api.client.create(PODS, pod(name, cpu="800m"), "default")
            await api.client.create(PODS, pod("small", cpu="50m"), "default")
            await api.advance(1)
            delete = api.client.delete

            async def slowly(resource: Resource, name: str, *rest: Any, **more: Any) -> Any:
                if name.startswith("low"):
                    await api.clock.sleep(20)
                return await delete(resource, name, *rest, **more)

            monkeypatch.setattr(api.client, "delete", slowly)
            await api.client.create(PODS, pod("top", cpu="800m", priorityClassName="high"), "default")
            await api.advance(5)
            await delete(PODS, "small", "default", grace=0)  # a reason to try again
            await api.advance(60)
            placed = await where(api)
            assert placed["top"]
            assert len([name for name in placed if name.startswith("low")]) == 1
            events = (await api.client.list(EVENTS, "default"))["items"]
            assert sum(e.get("count", 1) for e in events if e["reason"] == "Preempted") == 1

    asyncio.run(story())


def test_a_pod_is_tried_once_more_when_its_victims_are_gone_and_not_before() -> None:
    async def story() -> None:
        many = 5
        async with cluster(*(node(f"n-{n}") for n in range(many))) as api:
            for n in range(many):
                for half in "ab":
                    low = pod(f"low-{n}{half}", cpu="450m", terminationGracePeriodSeconds=0)
                    await api.client.create(PODS, low, "default")
            await api.advance(1)
            assert "" not in (await where(api)).values()
            for n in range(many):
                await api.client.create(PODS, pod(f"top-{n}", cpu="900m", priorityClassName="high"), "default")
            await api.advance(0.5)  # the backoff is a second
            placed = await where(api)
            assert sorted(placed) == [f"top-{n}" for n in range(many)]
            assert sorted(placed.values()) == [f"n-{n}" for n in range(many)]
            await api.advance(5)
            events = (await api.client.list(EVENTS, "default"))["items"]
            tries = [e for e in events if e["reason"] == "FailedScheduling"]
            assert sorted(e["involvedObject"]["name"] for e in tries) == sorted(placed)
            assert all(e.get("count", 1) == 1 for e in tries)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({}, "1 No preemption victims found for incoming pod."),
        ({"priorityClassName": "high", "preemptionPolicy": "Never"}, "not eligible due to preemptionPolicy=Never."),
    ],
)
def test_equals_and_polite_pods_displace_nobody(extra: dict[str, Any], why: str) -> None:
    async def story() -> None:
        async with cluster(node("n-0")) as api:
            if "preemptionPolicy" in extra:
                wanted = {
                    "metadata": {"name": "polite"}, "value": 100, "preemptionPolicy": "Never",
                    "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                }  # fmt: skip
                await api.client.create(PRIORITIES, wanted)
                extra["priorityClassName"] = "polite"
            await api.client.create(PODS, pod("first", cpu="800m"), "default")
            await api.advance(1)
            await api.client.create(PODS, pod("second", cpu="800m", **extra), "default")
            await api.advance(15)
            assert (await where(api)) == {"first": "n-0", "second": ""}
            second = await api.client.get(PODS, "second", "default")
            message = next(c["message"] for c in second["status"]["conditions"] if c["type"] == "PodScheduled")
            assert message.startswith("0/1 nodes are available: 1 Insufficient cpu. preemption: ")
            assert message.endswith(why)

    asyncio.run(story())


def small(
    names: dict[str, list[tuple[str, int, str, dict[str, str]]]],
) -> tuple[Snapshot, dict[str, dict[str, Placed]]]:
    """Nodes of one cpu with pods (name, priority, cpu, labels)."""
    snapshot, on_node = Snapshot(), dict[str, dict[str, Placed]]()
    for name, pods in names.items():
        snapshot.put_node(Node(NodeMeta(name, {HOSTNAME: name}), NodeSpec(), NodeStatus({"cpu": "1", "pods": "10"})))
        for p, priority, cpu, labels in pods:
            made = shape_of(Spec(containers=[Container(Requests({"cpu": cpu}))]), Group("default", labels))
            snapshot.add_pod(name, made)
            on_node.setdefault(name, {})[p] = Placed(
                name, made, p, "default", p, priority, f"2026-01-01T00:00:0{priority}Z"
            )
    return snapshot, on_node


def chosen(
    snapshot: Snapshot,
    on_node: dict[str, dict[str, Placed]],
    cpu: str,
    budgets: list[Budget] | None = None,
    **more: Any,
) -> Any:
    shape = shape_of(Spec(containers=[Container(Requests({"cpu": cpu}))], **more), Group("default"))
    before = snapshot.used("cpu").copy()
    candidate, _ = find(Asked(Cycle(default_profile(), snapshot, 1), snapshot, shape, 9, on_node, budgets or [], 0))
    assert (snapshot.used("cpu") == before).all(), "a trial was not undone"
    return (candidate.node, sorted(v.uid for v in candidate.victims)) if candidate else None


def test_the_fewest_and_least_important_victims_go() -> None:
    crowd = [("a1", 1, "300m", {}), ("a2", 2, "300m", {}), ("a3", 3, "300m", {})]
    assert chosen(*small({"a": crowd}), "300m") == ("a", ["a1"])
    assert chosen(*small({"a": crowd}), "600m") == ("a", ["a1", "a2"])
    assert chosen(*small({"a": [("a1", 5, "900m", {})], "b": [("b1", 2, "900m", {})]}), "500m") == ("b", ["b1"])
    assert chosen(*small({"a": crowd, "b": [("b1", 3, "900m", {})]}), "900m") == ("b", ["b1"])
    assert chosen(*small({"a": [("a1", 9, "900m", {})]}), "500m") is None


def test_pods_that_the_newcomer_must_be_near_make_no_room_for_it() -> None:
    """They stand in every domain: the affinity keeps it out nowhere, as long as nobody goes. As upstream's, the question is
    whether the pod fits when all less important ones are gone."""
    selector = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": HOSTNAME}
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [selector]}}
    nodes = {"a": [("a1", 1, "500m", {"app": "db"}), ("a2", 5, "500m", {})]}
    assert chosen(*small(nodes), "500m") == ("a", ["a1"])
    assert chosen(*small(nodes), "500m", affinity=near) is None
    nodes["b"] = [("b1", 9, "500m", {"app": "db"}), ("b2", 7, "500m", {})]
    assert chosen(*small(nodes), "500m", affinity=near) == ("b", ["b2"])


def test_a_disruption_budget_is_broken_last() -> None:
    import msgspec

    raw = {"metadata": {"name": "b", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "db"}}}}
    budget = msgspec.convert(raw, Budget)
    db = {"app": "db"}
    nodes = {"a": [("a1", 1, "500m", db), ("a2", 5, "500m", {})]}
    assert chosen(*small(nodes), "500m", [budget]) == ("a", ["a2"])
    budget.status.disruptionsAllowed = 1
    assert chosen(*small(nodes), "500m", [budget]) == ("a", ["a1"])
