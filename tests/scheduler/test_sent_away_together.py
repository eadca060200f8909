"""Victims of many pods are marked and deleted in one go: what each must see stays in order, and each fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from tests.scheduler.test_meanwhile import Gate, Request, cluster
from tests.scheduler.test_preemption import PRIORITIES
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod, where

from jota.api.admission.policies import BINDINGS, POLICIES
from jota.meta.resource import EVENTS, NAMESPACES, PODS, SERVICEACCOUNTS
from jota.scheduler import scheduler as engine
from jota.testing.cluster import ApiServer, Watching

Object = dict[str, Any]
MANY = "/api/v1/namespaces/default/pods/*"
MARKS = [("PATCH", MANY + "/status"), ("PATCH", MANY + "/status"), ("DELETE", MANY)]
"""The pods are nominated, then the victims marked, then deleted."""


async def crowd(api: ApiServer, count: int, **spec: Any) -> None:
    """Two less important pods on each of the nodes n0 .. that are there."""
    for n in range(count):
        for half in "ab":
            low = pod(f"low-{n}{half}", cpu="450m", terminationGracePeriodSeconds=0, **spec)
            await api.client.create(PODS, low, "default")
    await api.advance(1)
    assert "" not in (await where(api)).values()


async def tops(api: ApiServer, count: int) -> None:
    made = [pod(f"top-{n}", cpu="900m", priorityClassName="high") for n in range(count)]
    await asyncio.gather(*(api.client.create(PODS, one, "default") for one in made))


def several(gate: Gate) -> list[Request]:
    return [r for r in gate.requests if "*" in r[1]]


async def events(api: ApiServer, reason: str, namespace: str = "default") -> list[str]:
    found = (await api.client.list(EVENTS, namespace))["items"]
    return sorted(e["involvedObject"]["name"] for e in found if e["reason"] == reason for _ in range(e["count"]))


def test_a_turns_victims_go_in_three_requests_and_watchers_see_all_of_it() -> None:
    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(5))) as (api, gate):
            await crowd(api, 5)
            async with Watching(api, "/api/v1/pods?watch=1") as watch:
                await tops(api, 5)
                await api.advance(0.5)
            assert several(gate) == MARKS
            placed = await where(api)
            assert sorted(placed.values()) == [f"n{n}" for n in range(5)]
            seen: dict[str, list[tuple[str, str, str]]] = {}
            for kind, one in watch.events:
                status = one["status"]
                said = " ".join(c["type"] for c in status.get("conditions", ()) if c["type"] == "DisruptionTarget")
                what = kind, said, status.get("nominatedNodeName", "") and "nominated"
                seen.setdefault(one["metadata"]["name"][:3], []).append(what)
            changes = [("MODIFIED", "DisruptionTarget", "")] * 10 + [("DELETED", "DisruptionTarget", "")] * 10
            assert seen["low"][-20:] == changes
            assert ("MODIFIED", "", "nominated") in seen["top"]
            order = [(kind, one["metadata"]["name"][:3]) for kind, one in watch.events if kind != "ADDED"]
            assert order[:5] == [("MODIFIED", "top")] * 5, "nobody was marked before the pods were nominated"
            await api.advance(5)
            assert await events(api, "Preempted") == sorted(f"low-{n}{half}" for n in range(5) for half in "ab")
            assert await events(api, "FailedScheduling") == sorted(f"top-{n}" for n in range(5))

    asyncio.run(story())


def test_pods_that_end_gracefully_are_marked_and_get_their_time() -> None:
    async def story() -> None:
        async with cluster(node("n0"), node("n1")) as (api, gate):
            for n in range(2):
                await api.client.create(PODS, pod(f"low-{n}", cpu="900m"), "default")
            await api.advance(1)
            await tops(api, 2)
            await api.advance(1)
            assert several(gate) == MARKS
            for n in range(2):
                low = await api.client.get(PODS, f"low-{n}", "default")
                assert low["metadata"]["deletionGracePeriodSeconds"] == 30
                condition = next(c for c in low["status"]["conditions"] if c["type"] == "DisruptionTarget")
                assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
            await api.advance(60)
            assert several(gate) == MARKS, "nobody is told twice"

    asyncio.run(story())


def test_victims_of_several_namespaces() -> None:
    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(4))) as (api, gate):
            await api.client.create(NAMESPACES, {"metadata": {"name": "other"}})
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "other")
            for n in range(4):
                low = pod(f"low-{n}", cpu="900m", terminationGracePeriodSeconds=0)
                await api.client.create(PODS, low, ("default", "other")[n % 2])
            await api.advance(1)
            await tops(api, 4)
            await api.advance(1)
            assert sorted(await where(api)) == [f"top-{n}" for n in range(4)]
            other = [r for r in several(gate) if "/other/" in r[1]]
            assert [method for method, _ in other] == ["PATCH", "DELETE"]
            await api.advance(5)
            assert [await events(api, "Preempted", ns) for ns in ("default", "other")] == [
                ["low-0", "low-2"],
                ["low-1", "low-3"],
            ]

    asyncio.run(story())


# -- what goes wrong


Mischief = Callable[[ApiServer, Gate], Awaitable[None]]


async def one_is_gone(api: ApiServer, gate: Gate) -> None:
    await api.client.delete(PODS, "low-1a", "default", grace=0)


async def a_namesake_came(api: ApiServer, gate: Gate) -> None:
    await api.client.delete(PODS, "low-1a", "default", grace=0)
    low = pod("low-1a", cpu="10m")
    low["spec"]["schedulerName"] = "somebody"
    await api.client.create(PODS, low, "default")


async def one_has_changed(api: ApiServer, gate: Gate) -> None:
    await api.client.patch(PODS, "low-1a", "default", {"metadata": {"labels": {"now": "other"}}})


@pytest.mark.parametrize("mischief", [one_is_gone, a_namesake_came, one_has_changed])
@pytest.mark.parametrize("step", [("PATCH", 2), ("DELETE", 1)])
def test_what_happens_to_a_victim_meanwhile_harms_nobody_else(mischief: Mischief, step: tuple[str, int]) -> None:
    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(3))) as (api, gate):
            await crowd(api, 3)
            method, number = step
            gate.holds = lambda r: r[0] == method and "*" in r[1] and sum(r[0] == o[0] for o in several(gate)) == number
            await tops(api, 3)
            await api.advance(0)
            await mischief(api, gate)
            await api.advance(0)
            gate.open.set()
            await api.advance(1)
            placed = await where(api)
            namesake = {"low-1a": ""} if mischief is a_namesake_came else {}
            assert sorted(placed) == sorted([*namesake, *(f"top-{n}" for n in range(3))])
            assert all(placed[f"top-{n}"] for n in range(3))
            if namesake:
                low = await api.client.get(PODS, "low-1a", "default")
                assert not [c for c in low["status"].get("conditions", ()) if c["type"] == "DisruptionTarget"]

    asyncio.run(story())


@pytest.mark.parametrize("step", [("PATCH", "/status"), ("DELETE", "/pods/*"), ("DELETE", "/pods/")])
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_server_that_goes_midway_is_asked_again(step: tuple[str, str], carried_out: bool) -> None:
    """The request is not sent, or its answer is lost; alone, or so that what is sent one by one fails as well."""

    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(3))) as (api, gate):
            await crowd(api, 3)

            def broken(request: Request) -> bool:
                return request[0] == step[0] and step[1] in request[1]

            if carried_out:
                gate.loses = broken
            else:
                gate.breaks = broken
            await tops(api, 3)
            await api.advance(1)
            gate.breaks = gate.loses = lambda request: False
            await api.advance(15)
            placed = await where(api)
            assert sorted(placed) == [f"top-{n}" for n in range(3)]
            assert sorted(placed.values()) == ["n0", "n1", "n2"]

    asyncio.run(story())


def test_one_that_may_not_go_stays_and_the_others_go() -> None:
    """A policy protects a pod, until it is gone."""

    async def story() -> None:
        async with cluster(*(node(f"n{n}") for n in range(3))) as (api, _):
            await crowd(api, 3)
            rule = {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
            spec = {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "oldObject.metadata.name != 'low-1a'"}],
            }
            await api.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
            bound = {"policyName": "p", "validationActions": ["Deny"]}
            await api.client.create(BINDINGS, {"metadata": {"name": "b"}, "spec": bound})
            await api.settle()
            await tops(api, 3)
            await api.advance(3)
            placed = await where(api)
            assert "low-1a" in placed
            assert sum(bool(placed[f"top-{n}"]) for n in range(3)) == 2
            await api.client.delete(POLICIES, "p")
            await api.advance(30)
            placed = await where(api)
            assert sorted(placed) == [f"top-{n}" for n in range(3)]
            assert all(placed.values())

    asyncio.run(story())


@pytest.mark.parametrize(("alike", "expected"), [(1, [1] * 4), (2, [2, 2]), (3, [3, 1])])
def test_victims_are_chosen_for_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, alike: int, expected: list[int]
) -> None:
    """When a turn's time is over, who is not refused yet is decided anew in the next."""
    turns: list[int] = []

    class Counting(engine.Scheduler):
        async def _report_together(self, reports: list[Any]) -> None:
            turns.append(len(reports))
            await super()._report_together(reports)

    async def story() -> None:
        async with ApiServer() as api:
            for n in range(4):
                await add_node(api, node(f"n{n}"))
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            high = {"metadata": {"name": "high"}, "value": 9}
            await api.client.create(PRIORITIES, high)
            task = asyncio.create_task(Counting(api.client, clock=api.clock, random=Random(1)).run())
            await api.advance(1)
            await crowd(api, 4)
            monkeypatch.setattr(engine, "_TURN", -1.0)
            monkeypatch.setattr(engine, "_ALIKE", alike)
            await tops(api, 4)
            await api.advance(0.5)
            assert turns == expected
            assert sorted((await where(api)).values()) == [f"n{n}" for n in range(4)]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
