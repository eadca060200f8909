"""`jota plan`: the real API server's dry run and the real scheduler tell where pods would go; nothing is written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod

from jota.cli.plan import plan
from jota.meta.resource import PODS, SERVICEACCOUNTS
from jota.run.instance import Refused
from jota.testing.cluster import ApiServer


def workload(kind: str, replicas: int, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    made = pod("x", cpu)
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {**made["spec"], **spec.pop("pod", {})}}
    return {"kind": kind, "metadata": {"name": "web"}, "spec": {"replicas": replicas, "template": template, **spec}}


def planned(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    async def story() -> list[dict[str, Any]]:
        async with ApiServer() as api:
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            for name in ("a", "b"):
                await add_node(api, node(name))
            outcomes = await plan(api.client, "default", list(documents))
            assert (await api.client.list(PODS))["items"] == []
            return outcomes

    return asyncio.run(story())


def test_a_deployment_is_spread_until_the_nodes_are_full() -> None:
    outcomes = planned(workload("Deployment", 5, cpu="400m"), {"kind": "Service", "metadata": {"name": "s"}})
    assert sorted(o["node"] for o in outcomes) == ["", "a", "a", "b", "b"]
    assert outcomes[-1]["message"] == "0/2 nodes are available: 2 Insufficient cpu."
    assert outcomes[0]["owner"] == "Deployment/web"
    assert outcomes[0]["scores"]["NodeResourcesFit"] > 0


def test_a_daemonset_goes_everywhere_and_a_missing_claim_is_told() -> None:
    assert sorted(o["node"] for o in planned(workload("DaemonSet", 0))) == ["a", "b"]
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "gone"}}]
    (outcome,) = planned(workload("Job", 1, pod={"volumes": volumes, "restartPolicy": "Never"}))
    assert outcome["message"] == '0/2 nodes are available: persistentvolumeclaim "gone" not found.'


def test_what_the_api_server_refuses_is_told() -> None:
    (outcome,) = planned(pod("Bad_Name"))
    assert outcome["message"].startswith("the API server would refuse it: ")


def test_huge_workloads_are_refused() -> None:
    with pytest.raises(Refused, match="1000000 pods"):
        planned(workload("Deployment", 1_000_000))
