"""Those who delete by the thousand: the garbage collector and the pod collector, over an API that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.transport import Reply
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.podgc import AT_ONCE, PodGarbageCollector
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, PODS
from jota.testing.cluster import ApiServer

from .stories import exists, names, running

TAKES = 0.01
"""Seconds of virtual time for each write."""


class Slow:
    def __init__(self) -> None:
        self.api: ApiServer | None = None
        self.busy = self.most = 0
        self.refuse = ""
        """The end of a path whose DELETE is refused."""

    def over(self, client: Client) -> Client:
        real = client.transport.request

        async def request(
            method: str,
            path: str,
            query: str = "",
            body: bytes = b"",
            headers: Mapping[str, str] | None = None,
            timeout: float = 30.0,
            times: int = 1,
        ) -> Reply:
            if method == "GET" or self.api is None:
                return await real(method, path, query, body, headers, timeout)
            self.busy += 1
            self.most = max(self.most, self.busy)
            await self.api.clock.sleep(TAKES)
            self.busy -= 1
            if self.refuse and method == "DELETE" and path.endswith(self.refuse):
                raise ApiError(403, "Forbidden", "kept")
            return await real(method, path, query, body, headers, timeout)

        client.transport.request = request  # type: ignore[method-assign]
        return client


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_the_dependents_of_one_owner_go_together(policy: str) -> None:
    """640 of them at 10 ms each and 32 at a time: a fifth of a second, and no pause after each."""
    slow = Slow()

    async def story() -> None:
        async with running(GarbageCollector, client=slow.over) as api:
            slow.api = api
            setup = api.client_for(COMPONENT)
            owner = await setup.create(CONFIGMAPS, {"metadata": {"name": "owner", "namespace": "ns"}})
            reference: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
            reference |= {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
            for n in range(640):
                meta = {"name": f"c{n:03}", "namespace": "ns", "ownerReferences": [reference]}
                await setup.create(CONFIGMAPS, {"metadata": meta})
            await api.settle()
            await setup.delete(CONFIGMAPS, "owner", "ns", propagation=policy)
            if policy == "Orphan":
                await api.advance(640 * TAKES + 1)
                left = (await setup.list(CONFIGMAPS, "ns"))["items"]
                assert len(left) == 640
                assert not any("ownerReferences" in c["metadata"] for c in left)
                return
            await api.advance(1)
            assert await names(api, CONFIGMAPS) == []
            assert slow.most == GarbageCollector.workers

    asyncio.run(story())


def test_who_has_all_owners_is_not_queued_and_who_loses_one_is_looked_at() -> None:
    looked: list[str] = []

    class Watched(GarbageCollector):
        async def reconcile(self, key: str) -> float | None:
            node = self.graph.get(key)
            looked.append(node.meta.name if node is not None else key)
            return await super().reconcile(key)

    async def story() -> None:
        async with running(Watched) as api:
            references: list[dict[str, Any]] = []
            for name in ("one", "two"):
                made = await api.client.create(CONFIGMAPS, {"metadata": {"name": name, "namespace": "ns"}})
                reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]}
                references.append(reference)
            await api.settle()
            looked.clear()

            async def depend(name: str, *owners: dict[str, Any]) -> None:
                meta = {"name": name, "namespace": "ns", "ownerReferences": list(owners)}
                await api.client.create(CONFIGMAPS, {"metadata": meta})
                await api.settle()

            await depend("content", *references)
            assert looked == []
            await depend("misled", {**references[0], "name": "another"})
            assert looked == ["misled"], "a reference that points elsewhere keeps nobody"
            assert not await exists(api, CONFIGMAPS, "misled", "ns")
            await api.client.delete(CONFIGMAPS, "one", "ns")
            await api.advance(1)
            left = await api.client.get(CONFIGMAPS, "content", "ns")
            assert [r["name"] for r in left["metadata"]["ownerReferences"]] == ["two"]
            await api.client.delete(CONFIGMAPS, "two", "ns")
            await api.advance(1)
            assert not await exists(api, CONFIGMAPS, "content", "ns")

    asyncio.run(story())


def test_pods_of_a_vanished_node_go_some_at_a_time_and_one_that_is_kept_keeps_no_other() -> None:
    slow = Slow()

    async def story() -> None:
        async with running(PodGarbageCollector, client=slow.over) as api:
            slow.api = api
            setup = api.client_for(COMPONENT)
            spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "gone"}
            for n in range(100):
                await setup.create(PODS, {"metadata": {"name": f"p{n:03}"}, "spec": spec}, "ns")
            slow.refuse = "/p000"
            await api.advance(61)
            assert await names(api, PODS) == ["p000"]
            assert slow.most == AT_ONCE
            slow.refuse = ""
            await api.advance(60)
            assert not await exists(api, PODS, "p000", "ns")
            assert await names(api, PODS) == []

    asyncio.run(story())
