"""PodDisruptionBudget: tables for the counting, and stories with the real eviction subresource."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jota.aio.clock import rfc3339
from jota.client.client import Client
from jota.client.indexes import Alike
from jota.controllers.deployment import DeploymentController
from jota.controllers.poddisruptionbudget import BUDGETS, Expected, PodDisruptionBudgetController, plan
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.stalepoddisruption import StalePodDisruptionController
from jota.controllers.views import Pod, grouped
from jota.kinds.apiextensions.crd import CRDS
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, EVENTS, PODS, Resource
from jota.testing.cluster import ApiServer

from .builders import NOW, pod
from .stories import Kubelet, names, running, web

Object = dict[str, Any]
GADGETS = Resource("example.com", "v1", "gadgets", "Gadget")


def gadgets() -> Object:
    """A custom resource with /scale."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    version["subresources"] = {"scale": scale}
    names = {"plural": "gadgets", "kind": "Gadget"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "gadgets.example.com"}, "spec": spec}


def budget(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "ns", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def among(pods: list[Pod]) -> tuple[list[Alike[Pod]], Callable[[str], Pod | None]]:
    """How the planner is told of pods."""
    return grouped(pods), {p.metadata.name: p for p in pods}.get


@pytest.mark.parametrize(
    ("spec", "ready", "present", "wanted", "counts"),
    [
        ({"minAvailable": 2}, 3, 3, 3, (3, 2, 3, 1)),
        ({"minAvailable": 5}, 3, 3, 3, (3, 5, 3, 0)),
        ({"minAvailable": "50%"}, 3, 3, 5, (3, 3, 5, 0)),
        ({"maxUnavailable": 1}, 3, 3, 3, (3, 2, 3, 1)),
        ({"maxUnavailable": 1}, 2, 3, 3, (2, 2, 3, 0)),
        ({"maxUnavailable": "30%"}, 4, 4, 4, (4, 2, 4, 2)),
        ({"maxUnavailable": 0}, 3, 3, 3, (3, 3, 3, 0)),
        ({"minAvailable": 0}, 0, 0, 0, (0, 0, 0, 0)),
    ],
)
def test_the_counts(spec: Object, ready: int, present: int, wanted: int, counts: tuple[int, ...]) -> None:
    pods = [pod(f"p{n}", ready=1 if n < ready else False) for n in range(present)]
    status, _ = plan(budget(**spec), *among(pods), Expected(wanted), NOW)
    keys = ("currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed")
    assert tuple(status[k] for k in keys) == counts
    assert status["observedGeneration"] == 2
    assert status["conditions"][0]["status"] == ("True" if counts[3] else "False")


def test_an_evicted_pod_counts_again_after_two_minutes() -> None:
    one = budget(minAvailable=1)
    pods = [pod("a", ready=1), pod("b", ready=1)]
    one["status"] = {"disruptedPods": {"a": rfc3339(NOW - 20), "gone": rfc3339(NOW)}}
    status, again = plan(one, *among(pods), Expected(2), NOW)
    assert status["disruptedPods"] == {"a": rfc3339(NOW - 20)}
    assert (status["currentHealthy"], status["disruptionsAllowed"], again) == (1, 0, 100)
    status, again = plan(one, *among(pods), Expected(2), NOW + 101)
    assert "disruptedPods" not in status
    assert (status["disruptionsAllowed"], again) == (1, None)


async def evict(client: Client, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "ns"}}
    await client.create(PODS, body, "ns", subresource="eviction", name=name)


def test_evictions_are_allowed_until_the_budget_is_spent() -> None:
    """should block an eviction until the PDB is updated to allow it"""

    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController, PodDisruptionBudgetController) as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(3))
            await api.client.create(BUDGETS, budget(maxUnavailable=1))
            await kubelet.settle()
            first, second, _ = await names(api, PODS)
            await evict(api.client, first)
            with pytest.raises(ApiError) as refused:
                await evict(api.client, second)
            assert refused.value.code == 429
            assert [c.reason for c in refused.value.causes] == ["DisruptionBudget"]
            await kubelet.settle()
            status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
            assert (status["currentHealthy"], status["disruptionsAllowed"]) == (3, 1)
            assert "disruptedPods" not in status
            await api.client.patch(BUDGETS, "web", "ns", {"spec": {"maxUnavailable": 0}})
            await api.advance(1)
            with pytest.raises(ApiError):
                await evict(api.client, second)
            await api.client.patch(BUDGETS, "web", "ns", {"spec": {"maxUnavailable": "100%"}})
            await api.advance(1)
            await evict(api.client, second)

    asyncio.run(story())


def test_what_pods_belong_to_must_be_known_for_relative_budgets() -> None:
    async def story() -> None:
        async with running(PodDisruptionBudgetController) as api:
            body = web(1)["spec"]["template"]
            owner = {"apiVersion": "x/v1", "kind": "Odd", "name": "odd", "uid": "u", "controller": True}
            meta = {**body["metadata"], "name": "p", "namespace": "ns", "ownerReferences": [owner]}
            await api.client.create(PODS, {"metadata": meta, "spec": body["spec"]})
            await api.client.create(BUDGETS, budget(minAvailable="50%"))
            await api.advance(1)
            status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
            assert status["conditions"][0]["reason"] == "SyncFailed"
            assert status["disruptionsAllowed"] == 0

    asyncio.run(story())


def test_the_size_of_a_custom_set_comes_from_its_scale_and_loose_pods_are_told_of() -> None:
    async def story() -> None:
        async with running(PodDisruptionBudgetController) as api:
            await api.client.create(CRDS, gadgets())
            await api.settle()
            sized = {"apiVersion": "example.com/v1", "kind": "Gadget", "spec": {"replicas": 4}}
            made = await api.client.create(GADGETS, {**sized, "metadata": {"name": "g", "namespace": "ns"}})
            owner = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "g", "uid": made["metadata"]["uid"]}
            body = web(1)["spec"]["template"]
            for name, owners in (("p", [{**owner, "controller": True}]), ("loose", [])):
                meta = {**body["metadata"], "name": name, "namespace": "ns", "ownerReferences": owners}
                await api.client.create(PODS, {"metadata": meta, "spec": body["spec"]})
            await api.client.create(BUDGETS, budget(maxUnavailable=1))
            await api.advance(1)
            status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
            assert (status["expectedPods"], status["desiredHealthy"]) == (4, 3)
            said = {e["reason"]: e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
            assert "(selector: app=web) were found to be unmanaged" in said["UnmanagedPods"]
            await api.client.patch(GADGETS, "g", "ns", {"spec": {"replicas": 2}})
            await api.advance(31)
            assert (await api.client.get(BUDGETS, "web", "ns"))["status"]["expectedPods"] == 2

    asyncio.run(story())


def test_sick_pods_may_go_by_policy() -> None:
    """unhealthyPodEvictionPolicy: IfHealthyBudget keeps a sick pod of a sick application, AlwaysAllow does not."""

    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController, PodDisruptionBudgetController) as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(3))
            await api.client.create(BUDGETS, budget(minAvailable=3))
            await kubelet.settle()
            sick = (await names(api, PODS))[0]
            conditions = [{"type": "Ready", "status": "False"}]
            await api.client.patch(PODS, sick, "ns", {"status": {"conditions": conditions}}, subresource="status")
            await api.advance(1)
            with pytest.raises(ApiError) as refused:
                await evict(api.client, sick)
            assert refused.value.code == 429
            await api.client.patch(BUDGETS, "web", "ns", {"spec": {"minAvailable": 2}})
            await api.advance(1)
            status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
            assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 0)
            await evict(api.client, sick)
            await kubelet.settle()
            sick = (await names(api, PODS))[0]
            await api.client.patch(
                BUDGETS, "web", "ns", {"spec": {"minAvailable": 3, "unhealthyPodEvictionPolicy": "AlwaysAllow"}}
            )
            await api.client.patch(PODS, sick, "ns", {"status": {"conditions": conditions}}, subresource="status")
            await api.advance(1)
            await evict(api.client, sick)

    asyncio.run(story())


def test_a_budget_whose_selector_changes_follows_the_pods_that_it_selects_now() -> None:
    async def story() -> None:
        async with running(PodDisruptionBudgetController) as api:
            for name, app in (("a", "web"), ("b", "web"), ("c", "db")):
                meta = {"name": name, "namespace": "ns", "labels": {"app": app}}
                spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}
                await api.client.create(PODS, {"metadata": meta, "spec": spec})
            await api.client.create(BUDGETS, budget(minAvailable=1))

            async def counts() -> tuple[int, int]:
                await api.advance(1)
                status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
                return status["expectedPods"], status["currentHealthy"]

            async def ready(name: str, state: str) -> None:
                status = {"phase": "Running", "conditions": [{"type": "Ready", "status": state}]}
                await api.client.patch(PODS, name, "ns", {"status": status}, subresource="status")

            await ready("a", "True")
            assert await counts() == (2, 1)
            await ready("c", "True")
            assert await counts() == (2, 1)
            await api.client.patch(BUDGETS, "web", "ns", {"spec": {"selector": {"matchLabels": {"app": "db"}}}})
            assert await counts() == (1, 1)
            await ready("c", "False")
            assert await counts() == (1, 0)
            await api.client.patch(PODS, "b", "ns", {"metadata": {"labels": {"app": "db"}}})
            await ready("b", "True")
            assert await counts() == (2, 1)

    asyncio.run(story())


TARGET = {"type": "DisruptionTarget", "status": "True", "message": "going"}


async def announced(api: ApiServer, name: str) -> Object:
    conds = (await api.client.get(PODS, name, "ns"))["status"]["conditions"]
    return next(c for c in conds if c["type"] == "DisruptionTarget")


@pytest.mark.parametrize(
    ("reason", "phase", "status"),
    [
        ("PreemptionByScheduler", "Running", "False"),
        ("TerminationByKubelet", "Running", "True"),
        ("DeletionByTaintManager", "Failed", "True"),
    ],
)
def test_who_was_to_go_and_did_not_is_no_target_any_more(reason: str, phase: str, status: str) -> None:
    async def story() -> None:
        async with running(StalePodDisruptionController) as api:
            spec = {"containers": [{"name": "c", "image": "x"}], "nodeName": "n"}
            await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "ns")
            since = rfc3339(api.clock.now())
            said = {**TARGET, "reason": reason, "lastTransitionTime": since}
            patch = {"status": {"phase": phase, "conditions": [said, {"type": "Mine", "status": "True"}]}}
            await api.client.patch(PODS, "p", "ns", patch, subresource="status")
            await api.advance(119)
            assert (await announced(api, "p"))["status"] == "True"
            await api.advance(3)
            found = await announced(api, "p")
            assert found["status"] == status
            if status == "False":
                assert "reason" not in found
                assert found["lastTransitionTime"] > since
            conds = (await api.client.get(PODS, "p", "ns"))["status"]["conditions"]
            assert {"type": "Mine", "status": "True"}.items() <= next(c for c in conds if c["type"] == "Mine").items()

    asyncio.run(story())


def test_an_eviction_that_nobody_carried_out_is_told() -> None:
    async def story() -> None:
        async with running(PodDisruptionBudgetController) as api:
            spec = {"containers": [{"name": "c", "image": "x"}], "nodeName": "n"}
            meta = {"name": "p", "labels": {"app": "web"}}
            await api.client.create(PODS, {"metadata": meta, "spec": spec}, "ns")
            made = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}
            await api.client.create(BUDGETS, made, "ns")
            await api.advance(1)
            since = {"status": {"disruptedPods": {"p": rfc3339(api.clock.now())}}}
            await api.client.patch(BUDGETS, "b", "ns", since, subresource="status")
            await api.advance(119)
            reasons = [e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
            assert "NotDeleted" not in reasons
            await api.advance(5)
            events = [e for e in (await api.client.list(EVENTS, "ns"))["items"] if e["reason"] == "NotDeleted"]
            assert [e["message"] for e in events] == ["Pod was expected by PDB ns/b to be deleted but it wasn't"]
            assert events[0]["involvedObject"]["name"] == "p"
            assert "disruptedPods" not in (await api.client.get(BUDGETS, "b", "ns"))["status"]

    asyncio.run(story())
