"""DELETE of collections that are large, held, or refused in part: each attempt comes further, none is in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import pytest

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.kind import Kind
from jota.meta.errors import ApiError, forbidden
from jota.meta.resource import CONFIGMAPS, PODS
from jota.store.protocol import Unavailable, Write
from jota.testing.cluster import ApiServer, story
from jota.wire.message import joined

POD_PATH = "/api/v1/namespaces/default/pods"
CM = "/api/v1/namespaces/default/configmaps"
Object = dict[str, Any]


def read(response: Any) -> Object:
    out: Object = orjson.loads(joined(response.body))
    return out


async def running_pods(api: ApiServer, number: int) -> None:
    """Bound to a node: they end gracefully, and nobody ends them here."""
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    for n in range(number):
        await api.client.create(PODS, {"metadata": {"name": f"p{n:04}"}, "spec": spec}, "default")


async def marked(api: ApiServer) -> list[str]:
    pods = (await api.client.list(PODS, "default"))["items"]
    return [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]]


@story
async def test_pieces_are_taken_one_after_the_other(api: ApiServer) -> None:
    await running_pods(api, 5)
    first = read(await api.request("DELETE", f"{POD_PATH}?limit=2"))
    assert [p["metadata"]["name"] for p in first["items"]] == ["p0000", "p0001"] == await marked(api)
    token = first["metadata"]["continue"]
    # such a token has no revision that could grow too old, and sees what came meanwhile
    await running_pods_named(api, "p0001x")
    await api.store.compact(api.store.revision)
    second = read(await api.request("DELETE", f"{POD_PATH}?limit=2&continue={token}"))
    assert [p["metadata"]["name"] for p in second["items"]] == ["p0001x", "p0002"]
    last = read(await api.request("DELETE", f"{POD_PATH}?limit=9&continue={second['metadata']['continue']}"))
    assert [p["metadata"]["name"] for p in last["items"]] == ["p0003", "p0004"]
    assert "continue" not in last["metadata"]
    assert len(await marked(api)) == 6
    assert (await api.request("DELETE", f"{POD_PATH}?limit=2&continue=nonsense")).status == 400


async def running_pods_named(api: ApiServer, name: str) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    await api.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")


@story
async def test_the_client_goes_through_all_pieces(api: ApiServer) -> None:
    for n in range(7):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": f"c{n}"}}, "default")
    await api.client.delete_in_pieces(CONFIGMAPS, "default", piece=3)
    assert (await api.client.list(CONFIGMAPS, "default"))["items"] == []
    await api.client.delete_in_pieces(CONFIGMAPS, "default", piece=3)


Put = Callable[..., Coroutine[Any, Any, Any]]


def durable_for(api: ApiServer, writes: int) -> tuple[list[str], Callable[[], None]]:
    """After so many writes nothing becomes durable any more. (the keys written, how to mend it)"""
    real: Put = api.api.engine.store.put_many
    written: list[str] = []

    async def put_many(batch: Sequence[Write]) -> Any:
        some = batch[: writes - len(written)]
        written.extend(key for key, *_ in some)
        done = await real(some)
        if len(some) < len(batch):
            await asyncio.Event().wait()
        return done

    def mend() -> None:
        api.api.engine.store.put_many = real  # type: ignore[method-assign]

    api.api.engine.store.put_many = put_many  # type: ignore[method-assign]
    return written, mend


@story
async def test_over_its_deadline_what_is_done_stays_done(api: ApiServer) -> None:
    await running_pods(api, 400)
    seen = set[str]()
    for _ in range(3):
        written, mend = durable_for(api, 130)
        late = await api.request("DELETE", f"{POD_PATH}?timeout=300ms")
        mend()
        assert (late.status, read(late)["reason"]) == (504, "Timeout")
        # no write is spent on what was marked before, and none is lost
        assert written
        assert not seen.intersection(written)
        seen.update(written)
        await api.settle()
        assert await marked(api) == sorted(key.rpartition("/")[2] for key in seen)
    left = 400 - len(seen)
    before = api.store.revision
    assert (await api.request("DELETE", POD_PATH)).status == 200
    assert len(await marked(api)) == 400
    assert api.store.revision - before == left
    assert (await api.request("DELETE", POD_PATH)).status == 200
    assert api.store.revision - before == left, "what ends already is not written again"


@story
async def test_others_have_their_turn_while_a_collection_is_gone_through(api: ApiServer) -> None:
    """Pods that are marked already cost no write, so nothing else would make the request pause."""
    await running_pods(api, 200)
    await api.request("DELETE", POD_PATH)
    now = iter(range(1_000_000))
    api.api.engine.clock.monotonic = lambda: next(now) * 0.001  # type: ignore[method-assign]
    done = asyncio.ensure_future(api.request("DELETE", POD_PATH))
    turns = 0
    while not done.done():
        await asyncio.sleep(0)
        turns += 1
    assert done.result().status == 200
    assert turns > 10


@story
async def test_a_store_that_fails_is_told_when_nobody_is_at_work_any_more(api: ApiServer) -> None:
    await running_pods(api, 200)
    real, put_many, failing = api.api.engine.store.put, api.api.engine.store.put_many, [True]

    async def put(key: str, value: bytes, *, expect: int | None = None, **more: Any) -> Any:
        await asyncio.sleep(0)
        if failing and key.endswith("5"):
            raise Unavailable("the disk is full")
        return await real(key, value, expect=expect, **more)

    async def none_of_them(batch: Sequence[Write]) -> Any:
        return [None] * len(batch) if failing else await put_many(batch)

    api.api.engine.store.put, api.api.engine.store.put_many = put, none_of_them  # type: ignore[method-assign]
    assert (await api.request("DELETE", POD_PATH)).status == 503
    at = api.store.revision
    await api.settle()
    assert api.store.revision == at
    failing.clear()
    assert (await api.request("DELETE", POD_PATH)).status == 200
    assert len(await marked(api)) == 200


class Keeps(Plugin):
    """ConfigMaps whose name says so are not to be deleted."""

    def handles(self, kind: Kind) -> bool:
        return kind.resource == CONFIGMAPS

    def validate(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation == "DELETE" and attrs.name.startswith("a-kept"):
            raise forbidden("configmaps", attrs.name, "it is kept")


@story
async def test_what_may_not_go_does_not_keep_the_rest(api: ApiServer) -> None:
    api.api.engine.add_plugin(Keeps())
    names = [f"a-kept-{n:03}" for n in range(300)] + ["b", "c"]
    for name in names:
        await api.client.create(CONFIGMAPS, {"metadata": {"name": name}}, "default")
    with pytest.raises(ApiError, match="it is kept") as refused:
        await api.client.delete_collection(CONFIGMAPS, "default")
    assert refused.value.code == 403
    left = [c["metadata"]["name"] for c in (await api.client.list(CONFIGMAPS, "default"))["items"]]
    assert left == names[:300]


@story
async def test_what_others_write_meanwhile_is_deleted_by_itself(api: ApiServer) -> None:
    await running_pods(api, 40)
    real: Put = api.api.engine.store.put_many
    batches: list[int] = []

    async def put_many(batch: Sequence[Write]) -> Any:
        batches.append(len(batch))
        for n in (3, 7):
            await api.client.patch(PODS, f"p{n:04}", "default", {"metadata": {"labels": {"a": "b"}}})
        await api.client.delete(PODS, "p0009", "default", grace=0)
        return await real(batch)

    api.api.engine.store.put_many = put_many  # type: ignore[method-assign]
    assert (await api.request("DELETE", POD_PATH)).status == 200
    assert sum(batches) == 40
    pods = (await api.client.list(PODS, "default"))["items"]
    assert len(pods) == 39 == len(await marked(api))
    assert [p["metadata"]["name"] for p in pods if p["metadata"].get("labels")] == ["p0003", "p0007"]
