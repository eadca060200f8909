"""API checklist, section G: deletion, grace, finalizers, propagation, namespaces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from jota.aio.clock import parse_rfc3339
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, PODS, Resource
from jota.testing.cluster import ApiServer, Watching, story
from jota.wire.message import joined

CM = "/api/v1/namespaces/default/configmaps"
POD_PATH = "/api/v1/namespaces/default/pods"
JOBS = Resource("batch", "v1", "jobs", "Job")
SPEC = {"containers": [{"name": "c", "image": "i"}]}


def read(response: Any) -> dict[str, Any]:
    out: dict[str, Any] = orjson.loads(joined(response.body))
    return out


async def running_pod(api: ApiServer, name: str = "p", **metadata: Any) -> dict[str, Any]:
    return await api.client.create(
        PODS, {"metadata": {"name": name, **metadata}, "spec": {**SPEC, "nodeName": "n"}}, "default"
    )


async def gone(api: ApiServer, resource: Any, name: str, namespace: str = "default") -> bool:
    try:
        await api.client.get(resource, name, namespace)
    except ApiError as e:
        assert e.code == 404
        return True
    return False


@story
async def test_53_options_come_in_the_body_or_the_query(api: ApiServer) -> None:
    for query, body, left in (
        ("", b"", 30),
        ("gracePeriodSeconds=7", b"", 7),
        ("", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5}, 5),
    ):
        await running_pod(api)
        done = read(await api.request("DELETE", f"{POD_PATH}/p?{query}", body))  # type: ignore[arg-type]
        assert done["metadata"]["deletionGracePeriodSeconds"] == left
        await api.client.delete(PODS, "p", "default", grace=0)
    unsafe = {"ignoreStoreReadErrorWithClusterBreakingPotential": {}}
    for bad in (b"{", b"[]", {"kind": "Pod"}, {"gracePeriodSeconds": "x"}, {"preconditions": 5}, unsafe):
        assert (await api.request("DELETE", f"{POD_PATH}/p", bad)).status == 400  # type: ignore[arg-type]
    assert (await api.request("DELETE", f"{POD_PATH}/p", {"propagationPolicy": "Perhaps"})).status == 422


@story
async def test_53_every_dry_run_directive_counts(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    for directives in (["All", "Some"], ["Some"]):
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": directives}
        response = await api.request("DELETE", "/api/v1/namespaces/default/configmaps/a", body)
        assert response.status == 422
    await api.client.get(CONFIGMAPS, "a", "default")


@story
async def test_53_success_is_a_status_or_the_object(api: ApiServer) -> None:
    made = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    status = read(await api.request("DELETE", f"{CM}/a"))
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    await running_pod(api)
    assert read(await api.request("DELETE", f"{POD_PATH}/p", {"gracePeriodSeconds": 0}))["kind"] == "Pod"
    for where, kind, body in (
        ("/apis/storage.k8s.io/v1/storageclasses", "StorageClass", {"provisioner": "example.com/p"}),
        ("/apis/resource.k8s.io/v1/deviceclasses", "DeviceClass", {"spec": {}}),
    ):
        stored = read(await api.request("POST", where, {"metadata": {"name": "a"}, **body}))
        gone = read(await api.request("DELETE", f"{where}/a"))
        assert (gone["kind"], gone["metadata"]["uid"]) == (kind, stored["metadata"]["uid"])


@story
async def test_53_every_answer_names_the_uid_that_goes(api: ApiServer) -> None:
    """kubectl waits by it: what it finds under the name with another uid is not what it deleted."""
    made = await running_pod(api)
    for grace in (None, 0):
        answer = await api.client.delete(PODS, "p", "default", grace=grace)
        assert answer["metadata"]["uid"] == made["metadata"]["uid"]
    held = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", "finalizers": ["example.com/a"]}}, "default")
    assert (await api.client.delete(CONFIGMAPS, "a", "default"))["metadata"]["uid"] == held["metadata"]["uid"]
    await api.client.patch(CONFIGMAPS, "a", "default", {"metadata": {"finalizers": None}})
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    made = await api.client.get(CONFIGMAPS, "a", "default")
    answer = await api.client.delete(CONFIGMAPS, "a", "default")
    assert (answer["kind"], answer["details"]["uid"]) == ("Status", made["metadata"]["uid"])


@story
async def test_53_a_collection_is_deleted_and_listed(api: ApiServer) -> None:
    for name, on in (("a", "1"), ("b", "1"), ("c", "0")):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": name, "labels": {"on": on}}}, "default")
    listed = read(await api.request("DELETE", f"{CM}?labelSelector=on%3D1"))
    assert listed["kind"] == "ConfigMapList"
    assert [o["metadata"]["name"] for o in listed["items"]] == ["a", "b"]
    assert [o["metadata"]["name"] for o in (await api.client.list(CONFIGMAPS, "default"))["items"]] == ["c"]


@story
async def test_54_a_running_pod_ends_gracefully(api: ApiServer) -> None:
    await running_pod(api)
    async with Watching(api, f"{POD_PATH}?watch=1") as seen:
        now = api.clock.now()
        pod = await api.client.delete(PODS, "p", "default")
        assert parse_rfc3339(pod["metadata"]["deletionTimestamp"]) == now + 30
        assert (pod["metadata"]["deletionGracePeriodSeconds"], pod["metadata"]["generation"]) == (30, 2)
        again = await api.client.delete(PODS, "p", "default")
        assert again["metadata"] == pod["metadata"]
        longer = await api.client.delete(PODS, "p", "default", grace=60)
        assert longer["metadata"] == pod["metadata"]
        shorter = await api.client.delete(PODS, "p", "default", grace=5)
        assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
        await api.client.delete(PODS, "p", "default", grace=0, uid=pod["metadata"]["uid"])
        assert await gone(api, PODS, "p")
        await api.settle()
        assert [t for t, _ in seen.events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]


@story
async def test_54_pods_that_cannot_run_go_at_once(api: ApiServer) -> None:
    await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": SPEC}, "default")
    await api.client.delete(PODS, "p", "default")
    assert await gone(api, PODS, "p")
    await running_pod(api)
    await api.client.patch(PODS, "p", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await api.client.delete(PODS, "p", "default")
    assert await gone(api, PODS, "p")


@pytest.mark.parametrize("most", [10**12, (1 << 63) - 1])
def test_54_who_may_take_for_ever_is_deleted_all_the_same(most: int) -> None:
    async def body(api: ApiServer) -> None:
        for name, spec, grace in (("long", {"terminationGracePeriodSeconds": most}, None), ("asked", {}, most)):
            made = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n", **spec}
            await api.client.create(PODS, {"metadata": {"name": name}, "spec": made}, "default")
            await api.client.delete(PODS, name, "default", grace=grace)
            meta = (await api.client.get(PODS, name, "default"))["metadata"]
            assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) == ("9999-12-31T23:59:59Z", most)
        await api.client.delete_collection(PODS, "default")
        await api.client.delete(PODS, "long", "default", grace=0)

    story(body)()


@story
async def test_54_a_negative_grace_is_one_second(api: ApiServer) -> None:
    await running_pod(api)
    pod = await api.client.delete(PODS, "p", "default", grace=-5)
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 1


@story
async def test_55_finalizers_hold_an_object(api: ApiServer) -> None:
    finalizers = ["example.com/a", "example.com/b"]
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", "finalizers": finalizers}}, "default")
    async with Watching(api, f"{CM}?watch=1") as seen:
        held = await api.client.delete(CONFIGMAPS, "a", "default")
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await api.client.delete(CONFIGMAPS, "a", "default")) == held
        more = {"metadata": {"finalizers": [*finalizers, "example.com/c"]}}
        with pytest.raises(ApiError, match="no new finalizers can be added if the object is being deleted"):
            await api.client.patch(CONFIGMAPS, "a", "default", more)
        await api.client.patch(CONFIGMAPS, "a", "default", {"metadata": {"finalizers": finalizers[:1]}})
        last = await api.client.patch(CONFIGMAPS, "a", "default", {"metadata": {"finalizers": None}})
        assert last["metadata"]["name"] == "a"
        assert await gone(api, CONFIGMAPS, "a")
        await api.settle()
        assert [t for t, _ in seen.events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]


@story
async def test_55_a_pod_with_finalizers_outlives_its_kubelet(api: ApiServer) -> None:
    await running_pod(api, finalizers=["batch.kubernetes.io/job-tracking"])
    await api.client.delete(PODS, "p", "default")
    await api.client.delete(PODS, "p", "default", grace=0)
    pod = await api.client.get(PODS, "p", "default")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 0
    await api.client.patch(PODS, "p", "default", {"metadata": {"finalizers": None}})
    assert await gone(api, PODS, "p")


@story
async def test_55_finalizers_removed_before_the_kubelet_is_done(api: ApiServer) -> None:
    await running_pod(api, finalizers=["batch.kubernetes.io/job-tracking"])
    await api.client.delete(PODS, "p", "default")
    await api.client.patch(PODS, "p", "default", {"metadata": {"finalizers": None}})
    assert not await gone(api, PODS, "p")
    await api.client.delete(PODS, "p", "default", grace=0)
    assert await gone(api, PODS, "p")


@story
async def test_56_propagation_policies_are_finalizers(api: ApiServer) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": SPEC}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    for policy, expected in (("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])):
        await api.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
        held = await api.client.delete(DEPLOYMENTS, "d", "default", propagation=policy)
        assert held["metadata"]["finalizers"] == expected
        await api.client.patch(DEPLOYMENTS, "d", "default", {"metadata": {"finalizers": None}})
        assert await gone(api, DEPLOYMENTS, "d")
    await api.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
    assert (await api.client.delete(DEPLOYMENTS, "d", "default", propagation="Background"))["kind"] == "Status"


@story
async def test_56_jobs_and_replication_controllers_leave_their_pods_when_nobody_says_otherwise(api: ApiServer) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", **SPEC}}
    await api.client.create(JOBS, {"metadata": {"name": "j"}, "spec": {"template": template}}, "default")
    path = JOBS.path("default", "j")
    response = await api.request("DELETE", path + "?propagationPolicy=Foreground")
    assert "warning" not in dict(response.headers)
    again = await api.request("DELETE", path)
    assert "child pods are preserved by default" in {k.lower(): v for k, v in again.headers}["warning"]
    found = await api.client.get(JOBS, "j", "default")
    assert found["metadata"]["finalizers"] == ["foregroundDeletion"], "what was said before holds"
    await api.client.patch(JOBS, "j", "default", {"metadata": {"finalizers": None}})
    await api.client.create(JOBS, {"metadata": {"name": "j"}, "spec": {"template": template}}, "default")
    await api.request("DELETE", path)
    assert (await api.client.get(JOBS, "j", "default"))["metadata"]["finalizers"] == ["orphan"]


@story
async def test_57_a_namespace_goes_when_it_is_empty(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "n"}})
    going = await api.client.delete(NAMESPACES, "n")
    assert going["status"]["phase"] == "Terminating"
    response = await api.request("POST", "/api/v1/namespaces/n/configmaps", {"metadata": {"name": "a"}})
    status = read(response)
    assert (response.status, status["reason"]) == (403, "Forbidden")
    assert status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    done = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "n"}, "spec": {"finalizers": []}}
    assert (await api.request("PUT", "/api/v1/namespaces/n/finalize", done)).status == 200
    assert await gone(api, NAMESPACES, "n", "")


@story
async def test_57_a_phase_is_not_for_anybody_to_choose(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "n"}})

    async def phase(wanted: str) -> str:
        with pytest.raises(ApiError) as refused:
            await api.client.patch(NAMESPACES, "n", patch={"status": {"phase": wanted}}, subresource="status")
        assert refused.value.code == 422
        return refused.value.message

    assert "may only be 'Active' if `deletionTimestamp` is empty" in await phase("Terminating")
    note = {"metadata": {"annotations": {"a": "b"}}, "status": {"conditions": []}}
    await api.client.patch(NAMESPACES, "n", patch=note, subresource="status")
    await api.client.delete(NAMESPACES, "n")
    assert "may only be 'Terminating' if `deletionTimestamp` is not empty" in await phase("Active")


@story
async def test_57_the_first_namespaces_stay(api: ApiServer) -> None:
    for name in ("default", "kube-system", "kube-public"):
        with pytest.raises(ApiError, match="this namespace may not be deleted") as refused:
            await api.client.delete(NAMESPACES, name)
        assert refused.value.code == 403


@story
async def test_57_finalizers_of_a_namespace_are_not_for_the_main_endpoint(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "n"}})
    done = await api.client.patch(NAMESPACES, "n", "", {"spec": {"finalizers": None}})
    assert done["spec"]["finalizers"] == ["kubernetes"]
