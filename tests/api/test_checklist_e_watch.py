"""API checklist, section E: watches."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from jota.api import table
from jota.api.slow import EACH
from jota.meta.resource import CONFIGMAPS, PODS
from jota.testing.cluster import ApiServer, Watching, story

PATH = "/api/v1/namespaces/default/configmaps"


async def make(api: ApiServer, *names: str, **metadata: Any) -> list[dict[str, Any]]:
    return [await api.client.create(CONFIGMAPS, {"metadata": {"name": n, **metadata}}, "default") for n in names]


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


@story
async def test_34_one_event_per_line_and_one_write_per_batch(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1") as seen:
        await make(api, "a")
        await api.settle()
        assert (seen.names(), seen.writes) == ([("ADDED", "a")], 1)
        assert seen.events[0][1]["kind"] == "ConfigMap"
        assert seen.events[0][1]["apiVersion"] == "v1"


@story
async def test_35_present_state_comes_first(api: ApiServer) -> None:
    await make(api, "a", "b")
    for query in ("watch=true", "watch=1&resourceVersion=0"):
        async with Watching(api, f"{PATH}?{query}") as seen:
            await make(api, f"c-{query[-1]}")
            await api.settle()
            assert seen.names()[:2] == [("ADDED", "a"), ("ADDED", "b")]
            assert seen.names()[-1] == ("ADDED", f"c-{query[-1]}")


@story
async def test_35_from_a_version_only_what_came_after(api: ApiServer) -> None:
    a, _ = await make(api, "a", "b")
    await api.client.delete(CONFIGMAPS, "a", "default")
    async with Watching(api, f"{PATH}?watch=1&resourceVersion={version(a)}") as seen:
        await make(api, "c")
        await api.settle()
        assert seen.names() == [("ADDED", "b"), ("DELETED", "a"), ("ADDED", "c")]


def test_a_mistake_about_one_object_ends_one_watch_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All events of the server go through one loop."""
    honest = table.of_object

    def of_object(call: Any, obj: dict[str, Any], *more: Any, **named: Any) -> Any:
        if obj["metadata"]["name"] == "bad":
            raise KeyError("a column of this object")
        return honest(call, obj, *more, **named)

    @story
    async def run(api: ApiServer) -> None:
        as_table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with (
            Watching(api, f"{PATH}?watch=1", **as_table) as unlucky,
            Watching(api, f"{PATH}?watch=1") as seen,
            Watching(api, "/api/v1/configmaps?watch=1") as all_seen,
        ):
            for name in ("bad", "good"):
                await make(api, name)
                await api.settle()
            assert seen.names() == all_seen.names() == [("ADDED", "bad"), ("ADDED", "good")]
            assert [(type_, event["code"]) for type_, event in unlucky.events] == [("ERROR", 410)]

    monkeypatch.setattr(table, "of_object", of_object)
    run()
    assert "a watcher failed and is cut off" in caplog.text


@story
async def test_35_the_old_watch_prefix_still_works(api: ApiServer) -> None:
    await make(api, "a", "b")
    async with Watching(api, "/api/v1/watch/namespaces/default/configmaps/a") as seen:
        assert seen.names() == [("ADDED", "a")]


@story
async def test_36_watch_list_ends_its_first_part_with_a_bookmark(api: ApiServer) -> None:
    await make(api, "a", "b")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with Watching(api, f"{PATH}?{query}") as seen:
        assert [t for t, _ in seen.events] == ["ADDED", "ADDED", "BOOKMARK"]
        metadata = seen.events[2][1]["metadata"]
        assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert metadata["resourceVersion"] == str(api.store.revision)
        await make(api, "c")
        await api.settle()
        assert seen.names()[-1] == ("ADDED", "c")


@story
async def test_36_watch_list_of_nothing_still_has_its_bookmark(api: ApiServer) -> None:
    query = (
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0"
    )
    async with Watching(api, f"{PATH}?{query}") as seen:
        assert [t for t, _ in seen.events] == ["BOOKMARK"]


@story
async def test_36_without_initial_events_a_watch_begins_now(api: ApiServer) -> None:
    await make(api, "a")
    query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with Watching(api, f"{PATH}?{query}") as seen:
        await make(api, "b")
        await api.settle()
        assert seen.names() == [("ADDED", "b")]


@story
async def test_37_parameters_that_do_not_go_together(api: ApiServer) -> None:
    for query in (
        "watch=1&sendInitialEvents=true",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
    ):
        response = await api.request("GET", f"{PATH}?{query}")
        assert response.status == 422, query


@story
async def test_38_bookmarks_each_minute_carry_kind_and_version_only(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1&allowWatchBookmarks=true&timeoutSeconds=200") as seen:
        await api.client.create(
            PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "default"
        )
        await api.advance(61)
        ((kind, bookmark),) = seen.events
        assert kind == "BOOKMARK"
        assert bookmark == {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(api.store.revision), "creationTimestamp": None},
        }
        await api.advance(120)
        assert len(seen.events) == 3


@story
async def test_38_no_bookmarks_unless_asked_for(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1") as seen:
        await api.advance(300)
        assert seen.events == []


@story
async def test_39_the_stream_ends_at_its_timeout(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1&timeoutSeconds=5&allowWatchBookmarks=true") as seen:
        await api.advance(4.9)
        assert not seen.ended
        await api.advance(0.2)
        assert seen.ended
    async with Watching(api, f"{PATH}?watch=1") as seen:
        await api.advance(1799)
        assert not seen.ended
        await api.advance(1802)
        assert seen.ended


@story
async def test_40_a_version_too_old_is_an_error_event_and_the_end(api: ApiServer) -> None:
    a, *_ = await make(api, "a", "b", "c")
    await api.store.compact(api.store.revision)
    async with Watching(api, f"{PATH}?watch=1&resourceVersion={version(a)}") as seen:
        ((kind, status),) = seen.events
        assert (seen.status, kind, status["kind"]) == (200, "ERROR", "Status")
        assert (status["code"], status["reason"]) == (410, "Expired")
        assert status["message"].startswith(f"too old resource version: {version(a)} (")
        assert seen.ended


@story
async def test_41_selector_transitions(api: ApiServer) -> None:
    await make(api, "a", labels={"on": "1"})
    async with Watching(api, f"{PATH}?watch=1&labelSelector=on%3D1") as seen:
        off = await api.client.patch(
            CONFIGMAPS, "a", "default", {"metadata": {"labels": {"on": "0"}}, "data": {"k": "v"}}
        )
        await api.client.patch(CONFIGMAPS, "a", "default", {"data": {"k": "w"}})
        await api.client.patch(CONFIGMAPS, "a", "default", {"metadata": {"labels": {"on": "1"}}})
        await api.client.patch(CONFIGMAPS, "a", "default", {"data": {"k": "x"}})
        gone = api.store.revision + 1
        await api.client.delete(CONFIGMAPS, "a", "default")
        await api.settle()
        assert [t for t, _ in seen.events] == ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
        left = seen.events[1][1]
        assert (version(left), left["metadata"]["labels"], "data" in left) == (version(off), {"on": "1"}, False)
        assert version(seen.events[4][1]) == gone


@story
async def test_41_field_selector_transitions_reach_watchers_of_one_node(api: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    path = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D"
    async with Watching(api, path + "n1") as one, Watching(api, path + "n2") as two, Watching(api, path) as none:
        await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
        await api.request(
            "POST", "/api/v1/namespaces/default/pods/p/binding", {"target": {"kind": "Node", "name": "n1"}}
        )
        await api.client.patch(PODS, "p", "default", {"status": {"phase": "Running"}}, subresource="status")
        await api.client.delete(PODS, "p", "default", grace=0)
        await api.settle()
        assert [t for t, _ in one.events] == ["ADDED", "MODIFIED", "DELETED"]
        assert two.events == []
        assert [t for t, _ in none.events] == ["ADDED", "DELETED"]


@story
async def test_42_events_come_in_order_and_can_be_resumed_from_anywhere(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1") as seen:
        for i in range(10):
            await make(api, f"c{i}")
        await api.client.delete(CONFIGMAPS, "c3", "default")
        await api.settle()
        versions = [version(o) for _, o in seen.events]
        assert versions == sorted(set(versions))
    for at, (_, obj) in enumerate(seen.events):
        async with Watching(api, f"{PATH}?watch=1&resourceVersion={version(obj)}") as again:
            assert again.events == seen.events[at + 1 :]


@story
async def test_43_one_name_is_a_field_selector(api: ApiServer) -> None:
    await make(api, "a", "b")
    for path in (f"{PATH}?watch=1&fieldSelector=metadata.name%3Da", f"{PATH}/a?watch=1"):
        async with Watching(api, path) as seen:
            await api.client.patch(CONFIGMAPS, "b", "default", {"data": {"k": path[-1]}})
            await api.client.patch(CONFIGMAPS, "a", "default", {"data": {"k": path[-1]}})
            await api.settle()
            assert seen.names() == [("ADDED", "a"), ("MODIFIED", "a")]


@story
async def test_43_a_namespace_sees_only_itself(api: ApiServer) -> None:
    async with Watching(api, "/api/v1/namespaces/kube-system/configmaps?watch=1") as seen:
        await make(api, "a")
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "s"}}, "kube-system")
        await api.settle()
        assert seen.names() == [("ADDED", "s")]


@story
async def test_tables_describe_their_columns_once(api: ApiServer) -> None:
    await make(api, "a", "b")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    async with (
        Watching(api, f"{PATH}?watch=1", accept=accept) as seen,
        Watching(api, f"{PATH}?watch=1", accept=accept) as too,
    ):
        await make(api, "c")
        await api.settle()
        for watching in (seen, too):
            assert [bool(o["columnDefinitions"]) for _, o in watching.events] == [True, False, False]
            assert [o["rows"][0]["cells"][0] for _, o in watching.events] == ["a", "b", "c"]


@story
async def test_metadata_watches(api: ApiServer) -> None:
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    async with Watching(api, f"{PATH}?watch=1", accept=accept) as seen, Watching(api, f"{PATH}?watch=1") as whole:
        await make(api, "a")
        await api.settle()
        assert seen.events[0][1]["kind"] == "PartialObjectMetadata"
        assert whole.events[0][1]["kind"] == "ConfigMap"


@story
async def test_a_watcher_that_does_not_read_is_cut_off(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1") as slow, Watching(api, f"{PATH}?watch=1") as quick:
        await make(api, "a")
        await api.settle()
        slow.buffered = EACH + 1
        await make(api, "b")
        await api.settle()
        assert [t for t, _ in slow.events] == ["ADDED", "ERROR"]
        assert (slow.events[1][1]["code"], slow.ended) == (410, True)
        assert quick.names() == [("ADDED", "a"), ("ADDED", "b")]


@story
async def test_a_watch_from_the_future_is_patient(api: ApiServer) -> None:
    ahead = api.store.revision + 2
    async with Watching(api, f"{PATH}?watch=1&resourceVersion={ahead}") as seen:
        await make(api, "a", "b", "c")
        await api.settle()
        assert seen.names() == [("ADDED", "c")]


@story
async def test_closing_the_server_ends_its_watches(api: ApiServer) -> None:
    async with Watching(api, f"{PATH}?watch=1") as seen:
        await api.api.close()
        await api.settle()
        assert seen.ended


@pytest.mark.parametrize("text", ["a", "-1", "1.5", "99999999999999999999"])
def test_versions_that_are_no_numbers(text: str) -> None:
    @story
    async def run(api: ApiServer) -> None:
        response = await api.request("GET", f"{PATH}?watch=1&resourceVersion={text}")
        assert response.status == 400
        assert orjson.loads(response.body)["reason"] == "BadRequest"  # type: ignore[arg-type]

    run()
