"""A crowd of watchers rests after each delivery: what happens meanwhile arrives together, in order, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jota.aio.clock import SystemClock
from jota.api.feed import CROWD, Channel, Feed
from jota.store.drivers.memory import MemoryStore
from jota.store.protocol import Entry

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
