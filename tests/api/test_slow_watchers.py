"""Watchers that read slowly, or not at all: what they may cost, who is cut off first, and that others never notice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.slow import EACH, NOTICED, PATIENCE, TOGETHER, SlowWatchers
from jota.api.verbs import watch
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer, Watching, story
from jota.testing.virtual import VirtualClock

PATH = "/api/v1/namespaces/default/configmaps"
MEGABYTE = 1 << 20


async def make(api: ApiServer, *names: str) -> None:
    for name in names:
        await api.client.create(CONFIGMAPS, {"metadata": {"name": name}}, "default")
    await api.settle()


class Stuck(Watching):
    """Its `drain` waits until it is told that the peer reads again."""

    def __init__(self, api: ApiServer, path: str) -> None:
        super().__init__(api, path)
        self.reads = asyncio.Event()
        self.drains = 0

    async def drain(self) -> None:
        self.drains += 1
        await self.reads.wait()


class Ticking(VirtualClock):
    """Each look at the clock costs three milliseconds: a piece of the beginning is full after two looks."""

    ticks = 0

    def monotonic(self) -> float:
        self.ticks += 1
        return super().monotonic() + self.ticks * 0.003


@story
async def test_all_slow_watchers_together_have_a_budget_and_the_slowest_goes_first(api: ApiServer) -> None:
    async with (
        Watching(api, f"{PATH}?watch=1") as quick,
        Watching(api, f"{PATH}?watch=1") as one,
        Watching(api, f"{PATH}?watch=1") as two,
        Watching(api, f"{PATH}?watch=1") as three,
        Watching(api, f"{PATH}?watch=1") as four,
        Watching(api, f"{PATH}?watch=1") as five,
    ):
        lazy = (one, two, three, four, five)
        for size, watching in enumerate(lazy, start=11):
            watching.buffered = size * MEGABYTE  # 65 MB together
        await make(api, "burst")
        assert not any(w.ended for w in lazy), "everybody may be late for a moment"
        await api.advance(PATIENCE + 0.1)
        await make(api, "a")
        assert [w.ended for w in lazy] == [False, False, False, False, True]
        assert (five.events[-1][0], five.events[-1][1]["code"]) == ("ERROR", 410)
        assert five.events[-1][1]["reason"] == "Expired"
        two.buffered = 0  # it caught up
        three.buffered = 16 * MEGABYTE
        await make(api, "b")
        assert [w.ended for w in lazy] == [False, False, False, False, True]
        assert quick.names() == [("ADDED", n) for n in ("burst", "a", "b")]
        assert two.names() == quick.names(), "nothing is left out for who was slow and is not cut"
        text = bytes((await api.request("GET", "/metrics")).body)  # type: ignore[arg-type]
        assert b"\napiserver_terminated_watchers_total 1\n" in text
        assert b"\njota_slow_watchers 3\n" in text
    assert len(api.api.feed.slow) == api.api.feed.slow.bytes == 0


class Holder:
    def __init__(self) -> None:
        self.holds, self.gone = 0, False

    def unsent(self) -> int:
        return self.holds

    def too_slow(self) -> None:
        self.gone = True


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_the_budget_holds_whatever_happens(seed: int) -> None:
    random, slow, now = Random(seed), SlowWatchers(), 0.0
    readers = [Holder() for _ in range(30)]
    quick = [Holder() for _ in range(5)]
    since: dict[Holder, float] = {}
    for _ in range(400):
        now += random.random()
        alive = [r for r in readers if not r.gone]
        if not alive:
            break
        reader = random.choice(alive)
        reader.holds = max(0, reader.holds + random.randint(-2, 5) * MEGABYTE)
        if reader.holds > NOTICED:
            since.setdefault(reader, now)
            stays = slow.late(reader, reader.holds, now)
            assert stays == (not reader.gone)
        else:
            slow.forget(reader)
            since.pop(reader, None)
        held = [r for r in readers if r in since and not r.gone]
        assert len(slow) == len(held)
        fresh = sum(r.holds for r in held if now - since[r] < PATIENCE)
        assert slow.bytes <= TOGETHER + fresh
        assert all(r.holds <= EACH for r in held)
        assert not any(q.gone for q in quick)
    for reader in readers:
        slow.forget(reader)
    assert (slow.bytes, len(slow)) == (0, 0)


def test_the_present_state_is_sent_in_pieces_and_what_happens_meanwhile_follows_once() -> None:
    async def main() -> None:
        async with ApiServer(clock=Ticking()) as api:
            await make(api, *(f"a{n:03}" for n in range(200)))
            query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            async with Stuck(api, f"{PATH}?{query}") as seen:
                begun = api.store.revision
                first = len(seen.events)
                assert 0 < first < 200, "the whole state came in one piece"
                assert seen.drains == 1
                await make(api, "a000b", "zzz")
                await api.client.delete(CONFIGMAPS, "a199", "default")
                await api.settle()
                assert len(seen.events) == first, "a reader that takes nothing was sent more"
                seen.reads.set()
                for _ in range(100):
                    await api.settle()
                names = [(t, o["metadata"].get("name", "")) for t, o in seen.events]
                assert names[:200] == [("ADDED", f"a{n:03}") for n in range(200)]
                (kind, mark), rest = seen.events[200], names[201:]
                assert (kind, mark["metadata"]["resourceVersion"]) == ("BOOKMARK", str(begun))
                assert rest == [("ADDED", "a000b"), ("ADDED", "zzz"), ("DELETED", "a199")]
                assert seen.drains > 3

    asyncio.run(main())


def test_a_stop_ends_a_watch_in_the_middle_of_its_beginning_cleanly() -> None:
    async def main() -> None:
        async with ApiServer(clock=Ticking()) as api:
            await make(api, *(f"a{n:03}" for n in range(100)))
            async with Stuck(api, f"{PATH}?watch=1") as seen:
                assert not seen.ended
                api.api.end_watches()
                seen.reads.set()
                await api.settle()
                assert seen.ended
                assert len(seen.events) < 100
                assert all(t == "ADDED" for t, _ in seen.events)

    asyncio.run(main())


@pytest.mark.parametrize("limit", ["STALL", "LAST_WORDS"])
def test_a_reader_that_takes_nothing_at_all_is_let_go(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is reset, so that what it was sent is not kept for ever."""
    monkeypatch.setattr(watch, limit, 0.01)

    async def main() -> None:
        async with ApiServer(clock=Ticking() if limit == "STALL" else None) as api:
            await make(api, *(f"a{n:03}" for n in range(100)))
            with pytest.raises(ConnectionResetError):
                async with Stuck(api, f"{PATH}?watch=1") as seen:
                    if limit == "LAST_WORDS":
                        seen.buffered = EACH + 1
                        await make(api, "one-more")
                    assert seen.task is not None
                    await asyncio.wait({seen.task})

    asyncio.run(main())


def test_other_requests_are_served_while_a_large_state_is_sent() -> None:
    """One turn of the loop sends a piece, never all: told by what runs between two writes."""

    async def main() -> None:
        async with ApiServer(clock=Ticking()) as api:
            await make(api, *(f"a{n:03}" for n in range(200)))
            order: list[str] = []

            class Noted(Watching):
                def write(self, parts: Sequence[bytes]) -> None:
                    order.append("piece")
                    super().write(parts)

            async def others() -> None:
                while order.count("piece") < 4:
                    await api.request("GET", f"{PATH}/a001")
                    order.append("other")
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                task = group.create_task(others())
                async with Noted(api, f"{PATH}?watch=1"):
                    await task
            first = order.index("piece")
            assert "other" in order[first : first + 4], order[:20]

    asyncio.run(main())
