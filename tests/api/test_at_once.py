"""A GET that need not wait for anything is answered without being made to be able to: by the same bytes as any other GET."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.api import dispatch
from jota.api.filters.attributes import AGGREGATOR, COMPONENT, User
from jota.kinds.apiextensions.crd import CRDS
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS
from jota.testing.cluster import ApiServer
from jota.wire.message import Response

Object = dict[str, Any]
HPA = "/apis/autoscaling/v%d/namespaces/default/horizontalpodautoscalers/h"
PATHS = [
    "/api/v1/namespaces/default",
    "/api/v1/namespaces/default/pods/p",
    "/api/v1/namespaces/default/pods/p/status",
    "/api/v1/namespaces/default/pods/none",
    "/api/v1/pods/p",
    "/api/v1/namespaces/default/nothing/x",
    HPA % 1,
    HPA % 2,
    "/apis/example.com/v1/widgets/w",
    "/apis/example.com/v1/widgets/none",
]
ACCEPTS = [
    "",
    "*/*",
    "application/json",
    "application/yaml",
    "text/html",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/vnd.kubernetes.protobuf",
]


def story(test: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with ApiServer() as server:
                await _fill(server)
                await test(server)

        asyncio.run(main())

    return run


async def _fill(server: ApiServer) -> None:
    spec: Object = {"containers": [{"name": "c", "image": "i"}]}
    await server.client.create(PODS, {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": spec}, "default")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3}}
    made = await server.request("POST", (HPA % 2)[:-2], scaler, content_type="application/json")
    assert made.status == 201
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    definition = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
    await server.client.create(CRDS, {"metadata": {"name": "widgets.example.com"}, "spec": definition})
    await server.until(lambda: ("example.com", "v1", "widgets") in server.api.served)
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"x": 1}}
    made = await server.request("POST", "/apis/example.com/v1/widgets", widget, content_type="application/json")
    assert made.status == 201


def whole(answer: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    body = answer.body
    return answer.status, answer.headers, body if isinstance(body, bytes) else b"".join(body)


@story
async def test_the_answer_is_that_of_the_long_way(server: ApiServer) -> None:
    users = [COMPONENT, User("ordinary", groups=("system:authenticated",))]
    asked = [(user, path, accept) for user in users for path in PATHS for accept in ACCEPTS]

    async def ask() -> list[Any]:
        server.api.lanes.forget()
        return [whole(await server.request("GET", path, user=user, accept=accept)) for user, path, accept in asked]

    short = await ask()
    assert {status for status, _, _ in short} == {200, 404, 406}
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(dispatch.AT_ONCE, dispatch.get)
        assert await ask() == short


@story
async def test_a_store_that_may_be_behind_is_waited_for(server: ApiServer) -> None:
    store, waited = server.api.store, []
    real = store.sync

    async def sync() -> int:
        waited.append(1)
        return await real()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "sync", sync)
        assert (await server.request("GET", PATHS[1])).status == 200
        assert not waited
        patch.setattr(store, "behind", True)
        assert (await server.request("GET", PATHS[1])).status == 200
        assert waited


@story
async def test_who_takes_a_group_over_is_asked_from_then_on(server: ApiServer) -> None:
    class Elsewhere:
        async def serve(self, request: Any, user: User) -> Response:
            return Response(299)

    assert (await server.request("GET", PATHS[8], user=AGGREGATOR)).status == 200
    remotes: Any = server.api.aggregation.remotes
    remotes[("example.com", "v1")] = Elsewhere()
    assert (await server.request("GET", PATHS[8], user=AGGREGATOR)).status == 299
    del remotes[("example.com", "v1")]
    assert (await server.request("GET", PATHS[8], user=AGGREGATOR)).status == 200


@story
async def test_what_was_written_is_read(server: ApiServer) -> None:
    """And what is gone is gone: nothing of an answer is kept."""
    path = "/api/v1/namespaces/n/configmaps/c"
    await server.client.create(NAMESPACES, {"metadata": {"name": "n"}})
    for value in ("1", "2"):
        assert (await server.request("GET", path)).status == 404
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"k": value}}, "n")
        assert b'"k":"%b"' % value.encode() in whole(await server.request("GET", path))[2]
        await server.client.delete(CONFIGMAPS, "c", "n")
