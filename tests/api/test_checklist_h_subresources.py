"""API checklist, section H: scale, binding, eviction and the other subresources that need no node."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from jota.meta.errors import ApiError
from jota.meta.resource import CSRS, DEPLOYMENTS, NODES, PODS, Resource
from jota.testing.cluster import ApiServer, story

POD_PATH = "/api/v1/namespaces/default/pods"
SPEC = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SCALE = "/apis/apps/v1/namespaces/default/deployments/d/scale"
MERGE = "application/merge-patch+json"


def read(response: Any) -> dict[str, Any]:
    out: dict[str, Any] = orjson.loads(response.body)
    return out


async def pod(api: ApiServer, name: str = "p", **metadata: Any) -> dict[str, Any]:
    return await api.client.create(PODS, {"metadata": {"name": name, **metadata}, "spec": SPEC}, "default")


async def scaled(api: ApiServer) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": SPEC}
    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}
    spec = {"replicas": 2, "selector": selector, "template": template}
    await api.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")


@story
async def test_58_scale_has_one_shape_for_everything(api: ApiServer) -> None:
    await scaled(api)
    await api.client.patch(DEPLOYMENTS, "d", "default", {"status": {"replicas": 1}}, subresource="status")
    scale = read(await api.request("GET", SCALE))
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b,!x"})


@story
async def test_58_a_scale_has_columns_of_its_own(api: ApiServer) -> None:
    await scaled(api)
    await api.client.patch(DEPLOYMENTS, "d", "default", {"status": {"replicas": 1}}, subresource="status")
    shown = read(await api.request("GET", SCALE, accept="application/json;as=Table;g=meta.k8s.io;v=v1"))
    assert [c["name"] for c in shown["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    (row,) = shown["rows"]
    assert row["cells"][:3] == ["d", 2, 1]
    assert row["object"]["metadata"]["name"] == "d"


@story
async def test_58_scaling_is_an_update_of_the_parent(api: ApiServer) -> None:
    await scaled(api)
    response = await api.request("PATCH", SCALE, {"spec": {"replicas": 5}}, content_type=MERGE)
    assert (response.status, read(response)["spec"]) == (200, {"replicas": 5})
    deployment = await api.client.get(DEPLOYMENTS, "d", "default")
    assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (5, 2)
    put = {"kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 0}}
    response = await api.request("PUT", SCALE, put)
    assert (response.status, read(response)["spec"]) == (200, {})
    stale = {**put, "metadata": {"name": "d", "resourceVersion": "1"}}
    assert (await api.request("PUT", SCALE, stale)).status == 409
    for replicas, code in ((-1, 422), ("x", 400)):
        assert (await api.request("PUT", SCALE, {**put, "spec": {"replicas": replicas}})).status == code
    assert (await api.request("PUT", SCALE, {**put, "metadata": {"name": "e"}})).status == 400
    assert (await api.request("GET", SCALE.replace("/d/", "/none/"))).status == 404
    assert (await api.request("DELETE", SCALE)).status == 405


@story
async def test_63_binding_happens_once(api: ApiServer) -> None:
    made = await pod(api)
    target = {"target": {"kind": "Node", "name": "n1"}}
    wrong_uid = {**target, "metadata": {"uid": "x"}}
    assert (await api.request("POST", f"{POD_PATH}/p/binding", wrong_uid)).status == 409
    assert (await api.request("POST", f"{POD_PATH}/p/binding", {"target": {"kind": "Node"}})).status == 422
    right = {**target, "metadata": {"name": "p", "uid": made["metadata"]["uid"], "annotations": {"k": "v"}}}
    response = await api.request("POST", "/api/v1/namespaces/default/bindings", right)
    assert (response.status, read(response)["status"]) == (201, "Success")
    bound = await api.client.get(PODS, "p", "default")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["metadata"]["annotations"] == {"k": "v"}
    assert bound["metadata"]["generation"] == 1
    (condition,) = bound["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    response = await api.request("POST", f"{POD_PATH}/p/binding", target)
    assert (response.status, b'already assigned to node \\"n1\\"' in response.body) == (409, True)
    assert (await api.request("POST", f"{POD_PATH}/none/binding", target)).status == 404


async def budget(api: ApiServer, allowed: int) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    await api.client.create(BUDGETS, {"metadata": {"name": "b"}, "spec": spec}, "default")
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": allowed,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
    }
    await api.client.patch(BUDGETS, "b", "default", {"status": status}, subresource="status")


async def running(api: ApiServer, name: str) -> None:
    await api.client.create(
        PODS, {"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {**SPEC, "nodeName": "n"}}, "default"
    )
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await api.client.patch(PODS, name, "default", {"status": ready}, subresource="status")


def eviction(name: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": f"policy/{version}", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}


@story
async def test_63_eviction_asks_the_budget(api: ApiServer) -> None:
    await running(api, "p")
    await running(api, "q")
    await budget(api, 1)
    response = await api.request("POST", f"{POD_PATH}/p/eviction", eviction("p", "v1beta1"))
    assert (response.status, read(response)["status"]) == (201, "Success")
    evicted = await api.client.get(PODS, "p", "default")
    assert evicted["metadata"]["deletionTimestamp"]
    reasons = {c["type"]: c.get("reason") for c in evicted["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "EvictionByEvictionAPI"
    kept = await api.client.get(BUDGETS, "b", "default")
    assert (kept["status"]["disruptionsAllowed"], list(kept["status"]["disruptedPods"])) == (0, ["p"])
    response = await api.request("POST", f"{POD_PATH}/q/eviction", eviction("q"))
    status = read(response)
    assert (response.status, status["reason"]) == (429, "TooManyRequests")
    assert status["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert status["details"]["causes"][0]["reason"] == "DisruptionBudget"
    assert (
        status["details"]["causes"][0]["message"] == "The disruption budget b needs 1 healthy pods and has 1 currently"
    )


@story
async def test_63_an_eviction_may_be_but_tried(api: ApiServer) -> None:
    """kubectl drain --dry-run=server says so in the deleteOptions alone."""
    for name in ("p", "q"):
        await pod(api, name, labels={"in": name})
        await api.client.patch(PODS, name, "default", {"status": {"phase": "Running"}}, subresource="status")
    spec = {"selector": {"matchLabels": {"in": "q"}}, "minAvailable": 0}
    await api.client.create(BUDGETS, {"metadata": {"name": "b"}, "spec": spec}, "default")
    status = {
        "disruptionsAllowed": 1,
        "observedGeneration": 1,
        "currentHealthy": 1,
        "desiredHealthy": 0,
        "expectedPods": 1,
    }
    await api.client.patch(BUDGETS, "b", "default", {"status": status}, subresource="status")
    revision = api.store.revision
    for name in ("p", "q"):
        for query, words, code in (
            ("", ["All"], 201),
            ("dryRun=All", [], 201),
            ("dryRun=All", ["All"], 201),
            ("", ["Some"], 422),
            ("", ["All", "Some"], 422),
            ("dryRun=All", ["Some"], 400),
        ):
            sent = {**eviction(name), "deleteOptions": {"dryRun": words}}
            response = await api.request("POST", f"{POD_PATH}/{name}/eviction", sent, query=query)
            assert (response.status, api.store.revision) == (code, revision), (name, query, words)
    assert (await api.request("POST", f"{POD_PATH}/p/eviction", eviction("q"))).status == 400
    assert (await api.request("POST", f"{POD_PATH}/p/eviction", eviction("p"))).status == 201
    assert api.store.revision > revision


@story
async def test_63_eviction_without_a_budget_is_a_delete(api: ApiServer) -> None:
    await running(api, "p")
    body = {**eviction("p"), "deleteOptions": {"gracePeriodSeconds": 3}}
    assert (await api.request("POST", f"{POD_PATH}/p/eviction", body)).status == 201
    assert (await api.client.get(PODS, "p", "default"))["metadata"]["deletionGracePeriodSeconds"] == 3
    assert (await api.request("POST", f"{POD_PATH}/none/eviction", eviction("none"))).status == 404


@story
async def test_63_ephemeral_containers_are_only_added(api: ApiServer) -> None:
    await pod(api)
    path = f"{POD_PATH}/p/ephemeralcontainers"
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i"}], "nodeName": "ignored"}}
    response = await api.request("PATCH", path, added, content_type="application/strategic-merge-patch+json")
    done = read(response)
    assert (response.status, done["metadata"]["generation"], "nodeName" in done["spec"]) == (200, 2, False)
    changed = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "other"}]}}
    response = await api.request("PATCH", path, changed, content_type="application/strategic-merge-patch+json")
    assert response.status == 422
    main = await api.client.patch(PODS, "p", "default", {"spec": {"ephemeralContainers": []}})
    assert [c["name"] for c in main["spec"]["ephemeralContainers"]] == ["debug"]


@story
async def test_63_resize_changes_cpu_and_memory_alone(api: ApiServer) -> None:
    await pod(api)
    media = "application/strategic-merge-patch+json"

    def containers(**more: Any) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "c", **more}]}}

    wish = containers(resources={"requests": {"cpu": "2000m"}}, image="ignored")
    done = read(await api.request("PATCH", f"{POD_PATH}/p/resize", wish, content_type=media))
    (container,) = done["spec"]["containers"]
    assert (container["resources"], container["image"], done["metadata"]["generation"]) == (
        {"requests": {"cpu": "2"}},
        "i",
        2,
    )
    wish = containers(resources={"requests": {"example.com/x": "1"}, "limits": {"example.com/x": "1"}})
    assert (await api.request("PATCH", f"{POD_PATH}/p/resize", wish, content_type=media)).status == 422
    everything = {"cpu": "2", "memory": "1Gi"}
    wish = containers(resources={"requests": everything, "limits": everything})
    response = await api.request("PATCH", f"{POD_PATH}/p/resize", wish, content_type=media)
    assert (response.status, "Pod QOS Class may not change" in read(response)["message"]) == (422, True)


@story
async def test_58_scale_can_be_applied(api: ApiServer) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments/web"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await api.client.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": {**spec, "replicas": 2}}, "default")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
    media = "application/apply-patch+yaml"
    refused = await api.request("PATCH", f"{path}/scale?fieldManager=hpa", scale, content_type=media)
    assert (refused.status, read(refused)["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    done = await api.request("PATCH", f"{path}/scale?fieldManager=hpa&force=true", scale, content_type=media)
    assert (done.status, read(done)["spec"]["replicas"]) == (200, 5)
    owners = {
        (m["manager"], m["operation"], m.get("subresource", ""), m["apiVersion"])
        for m in read(await api.request("GET", path))["metadata"]["managedFields"]
        if "f:replicas" in m["fieldsV1"].get("f:spec", {})
    }
    assert owners == {("hpa", "Apply", "scale", "apps/v1")}
    again = await api.request("PATCH", f"{path}/scale?fieldManager=hpa", scale, content_type=media)
    assert (again.status, read(again)["metadata"]["resourceVersion"]) == (
        200,
        read(done)["metadata"]["resourceVersion"],
    )
    assert (await api.request("PATCH", f"{path}/scale", scale, content_type=media)).status == 422


@story
async def test_63_a_new_pod_has_no_ephemeral_containers(api: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": [{"name": "d", "image": "i"}]}
    response = await api.request("POST", POD_PATH, {"metadata": {"name": "p"}, "spec": spec})
    assert (response.status, read(response)["details"]["causes"][0]["field"]) == (422, "spec.ephemeralContainers")


@story
async def test_63_a_status_write_keeps_the_class_of_service(api: ApiServer) -> None:
    await pod(api)
    made = await api.client.get(PODS, "p", "default")
    done = read(await api.request("PUT", f"{POD_PATH}/p/status", {**made, "status": {"phase": "Running"}}))
    assert done["status"] == {"phase": "Running", "qosClass": "Burstable"}


@story
async def test_63_approval_writes_conditions_alone(api: ApiServer) -> None:
    request = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KQUFBQQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K"
    spec = {"request": request, "signerName": "example.com/s", "usages": ["client auth"], "username": "somebody"}
    made = await api.client.create(CSRS, {"metadata": {"name": "r"}, "spec": spec})
    assert made["spec"]["username"] == "system:apiserver"
    approved = {"type": "Approved", "status": "True", "reason": "x"}
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/r/approval"
    body = {**made, "status": {"conditions": [approved], "certificate": "eA=="}}
    done = read(await api.request("PUT", path, body))
    assert done["status"]["conditions"][0]["lastTransitionTime"]
    assert "certificate" not in done["status"]
    denied = {**done, "status": {"conditions": [{**approved, "type": "Denied"}]}}
    assert (await api.request("PUT", path, denied)).status == 422
    merge = {"metadata": {"annotations": {"by": "me"}}, "spec": {"usages": []}}
    noted = await api.client.patch(CSRS, "r", "", merge, "merge", subresource="approval")
    assert noted["metadata"]["annotations"] == {"by": "me"}, "metadata may change with it"
    assert noted["spec"] == made["spec"]
    merge = {"metadata": {"annotations": {"not a name": "x"}}}
    with pytest.raises(ApiError, match=r"metadata\.annotations"):
        await api.client.patch(CSRS, "r", "", merge, "merge", subresource="approval")


@story
async def test_62_logs_need_to_know_which_container(api: ApiServer) -> None:
    two = {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}], "nodeName": "n"}
    await api.client.create(PODS, {"metadata": {"name": "two"}, "spec": two}, "default")
    response = await api.request("GET", f"{POD_PATH}/two/log")
    assert (response.status, read(response)["message"]) == (
        400,
        "a container name must be specified for pod two, choose one of: [a b]",
    )
    response = await api.request("GET", f"{POD_PATH}/two/log?container=x")
    assert (response.status, read(response)["message"]) == (400, "container x is not valid for pod two")
    for query in ("tailLines=-1", "sinceSeconds=0", "limitBytes=0", "sinceTime=2020-01-01T00:00:00Z&sinceSeconds=1"):
        assert (await api.request("GET", f"{POD_PATH}/two/log?container=a&{query}")).status == 422, query
    for query in ("tailLines=x", "sinceTime=x", "follow=perhaps"):
        assert (await api.request("GET", f"{POD_PATH}/two/log?container=a&{query}")).status == 400, query
    assert (await api.request("GET", f"{POD_PATH}/two/log?container=a")).status == 404  # no such node
    await pod(api)
    unscheduled = await api.request("GET", f"{POD_PATH}/p/log")
    assert (unscheduled.status, unscheduled.body) == (200, b"")


@story
async def test_59_streams_fail_with_a_plain_answer(api: ApiServer) -> None:
    await pod(api)
    for path in ("exec?command=ls&stdout=1", "attach?stdout=1", "portforward?ports=80"):
        response = await api.request("GET", f"{POD_PATH}/p/{path}")
        assert (response.status, b"does not have a host assigned" in response.body) == (400, True), path
    await api.client.create(NODES, {"metadata": {"name": "n"}})
    await api.request("POST", f"{POD_PATH}/p/binding", {"target": {"kind": "Node", "name": "n"}})
    assert (await api.request("POST", f"{POD_PATH}/p/exec?stdout=1")).status == 400
    assert (await api.request("POST", f"{POD_PATH}/p/exec?command=ls")).status == 400
    response = await api.request("POST", f"{POD_PATH}/p/exec?command=ls&stdout=1")
    assert (response.status, b"has not reported an address yet" in response.body) == (503, True)


@story
async def test_unknown_subresources(api: ApiServer) -> None:
    await pod(api)
    for path in ("p/nothing", "p/scale", "p/status/more", "p/__init__", "p/kubelet"):
        assert (await api.request("GET", f"{POD_PATH}/{path}")).status == 404, path
    assert (await api.request("POST", f"{POD_PATH}/p/status", {})).status == 405


@story
async def test_node_status_counts_on_create(api: ApiServer) -> None:
    made = await api.client.create(NODES, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}})
    assert made["status"]["capacity"] == {"cpu": "4"}
    with pytest.raises(ApiError):
        await api.client.create(NODES, {"metadata": {"name": "n"}})
