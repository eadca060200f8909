"""One object that a cache cannot hold harms nobody: it stays as it was last readable, is named, and is taken again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.inprocess import InProcess
from jota.client.podparts import ObjectMeta
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer

from .scripted import Faulty, InstantClock, Scripted
from .test_informer import settle


class Numbers(msgspec.Struct):
    """A ConfigMap of numbers: others can be made, but not read."""

    metadata: ObjectMeta
    data: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9]*$")]]


class Told:
    """What a handler is told, as (old value, new value), with the names."""

    def __init__(self, informer: Informer[Numbers]) -> None:
        self.changes: list[tuple[str, str | None, str | None]] = []
        informer.add_handler(self)

    def __call__(self, old: Numbers | None, new: Numbers | None) -> None:
        seen = new or old
        assert seen is not None
        self.changes.append((seen.metadata.name, old and old.data["v"], new and new.data["v"]))


def with_informer(watchlist: bool = True) -> Callable[[Callable[..., Awaitable[None]]], None]:
    def run(story: Callable[..., Awaitable[None]]) -> None:
        async def main() -> None:
            server = Scripted(watchlist)
            client = Client(InProcess(server.handle, "test"))
            informer = Informer(client, CONFIGMAPS, type=Numbers, clock=InstantClock(), random=Random(1))
            told = Told(informer)
            async with asyncio.timeout(5):
                await story(server, informer, told)

        asyncio.run(main())

    return run


async def started(informer: Informer[Any]) -> asyncio.Task[None]:
    task = asyncio.create_task(informer.run())
    await informer.synced()
    return task


def values(informer: Informer[Numbers]) -> dict[str, str]:
    return {key.rpartition("/")[2]: obj.data["v"] for key, obj in informer.items()}


def test_an_object_that_becomes_unreadable_stays_as_it_was_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @with_informer()
    async def story(server: Scripted, informer: Informer[Numbers], told: Told) -> None:
        server.put("a", "1")
        server.put("b", "1")
        task = await started(informer)
        server.put("a", "bad")
        server.put("b", "2")
        server.put("a", "worse")
        await informer.caught_up(server.revision)
        assert values(informer) == {"a": "1", "b": "2"}
        assert informer.relists == 1, "nothing was read anew for it"
        server.put("a", "3")
        await informer.caught_up(server.revision)
        assert values(informer) == {"a": "3", "b": "2"}
        assert not informer.unreadable
        assert told.changes[2:] == [("b", "1", "2"), ("a", "1", "3")]
        task.cancel()

    said = [r.getMessage() for r in caplog.records if "ns/a" in r.getMessage()]
    assert len(said) == 2, "once for each cause, and when it is over"
    assert "configmaps ns/a" in said[0]
    assert "`$.data[...]`" in said[0]
    assert "kept as at resourceVersion 2" in said[0]
    assert "can be read again" in said[1]


@pytest.mark.parametrize("watchlist", [True, False])
def test_one_that_never_was_readable_is_left_out_until_it_is(watchlist: bool, caplog: pytest.LogCaptureFixture) -> None:
    @with_informer(watchlist)
    async def story(server: Scripted, informer: Informer[Numbers], told: Told) -> None:
        server.put("a", "bad")
        server.put("b", "1")
        task = await started(informer)
        assert values(informer) == {"b": "1"}
        assert [(one.key, one.field) for one in informer.unreadable.values()] == [("ns/a", "$.data[...]")]
        server.put("a", "7")
        await informer.caught_up(server.revision)
        assert values(informer) == {"a": "7", "b": "1"}
        assert told.changes == [("b", None, "1"), ("a", None, "7")]
        task.cancel()

    assert "left out" in caplog.text


def test_one_that_goes_while_unreadable_is_told_as_it_was() -> None:
    @with_informer()
    async def story(server: Scripted, informer: Informer[Numbers], told: Told) -> None:
        server.put("a", "1")
        server.put("b", "bad")
        task = await started(informer)
        server.put("a", "bad")
        server.delete("a")
        server.delete("b")
        await informer.caught_up(server.revision)
        assert told.changes == [("a", None, "1"), ("a", "1", None)]
        assert (values(informer), informer.unreadable) == ({}, {})
        task.cancel()


@pytest.mark.parametrize("watchlist", [True, False])
def test_a_new_list_keeps_it_unless_it_is_another(watchlist: bool) -> None:
    @with_informer(watchlist)
    async def story(server: Scripted, informer: Informer[Numbers], told: Told) -> None:
        for name in "abc":
            server.put(name, "1")
        task = await started(informer)
        task.cancel()
        server.put("a", "bad")
        server.delete("b")
        server.put("b", "bad")  # a namesake: what we hold of b is gone
        server.delete("c")
        server.compact()
        task = asyncio.create_task(informer.run())
        await informer.caught_up(server.revision)
        assert informer.relists == 2
        assert values(informer) == {"a": "1"}
        assert sorted(informer.unreadable) == ["ns/a", "ns/b"]
        server.compact()
        server.delete("a")
        server.put("b", "5")
        await informer.caught_up(server.revision)
        assert values(informer) == {"b": "5"}
        assert not informer.unreadable
        task.cancel()


OPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "spoil", "delete", "compact", "wait"]), st.sampled_from("abc")),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(OPS, st.integers(0, 2**32), st.booleans())
def test_under_faults_what_can_be_read_is_exact_and_what_cannot_is_no_older_namesake(
    ops: list[tuple[str, str]], seed: int, watchlist: bool
) -> None:
    async def story() -> None:
        server = Scripted(watchlist)
        transport = Faulty(server, Random(seed))
        informer = Informer(Client(transport), CONFIGMAPS, type=Numbers, clock=InstantClock(), random=Random(1))
        told = Told(informer)
        run = asyncio.create_task(informer.run())
        for n, (op, name) in enumerate(ops):
            if op == "put":
                server.put(name, str(n))
            elif op == "spoil":
                server.put(name, f"not {n}")
            elif op == "delete":
                server.delete(name)
            elif op == "compact":
                server.compact()
            else:
                await settle()
        transport.calm()
        server.put("last", "1")
        async with asyncio.timeout(5):
            await informer.caught_up(server.revision)
        known = dict(informer.items())
        for name, obj in server.objects.items():
            held = known.pop(f"ns/{name}", None)
            if obj["data"]["v"].isdigit():
                assert held is not None
                assert held.data == obj["data"]
                assert f"ns/{name}" not in informer.unreadable
            else:
                assert held is None or held.metadata.uid == obj["metadata"]["uid"]
                assert f"ns/{name}" in informer.unreadable
        assert not known, "held, but gone from the server"
        replayed: dict[str, str] = {}
        for name, old, new in told.changes:
            assert replayed.get(name) == old
            if new is None:
                del replayed[name]
            else:
                replayed[name] = new
        assert replayed == values(informer)
        run.cancel()
        await asyncio.wait({run})

    asyncio.run(story())


def test_within_the_server_process_it_is_the_same_and_metrics_name_it() -> None:
    """Against the real API server, whose events come unencoded; both the selected and the plain watch."""

    async def main() -> None:
        async with ApiServer() as api:
            informers = [
                Informer(api.client, CONFIGMAPS, type=Numbers, labels=labels, clock=api.clock, random=Random(1))
                for labels in ("", "app=x")
            ]

            def body(value: str) -> dict[str, Any]:
                return {"metadata": {"name": "a", "namespace": "default", "labels": {"app": "x"}}, "data": {"v": value}}

            await api.client.create(CONFIGMAPS, body("1"))
            tasks = [asyncio.create_task(i.run()) for i in informers]
            await api.until(lambda: all(i.has_synced for i in informers))
            await api.client.update(CONFIGMAPS, body("bad"))
            await api.client.create(CONFIGMAPS, {**body("2"), "metadata": {**body("2")["metadata"], "name": "b"}})
            await api.until(lambda: all("default/b" in i.keys() for i in informers))  # noqa: SIM118
            assert all(values(i)["a"] == "1" for i in informers)
            assert api.client.caches.text()[2:] == [
                'jota_informer_unreadable{group="",resource="configmaps",object="default/a",field="$.data[...]"} 1'
            ]
            done = await api.client.delete(CONFIGMAPS, "a", "default")
            assert done["status"] == "Success"
            await api.until(lambda: not any("default/a" in i.keys() for i in informers))  # noqa: SIM118
            assert api.client.caches.text()[2:] == []
            for task in tasks:
                task.cancel()

    asyncio.run(main())
