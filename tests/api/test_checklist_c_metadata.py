"""API checklist, section C: what the server does to metadata."""

from __future__ import annotations

import re
from uuid import UUID

import orjson
import pytest

from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, LEASES, NAMESPACES, PODS, SECRETS, Resource
from jota.testing.cluster import ApiServer, story

POD = {"containers": [{"name": "c", "image": "busybox:1"}]}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
DEPLOYMENT = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
EVENTS = Resource("", "v1", "events", "Event")
NEW_EVENTS = Resource("events.k8s.io", "v1", "events", "Event")


@story
async def test_17_resource_versions_are_one_growing_counter(api: ApiServer) -> None:
    a = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    s = await api.client.create(SECRETS, {"metadata": {"name": "s"}}, "default")
    first, second = int(a["metadata"]["resourceVersion"]), int(s["metadata"]["resourceVersion"])
    assert second == first + 1
    assert int((await api.client.list(CONFIGMAPS))["metadata"]["resourceVersion"]) >= second


@story
async def test_17_a_write_that_changes_nothing_is_not_written(api: ApiServer) -> None:
    made = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
    again = await api.client.update(CONFIGMAPS, made)
    patched = await api.client.patch(CONFIGMAPS, "a", "default", {"data": {"k": "v"}})
    assert made == again == patched


@story
async def test_18_system_fields_are_the_servers(api: ApiServer) -> None:
    sent = {
        "name": "a",
        "uid": "x",
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 3,
        "selfLink": "/x",
        "generation": 7,
    }
    made = (await api.client.create(DEPLOYMENTS, {"metadata": sent, "spec": DEPLOYMENT}, "default"))["metadata"]
    assert UUID(made["uid"]).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["creationTimestamp"])
    assert made["creationTimestamp"] != sent["creationTimestamp"]
    assert made["generation"] == 1
    assert made["namespace"] == "default"
    assert not {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"} & set(made)


@story
async def test_18_namespace_name_and_version_must_fit(api: ApiServer) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    response = await api.request("POST", path, {"metadata": {"name": "a", "namespace": "other"}})
    assert response.status == 400
    assert b"the namespace of the provided object does not match the namespace sent on the request" in response.body
    response = await api.request("POST", path, {"metadata": {"name": "a", "resourceVersion": "5"}})
    assert (response.status, b"resourceVersion should not be set" in response.body) == (400, True)
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    response = await api.request("PUT", f"{path}/a", {"metadata": {"name": "b"}})
    assert (response.status, b"does not match the name on the URL" in response.body) == (400, True)
    response = await api.request("POST", path, {"kind": "Secret", "metadata": {"name": "a"}})
    assert response.status == 400
    response = await api.request("POST", path, {"apiVersion": "v2", "metadata": {"name": "a"}})
    assert response.status == 400


@story
async def test_18_what_is_written_must_have_its_name(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    await api.client.create(DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": DEPLOYMENT}, "default")
    core, apps = "/api/v1/namespaces/default/configmaps/a", "/apis/apps/v1/namespaces/default/deployments/a"
    text = b"the name of the object (a based on URL) was undeterminable: name must be provided"
    for method, path, body in (
        ("PUT", core, {"metadata": {}}),
        ("PATCH", core, {"metadata": {"name": None}}),
        ("PUT", apps, {"metadata": {"name": ""}, "spec": DEPLOYMENT}),
        ("PUT", f"{apps}/status", {"status": {}}),
        ("PUT", f"{apps}/scale", {"spec": {"replicas": 2}}),
    ):
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        response = await api.request(method, path, body, content_type=media)
        assert (response.status, text in response.body) == (400, True), (method, path)


@story
async def test_19_generated_names(api: ApiServer) -> None:
    made = [
        (await api.client.create(CONFIGMAPS, {"metadata": {"generateName": "n" * 70}}, "default"))["metadata"]["name"]
        for _ in range(20)
    ]
    assert len(set(made)) == 20
    assert all(re.fullmatch("n{58}[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in made)


@story
async def test_20_generation_counts_spec_changes_alone(api: ApiServer) -> None:
    client = api.client
    await client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": DEPLOYMENT}, "default")

    async def after(patch: dict[str, object], subresource: str = "") -> int:
        done = await client.patch(DEPLOYMENTS, "d", "default", patch, subresource=subresource)
        return int(done["metadata"]["generation"])

    assert await after({"metadata": {"labels": {"x": "y"}}}) == 1
    assert await after({"status": {"replicas": 1}}, "status") == 1
    assert await after({"spec": {"replicas": 3}}) == 2
    assert await after({"spec": {"replicas": 3}}) == 2
    await client.patch(DEPLOYMENTS, "d", "default", {"metadata": {"finalizers": ["example.com/x"]}})
    await client.delete(DEPLOYMENTS, "d", "default")
    assert (await client.get(DEPLOYMENTS, "d", "default"))["metadata"]["generation"] == 3


@story
async def test_21_status_and_spec_are_written_apart(api: ApiServer) -> None:
    client = api.client
    await client.create(
        DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": DEPLOYMENT, "status": {"replicas": 9}}, "default"
    )
    d = await client.get(DEPLOYMENTS, "d", "default")
    assert "replicas" not in d.get("status", {})
    d = await client.patch(DEPLOYMENTS, "d", "default", {"spec": {"replicas": 2}, "status": {"replicas": 9}})
    assert (d["spec"]["replicas"], d.get("status", {}).get("replicas")) == (2, None)
    both = {"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": 5}, "status": {"replicas": 9}}
    d = await client.patch(DEPLOYMENTS, "d", "default", both, subresource="status")
    assert (d["spec"]["replicas"], d["status"]["replicas"], d["metadata"]["annotations"]) == (2, 9, {"a": "b"})
    d["status"]["replicas"] = 1
    d["spec"]["replicas"] = 7
    d = await client.update(DEPLOYMENTS, d)
    assert (d["spec"]["replicas"], d["status"]["replicas"]) == (7, 9)


@story
async def test_22_updates_without_a_version(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    done = await api.client.update(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}})
    assert done["data"] == {"k": "v"}
    with pytest.raises(ApiError) as refused:
        await api.client.update(CONFIGMAPS, {"metadata": {"name": "none", "namespace": "default"}})
    assert refused.value.code == 404
    lease = {"metadata": {"name": "l", "namespace": "default"}, "spec": {"holderIdentity": "a"}}
    made = await api.client.update(LEASES, lease)
    assert made["metadata"]["uid"]
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    response = await api.request("PUT", path, lease)
    assert response.status == 422
    assert b"metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in response.body


@story
async def test_23_labels_owners_and_annotations_are_judged(api: ApiServer) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    bad = [
        {"labels": {"a b": "c"}},
        {"labels": {"a": "b c"}},
        {"annotations": {"a": "x" * (256 * 1024 + 1)}},
        {"ownerReferences": [owner, {**owner, "uid": "v"}]},
        {"ownerReferences": [{"kind": "Pod"}]},
    ]
    for metadata in bad:
        with pytest.raises(ApiError) as refused:
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", **metadata}}, "default")
        assert refused.value.code == 422, metadata
    for metadata in ({"labels": ["a"]}, {"labels": {"a": 1}}, {"finalizers": "x"}, {"name": 5}):
        response = await api.request(
            "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a", **metadata}}
        )
        assert response.status == 400, (metadata, response.body)


@story
async def test_23_managed_fields_are_kept_and_cleared(api: ApiServer) -> None:
    client = api.client_for(api.client.transport._user, manager="me")  # type: ignore[attr-defined]
    made = await client.create(CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["fieldsType"]) == ("me", "Update", "FieldsV1")
    assert entry["fieldsV1"] == {"f:data": {".": {}, "f:k": {}}}
    done = await client.patch(CONFIGMAPS, "a", "default", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in done["metadata"]


@story
async def test_24_null_timestamps_are_nothing(api: ApiServer) -> None:
    metadata = {"name": "a", "creationTimestamp": None, "labels": None}
    made = await api.client.create(PODS, {"metadata": metadata, "spec": POD, "status": {}}, "default")
    assert "labels" not in made["metadata"]


@story
async def test_25_quantities_are_canonical_and_secrets_are_merged(api: ApiServer) -> None:
    limits = {"cpu": "1000m", "memory": "1024Mi"}
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"limits": limits}}]}
    pod = await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    secret = {"metadata": {"name": "s"}, "data": {"a": "YQ=="}, "stringData": {"b": "b"}}
    made = await api.client.create(SECRETS, secret, "default")
    assert (made["data"], "stringData" in made) == ({"a": "YQ==", "b": "Yg=="}, False)


@story
async def test_26_lists_have_a_kind_and_items_that_are_never_null(api: ApiServer) -> None:
    empty = await api.client.list(CONFIGMAPS, "default")
    assert (empty["kind"], empty["apiVersion"], empty["items"]) == ("ConfigMapList", "v1", [])
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    (item,) = (await api.client.list(CONFIGMAPS, "default"))["items"]
    assert "kind" not in item


@story
async def test_events_are_one_store_behind_two_apis(api: ApiServer) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    event = {
        "metadata": {"name": "e"},
        "involvedObject": about,
        "reason": "R",
        "message": "m",
        "type": "Normal",
        "reportingComponent": "x.io/c",
        "reportingInstance": "i",
    }
    old = await api.client.create(EVENTS, event, "default")
    new = await api.client.get(NEW_EVENTS, "e", "default")
    assert (new["apiVersion"], new["regarding"], new["note"]) == ("events.k8s.io/v1", about, "m")
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    found = await api.client.list(NEW_EVENTS, "default", fields="regarding.name=p")
    assert [e["metadata"]["name"] for e in found["items"]] == ["e"]
    found = await api.client.list(EVENTS, "default", fields="involvedObject.name=p,reason=R")
    assert [e["metadata"]["name"] for e in found["items"]] == ["e"]


@story
async def test_namespaces_carry_their_name_as_a_label(api: ApiServer) -> None:
    made = await api.client.create(NAMESPACES, {"metadata": {"generateName": "n-"}})
    assert made["metadata"]["labels"]["kubernetes.io/metadata.name"] == made["metadata"]["name"]
    assert (made["spec"]["finalizers"], made["status"]["phase"]) == (["kubernetes"], "Active")


@story
async def test_21_a_new_object_has_the_status_of_nobody_yet(api: ApiServer) -> None:
    labels = {"a": "b"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    sent = {"metadata": {"name": "x"}, "spec": spec, "status": {"replicas": 9}}
    for plural, status in (("deployments", {}), ("replicasets", {"replicas": 0})):
        made = await api.request("POST", f"/apis/apps/v1/namespaces/default/{plural}", sent)
        obj = orjson.loads(made.body)  # type: ignore[arg-type]
        assert (made.status, obj["status"]) == (201, status)
        assert all("f:status" not in m["fieldsV1"] for m in obj["metadata"]["managedFields"])
