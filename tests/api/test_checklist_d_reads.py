"""API checklist, section D: get and list."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import orjson
import pytest

from jota.api.verbs.list import decode_token
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, EVENTS, NAMESPACES, PODS, Resource
from jota.testing.cluster import ApiServer, story
from jota.wire.message import joined

PATH = "/api/v1/namespaces/default/configmaps"


async def make(api: ApiServer, *names: str, namespace: str = "default", **metadata: Any) -> list[dict[str, Any]]:
    return [await api.client.create(CONFIGMAPS, {"metadata": {"name": n, **metadata}}, namespace) for n in names]


def names(body: Any) -> list[str]:
    listed = body if isinstance(body, dict) else orjson.loads(joined(body))
    return [item["metadata"]["name"] for item in listed["items"]]


def read(response: Any) -> dict[str, Any]:
    out: dict[str, Any] = orjson.loads(joined(response.body))
    return out


@story
async def test_27_unset_zero_and_old_versions_give_the_newest_list(api: ApiServer) -> None:
    a, b = await make(api, "a", "b")
    for version in ("", "0", a["metadata"]["resourceVersion"]):
        assert names((await api.request("GET", f"{PATH}?resourceVersion={version}")).body) == ["a", "b"]
    assert int(b["metadata"]["resourceVersion"]) > int(a["metadata"]["resourceVersion"])


@story
async def test_27_exact_reads_history(api: ApiServer) -> None:
    _, b = await make(api, "a", "b")
    await api.client.delete(CONFIGMAPS, "a", "default")
    then = b["metadata"]["resourceVersion"]
    listed = read(await api.request("GET", f"{PATH}?resourceVersion={then}&resourceVersionMatch=Exact&limit=1"))
    assert (names(listed), listed["metadata"]["resourceVersion"]) == (["a"], then)
    query = f"?continue={listed['metadata']['continue']}"
    assert names((await api.request("GET", PATH + query)).body) == ["b"]
    await api.store.compact(api.store.revision)
    response = await api.request("GET", f"{PATH}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert (response.status, read(response)["reason"]) == (410, "Expired")


@story
async def test_27_a_page_at_a_version_is_of_that_version(api: ApiServer) -> None:
    """With a limit and without a match, a version means Exact: the older clients' way to page (the API concepts' table)."""
    _, b = await make(api, "a", "b")
    await make(api, "c")
    then = b["metadata"]["resourceVersion"]
    for limit, seen, version in (("1", ["a"], then), ("5", ["a", "b"], then), ("0", ["a", "b", "c"], None)):
        listed = read(await api.request("GET", f"{PATH}?resourceVersion={then}&limit={limit}"))
        assert (names(listed), listed["metadata"]["resourceVersion"] == then) == (seen, version == then)
    assert names((await api.request("GET", f"{PATH}?resourceVersion=0&limit=5")).body) == ["a", "b", "c"]
    await api.store.compact(api.store.revision)
    response = await api.request("GET", f"{PATH}?resourceVersion={then}&limit=1")
    assert (response.status, read(response)["reason"]) == (410, "Expired")


@story
async def test_27_a_version_from_the_future_waits_and_then_says_504(api: ApiServer) -> None:
    for path in (PATH, "/api/v1/namespaces/default"):
        asking = asyncio.ensure_future(api.request("GET", f"{path}?resourceVersion=1000"))
        await api.advance(2.5)
        assert not asking.done()
        await api.advance(1)
        status = read(await asking)
        assert (status["code"], status["reason"], status["details"]["retryAfterSeconds"]) == (504, "Timeout", 1)
        assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        assert status["message"].startswith("Timeout: Too large resource version: 1000, current: ")


@story
async def test_27_a_version_that_is_nearly_here_is_waited_for(api: ApiServer) -> None:
    soon = api.store.revision + 1
    asking = asyncio.ensure_future(api.request("GET", f"{PATH}?resourceVersion={soon}"))
    await api.advance(0.2)
    await make(api, "a")
    await api.advance(0.1)
    assert names((await asking).body) == ["a"]


@story
async def test_28_combinations_that_mean_nothing_are_refused(api: ApiServer) -> None:
    for query in (
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=5&resourceVersionMatch=Exact&continue=abc",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=5&resourceVersionMatch=Whatever",
        "sendInitialEvents=true",
    ):
        response = await api.request("GET", f"{PATH}?{query}")
        assert (response.status, read(response)["reason"]) == (422, "Invalid"), query
    assert b"sendInitialEvents is forbidden for list" in response.body


@story
async def test_29_pages_are_of_one_revision(api: ApiServer) -> None:
    await make(api, *"abcdefg")
    seen, token, remaining, versions = [], "", [], set()
    while True:
        listed = read(await api.request("GET", f"{PATH}?limit=3&continue={token}"))
        seen += names(listed)
        versions.add(listed["metadata"]["resourceVersion"])
        remaining.append(listed["metadata"].get("remainingItemCount"))
        token = listed["metadata"].get("continue", "")
        await make(api, f"late-{len(seen)}")
        if not token:
            break
    assert (seen, remaining, len(versions)) == (list("abcdefg"), [4, 1, None], 1)


@story
async def test_29_selectors_page_without_a_count(api: ApiServer) -> None:
    await make(api, *"abc", labels={"x": "1"})
    await make(api, *"bcde"[2:])
    listed = read(await api.request("GET", f"{PATH}?limit=2&labelSelector=x%3D1"))
    assert (names(listed), "remainingItemCount" in listed["metadata"]) == (["a", "b"], False)
    rest = read(
        await api.request("GET", f"{PATH}?limit=2&labelSelector=x%3D1&continue={listed['metadata']['continue']}")
    )
    assert (names(rest), "continue" in rest["metadata"]) == (["c"], False)


@story
async def test_29_an_expired_token_comes_with_one_that_goes_on(api: ApiServer) -> None:
    await make(api, *"abc")
    token = read(await api.request("GET", f"{PATH}?limit=1"))["metadata"]["continue"]
    await make(api, "z")
    await api.store.compact(api.store.revision)
    response = await api.request("GET", f"{PATH}?limit=1&continue={token}")
    status = read(response)
    assert (response.status, status["reason"]) == (410, "Expired")
    fresh = status["metadata"]["continue"]
    assert names((await api.request("GET", f"{PATH}?continue={fresh}")).body) == ["b", "c", "z"]


@story
async def test_29_tokens_are_checked(api: ApiServer) -> None:
    await make(api, "a", "b")
    token = read(await api.request("GET", f"{PATH}?limit=1"))["metadata"]["continue"]
    for query in ("continue=rubbish", "continue=%F0%9F", f"continue={token}&resourceVersion=3"):
        response = await api.request("GET", f"{PATH}?{query}")
        assert (response.status, read(response)["reason"]) == (400, "BadRequest"), query
    with pytest.raises(ApiError):
        decode_token("e30")


@story
async def test_30_order_is_by_namespace_and_name_in_bytes(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "aa"}})
    await make(api, "b-1", "b", "a", "b.1")
    await make(api, "z", namespace="aa")
    assert names(await api.client.list(CONFIGMAPS)) == ["z", "a", "b", "b-1", "b.1"]


@story
async def test_31_label_selectors(api: ApiServer) -> None:
    await make(api, "x", labels={"app": "x", "tier": "1"})
    await make(api, "y", labels={"app": "y"})
    await make(api, "bare")
    for selector, expected in (
        ("app=x", "x"),
        ("app==x", "x"),
        ("app!=x", "bare,y"),
        ("app in (x,y)", "x,y"),
        ("app notin (x)", "bare,y"),
        ("tier", "x"),
        ("!tier", "bare,y"),
        ("app,tier=1", "x"),
    ):
        found = await api.client.list(CONFIGMAPS, "default", labels=selector)
        assert names(found) == expected.split(","), selector


@story
async def test_32_field_selectors(api: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    for name, node in (("p", "n1"), ("q", "n2"), ("r", "")):
        pod_spec = {**spec, "nodeName": node} if node else spec
        await api.client.create(PODS, {"metadata": {"name": name}, "spec": pod_spec}, "default")
    for selector, expected in (
        ("spec.nodeName=n1", ["p"]),
        ("spec.nodeName=", ["r"]),
        ("spec.nodeName!=n1", ["q", "r"]),
        ("metadata.name=q", ["q"]),
        ("metadata.name=q,spec.nodeName=n1", []),
        ("metadata.name==none", []),
        ("metadata.namespace=default,status.phase=Pending", ["p", "q", "r"]),
    ):
        assert names(await api.client.list(PODS, "default", fields=selector)) == expected, selector
        assert names(await api.client.list(PODS, fields=selector)) == expected, selector
    with pytest.raises(ApiError, match=r"^field label not supported: spec\.image$"):
        await api.client.list(PODS, fields="spec.image=i")


@story
async def test_32_names_select_objects_of_every_version_and_scope(api: ApiServer) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    for name in ("a", "b"):
        await api.client.create(EVENTS, {"metadata": {"name": name}, "involvedObject": about}, "default")
    for events in (EVENTS, Resource("events.k8s.io", "v1", "events", "Event")):  # kept as the one, shown as the other
        assert names(await api.client.list(events, fields="metadata.name!=a,metadata.namespace=default")) == ["b"]
        assert names(await api.client.list(events, fields="metadata.namespace!=default")) == []
    known = names(await api.client.list(NAMESPACES))
    found = names(await api.client.list(NAMESPACES, fields="metadata.namespace=,metadata.name!=default"))
    assert found == [name for name in known if name != "default"]


@story
async def test_32_of_the_fields_those_that_were_asked_for_are_kept(api: ApiServer) -> None:
    """There may be a hundred thousand objects: what selecting leaves behind on each is small, and no work for the collector."""
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    for selector in ("spec.nodeName=", "metadata.name!=q", "status.phase=Pending"):
        assert names(await api.client.list(PODS, fields=selector)) == ["p"]
    entry = api.store.get("/core/pods/default/p")
    assert entry is not None
    assert entry.memo.fields == {"spec.nodeName": "", "status.phase": "Pending"}
    assert not gc.is_tracked(entry)
    assert not gc.is_tracked(entry.memo)


@story
async def test_33_head_pretty_and_unknown_parameters(api: ApiServer) -> None:
    await make(api, "a")
    got = await api.request("GET", f"{PATH}/a?pretty=true&whatever=1&resourceVersion=0")
    head = await api.request("HEAD", f"{PATH}/a")
    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert ("Content-Length", str(len(got.body))) in head.headers


@story
async def test_tables_are_given_only_when_asked_for(api: ApiServer) -> None:
    await make(api, "a")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    for path in (PATH, f"{PATH}/a"):
        table = read(await api.request("GET", path, accept=accept))
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert table["rows"][0]["cells"] == ["a", 0, "0s"]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        assert table["metadata"]["resourceVersion"]
    bare = read(await api.request("GET", f"{PATH}?includeObject=None", accept=accept))
    assert "object" not in bare["rows"][0]
    whole = read(await api.request("GET", f"{PATH}?includeObject=Object", accept=accept))
    assert whole["rows"][0]["object"]["kind"] == "ConfigMap"
    assert (await api.request("GET", f"{PATH}?includeObject=x", accept=accept)).status == 400


@story
async def test_metadata_alone(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
    accept = (
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,"
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    )
    listed = read(await api.request("GET", PATH, accept=accept))
    assert (listed["kind"], listed["items"][0]["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    assert "data" not in listed["items"][0]
    one = read(await api.request("GET", f"{PATH}/a", accept=accept.replace("List", "")))
    assert (one["kind"], one["apiVersion"], "data" in one) == ("PartialObjectMetadata", "meta.k8s.io/v1", False)


@story
async def test_yaml_answers(api: ApiServer) -> None:
    await make(api, "a")
    response = await api.request("GET", f"{PATH}/a", accept="application/yaml")
    assert ("Content-Type", "application/yaml") in response.headers
    assert b"\n  name: a\n" in response.body
