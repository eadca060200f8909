"""EvictionRequests: one responder after the other lets a pod go; the last one asks pods/eviction. Withdrawals, silence, budgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import rfc3339
from jota.api.config import ApiConfig
from jota.controllers.controller import ControllerConfig
from jota.controllers.evictionplan import HEARTBEAT, Target, in_order, plan
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.poddisruptionbudget import PodDisruptionBudgetController
from jota.controllers.table import CONTROLLERS, controllers, run_controllers
from jota.kinds.lifecycle import eviction as eviction_kind
from jota.kinds.lifecycle.participants import IMPERATIVE
from jota.meta import conditions
from jota.meta.errors import ApiError
from jota.meta.resource import EVICTION_REQUESTS, EVICTIONS, NAMESPACES, PODS, SERVICEACCOUNTS, Resource
from jota.testing.cluster import ApiServer, story_in

from .builders import CA_PEM

Object = dict[str, Any]
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVES = ApiConfig(runtime_config={"lifecycle.k8s.io/v1alpha1": True}).serves


@asynccontextmanager
async def running() -> AsyncIterator[ApiServer]:
    async with ApiServer(config=ApiConfig(runtime_config={"lifecycle.k8s.io/v1alpha1": True})) as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "ns")
        stop = asyncio.Event()
        mine = [c for c in controllers(SERVES) if c not in CONTROLLERS]
        work = run_controllers(
            api.client,
            api.clock,
            ControllerConfig(ca_pem=CA_PEM),
            stop,
            random=Random(1),
            controllers=(*mine, PodDisruptionBudgetController, GarbageCollector),
        )
        task = asyncio.ensure_future(work)
        try:
            await api.settle()
            yield api
        finally:
            stop.set()
            await task


story = story_in(running)


async def pod(api: ApiServer, *responders: tuple[str, int], name: str = "web", **spec: Any) -> Object:
    """A pod that runs on a node."""
    if responders:
        spec["evictionResponders"] = [{"name": n, "priority": p} for n, p in responders]
    body = {
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}], "nodeName": "n", **spec},
    }
    await api.client.create(PODS, body, "ns")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return await api.client.patch(PODS, name, "ns", {"status": status}, subresource="status")


async def request(api: ApiServer, target: Object, requester: str = "example.com/drain", **spec: Any) -> Object:
    wanted = {"pod": {"name": target["metadata"]["name"], "uid": target["metadata"]["uid"]}}
    body = {
        "metadata": {"name": requester.rpartition("/")[2]},
        "spec": {"target": wanted, "requester": requester, "intent": "Eviction", **spec},
    }
    return await api.client.create(EVICTION_REQUESTS, body, "ns")


async def eviction(api: ApiServer, name: str = "pod-1-web") -> Object:
    return await api.client.get(EVICTIONS, name, "ns")


def states(found: Object) -> list[tuple[str, str]]:
    return [(r["name"], r["state"]) for r in found["status"]["targetResponders"]]


def says(obj: Object, kind: str) -> tuple[str, str]:
    found = conditions.find(obj["status"]["conditions"], kind)
    assert found is not None
    return found["status"], found["reason"]


async def report(api: ApiServer, responder: str, name: str = "pod-1-web", **told: Any) -> None:
    """A responder writes its part of the status."""
    body = {
        "apiVersion": EVICTIONS.api_version,
        "kind": EVICTIONS.kind,
        "metadata": {"name": name, "namespace": "ns"},
        "status": {"responders": [{"name": responder, **told}]},
    }
    await api.client.patch(
        EVICTIONS, name, "ns", body, type="apply", subresource="status", manager=responder.replace("/", "-"), force=True
    )


@story
async def test_a_pod_without_responders_is_evicted_by_the_default_one(api: ApiServer) -> None:
    target = await pod(api)
    await request(api, target)
    await api.advance(1)
    found = await eviction(api)
    assert found["spec"] == {"target": {"pod": {"name": "web", "uid": target["metadata"]["uid"]}}}
    assert found["metadata"]["labels"] == {"example.com/drain": "requester", IMPERATIVE: "responder"}
    assert states(found) == [(IMPERATIVE, "Active")]
    assert found["status"]["requesters"] == [{"name": "example.com/drain", "intent": "Eviction"}]
    assert says(found, "TargetEvicted") == ("False", "AwaitingEviction")
    going = await api.client.get(PODS, "web", "ns")
    assert "deletionTimestamp" in going["metadata"]
    (told,) = found["status"]["responders"]
    assert "marked for deletion via the /eviction subresource" in told["message"]
    await api.client.delete(PODS, "web", "ns", grace=0)
    await api.advance(2)
    found = await eviction(api)
    assert states(found) == [(IMPERATIVE, "Completed")]
    assert says(found, "TargetEvicted") == ("True", "PodDeleted")
    assert says(found, "Failed") == ("False", "Succeeded")
    asked = await api.client.get(EVICTION_REQUESTS, "drain", "ns")
    assert says(asked, "TargetEvicted") == ("True", "PodDeleted")
    assert asked["status"]["observedGeneration"] == 1
    await api.client.delete(EVICTION_REQUESTS, "drain", "ns")
    await api.advance(40)
    assert (await api.client.list(EVICTIONS, "ns"))["items"] == [], "with its requests it is garbage"


@story
async def test_responders_take_their_turns_by_priority_and_silence_ends_a_turn(api: ApiServer) -> None:
    target = await pod(api, ("example.com/backup", 2000), ("example.com/owner", 10000))
    await request(api, target)
    await api.advance(1)
    found = await eviction(api)
    assert states(found) == [
        ("example.com/owner", "Active"),
        ("example.com/backup", "Inactive"),
        (IMPERATIVE, "Inactive"),
    ]
    await api.advance(HEARTBEAT - 60)
    await report(api, "example.com/owner", heartbeatTime=rfc3339(api.clock.now()), message="half way")
    await api.advance(HEARTBEAT - 60)
    assert states(await eviction(api))[0] == ("example.com/owner", "Active"), "it was heard of"
    await api.advance(120)
    found = await eviction(api)
    assert states(found)[:2] == [("example.com/owner", "Interrupted"), ("example.com/backup", "Active")]
    with pytest.raises(ApiError, match="only the active responder may be updated"):
        await report(api, "example.com/owner", message="I am back")
    await report(api, "example.com/backup", completionTime=rfc3339(api.clock.now()))
    await api.advance(1)
    found = await eviction(api)
    assert [s for _, s in states(found)] == ["Interrupted", "Completed", "Active"]
    assert "deletionTimestamp" in (await api.client.get(PODS, "web", "ns"))["metadata"]
    mine = next(r for r in found["status"]["responders"] if r["name"] == "example.com/owner")
    assert mine["message"] == "half way", "what responders wrote stays"


@story
async def test_a_responder_that_lets_the_pod_go_itself(api: ApiServer) -> None:
    target = await pod(api, ("example.com/owner", 10000))
    await request(api, target)
    await api.advance(1)
    await api.client.patch(PODS, "web", "ns", {"status": {"phase": "Succeeded"}}, subresource="status")
    await report(api, "example.com/owner", completionTime=rfc3339(api.clock.now()), message="done")
    await api.advance(1)
    found = await eviction(api)
    assert [s for _, s in states(found)] == ["Completed", "Inactive"]
    assert says(found, "TargetEvicted") == ("True", "PodTerminal")


@story
async def test_a_withdrawal_cancels_and_a_new_intent_begins_anew(api: ApiServer) -> None:
    target = await pod(api, ("example.com/owner", 10000))
    await request(api, target)
    await request(api, target, "example.com/scaler")
    await api.advance(1)
    assert len((await api.client.list(EVICTIONS, "ns"))["items"]) == 1, "one for both"
    await api.client.delete(EVICTION_REQUESTS, "scaler", "ns")
    await api.advance(1)
    found = await eviction(api)
    assert found["status"]["requesters"] == [
        {"name": "example.com/drain", "intent": "Eviction"},
        {"name": "example.com/scaler", "intent": "Withdrawn"},
    ]
    assert "example.com/scaler" not in found["metadata"]["labels"]
    assert states(found)[0] == ("example.com/owner", "Active")
    await api.client.patch(EVICTION_REQUESTS, "drain", "ns", {"spec": {"intent": "Withdrawn"}})
    await api.advance(1)
    found = await eviction(api)
    assert states(found)[0] == ("example.com/owner", "Canceled")
    assert says(found, "Failed") == ("True", "CanceledDueToNoRequesters")
    asked = await api.client.get(EVICTION_REQUESTS, "drain", "ns")
    assert says(asked, "Failed") == ("True", "CanceledDueToNoRequesters")
    await api.client.patch(EVICTION_REQUESTS, "drain", "ns", {"spec": {"intent": "Eviction"}})
    await api.advance(1)
    again = await eviction(api, "pod-2-web")
    assert states(again)[0] == ("example.com/owner", "Active")
    asked = await api.client.get(EVICTION_REQUESTS, "drain", "ns")
    assert says(asked, "Failed") == ("False", "AwaitingEviction")


@story
async def test_a_budget_holds_the_default_responder_up_with_growing_patience(api: ApiServer) -> None:
    target = await pod(api)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    await api.client.create(BUDGETS, {"metadata": {"name": "b"}, "spec": spec}, "ns")
    await api.advance(1)
    await request(api, target)
    await api.advance(60)
    (told,) = (await eviction(api))["status"]["responders"]
    assert "via the /eviction subresource failed (attempts=4)" in told["message"], "at 0, 5, 15 and 35 seconds"
    await api.advance(3 * HEARTBEAT)
    found = await eviction(api)
    assert states(found) == [(IMPERATIVE, "Active")], "it gives signs of life"
    assert "deletionTimestamp" not in (await api.client.get(PODS, "web", "ns"))["metadata"]
    await api.client.delete(BUDGETS, "b", "ns")
    await api.advance(601)
    assert "deletionTimestamp" in (await api.client.get(PODS, "web", "ns"))["metadata"]


@story
async def test_requests_about_nobody_are_told_so(api: ApiServer) -> None:
    target = await pod(api)
    nobody = {"metadata": {"name": "nobody", "uid": "u"}}
    other = {"metadata": {"name": "web", "uid": "another"}}
    await request(api, nobody, "example.com/a")
    await request(api, other, "example.com/b")
    grouped = await pod(api, name="grouped", schedulingGroup={"podGroupName": "g"})
    await request(api, grouped, "example.com/c")
    await api.advance(1)
    for name, words in (("a", "not found"), ("b", "UID mismatch"), ("c", "SchedulingGroup")):
        asked = await api.client.get(EVICTION_REQUESTS, name, "ns")
        assert says(asked, "Failed") == ("True", "EvictionInvalid")
        assert words in conditions.find(asked["status"]["conditions"], "Failed")["message"]  # type: ignore[index]
    assert (await api.client.list(EVICTIONS, "ns"))["items"] == []
    assert "deletionTimestamp" not in (await api.client.get(PODS, "web", "ns"))["metadata"]
    assert target["metadata"]["name"] == "web"


@story
async def test_what_is_written_is_judged(api: ApiServer) -> None:
    target = await pod(api)

    async def refused(work: Awaitable[Any]) -> set[str]:
        with pytest.raises(ApiError) as caught:
            await work
        assert caught.value.code == 422, caught.value
        return {c.field for c in caught.value.causes}

    assert await refused(request(api, {"metadata": {"name": "", "uid": ""}})) == {
        "spec.target.pod.name",
        "spec.target.pod.uid",
    }
    assert await refused(request(api, target, "drain")) == {"spec.requester"}
    assert await refused(request(api, target, "node.k8s.io/drain")) == {"spec.requester"}
    assert await refused(request(api, target, intent="Maybe")) == {"spec.intent"}
    await request(api, target)
    change = {"spec": {"requester": "example.com/other"}}
    assert await refused(api.client.patch(EVICTION_REQUESTS, "drain", "ns", change)) == {"spec.requester"}
    at = "spec.evictionResponders"
    for responders, fields in (
        ([("a", 2000)], {f"{at}[0].name"}),
        ([("x.kubernetes.io/a", 2000)], {f"{at}[0].name"}),
        ([("example.com/a", 999)], {f"{at}[0].priority"}),
        ([("example.com/a", 100001)], {f"{at}[0].priority"}),
        ([(f"example.com/a{n}", 2000) for n in range(11)], {at}),
    ):
        assert await refused(pod(api, *responders, name="bad")) == fields


# -- the plan alone

RESPONDERS = st.lists(
    st.tuples(st.sampled_from(["example.com/a", "b.example.com/z", "example.com/b"]), st.integers(1000, 1003)),
    unique_by=lambda r: r[0],
    max_size=3,
)


def test_responders_of_one_priority_are_ordered_by_domain_from_the_top() -> None:
    names = ["b.example.org/a", "example.com/b", "a.example.com/a", "example.com/a", "z.example.com/a"]
    listed = [{"name": n, "priority": 5, "state": "Inactive"} for n in names]
    assert [r["name"] for r in in_order(listed)] == [
        "example.com/a",
        "example.com/b",
        "a.example.com/a",
        "z.example.com/a",
        "b.example.org/a",
    ]


@given(
    RESPONDERS,
    st.lists(st.sampled_from(["tick", "beat", "complete", "silence", "withdraw", "ask", "gone"]), max_size=12),
)
def test_every_path_ends_and_never_two_are_active(responders: list[tuple[str, int]], events: list[str]) -> None:
    """The controller, played: statuses are valid after each step, and silence alone brings every eviction to its end."""
    now = 1_000_000.0
    target = Target("web", "u", True, "u", responders=tuple(responders))
    asked: Object = {
        "metadata": {"name": "r", "uid": "ru", "creationTimestamp": rfc3339(now), "generation": 1},
        "spec": {"requester": "example.com/r", "intent": "Eviction"},
    }
    evictions: list[Object] = []

    def step() -> None:
        found = plan(target, [asked], evictions, [e["metadata"]["name"] for e in evictions], now)
        for e in evictions:
            new = found.evictions.get(e["metadata"]["name"])
            if new is None:
                continue
            reports = {r["name"]: r for r in e.get("status", {}).get("responders", [])}
            new["responders"] = [{**reports.get(r["name"], {}), **r} for r in new.get("responders", [])]
            assert eviction_kind.validate_status({"status": new}, e) == [], (new, e)
            e["status"] = new
        if found.create is not None:
            created = {**found.create["metadata"], "creationTimestamp": rfc3339(now), "generation": 1}
            evictions.append({"metadata": created, "spec": found.create["spec"]})
        asked["status"] = found.requests.get("r", asked.get("status"))
        at_work = [
            e for e in evictions if not any(c["status"] == "True" for c in e.get("status", {}).get("conditions", []))
        ]
        assert len(at_work) <= 1

    def active() -> Object | None:
        for e in evictions:
            for t in e.get("status", {}).get("targetResponders", []):
                if t["state"] == "Active":
                    return next(r for r in e["status"]["responders"] if r["name"] == t["name"])
        return None

    for event in events:
        now += 5
        told = active()
        if event == "silence":
            now += HEARTBEAT
        elif event == "withdraw":
            asked["spec"]["intent"] = "Withdrawn"
        elif event == "ask":
            asked["spec"]["intent"] = "Eviction"
        elif event == "gone":
            target.found, target.found_uid = False, ""
        elif told is not None and event == "beat" and "completionTime" not in told:
            told["heartbeatTime"] = rfc3339(now)
        elif told is not None and event == "complete":
            told.setdefault("completionTime", rfc3339(now))
        step()
    asked["spec"]["intent"] = "Withdrawn" if not target.gone else "Eviction"
    for _ in range(3):
        now += HEARTBEAT
        step()
    for e in evictions:
        assert any(c["status"] == "True" for c in e["status"]["conditions"]), e
