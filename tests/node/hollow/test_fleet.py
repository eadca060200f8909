"""Stories of simulated nodes on the real API server: they register, beat, run pods, fail on demand and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from jota.meta.resource import LEASES, NODES, PODS, SERVICEACCOUNTS
from jota.node.hollow.fleet import Fleet, configure
from jota.node.hollow.lifecycle import Pod, plan
from jota.node.hollow.settings import Settings, parse, to_data
from jota.testing.cluster import ApiServer


def pod(name: str, node: str = "hollow-0", **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "x"}], "nodeName": node, **spec},
    }


@asynccontextmanager
async def fleet(**settings: str) -> AsyncIterator[ApiServer]:
    async with ApiServer() as api:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await api.client.create(SERVICEACCOUNTS, account, "default")
        await configure(api.client, {"nodes": "4", **settings})
        task = asyncio.create_task(Fleet(api.client, clock=api.clock, random=Random(1)).run())
        try:
            await api.advance(1)
            yield api
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def phase(api: ApiServer, name: str) -> str:
    return str((await api.client.get(PODS, name, "default"))["status"]["phase"])


async def renewed(api: ApiServer) -> dict[str, str]:
    listed = await api.client.list(LEASES, "kube-node-lease")
    return {lease["metadata"]["name"]: lease["spec"]["renewTime"] for lease in listed["items"]}


def test_nodes_register_beat_and_follow_the_settings() -> None:
    async def story() -> None:
        async with fleet() as api:
            nodes = (await api.client.list(NODES))["items"]
            assert [n["metadata"]["name"] for n in nodes] == [f"hollow-{n}" for n in range(4)]
            assert {n["metadata"]["labels"]["topology.kubernetes.io/zone"] for n in nodes} == {
                "zone-0",
                "zone-1",
                "zone-2",
            }
            assert all(c["status"] == "True" for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready")
            before = await renewed(api)
            await api.advance(11)
            after = await renewed(api)
            assert all(after[name] > before[name] for name in after)
            await configure(api.client, {"nodes": "2"})
            await api.advance(6)
            assert len((await api.client.list(NODES))["items"]) == 2
            await api.client.delete(NODES, "hollow-1")
            await api.advance(6)
            assert len((await api.client.list(NODES))["items"]) == 2

    asyncio.run(story())


def test_pods_start_with_addresses_and_are_removed() -> None:
    async def story() -> None:
        async with fleet(start_seconds="2") as api:
            for n in range(3):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            await api.client.create(PODS, pod("real", "other"), "default")
            await api.advance(1)
            assert await phase(api, "p0") == "Pending"
            await api.advance(2)
            got = [(await api.client.get(PODS, f"p{n}", "default"))["status"] for n in range(3)]
            assert [s["phase"] for s in got] == ["Running"] * 3
            assert len({s["podIP"] for s in got}) == 3
            ready = {c["type"]: c["status"] for c in got[0]["conditions"]}
            assert ready["Ready"] == ready["ContainersReady"] == ready["Initialized"] == ready["PodScheduled"] == "True"
            assert await phase(api, "real") == "Pending"
            await api.client.delete(PODS, "p1", "default")
            await api.advance(1)
            assert {p["metadata"]["name"] for p in (await api.client.list(PODS))["items"]} == {"p0", "p2", "real"}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("policy", "code", "expected", "restarted"),
    [("Never", "0", "Succeeded", False), ("Never", "3", "Failed", False), ("OnFailure", "0", "Succeeded", False),
     ("OnFailure", "1", "Running", True), ("Always", "0", "Running", True)],
)  # fmt: skip
def test_pods_end_as_their_annotations_and_policy_say(policy: str, code: str, expected: str, restarted: bool) -> None:
    async def story() -> None:
        async with fleet() as api:
            notes = {"hollow.jota.dev/run-seconds": "5", "hollow.jota.dev/exit-code": code}
            await api.client.create(PODS, pod("p", restartPolicy=policy, annotations=notes), "default")
            await api.advance(2)
            assert await phase(api, "p") == "Running"
            await api.advance(5)
            status = (await api.client.get(PODS, "p", "default"))["status"]
            assert status["phase"] == expected
            assert (status["containerStatuses"][0]["restartCount"] > 0) == restarted

    asyncio.run(story())


def test_faults_on_demand() -> None:
    async def story() -> None:
        async with fleet(failure_rate="1") as api:
            await api.client.create(PODS, pod("p"), "default")
            await api.client.create(PODS, pod("once", restartPolicy="Never"), "default")
            await api.advance(2)
            status = (await api.client.get(PODS, "p", "default"))["status"]
            assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            assert await phase(api, "once") == "Failed"
            await configure(api.client, {"lost": "1", "failure_rate": "0"})
            await api.advance(1)
            before = await renewed(api)
            await api.client.create(PODS, pod("late"), "default")
            await api.advance(20)
            assert await renewed(api) == before
            assert await phase(api, "late") == "Pending"
            await configure(api.client, {"lost": "0"})
            await api.advance(11)
            assert (await renewed(api)) != before
            assert await phase(api, "late") == "Running"

    asyncio.run(story())


def test_a_restarted_fleet_goes_on() -> None:
    async def story() -> None:
        async with fleet() as api:
            await api.client.create(PODS, pod("p"), "default")
            await api.advance(1)
            address = (await api.client.get(PODS, "p", "default"))["status"]["podIP"]
            again = asyncio.create_task(Fleet(api.client, clock=api.clock, random=Random(2)).run())
            await api.client.create(PODS, pod("q"), "default")
            await api.advance(2)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
            assert await phase(api, "q") == "Running"
            assert (await api.client.get(PODS, "p", "default"))["status"]["podIP"] == address

    asyncio.run(story())


@pytest.mark.parametrize("data", [{"nods": "1"}, {"nodes": "many"}, {"nodes": "-1"}, {"lost": "2"}, {"zones": "0"}])
def test_settings_that_make_no_sense_are_refused(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(data))):
        parse(data)


def test_settings_survive_the_config_map() -> None:
    settings = Settings(nodes=3, jitter=0.5, cpu="8")
    assert parse(to_data(settings)) == settings


def test_a_deleted_pod_stops_no_later_than_its_grace_allows() -> None:
    import msgspec

    raw = {
        "metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2027-01-15T08:00:05Z"},
        "spec": {"nodeName": "n"},
    }
    step = plan(msgspec.convert(raw, Pod), Settings(stop_seconds=60), 1_800_000_000.0)
    assert step is not None
    assert (step.verb, step.after) == ("remove", 5.0)
