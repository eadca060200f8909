"""`jota plan`: the real API server's dry run and the real scheduler tell where pods would go; nothing is written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod

from jota.cli.plan import plan
from jota.meta.resource import PODS, SERVICEACCOUNTS, Resource
from jota.run.instance import Refused
from jota.scheduler.resources import DEVICECLASSES, RESOURCESLICES
from jota.testing.cluster import ApiServer

from .dra import claim_spec, device, device_class, request, slice_


def workload(kind: str, replicas: int, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    made = pod("x", cpu)
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {**made["spec"], **spec.pop("pod", {})}}
    return {"kind": kind, "metadata": {"name": "web"}, "spec": {"replicas": replicas, "template": template, **spec}}


def planned(
    *documents: dict[str, Any], given: tuple[tuple[Resource, dict[str, Any]], ...] = ()
) -> list[dict[str, Any]]:
    async def story() -> list[dict[str, Any]]:
        async with ApiServer() as api:
            for resource, obj in given:
                await api.client.create(resource, obj)
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


def test_devices_are_given_out_in_the_copy() -> None:
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "gpus"},
        "spec": {"spec": claim_spec(request(count=2))},
    }
    entries = [{"name": "g", "resourceClaimTemplateName": "gpus"}]
    given = (
        (DEVICECLASSES, device_class()),
        (RESOURCESLICES, slice_("a", device("g0"), device("g1"), device("g2"))),
        (RESOURCESLICES, slice_("b", device("g0"), device("g1"))),
    )
    outcomes = planned(workload("Deployment", 3, pod={"resourceClaims": entries}), template, given=given)
    assert sorted(o["node"] for o in outcomes) == ["", "a", "b"]
    text = next(o["message"] for o in outcomes if not o["node"])
    assert "2 device(s) of class gpu wanted, 1 of 3 free" in text
    assert "2 device(s) of class gpu wanted, 0 of 2 free" in text
    (outcome,) = planned(workload("Deployment", 1, pod={"resourceClaims": entries}), given=given)
    assert "is not created yet" in outcome["message"]


def test_a_gang_is_planned_whole_or_not_at_all() -> None:
    def gang(count: int, replicas: int) -> list[dict[str, Any]]:
        policy = {"schedulingPolicy": {"gang": {"minCount": count}}}
        group = {
            "apiVersion": "scheduling.k8s.io/v1beta1",
            "kind": "PodGroup",
            "metadata": {"name": "g"},
            "spec": policy,
        }
        return [group, workload("Deployment", replicas, cpu="800m", pod={"schedulingGroup": {"podGroupName": "g"}})]

    assert sorted(o["node"] for o in planned(*gang(2, 2))) == ["a", "b"]
    outcomes = planned(*gang(3, 3), workload("Job", 1, cpu="900m"))
    assert [o["node"] for o in outcomes][:3] == ["", "", ""]
    assert outcomes[0]["message"].startswith(
        'PodGroup "g": 2 of the 3 pods that must be placed together fit: 0/2 nodes'
    )
    assert planned(*gang(2, 2)[1:])[0]["message"] == 'PodGroup "g" does not exist'
