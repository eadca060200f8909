"""The end of a large namespace costs what its objects cost, once: counted, not timed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from jota.client.client import Client
from jota.client.transport import Reply
from jota.controllers import namespace
from jota.controllers.namespace import NamespaceController
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS, REPLICASETS
from jota.testing.cluster import ApiServer, Watching

from .stories import Kubelet, exists, running, web

Object = dict[str, Any]
POD_PATH = "/api/v1/namespaces/ns/pods"


class Counting:
    """A transport that counts (method, collection, status) and can lose the answer of one request."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str, int]] = Counter()
        self.lose = -1
        """The deletion of a collection (counted from 0) whose answer never arrives."""

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
            reply = await real(method, path, query, body, headers, timeout)
            what = (method, path.rpartition("/")[2], reply.status)
            if what[:2] == ("DELETE", "pods") and self.seen[what] == self.lose:
                self.lose = -1
                raise ConnectionError("the answer is lost")
            self.seen[what] += 1
            return reply

        client.transport.request = request  # type: ignore[method-assign]
        return client


async def bound_pods(api: ApiServer, number: int, **metadata: Any) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    for n in range(number):
        await api.client.create(PODS, {"metadata": {"name": f"p{n:04}", **metadata}, "spec": spec}, "ns")


async def end_all(api: ApiServer) -> None:
    """What kubelets do, once they have stopped everything."""
    for pod in (await api.client.list(PODS, "ns"))["items"]:
        assert "deletionTimestamp" in pod["metadata"], "a kubelet is told to stop a pod by its mark"
        await api.client.delete(PODS, pod["metadata"]["name"], "ns", grace=0, uid=pod["metadata"]["uid"])


async def told(api: ApiServer, condition: str) -> str:
    conditions = (await api.client.get(NAMESPACES, "ns"))["status"].get("conditions", ())
    return next((c["message"] for c in conditions if c["type"] == condition and c["status"] == "True"), "")


@pytest.mark.parametrize("lose", [-1, 1], ids=["quiet", "an answer is lost"])
def test_each_pod_is_marked_once_and_seen_to_be(lose: int) -> None:
    async def story() -> None:
        counting = Counting()
        counting.lose = lose
        async with running(NamespaceController, client=counting.over) as api:
            await bound_pods(api, 1200)
            async with Watching(api, f"{POD_PATH}?watch=1") as seen:
                begun = len(seen.events)
                await api.client.delete(NAMESPACES, "ns")
                await api.advance(30)
                assert (await told(api, "NamespaceContentRemaining")).endswith("pods. has 1200 resource instances")
                assert counting.seen["DELETE", "pods", 200] == (3 if lose < 0 else 4)
                await api.advance(300)
                assert counting.seen["DELETE", "pods", 200] == (3 if lose < 0 else 4), "nothing is asked for twice"
                await end_all(api)
                await api.advance(10)
                assert not await exists(api, NAMESPACES, "ns")
                kinds = Counter(t for t, _ in seen.events[begun:])
                assert kinds == {"MODIFIED": 1200, "DELETED": 1200}
                marks = [o["metadata"]["deletionGracePeriodSeconds"] for t, o in seen.events[begun:] if t == "MODIFIED"]
                assert marks == [30] * 1200

    asyncio.run(story())


def test_looks_become_rarer_with_the_number_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look reads all that is left: of many it takes its time, of two it does not."""
    monkeypatch.setattr(namespace, "PER_OBJECT", 0.1)

    async def looks(pods: int) -> int:
        counting = Counting()
        async with running(NamespaceController, client=counting.over) as api:
            await bound_pods(api, pods)
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(60)
            return counting.seen["GET", "pods", 200]

    async def story() -> None:
        assert 25 < await looks(2) < 45
        assert await looks(120) < 12

    asyncio.run(story())


def test_what_holds_an_object_for_its_owners_is_taken_off_in_a_second_deletion() -> None:
    """An object in foreground deletion is asked for again: a namespace's end is a background deletion."""

    async def story() -> None:
        async with running(NamespaceController) as api:
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "ns"}})
            await api.client.delete(CONFIGMAPS, "a", "ns", propagation="Foreground")
            assert await exists(api, CONFIGMAPS, "a", "ns")
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(10)
            assert not await exists(api, NAMESPACES, "ns")

    asyncio.run(story())


def test_finalizers_of_many_are_counted_and_hold_the_namespace() -> None:
    async def story() -> None:
        async with running(NamespaceController) as api:
            for n in range(600):
                meta = {"name": f"c{n}", "namespace": "ns", "finalizers": ["example.com/hold"]}
                await api.client.create(CONFIGMAPS, {"metadata": meta})
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(5)
            assert await told(api, "NamespaceContentRemaining") == (
                "Some resources are remaining: configmaps. has 600 resource instances"
            )
            assert "example.com/hold in 600 resource instances" in await told(api, "NamespaceFinalizersRemaining")
            for n in range(600):
                await api.client.patch(CONFIGMAPS, f"c{n}", "ns", {"metadata": {"finalizers": None}})
            await api.advance(10)
            assert not await exists(api, NAMESPACES, "ns")

    asyncio.run(story())


def test_a_set_in_a_closing_namespace_asks_for_new_pods_once() -> None:
    """Its pods vanish by the thousand while it stays: it must neither replace them nor try without a pause."""

    async def story() -> None:
        counting = Counting()
        async with running(client=counting.over) as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICASETS, web(520))
            await kubelet.settle()
            made = counting.seen["POST", "pods", 201]
            assert made == 520
            await api.client.delete(NAMESPACES, "ns")
            for _ in range(20):
                await api.advance(0.5)
            await end_all(api)
            await api.advance(10)
            assert not await exists(api, NAMESPACES, "ns")
            assert counting.seen["POST", "pods", 201] == made
            assert counting.seen["POST", "pods", 403] == 1

    asyncio.run(story())


def test_a_namesake_of_such_a_set_has_its_pods() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICASETS, web(3))
            await kubelet.settle()
            await api.client.delete(NAMESPACES, "ns")
            await kubelet.settle()
            assert not await exists(api, NAMESPACES, "ns")
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            await api.client.create(REPLICASETS, web(2))
            await kubelet.settle()
            found = await api.client.get(REPLICASETS, "web", "ns")
            assert found["status"]["readyReplicas"] == 2

    asyncio.run(story())


def test_an_end_that_is_refused_says_so() -> None:
    """A collection that may not be deleted is named in the conditions, with the server's own words."""

    async def story() -> None:
        refusing = Counting()

        def over(client: Client) -> Client:
            real = refusing.over(client).transport.request

            async def request(method: str, path: str, *rest: Any, **named: Any) -> Reply:
                if method == "DELETE" and path.endswith("/pods"):
                    problem = ApiError(403, "Forbidden", "pods are kept")
                    return Reply(403, {}, orjson.dumps(problem.status()))
                return await real(method, path, *rest, **named)

            client.transport.request = request  # type: ignore[method-assign, assignment]
            return client

        async with running(NamespaceController, client=over) as api:
            await bound_pods(api, 2)
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(5)
            assert "pods: pods are kept" in await told(api, "NamespaceDeletionContentFailure")

    asyncio.run(story())
