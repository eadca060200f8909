"""Faults on demand, and an informer that outlives each of them without losing an object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer, story
from jota.testing.faults import Faults

PATH = "/configmaps"


async def make(api: ApiServer, name: str) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": name}}, "default")


@story
async def test_requests_are_refused_as_often_as_asked(api: ApiServer) -> None:
    faults = Faults(api.api.handle, api.clock)
    client = Client(InProcess(faults.handle, COMPONENT))
    faults.refuse(PATH, 429, times=2, reason="TooManyRequests", retry_after=3)
    for _ in range(2):
        with pytest.raises(ApiError) as refused:
            await client.list(CONFIGMAPS, "default")
        assert (refused.value.code, refused.value.retry_after) == (429, 3)
    assert (await client.list(CONFIGMAPS, "default"))["kind"] == "ConfigMapList"
    assert faults.requests == 3


@story
async def test_a_delayed_request_waits(api: ApiServer) -> None:
    faults = Faults(api.api.handle, api.clock)
    client = Client(InProcess(faults.handle, COMPONENT))
    faults.delay(PATH, 30)
    waiting = asyncio.ensure_future(client.list(CONFIGMAPS, "default"))
    await api.advance(29)
    assert not waiting.done()
    await api.advance(2)
    assert (await waiting)["items"] == []


@story
async def test_a_request_whose_answer_is_lost_was_carried_out(api: ApiServer) -> None:
    faults = Faults(api.api.handle, api.clock)
    client = Client(InProcess(faults.handle, COMPONENT))
    faults.lose(PATH, 5)
    making = asyncio.ensure_future(client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default"))
    await api.advance(4)
    assert (await api.client.get(CONFIGMAPS, "a", "default"))["metadata"]["name"] == "a"
    assert not making.done()
    await api.advance(1)
    with pytest.raises(ApiError) as lost:
        await making
    assert lost.value.code == 504


@story
async def test_healing_ends_all_faults_at_once(api: ApiServer) -> None:
    faults = Faults(api.api.handle, api.clock)
    client = Client(InProcess(faults.handle, COMPONENT))
    informer = Informer(client, CONFIGMAPS, clock=api.clock, random=Random(1))
    running = asyncio.ensure_future(informer.run())
    await api.settle()
    faults.refuse(PATH, 503, times=100)
    faults.stall(PATH)
    await make(api, "a")
    await api.settle()
    assert len(informer) == 0
    faults.heal()
    await api.settle()
    assert len(informer) == 1
    assert (await client.list(CONFIGMAPS, "default"))["items"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


FAULTS: dict[str, Callable[[Faults], int]] = {
    "end": lambda f: f.end(PATH),
    "drop": lambda f: f.drop(PATH),
    "expire": lambda f: f.expire(PATH),
    "stall": lambda f: f.stall(PATH),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_informer_outlives_a_fault_of_its_watch(name: str) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            faults = Faults(api.api.handle, api.clock)
            client = Client(InProcess(faults.handle, COMPONENT))
            seen: list[tuple[str | None, str | None]] = []
            informer: Informer[dict[str, object]] = Informer(
                client, CONFIGMAPS, namespace="default", clock=api.clock, random=Random(1)
            )
            informer.add_handler(lambda old, new: seen.append((_name(old), _name(new))))
            task = asyncio.ensure_future(informer.run())
            await make(api, "before")
            await api.advance(1)
            assert FAULTS[name](faults) == 1
            await make(api, "during")
            await api.client.delete(CONFIGMAPS, "before", "default")
            await api.settle()
            if name == "stall":
                assert set(informer.keys()) == {"default/before"}
                assert faults.resume(PATH) == 1
            await api.advance(30)
            await make(api, "after")
            await api.advance(1)
            assert set(informer.keys()) == {"default/during", "default/after"}
            assert (seen[0], seen[-1], len(seen)) == ((None, "before"), (None, "after"), 4)
            assert set(seen[1:3]) == {(None, "during"), ("before", None)}, "each once, in whatever order it was learned"
            assert informer.relists == (2 if name == "expire" else 1)
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(main())


def _name(obj: dict[str, object] | None) -> str | None:
    return None if obj is None else str(obj["metadata"]["name"])  # type: ignore[index]
