"""Events within the process are those that a watch over the network gets: same types, order and bodies, by the same rules."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.security import secure
from jota.client.client import METADATA
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, PODS, Resource
from jota.meta.watchevent import WatchEvent
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, Watching

HPAS = Resource("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
WIDGETS = Resource("example.org", "v1", "widgets", "Widget")
WIDGET_CRD = {
    "metadata": {"name": "widgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer", "default": 3}},
                            }
                        },
                    }
                },
            }
        ],
    },
}


class Handed:
    """The same as Watching, in process."""

    def __init__(self, api: ApiServer, resource: Resource, query: str, metadata: bool) -> None:
        headers = {"accept": METADATA} if metadata else {}
        self._batches = api.client.transport.watch(resource.path("default"), query, headers)
        self.events: list[WatchEvent] = []

    async def take(self) -> None:
        async for batch in self._batches:
            self.events += batch

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.type, orjson.loads(event.body)) for event in self.events]


def body(resource: Resource, name: str, labels: dict[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if resource == HPAS:
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3}
        spec["targetCPUUtilizationPercentage"] = 50  # another field in the version that is stored
    if resource == PODS:
        spec = {"containers": [{"name": "c", "image": "i"}]}
    made: dict[str, Any] = {"metadata": {"name": name, "namespace": "default", "labels": labels}}
    return made | ({"data": {"a": "b"}} if resource == CONFIGMAPS else {"spec": spec})


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize("selector", ["", "&labelSelector=app%3Dx", "&fieldSelector=metadata.name%3Da"])
@pytest.mark.parametrize("resource", [PODS, CONFIGMAPS, HPAS, WIDGETS])
def test_they_are_what_is_sent_over_the_network(resource: Resource, selector: str, metadata: bool) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            if resource == WIDGETS:
                await api.client.create(CRDS, WIDGET_CRD)
                await api.advance(5)
            await api.client.create(resource, body(resource, "before", {"app": "x"}))
            query = f"watch=1&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan{selector}"
            accept = METADATA if metadata else "application/json"
            handed = Handed(api, resource, query, metadata)
            async with Watching(api, f"{resource.path('default')}?{query}", accept=accept) as sent:
                taking = asyncio.create_task(handed.take())
                await api.settle()
                for name in "ab":
                    await api.client.create(resource, body(resource, name, {"app": "x"}))
                for label in ("y", "x", "y"):
                    await api.client.patch(resource, "a", "default", {"metadata": {"labels": {"app": label}}})
                for name in "ab":
                    await api.client.delete(resource, name, "default", grace=0)
                await api.settle()
                assert len(sent.events) > 3
                assert handed.told() == sent.events
                for event in handed.events:
                    if event.type != "BOOKMARK":
                        meta = orjson.loads(event.body)["metadata"]
                        assert event.key == f"default/{meta['name']}"
                        assert str(event.revision) == meta["resourceVersion"]
                taking.cancel()
                await asyncio.wait({taking})

    asyncio.run(main())


def test_parts_are_those_of_the_body() -> None:
    async def main() -> None:
        async with ApiServer() as api:
            handed = Handed(api, PODS, "watch=1", metadata=False)
            taking = asyncio.create_task(handed.take())
            await api.settle()
            await api.client.create(PODS, body(PODS, "a", {"app": "x"}))
            await api.settle()
            [event] = handed.events
            parts = event.parts()
            assert parts is not None
            metadata, rest = map(orjson.loads, parts)
            metadata["resourceVersion"] = str(event.revision)
            assert {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, **rest} == orjson.loads(event.body)
            assert event.parts() is None, "joined once, it is whole"
            taking.cancel()
            await asyncio.wait({taking})

    asyncio.run(main())


def test_who_may_not_watch_is_handed_nothing() -> None:
    async def main() -> None:
        async with ApiServer() as api:
            secure(api.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
            client = api.client_for(User("somebody", groups=("system:authenticated",)))
            with pytest.raises(ApiError) as refused:
                async for _ in client.watch_batches(PODS, "default"):
                    pytest.fail("an event came")
            assert refused.value.code == 403

    asyncio.run(main())


def test_a_reader_that_takes_nothing_is_cut_off_as_over_the_network() -> None:
    """Events that nobody takes hold what the store may forget: the queue of each watch is bounded by their bytes."""

    async def main() -> None:
        async with ApiServer() as api:
            api.api.feed.slow.each = 200_000
            batches = api.client.watch_batches(CONFIGMAPS, "default")
            first = asyncio.create_task(anext(batches))
            await api.settle()
            big = {"metadata": {"name": "a", "namespace": "default"}, "data": {"a": "x" * 50_000}}
            await api.client.create(CONFIGMAPS, big)
            assert len(await first) == 1
            for n in range(8):  # and nobody asks for more
                await api.client.patch(CONFIGMAPS, "a", "default", {"data": {"n": str(n)}})
            with pytest.raises(ApiError) as cut:
                async for _ in batches:
                    pass
            assert cut.value.code == 410

    asyncio.run(main())
