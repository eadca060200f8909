"""The informer is exact: whatever breaks, its cache ends equal to the server and its handlers told a consistent story."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.informers import Informers
from jota.client.inprocess import InProcess
from jota.meta.resource import CONFIGMAPS

from .scripted import Faulty, InstantClock, Scripted


class Story:
    """A handler that replays what it is told and objects to what cannot follow."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.told: list[tuple[str | None, str | None]] = []

    def __call__(self, old: Any, new: Any) -> None:
        name = (old or new)["metadata"]["name"]
        held = self.state.get(name)
        if old is None:
            assert held is None, f"{name} was added twice"
        else:
            assert held is not None, f"{name} changed before it was added"
            assert held["metadata"]["uid"] == old["metadata"]["uid"]
        if new is None:
            del self.state[name]
        else:
            if old is not None:
                assert old["metadata"]["uid"] == new["metadata"]["uid"]
            self.state[name] = new
        self.told.append((old and old["data"]["v"], new and new["data"]["v"]))


class Meta(msgspec.Struct):
    name: str


class Map(msgspec.Struct):
    metadata: Meta
    data: dict[str, str]


async def settle(rounds: int = 60) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


def informer_on(server: Scripted, transport: Any = None, **options: Any) -> Informer[Any]:
    client = Client(transport or InProcess(server.handle, "test"))
    return Informer(client, CONFIGMAPS, clock=InstantClock(), random=Random(1), **options)


@pytest.mark.parametrize("watchlist", [True, False])
def test_follows_adds_changes_and_deletes(watchlist: bool) -> None:
    async def story() -> None:
        server = Scripted(watchlist)
        server.put("a", "1")
        informer = informer_on(server)
        handler = Story()
        informer.add_handler(handler)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(informer.run())
            await informer.synced()
            assert informer.revision == server.revision
            server.put("a", "2")
            server.put("b", "1")
            server.delete("a")
            await informer.caught_up(server.revision)
            task.cancel()
        assert handler.told == [(None, "1"), ("1", "2"), (None, "1"), ("2", None)]
        assert list(informer.keys()) == ["ns/b"]

    asyncio.run(story())


def test_a_delete_that_was_missed_is_told_after_a_new_list() -> None:
    async def story() -> None:
        server = Scripted()
        for name in "abc":
            server.put(name, "1")
        informer, handler = informer_on(server), Story()
        informer.add_handler(handler)
        run = asyncio.ensure_future(informer.run())
        await informer.synced()
        run.cancel()
        server.delete("a")
        server.delete("b")
        server.put("b", "new")  # a namesake with another uid
        server.compact()
        again = asyncio.ensure_future(informer.run())
        await informer.caught_up(server.revision)
        again.cancel()
        assert sorted(handler.told[3:], key=str) == [("1", None), ("1", None), (None, "new")]
        assert set(handler.state) == {"b", "c"}

    asyncio.run(story())


def test_indexes_follow_the_objects_and_structs_are_decoded() -> None:
    async def story() -> None:
        server = Scripted()
        server.put("a", "red")
        server.put("b", "red")
        informer = informer_on(server, type=Map, indexes={"v": lambda m: [m.data["v"]]})
        run = asyncio.ensure_future(informer.run())
        await informer.synced()
        assert [m.metadata.name for m in informer.by_index("v", "red")] == ["a", "b"]
        server.put("a", "blue")
        server.delete("b")
        await informer.caught_up(server.revision)
        assert [m.metadata.name for m in informer.by_index("v", "blue")] == ["a"]
        assert list(informer.index_values("v")) == ["blue"]
        run.cancel()

    asyncio.run(story())


def test_a_late_handler_hears_what_is_cached_and_a_broken_one_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        server = Scripted()
        server.put("a", "1")
        informer, handler = informer_on(server), Story()
        informer.add_handler(lambda old, new: 1 / 0)
        run = asyncio.ensure_future(informer.run())
        await informer.synced()
        informer.add_handler(handler)
        assert handler.told == [(None, "1")]
        run.cancel()

    asyncio.run(story())
    assert "a handler failed" in caplog.text


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd")),
        st.tuples(st.just("delete"), st.sampled_from("abcd")),
        st.tuples(st.just("compact"), st.just("")),
        st.tuples(st.just("wait"), st.just("")),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(OPS, st.integers(0, 2**32), st.booleans())
def test_exact_under_faults(ops: list[tuple[str, str]], seed: int, watchlist: bool) -> None:
    async def story() -> None:
        server = Scripted(watchlist)
        transport = Faulty(server, Random(seed))
        informer, handler = informer_on(server, transport), Story()
        informer.add_index("v", lambda o: [o["data"]["v"]])
        informer.add_handler(handler)
        run = asyncio.ensure_future(informer.run())
        for n, (op, name) in enumerate(ops):
            if op == "put":
                server.put(name, str(n))
            elif op == "delete":
                server.delete(name)
            elif op == "compact":
                server.compact()
            else:
                await settle()
        transport.calm()
        server.put("last", "x")
        async with asyncio.timeout(5):
            await informer.caught_up(server.revision)
        expected = {f"ns/{name}": obj for name, obj in server.objects.items()}
        assert dict(informer.items()) == expected
        assert {f"ns/{name}": obj for name, obj in handler.state.items()} == expected
        assert set(informer.index_values("v")) == {o["data"]["v"] for o in expected.values()}
        run.cancel()
        await asyncio.wait({run})

    asyncio.run(story())


def test_shared_informers_share_one_watch_and_start_late_ones() -> None:
    async def story() -> None:
        server = Scripted()
        server.put("a", "1")
        informers = Informers(Client(InProcess(server.handle, "test")), InstantClock(), Random(1))
        run = asyncio.ensure_future(informers.run())
        await settle()
        first, second = informers.of(CONFIGMAPS), informers.of(CONFIGMAPS)
        await informers.synced()
        assert first is second
        assert sum("watch=1" in r.query for r in server.requests) == 1
        run.cancel()

    asyncio.run(story())
