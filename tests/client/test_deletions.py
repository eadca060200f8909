"""Deletions of one turn are one request, and none of those who asked can tell."""

from __future__ import annotations

import asyncio

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.deletions import Deletions
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, SECRETS, Resource
from jota.testing.cluster import ApiServer, story
from jota.testing.faults import Faults
from jota.wire.message import Request, Response


class Behind:
    """Deletions behind faults; `asked`: what came to the server."""

    def __init__(self, api: ApiServer) -> None:
        self.asked: list[tuple[str, int]] = []
        self.faults = Faults(api.api.handle, api.clock)
        self.deletions = Deletions(Client(InProcess(self._handle, COMPONENT)))

    async def _handle(self, request: Request) -> Response:
        self.asked.append((request.path.rpartition("/")[2], request.times))
        return await self.faults.handle(request)

    async def delete(
        self, name: str, uid: str = "", version: str = "", resource: Resource = CONFIGMAPS, propagation: str = ""
    ) -> None:
        await self.deletions.delete(
            resource, name, "default", uid=uid, resource_version=version, propagation=propagation
        )


async def some(api: ApiServer, count: int, resource: Resource = CONFIGMAPS) -> list[str]:
    names = [f"c{n}" for n in range(count)]
    for name in names:
        await api.client.create(resource, {"metadata": {"name": name}}, "default")
    return names


async def left(api: ApiServer, resource: Resource = CONFIGMAPS) -> list[str]:
    return [c["metadata"]["name"] for c in (await api.client.list(resource, "default"))["items"]]


@story
async def test_those_of_one_turn_go_together_and_later_ones_alone(api: ApiServer) -> None:
    behind, names = Behind(api), await some(api, 6)
    await asyncio.gather(*(behind.delete(name) for name in names[:5]))
    await behind.delete(names[5])
    assert behind.asked == [("*", 5), ("c5", 1)]
    assert await left(api) == []


@story
async def test_what_is_not_alike_does_not_go_together(api: ApiServer) -> None:
    behind, names = Behind(api), await some(api, 4)
    await some(api, 2, SECRETS)
    await asyncio.gather(
        *(behind.delete(name) for name in names[:2]),
        *(behind.delete(name, propagation="Foreground") for name in names[2:]),
        *(behind.delete(name, resource=SECRETS) for name in names[:2]),
    )
    assert behind.asked == [("*", 2)] * 3
    assert await left(api, SECRETS) == []
    assert await left(api) == names[2:], "they wait for their dependents"


@story
async def test_each_is_told_what_concerns_it(api: ApiServer) -> None:
    behind, names = Behind(api), await some(api, 5)
    meta = (await api.client.get(CONFIGMAPS, "c1", "default"))["metadata"]
    await api.client.patch(CONFIGMAPS, "c1", "default", {"data": {"a": "b"}})
    await api.client.delete(CONFIGMAPS, "c3", "default")
    results = await asyncio.gather(
        behind.delete("c0"),
        behind.delete("c1", meta["uid"], meta["resourceVersion"]),
        behind.delete("c2", "another"),
        behind.delete("c3"),
        behind.delete("c4"),
        return_exceptions=True,
    )
    assert [r.code if isinstance(r, ApiError) else r for r in results] == [None, 409, 409, 404, None]
    assert await left(api) == names[1:3]


@pytest.mark.parametrize("code", [500, 503, 403])
def test_a_request_that_fails_is_made_up_for_one_by_one(code: int) -> None:
    @story
    async def told(api: ApiServer) -> None:
        behind, names = Behind(api), await some(api, 3)
        behind.faults.refuse("/configmaps/", code)
        await asyncio.gather(*(behind.delete(name) for name in names))
        assert len(behind.asked) == 4
        assert await left(api) == []

    told()


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("who", [0, 1])
def test_who_is_cancelled_keeps_nobody_else_waiting(turns: int, who: int) -> None:
    """The first, who sends for all, or another; before the request leaves, and while it is on its way."""

    @story
    async def told(api: ApiServer) -> None:
        behind, names = Behind(api), await some(api, 4)
        behind.faults.delay("/configmaps/*", 1.0)
        tasks = [asyncio.ensure_future(behind.delete(name)) for name in names]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[who].cancel()
        await api.advance(2)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [r is None for r in results] == [n != who for n in range(4)]
        assert set(await left(api)) <= {names[who]}
        assert behind.deletions._gathered == {}

    told()
