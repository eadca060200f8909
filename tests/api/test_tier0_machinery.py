"""Tier 0 of the conformance suite: discovery, versions, watches, chunks, field validation, events, immutability."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson

from jota.testing.cluster import ApiServer, Watching, story

CM = "/api/v1/namespaces/default/configmaps"
TEMPLATES = "/api/v1/namespaces/default/podtemplates"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MERGE = "application/merge-patch+json"


def read(response: Any) -> Any:
    body = response.body
    return orjson.loads(body if isinstance(body, bytes) else b"".join(body))


@story
async def test_discovery_legacy_every_group_has_a_preferred_version_with_resources(api: ApiServer) -> None:
    for group in read(await api.request("GET", "/apis"))["groups"]:
        alone = read(await api.request("GET", f"/apis/{group['name']}"))
        assert alone["preferredVersion"] in alone["versions"]
        preferred = alone["preferredVersion"]["groupVersion"]
        listed = read(await api.request("GET", f"/apis/{preferred}"))
        assert (listed["groupVersion"], bool(listed["resources"])) == (preferred, True)


@story
async def test_discovery_aggregated_tells_every_resource_in_full(api: ApiServer) -> None:
    groups = read(await api.request("GET", "/apis", accept=AGGREGATED))["items"]
    names = {g["metadata"]["name"]: {v["version"] for v in g["versions"]} for g in groups}
    assert {"v1", "v2"} <= names["autoscaling"]
    wanted = "apps batch events.k8s.io flowcontrol.apiserver.k8s.io node.k8s.io policy scheduling.k8s.io storage.k8s.io"
    assert set(wanted.split(" ")) <= names.keys()
    core = read(await api.request("GET", "/api", accept=AGGREGATED))["items"][0]
    assert not core["metadata"].get("name")
    for group in (core, *groups):
        for version in group["versions"]:
            assert version["freshness"] == "Current"
            for resource in version["resources"]:
                assert {"resource", "responseKind", "scope", "singularResource", "verbs"} <= resource.keys()
                for sub in resource.get("subresources", ()):
                    assert {"subresource", "responseKind", "verbs"} <= sub.keys()


@story
async def test_version_is_made_of_numbers(api: ApiServer) -> None:
    version = read(await api.request("GET", "/version"))
    assert int(version["major"]) == 1
    assert int(version["minor"].rstrip("+")) >= 31


@story
async def test_watch_by_label_sees_objects_come_and_go(api: ApiServer) -> None:
    async with Watching(api, f"{CM}?watch=1&labelSelector=watch%3Da") as watching:
        await api.request("POST", CM, {"metadata": {"name": "x", "labels": {"watch": "a"}}})
        await api.request("PATCH", f"{CM}/x", {"metadata": {"labels": {"watch": "b"}}}, content_type=MERGE)
        await api.request("PATCH", f"{CM}/x", {"data": {"unseen": "1"}}, content_type=MERGE)
        await api.request("PATCH", f"{CM}/x", {"metadata": {"labels": {"watch": "a"}}}, content_type=MERGE)
        await api.request("DELETE", f"{CM}/x")
        await api.settle()
        assert watching.names() == [("ADDED", "x"), ("DELETED", "x"), ("ADDED", "x"), ("DELETED", "x")]


@story
async def test_watches_from_each_version_agree_on_the_order(api: ApiServer) -> None:
    versions = [read(await api.request("POST", CM, {"metadata": {"name": "first"}}))["metadata"]["resourceVersion"]]
    random = Random(api.seed)
    for n in range(30):
        if n % 3 == 2:
            await api.request("DELETE", f"{CM}/c{n - 1}")
        name = f"c{n}"
        made = await api.request("POST", CM, {"metadata": {"name": name}, "data": {"r": str(random.random())}})
        versions.append(read(made)["metadata"]["resourceVersion"])
    orders = []
    for since in versions:
        async with Watching(api, f"{CM}?watch=1&resourceVersion={since}") as watching:
            orders.append([int(o["metadata"]["resourceVersion"]) for _, o in watching.events])
    for since, order in zip(versions, orders, strict=True):
        assert order == [v for v in orders[0] if v > int(since)]


@story
async def test_chunks_of_four_hundred(api: ApiServer) -> None:
    template = {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}
    for n in range(400):
        await api.request("POST", TEMPLATES, {"metadata": {"name": f"template-{n:04}"}, **template})
    random, found, token, version = Random(api.seed), [], "", ""
    while True:
        page = read(await api.request("GET", f"{TEMPLATES}?limit={random.randint(1, 200)}&continue={token}"))
        version = version or page["metadata"]["resourceVersion"]
        assert page["metadata"]["resourceVersion"] == version
        found += [o["metadata"]["name"] for o in page["items"]]
        token = page["metadata"].get("continue", "")
        assert page["metadata"].get("remainingItemCount") == ((400 - len(found)) or None)
        if not token:
            break
    assert found == [f"template-{n:04}" for n in range(400)]


@story
async def test_an_expired_chunk_comes_with_a_way_on(api: ApiServer) -> None:
    for n in range(10):
        await api.request("POST", CM, {"metadata": {"name": f"c{n}"}})
    first = read(await api.request("GET", f"{CM}?limit=4"))
    await api.request("POST", CM, {"metadata": {"name": "c99"}})
    await api.store.compact(api.store.revision)
    expired = read(await api.request("GET", f"{CM}?limit=4&continue={first['metadata']['continue']}"))
    assert (expired["code"], expired["reason"]) == (410, "Expired")
    rest = read(await api.request("GET", f"{CM}?continue={expired['metadata']['continue']}"))
    assert rest["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    names = [o["metadata"]["name"] for o in (*first["items"], *rest["items"])]
    assert names == sorted({*names}) and "c99" in names  # noqa: PT018


@story
async def test_field_validation_lists_unknown_and_repeated_fields_in_order(api: ApiServer) -> None:
    body = b"""{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","unknownMeta":1},
      "spec":{"unknownField":"x","replicas":1,"replicas":2,"selector":{"matchLabels":{"a":"b"}},
      "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"""
    path = "/apis/apps/v1/namespaces/default/deployments"
    refused = await api.request("POST", f"{path}?fieldValidation=Strict", body)
    message = read(refused)["message"]
    assert (refused.status, read(refused)["reason"]) == (400, "BadRequest")
    assert "strict decoding error: " in message
    for part in (
        'unknown field "metadata.unknownMeta"',
        'unknown field "spec.unknownField"',
        'duplicate field "spec.replicas"',
    ):
        assert part in message
    assert message.index('"spec.unknownField"') < message.index('"spec.replicas"')
    warned = await api.request("POST", path, body)
    assert (warned.status, len([v for k, v in warned.headers if k == "Warning"])) == (201, 3)
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata:\n  foo: a\n  foo: b\n"
    twice = await api.request(
        "PATCH", f"{CM}/y?fieldManager=m&fieldValidation=Strict", yaml, content_type="application/apply-patch+yaml"
    )
    assert (twice.status, 'line 6: key \\"foo\\" already set in map' in twice.body.decode()) == (400, True)  # type: ignore[union-attr]


@story
async def test_events_keep_their_identity_through_both_groups(api: ApiServer) -> None:
    involved = {"kind": "Pod", "name": "p", "namespace": "default"}
    core = "/api/v1/namespaces/default/events"
    new = "/apis/events.k8s.io/v1/namespaces/default/events"
    made = read(await api.request("POST", core, {"metadata": {"name": "e"}, "involvedObject": involved, "reason": "R"}))
    seen = read(await api.request("GET", f"{new}/e"))
    assert (seen["regarding"]["name"], seen["metadata"]["uid"]) == ("p", made["metadata"]["uid"])
    series = {"series": {"count": 100, "lastObservedTime": "2026-01-01T00:00:00.505015Z"}}
    patched = await api.request("PATCH", f"{core}/e", series, content_type=MERGE)
    assert read(patched)["series"]["lastObservedTime"] == "2026-01-01T00:00:00.505015Z"
    assert read(await api.request("GET", f"{new}/e"))["series"]["count"] == 100
    found = read(await api.request("GET", f"{core}?fieldSelector=involvedObject.name%3Dp,reason%3DR"))
    assert [e["metadata"]["name"] for e in found["items"]] == ["e"]


@story
async def test_immutable_config_maps_and_secrets_stay_as_they_are(api: ApiServer) -> None:
    for plural in ("configmaps", "secrets"):
        where = f"/api/v1/namespaces/default/{plural}"
        data = {"data": {"k": "dg=="}}
        await api.request("POST", where, {"metadata": {"name": "i"}, **data, "immutable": True})
        for change in ({"data": {"k": "eA=="}}, {"immutable": False}, {"immutable": None}):
            assert (await api.request("PATCH", f"{where}/i", change, content_type=MERGE)).status == 422, change
        labelled = await api.request("PATCH", f"{where}/i", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
        assert labelled.status == 200
        assert (await api.request("DELETE", f"{where}/i")).status == 200


@story
async def test_config_map_keys(api: ApiServer) -> None:
    for body in ({"data": {"": "v"}}, {"data": {"a": "v"}, "binaryData": {"a": "eA=="}}, {"data": {"../x": "v"}}):
        response = await api.request("POST", CM, {"metadata": {"name": "bad"}, **body})
        assert response.status == 422, body


@story
async def test_lease_times_keep_their_microseconds(api: ApiServer) -> None:
    where = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    spec = {"holderIdentity": "h", "acquireTime": "2026-01-01T00:00:00.000001Z", "renewTime": "2026-01-01T00:00:00.5Z"}
    made = read(await api.request("POST", where, {"metadata": {"name": "l"}, "spec": spec}))["spec"]
    assert made["acquireTime"] == "2026-01-01T00:00:00.000001Z"
    assert made["renewTime"].startswith("2026-01-01T00:00:00.5")


@story
async def test_a_runtime_class_that_is_not_there_rejects_the_pod(api: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "runtimeClassName": "x"}
    refused = await api.request("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": spec})
    assert (refused.status, 'RuntimeClass "x" not found' in read(refused)["message"]) == (403, True)


@story
async def test_priority_classes_cannot_change_their_value(api: ApiServer) -> None:
    where = "/apis/scheduling.k8s.io/v1/priorityclasses"
    await api.request("POST", where, {"metadata": {"name": "p"}, "value": 5})
    assert (await api.request("PATCH", f"{where}/p", {"value": 6}, content_type=MERGE)).status in (403, 422)
    assert (await api.request("POST", where, {"metadata": {"name": "system-x"}, "value": 5})).status in (403, 422)
