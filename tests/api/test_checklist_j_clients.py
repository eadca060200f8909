"""API checklist, section J: the request sequences of well-known clients. The clients themselves run in tests/clients."""

from __future__ import annotations

from typing import Any

import orjson

from jota.api.filters.attributes import User
from jota.meta.resource import PODS as POD_RESOURCE
from jota.testing.cluster import ApiServer, Watching, story

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
LEVELS, SCHEMAS = f"{FLOW}/prioritylevelconfigurations", f"{FLOW}/flowschemas"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def read(response: Any) -> Any:
    body = response.body
    return orjson.loads(body if isinstance(body, bytes) else b"".join(body))


@story
async def test_73_kubectl_waits_by_list_and_watch_of_one_name(api: ApiServer) -> None:
    await api.request("POST", PODS, POD)
    query = "fieldSelector=metadata.name%3Dp&limit=500&resourceVersion=0"
    found = read(await api.request("GET", f"{PODS}?{query}"))
    assert [p["metadata"]["name"] for p in found["items"]] == ["p"]
    since = found["metadata"]["resourceVersion"]
    url = f"{PODS}?allowWatchBookmarks=true&fieldSelector=metadata.name%3Dp&resourceVersion={since}&watch=true"
    async with Watching(api, url) as watching:
        await api.client.create(POD_RESOURCE, {**POD, "metadata": {"name": "other"}}, "default")
        await api.request("DELETE", f"{PODS}/p")
        await api.settle()
        assert watching.names() == [("DELETED", "p")]
    events = "fieldSelector=involvedObject.name%3Dp,involvedObject.namespace%3Ddefault,involvedObject.uid%3Dx"
    assert read(await api.request("GET", f"/api/v1/namespaces/default/events?{events}"))["items"] == []


@story
async def test_74_helm_keeps_a_megabyte_in_a_secret(api: ApiServer) -> None:
    labels = {"owner": "helm", "name": "r", "status": "deployed"}
    big = {"release": "eHh4" * 250_000}
    secret = {
        "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.r.v1", "labels": labels},
        "data": big,
    }
    path = "/api/v1/namespaces/default/secrets"
    assert (await api.request("POST", path, secret)).status == 201
    found = read(await api.request("GET", f"{path}?labelSelector=name%3Dr%2Cowner%3Dhelm%2Cstatus%3Ddeployed"))
    assert found["items"][0]["data"] == big
    too_big = {**secret, "metadata": {"name": "x"}, "data": {"release": "eHh4" * 400_000}}
    assert (await api.request("POST", path, too_big)).status == 422


@story
async def test_75_kopf_patches_with_a_test_of_the_version(api: ApiServer) -> None:
    await api.request("POST", CM, {"metadata": {"name": "a"}})
    made = read(await api.request("PATCH", f"{CM}/a", {"metadata": {"finalizers": ["kopf.dev/f"]}}, content_type=MERGE))
    version = made["metadata"]["resourceVersion"]
    steps = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]
    media = "application/json-patch+json"
    assert (await api.request("PATCH", f"{CM}/a", steps, content_type=media)).status == 200
    again = await api.request("PATCH", f"{CM}/a", steps, content_type=media)
    assert (again.status, read(again)["kind"]) == (422, "Status")
    event = {
        "metadata": {"generateName": "kopf-event-", "namespace": "default"},
        "action": "Action?",
        "type": "Error",
        "reason": "Logging",
        "message": "m",
        "reportingComponent": "kopf",
        "reportingInstance": "dev",
        "source": {"component": "kopf"},
        "firstTimestamp": "2026-01-01T00:00:00.000000Z",
        "lastTimestamp": "2026-01-01T00:00:00.000000Z",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "default", "uid": "u"},
    }
    posted = await api.request("POST", "/api/v1/namespaces/default/events", event)
    assert posted.status == 201, posted.body


MERGE = "application/merge-patch+json"


@story
async def test_76_required_lists_are_never_null(api: ApiServer) -> None:
    """The generated models of the Python client refuse null where a list is required."""
    await api.request("POST", PODS, POD)
    made = (await api.request("GET", f"{PODS}/p")).body
    assert b":null" not in made  # type: ignore[operator]
    empty = read(await api.request("GET", "/api/v1/namespaces/nowhere/pods"))
    assert empty["items"] == []


@story
async def test_77_what_is_not_served_is_a_status_of_404(api: ApiServer) -> None:
    for path in ("/apis/nobody.example.com/v1", "/apis/nobody.example.com", "/apis/nobody.example.com/v1/things"):
        response = await api.request("GET", path)
        status = read(response)
        assert (response.status, status["kind"], status["reason"]) == (404, "Status", "NotFound"), path


@story
async def test_78_the_schedulers_selector(api: ApiServer) -> None:
    for name in ("done", "open"):
        await api.request("POST", PODS, {**POD, "metadata": {"name": name}})
    ended = {"status": {"phase": "Succeeded"}}
    await api.request("PATCH", f"{PODS}/done/status", ended, content_type=MERGE)
    query = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"
    found = read(await api.request("GET", f"/api/v1/pods?{query}"))
    assert [p["metadata"]["name"] for p in found["items"]] == ["open"]
    groups = read(await api.request("GET", "/apis"))["groups"]
    metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    for group in groups:
        if group["name"] == "metrics.k8s.io":
            continue  # computed, not stored: one form
        root = f"/apis/{group['preferredVersion']['groupVersion']}"
        for resource in read(await api.request("GET", root))["resources"]:
            if "list" in resource["verbs"] and "/" not in resource["name"]:
                listed = read(await api.request("GET", f"{root}/{resource['name']}", accept=metadata))
                assert listed["kind"] == "PartialObjectMetadataList", resource


@story
async def test_79_each_step_of_an_informers_fallback(api: ApiServer) -> None:
    await api.request("POST", CM, {"metadata": {"name": "a"}})
    modern = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with Watching(api, f"{CM}?{modern}") as watching:
        kinds = [kind for kind, _ in watching.events]
        assert (kinds[-1], set(kinds[:-1])) == ("BOOKMARK", {"ADDED"})
    for version in ("0", ""):
        listed = read(await api.request("GET", f"{CM}?resourceVersion={version}"))
        assert "a" in [o["metadata"]["name"] for o in listed["items"]]
    since = listed["metadata"]["resourceVersion"]
    async with Watching(api, f"{CM}?watch=1&resourceVersion={since}") as watching:
        await api.request("DELETE", f"{CM}/a")
        await api.settle()
        assert watching.names() == [("DELETED", "a")]


@story
async def test_80_too_many_at_once_are_told_when_to_come_back(api: ApiServer) -> None:
    limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    await api.request("POST", LEVELS, {"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": limited}})
    subject = {"kind": "User", "user": {"name": "alice"}}
    pods = {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}
    rules = [{"subjects": [subject], "resourceRules": [pods]}]
    spec = {"matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "none"}, "rules": rules}
    await api.request("POST", SCHEMAS, {"metadata": {"name": "alices-pods"}, "spec": spec})
    await api.settle()
    alice = User("alice", groups=("system:authenticated",))
    refused = await api.request("GET", PODS, user=alice)
    assert refused.status == 429
    assert dict(refused.headers)["Retry-After"] == "1"
    assert read(refused)["details"]["retryAfterSeconds"] == 1
    assert (await api.request("GET", CM, user=alice)).status == 200
