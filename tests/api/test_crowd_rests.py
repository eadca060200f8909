"""A crowd of watchers rests after each delivery: what happens meanwhile arrives together, in order, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jota.aio.clock import SystemClock
from jota.api.feed import CROWD, Channel, Feed
from jota.meta.resource import CONFIGMAPS
from jota.store.drivers.memory import MemoryStore
from jota.store.protocol import Entry
from jota.testing.cluster import ApiServer, Watching

PREFIX = "/core/configmaps/"


class Costly(SystemClock):
    """A clock that only deliveries move."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Told:
    """A watcher that remembers in which company each event came; each delivery takes it a millisecond."""

    def __init__(self, clock: Costly, trigger: tuple[str, str] | None = None, inside: bool = False) -> None:
        self._clock, self.trigger, self.inside = clock, trigger, inside
        self.batches: list[list[str]] = []
        self.ended = False
        self.second = asyncio.Event()
        """It was told twice."""

    def deliver(self, entries: list[Entry]) -> None:
        self._clock.seconds += 0.001
        self.batches.append([entry.key.removeprefix(PREFIX) for entry in entries])
        if len(self.batches) > 1:
            self.second.set()

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch]

    def cut(self) -> None:
        self.batches.append(["cut"])

    def end(self) -> None:
        self.ended = True


class Stage:
    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), Costly()
        self.feed = Feed(self.store, self.clock)
        self.channel: Channel = self.feed.channel(PREFIX, lambda entry, field: "default")
        self.own = Told(self.clock, inside=True)
        self.channel.add(self.own)

    def crowd(self, count: int, trigger: tuple[str, str] | None = None) -> list[Told]:
        made = [Told(self.clock, trigger) for _ in range(count)]
        for one in made:
            self.feed.join(self.channel, one, PREFIX, self.store.revision)
        return made

    async def put(self, *names: str) -> None:
        for name in names:
            await self.store.put(PREFIX + name, b"{}")
            self.feed.pump()


def on_stage(story: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    async def play() -> None:
        stage = Stage()
        await story(stage)
        stage.feed.close()

    def test() -> None:
        asyncio.run(play())

    test.__name__ = story.__name__  # type: ignore[attr-defined]
    return test


@pytest.mark.parametrize("trigger", [None, ("metadata.namespace", "default")])
def test_what_happens_during_the_rest_arrives_together(trigger: tuple[str, str] | None) -> None:
    @on_stage
    async def play(stage: Stage) -> None:
        crowd = stage.crowd(CROWD, trigger)
        await stage.put("a", "b", "c")
        assert {tuple(map(tuple, one.batches)) for one in crowd} == {(("a",),)}
        assert stage.own.batches == [["a"], ["b"], ["c"]], "the server's own never wait"
        await asyncio.wait_for(crowd[-1].second.wait(), 10)
        assert {tuple(map(tuple, one.batches)) for one in crowd} == {(("a",), ("b", "c"))}

    play()


@on_stage
async def test_a_few_watchers_never_rest(stage: Stage) -> None:
    few = stage.crowd(CROWD - 1)
    await stage.put("a", "b")
    assert all(one.batches == [["a"], ["b"]] for one in few)
    assert stage.channel.rest is None


@on_stage
async def test_who_joins_during_the_rest_sees_each_event_once(stage: Stage) -> None:
    first = stage.store.revision
    crowd = stage.crowd(CROWD)
    await stage.put("a", "b")
    late = Told(stage.clock)
    stage.feed.join(stage.channel, late, PREFIX, first)
    await stage.put("c")
    stage.feed.settle(stage.channel)
    assert late.keys == ["a", "b", "c"]
    assert all(one.keys == ["a", "b", "c"] for one in crowd)


@on_stage
async def test_the_end_comes_after_what_was_held(stage: Stage) -> None:
    crowd = stage.crowd(CROWD)
    await stage.put("a", "b")
    stage.feed.end_watchers()
    assert all(one.ended and one.keys == ["a", "b"] for one in crowd)


@on_stage
async def test_who_leaves_during_the_rest_is_told_no_more(stage: Stage) -> None:
    crowd = stage.crowd(CROWD + 1)
    await stage.put("a", "b")
    stage.channel.discard(crowd[0])
    stage.feed.settle(stage.channel)
    assert crowd[0].keys == ["a"]
    assert all(one.keys == ["a", "b"] for one in crowd[1:])


@on_stage
async def test_an_object_whose_field_cannot_be_read_ends_nobodys_events(stage: Stage) -> None:
    def index(entry: Entry, field: str) -> str:
        if entry.key.endswith("broken"):
            raise TypeError("not what it should be")
        return "default"

    stage.channel.index = index
    pinned, other = Told(stage.clock, ("metadata.namespace", "default")), Told(stage.clock)
    elsewhere = stage.feed.channel("/core/secrets/", index)
    stranger = Told(stage.clock)
    for channel, one in ((stage.channel, pinned), (stage.channel, other), (elsewhere, stranger)):
        channel.add(one)
    running = asyncio.ensure_future(stage.feed.run())
    await asyncio.gather(stage.store.put(PREFIX + "broken", b"{}"), stage.store.put("/core/secrets/a", b"{}"))
    await stage.store.put(PREFIX + "b", b"{}")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pinned.keys == ["b"]
    assert other.keys == ["broken", "b"]
    assert len(stranger.keys) == 1
    assert not running.done()
    running.cancel()


@on_stage
async def test_events_that_were_lost_cut_everybody_off_though_one_of_them_fails(stage: Stage) -> None:
    class Failing(Told):
        def cut(self) -> None:
            raise RuntimeError("cannot")

    looks: list[str] = []

    def fail() -> None:
        looks.append("failed")
        raise RuntimeError("cannot look")

    stage.channel.add(Failing(stage.clock))
    late = Told(stage.clock)
    stage.channel.add(late)
    stage.channel.callbacks += [fail, lambda: looks.append("looked")]
    stage.feed._watch.lose(stage.store.revision)  # type: ignore[attr-defined]
    stage.feed.pump()
    assert late.batches == [["cut"]]
    assert looks == ["failed", "looked"]
    await stage.put("a")
    assert late.keys[-1] == "a"


def test_a_watch_that_begins_during_the_rest_sees_each_event_once() -> None:
    async def play() -> None:
        async with ApiServer() as api:
            path = CONFIGMAPS.path("default")
            async with Watching(api, f"{path}?watch=1") as first:
                made = await api.client.create(CONFIGMAPS, configmap("a"), "default")
                await api.settle()
                channel = api.api.served["", "v1", "configmaps"].channel
                channel.rest = asyncio.get_running_loop().call_later(60, lambda: None)
                await api.client.create(CONFIGMAPS, configmap("b"), "default")
                await api.settle()
                assert ("ADDED", "b") not in first.names()
                version = made["metadata"]["resourceVersion"]
                async with Watching(api, f"{path}?watch=1&resourceVersion={version}") as late:
                    assert late.names() == [("ADDED", "b")]
                assert first.names()[-1] == ("ADDED", "b")

    asyncio.run(play())


def configmap(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
