"""Tier 1 of the conformance capabilities, rows ctl/deployment to ctl/pdb-eviction: what the workloads' own tests leave open.

Each test is named after its row and quotes the conformance tests that it stands for; the rest of each row is shown in the
file of its controller, with the same quotes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.controllers.cronjob import CRONJOBS
from jota.controllers.daemonset_plan import DAEMONSETS
from jota.controllers.history import CONTROLLERREVISIONS
from jota.controllers.job_pods import JOBS
from jota.controllers.poddisruptionbudget import BUDGETS
from jota.controllers.replicaset import REPLICATIONCONTROLLERS
from jota.controllers.scales import get
from jota.controllers.statefulset_pods import STATEFULSETS
from jota.kinds.core.quota import QUOTAS
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS
from jota.testing.cluster import ApiServer, Watching

from .runner import Runner, job
from .stories import Kubelet, names, running, web
from .test_cronjob import tick
from .test_poddisruptionbudget import budget
from .test_topologyhints import node

Object = dict[str, Any]


class Broken(Kubelet):
    """A kubelet that cannot pull images called "broken"."""

    async def start(self, pod: Object) -> None:
        if pod["spec"]["containers"][0]["image"] != "broken":
            await super().start(pod)

    async def look(self, pod: Object) -> bool:
        broken = pod["spec"]["containers"][0]["image"] == "broken" and "deletionTimestamp" not in pod["metadata"]
        return False if broken else await super().look(pod)


def body_of(resource: Any, replicas: int = 1) -> Object:
    """The smallest of each kind, called "web", labelled team=a."""
    if resource is JOBS:
        out = job("web")
    elif resource is CRONJOBS:
        out = tick(suspend=True)
        out["metadata"]["name"] = "web"
    elif resource is BUDGETS:
        out = budget(minAvailable=1)
        del out["metadata"]["generation"]
    elif resource is QUOTAS:
        out = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"hard": {"pods": "5"}}}
    else:
        out = web(replicas)
        if resource is REPLICATIONCONTROLLERS:
            out["spec"]["selector"] = {"app": "web"}
        if resource is DAEMONSETS:
            del out["spec"]["replicas"]
    out["metadata"]["labels"] = {"team": "a"}
    return out


async def image(api: ApiServer, resource: Any, text: str) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": text}]
    await api.client.patch(resource, "web", "ns", patch, "json")


SCALED = [DEPLOYMENTS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS]
ALL = [*SCALED, DAEMONSETS, JOBS, CRONJOBS, BUDGETS, QUOTAS]


@pytest.mark.parametrize("resource", SCALED, ids=lambda r: r.plural)
def test_ctl_scale(resource: Any) -> None:
    """Deployment, StatefulSet, ReplicaSet, RC: should have a working scale subresource (GET, PUT, PATCH)"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(resource, body_of(resource, 1))
            await kubelet.settle()
            scale = await get(api.client, resource.path("ns", "web", "scale"))
            assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
            assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
            assert scale["status"]["selector"] == "app=web"
            scale["spec"]["replicas"] = 2
            written = await api.client.update(resource, scale, "scale")
            assert written["spec"]["replicas"] == 2
            await kubelet.settle()
            assert len(await names(api, PODS)) == 2
            await api.client.patch(resource, "web", "ns", {"spec": {"replicas": 4}}, subresource="scale")
            await kubelet.settle()
            assert len(await names(api, PODS)) == 4
            got = await api.client.get(resource, "web", "ns")
            assert got["spec"]["replicas"] == got["status"]["readyReplicas"] == 4

    asyncio.run(story())


@pytest.mark.parametrize("resource", ALL, ids=lambda r: r.plural)
def test_ctl_status(resource: Any) -> None:
    """should validate the status endpoints: PATCH and PUT of /status change the status and nothing else"""

    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            await api.client.create(resource, body_of(resource))
            before = await get(api.client, resource.path("ns", "web", "status"))
            condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
            condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
            if resource is QUOTAS:
                change: Object = {"hard": {"pods": "5"}, "used": {"pods": "3"}}
            elif resource is CRONJOBS:
                change = {"lastScheduleTime": "2026-01-01T00:00:00Z"}
            elif resource is BUDGETS:
                change = {"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 2}
                change["observedGeneration"] = 1
            elif resource is DAEMONSETS:
                change = {"conditions": [condition], "currentNumberScheduled": 0, "numberMisscheduled": 0}
                change |= {"desiredNumberScheduled": 0, "numberReady": 0}
            else:
                change = {"conditions": [condition]} if resource is JOBS else {"replicas": 0, "conditions": [condition]}
            patched = await api.client.patch(resource, "web", "ns", {"status": change}, subresource="status")
            assert {k: patched["status"][k] for k in change} == change
            assert patched["spec"] == before["spec"]
            assert patched["metadata"].get("generation") == before["metadata"].get("generation")
            again = {**patched, "spec": {**patched["spec"], "suspend": True}, "status": {**patched["status"]}}
            written = await api.client.update(resource, again, "status")
            assert written["spec"] == before["spec"], "the spec is not written through /status"
            plain = {**written, "status": {}}
            kept = await api.client.update(resource, plain)
            assert kept["status"] == written["status"], "the status is not written through the object"

    asyncio.run(story())


@pytest.mark.parametrize("resource", ALL, ids=lambda r: r.plural)
def test_ctl_deletecollection(resource: Any) -> None:
    """should list and delete a collection: by label, in a namespace; and the watch tells of it"""

    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            for name, team in (("one", "a"), ("two", "a"), ("three", "b")):
                body = body_of(resource)
                body["metadata"] |= {"name": name, "labels": {"team": team}}
                await api.client.create(resource, body)
            everywhere = (await api.client.list(resource, "", "team=a"))["items"]
            assert sorted(i["metadata"]["name"] for i in everywhere) == ["one", "two"]
            async with Watching(api, resource.path("ns") + "?watch=1") as watching:
                await api.client.delete_collection(resource, "ns", labels="team=a")
                await api.settle()
                gone = [o["metadata"]["name"] for t, o in watching.events if t == "DELETED"]
            left = await names(api, resource)
            held = [n for n in left if n != "three"]
            for name in held:  # kinds that are deleted by orphaning first, wait for the collector
                found = await api.client.get(resource, name, "ns")
                assert "deletionTimestamp" in found["metadata"]
            assert sorted([*gone, *held]) == ["one", "two"]
            assert "three" in left

    asyncio.run(story())


def test_ctl_deployment_proportional_scaling() -> None:
    """deployment should support proportional scaling: a rollout that hangs on an image is scaled from 10 to 30"""

    async def story() -> None:
        async with running() as api:
            kubelet = Broken(api)
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
            await api.client.create(DEPLOYMENTS, web(10, strategy=rolling))
            await kubelet.settle()
            await image(api, DEPLOYMENTS, "broken")
            await kubelet.settle()
            assert await sizes(api) == {"web:1": 8, "broken": 5}
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            assert got["status"]["availableReplicas"] == 8
            await api.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 30}})
            await kubelet.settle()
            assert await sizes(api) == {"web:1": 20, "broken": 13}
            for one in (await api.client.list(REPLICASETS, "ns"))["items"]:
                notes = one["metadata"]["annotations"]
                assert notes["deployment.kubernetes.io/desired-replicas"] == "30"
                assert notes["deployment.kubernetes.io/max-replicas"] == "33"

    asyncio.run(story())


async def sizes(api: ApiServer) -> dict[str, int]:
    sets = (await api.client.list(REPLICASETS, "ns"))["items"]
    return {s["spec"]["template"]["spec"]["containers"][0]["image"]: s["spec"]["replicas"] for s in sets}


def test_ctl_deployment_rollover() -> None:
    """deployment should support rollover: a hanging rollout is replaced by the next, and all end in the newest"""

    async def story() -> None:
        async with running() as api:
            kubelet = Broken(api)
            await api.client.create(DEPLOYMENTS, web(4, strategy=surging(1, 0), minReadySeconds=3))
            await kubelet.settle()
            await image(api, DEPLOYMENTS, "broken")
            await kubelet.settle()
            assert await sizes(api) == {"web:1": 4, "broken": 1}
            await image(api, DEPLOYMENTS, "web:3")
            for _ in range(80):
                await api.advance(0.5)
                await kubelet.tick()
                got = await api.client.get(DEPLOYMENTS, "web", "ns")
                assert got["status"].get("availableReplicas", 0) >= 4, "never fewer than maxUnavailable allows"
            assert await sizes(api) == {"web:1": 0, "broken": 0, "web:3": 4}
            notes = got["metadata"]["annotations"]
            assert notes["deployment.kubernetes.io/revision"] == "3"
            reasons = {c["type"]: c["reason"] for c in got["status"]["conditions"]}
            assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}

    asyncio.run(story())


def surging(surge: Any, unavailable: Any) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def test_ctl_deployment_history() -> None:
    """deployment should delete old replica sets: with revisionHistoryLimit 0 nothing old is left"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(1, revisionHistoryLimit=0))
            await kubelet.settle()
            await image(api, DEPLOYMENTS, "web:2")
            await kubelet.settle()
            (only,) = (await api.client.list(REPLICASETS, "ns"))["items"]
            hash_ = only["metadata"]["labels"]["pod-template-hash"]
            assert only["metadata"]["name"] == f"web-{hash_}"
            assert only["spec"]["selector"]["matchLabels"]["pod-template-hash"] == hash_

    asyncio.run(story())


def test_ctl_deployment_progress() -> None:
    """A rollout that stands still is told of after progressDeadlineSeconds, and goes on when it is mended."""

    async def story() -> None:
        async with running() as api:
            kubelet = Broken(api)
            await api.client.create(DEPLOYMENTS, web(2, image="broken", progressDeadlineSeconds=20))
            await kubelet.settle()
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            reasons = {c["type"]: (c["status"], c["reason"]) for c in got["status"]["conditions"]}
            assert reasons["Available"] == ("False", "MinimumReplicasUnavailable")
            assert reasons["Progressing"][0] == "True"
            await api.advance(25)
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            reasons = {c["type"]: (c["status"], c["reason"]) for c in got["status"]["conditions"]}
            assert reasons["Progressing"] == ("False", "ProgressDeadlineExceeded")
            await image(api, DEPLOYMENTS, "web:2")
            await kubelet.settle()
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            reasons = {c["type"]: (c["status"], c["reason"]) for c in got["status"]["conditions"]}
            assert reasons["Progressing"] == ("True", "NewReplicaSetAvailable")

    asyncio.run(story())


def test_ctl_deployment_terminating_replicas() -> None:
    """status.terminatingReplicas of sets and deployments: pods that were deleted and still run (on by default since 1.35)"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(4))
            await kubelet.settle()
            (one,) = (await api.client.list(REPLICASETS, "ns"))["items"]
            assert one["status"]["terminatingReplicas"] == 0
            await api.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 1}})
            await api.advance(5)
            for resource, name in ((DEPLOYMENTS, "web"), (REPLICASETS, one["metadata"]["name"])):
                status = (await api.client.get(resource, name, "ns"))["status"]
                assert (status["replicas"], status["terminatingReplicas"]) == (1, 3)
            await kubelet.settle()
            for resource, name in ((DEPLOYMENTS, "web"), (REPLICASETS, one["metadata"]["name"])):
                assert not (await api.client.get(resource, name, "ns"))["status"]["terminatingReplicas"]
            await api.client.create(REPLICATIONCONTROLLERS, body_of(REPLICATIONCONTROLLERS))
            await kubelet.settle()
            assert "terminatingReplicas" not in (await api.client.get(REPLICATIONCONTROLLERS, "web", "ns"))["status"]

    asyncio.run(story())


@pytest.mark.parametrize("resource", [REPLICASETS, REPLICATIONCONTROLLERS], ids=lambda r: r.plural)
def test_ctl_replicaset_replicationcontroller_failure(resource: Any) -> None:
    """should surface a failure condition on a common issue like exceeded quota"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            body = {"metadata": {"name": "condition-test", "namespace": "ns"}, "spec": {"hard": {"pods": "2"}}}
            await api.client.create(QUOTAS, body)
            await api.settle()
            await api.client.create(resource, body_of(resource, 3))
            await kubelet.settle()
            got = await api.client.get(resource, "web", "ns")
            (told,) = got["status"]["conditions"]
            assert (told["type"], told["status"], told["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
            assert "exceeded quota: condition-test" in told["message"]
            assert got["status"]["replicas"] == 2
            await api.client.patch(resource, "web", "ns", {"spec": {"replicas": 2}})
            await kubelet.settle()
            await api.advance(60)
            got = await api.client.get(resource, "web", "ns")
            assert not got["status"].get("conditions")

    asyncio.run(story())


@pytest.mark.parametrize("resource", [REPLICASETS, REPLICATIONCONTROLLERS], ids=lambda r: r.plural)
def test_ctl_replicaset_replicationcontroller_adoption(resource: Any) -> None:
    """should adopt matching pods on creation and release no longer matching pods"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            meta = {"name": "adopted", "namespace": "ns", "labels": {"app": "web"}}
            spec = web()["spec"]["template"]["spec"]
            await api.client.create(PODS, {"metadata": meta, "spec": spec})
            made = await api.client.create(resource, body_of(resource, 1))
            await kubelet.settle()
            assert await names(api, PODS) == ["adopted"]
            (owner,) = (await api.client.get(PODS, "adopted", "ns"))["metadata"]["ownerReferences"]
            assert owner["uid"] == made["metadata"]["uid"]
            assert owner["controller"] is owner["blockOwnerDeletion"] is True
            await api.client.patch(PODS, "adopted", "ns", {"metadata": {"labels": {"app": "other"}}})
            await kubelet.settle()
            assert not (await api.client.get(PODS, "adopted", "ns"))["metadata"].get("ownerReferences")
            assert len(await names(api, PODS)) == 2

    asyncio.run(story())


def test_ctl_statefulset_identity() -> None:
    """Names, labels, revisions: currentRevision and updateRevision, controller-revision-hash, apps.kubernetes.io/pod-index"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(STATEFULSETS, web(2, serviceName="nobody", ordinals={"start": 5}))
            await kubelet.settle()
            await image(api, STATEFULSETS, "web:2")
            await kubelet.settle()
            status = (await api.client.get(STATEFULSETS, "web", "ns"))["status"]
            assert status["currentRevision"] == status["updateRevision"]
            pods = (await api.client.list(PODS, "ns"))["items"]
            assert [p["metadata"]["name"] for p in pods] == ["web-5", "web-6"]
            for n, pod in enumerate(pods, 5):
                labels = pod["metadata"]["labels"]
                assert labels["apps.kubernetes.io/pod-index"] == str(n)
                assert labels["statefulset.kubernetes.io/pod-name"] == pod["metadata"]["name"]
                assert labels["controller-revision-hash"] == status["currentRevision"]
                assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (f"web-{n}", "nobody")
            revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
            assert sorted(r["revision"] for r in revisions) == [1, 2]

    asyncio.run(story())


def test_ctl_daemonset_failed_through_status() -> None:
    """should retry creating failed daemon pods: set to Failed through /status, the pod is made anew"""

    async def story() -> None:
        async with running() as api:
            await api.client.create(NODES, node("n1"))
            await api.client.create(DAEMONSETS, body_of(DAEMONSETS))
            kubelet = Kubelet(api)
            await kubelet.settle()
            (name,) = await names(api, PODS)
            await api.client.patch(PODS, name, "ns", {"status": {"phase": "Failed"}}, subresource="status")
            await kubelet.settle()
            (again,) = (await api.client.list(PODS, "ns"))["items"]
            assert again["metadata"]["name"] != name
            assert again["status"]["phase"] == "Running"

    asyncio.run(story())


def test_ctl_controllerrevision() -> None:
    """should manage the lifecycle of a ControllerRevision: patch, replace, delete; the owner makes it anew, up to revision 3"""

    async def story() -> None:
        async with running() as api:
            await api.client.create(NODES, node("n1"))
            kubelet = Kubelet(api)
            await api.client.create(DAEMONSETS, body_of(DAEMONSETS))
            await kubelet.settle()
            (first,) = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
            assert first["revision"] == 1
            assert first["metadata"]["labels"]["app"] == "web"
            name = first["metadata"]["name"]
            patch = {"metadata": {"labels": {name: "patched"}}}
            await api.client.patch(CONTROLLERREVISIONS, name, "ns", patch, "strategic")
            copy = {**first, "metadata": {"name": "copy", "namespace": "ns", "labels": {"app": "web"}}, "revision": 2}
            copy["metadata"]["ownerReferences"] = first["metadata"]["ownerReferences"]
            made = await api.client.create(CONTROLLERREVISIONS, copy)
            made["metadata"]["labels"]["copy"] = "updated"
            await api.client.update(CONTROLLERREVISIONS, made)
            await api.client.delete(CONTROLLERREVISIONS, name, "ns")
            await kubelet.settle()
            await image(api, DAEMONSETS, "web:2")
            await kubelet.settle()
            revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
            assert max(r["revision"] for r in revisions) == 3
            await api.client.delete_collection(CONTROLLERREVISIONS, "ns", labels="copy=updated")
            left = [r["metadata"]["name"] for r in (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]]
            assert "copy" not in left

    asyncio.run(story())


def test_ctl_job_lifecycle() -> None:
    """should manage the lifecycle of a job: labels, selector, patch, suspend and resume, replace, delete with its pods"""

    async def story() -> None:
        async with running() as api:
            runner = Runner(api)
            runner.outcome = lambda _: None  # type: ignore[method-assign, assignment, return-value]
            made = await api.client.create(JOBS, job(suspend=True, parallelism=2, completions=4))
            uid = made["metadata"]["uid"]
            assert made["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
            labels = made["spec"]["template"]["metadata"]["labels"]
            assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "work"
            await api.client.patch(JOBS, "work", "ns", {"metadata": {"labels": {"e2e": "patched"}}}, "strategic")
            await runner.rest(5)
            assert not await names(api, PODS)
            await api.client.patch(JOBS, "work", "ns", {"spec": {"suspend": False}})
            await runner.rest(5)
            pods = (await api.client.list(PODS, "ns"))["items"]
            assert [p["metadata"]["finalizers"] for p in pods] == [["batch.kubernetes.io/job-tracking"]] * 2
            status = (await api.client.get(JOBS, "work", "ns"))["status"]
            assert (status["active"], status["ready"]) == (2, 2)
            with pytest.raises(ApiError) as refused:
                await api.client.patch(JOBS, "work", "ns", {"spec": {"completions": 9}})
            assert refused.value.code == 422
            await api.client.delete(JOBS, "work", "ns", propagation="Background")
            await runner.rest(10)
            assert not await names(api, PODS)

    asyncio.run(story())


def test_ctl_pdb_eviction_selectors() -> None:
    """should observe that the PodDisruptionBudget status is not updated for unmanaged pods beyond the selector; patch and
    update of the budget take effect"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICASETS, web(3))
            await api.client.create(BUDGETS, budget(minAvailable=2))
            await kubelet.settle()
            status = (await api.client.get(BUDGETS, "web", "ns"))["status"]
            wanted = {"currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1, "expectedPods": 3}
            assert {k: status[k] for k in wanted} == wanted
            got = await api.client.get(BUDGETS, "web", "ns")
            got["spec"]["minAvailable"] = "100%"
            await api.client.update(BUDGETS, got)
            await api.advance(1)
            got = await api.client.get(BUDGETS, "web", "ns")
            assert got["status"]["disruptionsAllowed"] == 0
            assert got["status"]["observedGeneration"] == got["metadata"]["generation"]
            name = (await names(api, PODS))[0]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "ns"}}
            with pytest.raises(ApiError) as refused:
                await api.client.create(PODS, eviction, "ns", subresource="eviction", name=name)
            assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
            assert [c.reason for c in refused.value.causes] == ["DisruptionBudget"]
            other = {"matchLabels": {"app": "other"}}
            await api.client.patch(BUDGETS, "web", "ns", {"spec": {"selector": other}})
            await api.advance(1)
            assert (await api.client.get(BUDGETS, "web", "ns"))["status"]["expectedPods"] == 0
            await api.client.create(PODS, eviction, "ns", subresource="eviction", name=name)

    asyncio.run(story())
