"""The work queue: no key is lost, none is worked on twice at once, delays are kept."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.backoff import Backoff
from jota.client.workqueue import QueueClosed, WorkQueue

from .scripted import InstantClock


def test_a_key_added_twice_comes_out_once() -> None:
    async def story() -> None:
        queue = WorkQueue(InstantClock())
        queue.add("a")
        queue.add("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0
        assert queue.idle()

    asyncio.run(story())


def test_a_key_in_work_comes_out_again_only_after_done() -> None:
    async def story() -> None:
        queue = WorkQueue(InstantClock())
        queue.add("a")
        await queue.get()
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"

    asyncio.run(story())


def test_what_is_added_while_a_key_rests_comes_out_once_and_holds_up_nobody() -> None:
    async def story() -> None:
        clock = InstantClock()
        queue = WorkQueue(clock)
        queue.add("a")
        queue.done(await queue.get(), rest=5)
        begin = clock.monotonic()
        for _ in range(3):
            queue.add("a")
        assert len(queue) == 0
        assert not queue.idle()
        queue.add("b")
        assert await queue.get() == "b", "others need not wait for it"
        assert clock.monotonic() == begin
        queue.done("b")
        assert await queue.get() == "a"
        assert 4.9 < clock.monotonic() - begin < 5.1
        queue.done("a", rest=1)
        queue.add_after("c", 3)
        assert await queue.get() == "c", "nothing was added: the rest goes by"
        queue.done("c")
        assert queue.idle()

    asyncio.run(story())


def test_delays_and_backoff_in_virtual_time() -> None:
    async def story() -> None:
        clock = InstantClock()
        queue = WorkQueue(clock, Backoff(1.0, 10.0))
        start = clock.monotonic()
        queue.add_after("late", 100)
        queue.add_after("late", 50)
        assert await queue.get() == "late"
        assert clock.monotonic() - start >= 50
        assert clock.monotonic() - start < 100
        queue.done("late")
        for _ in range(3):
            queue.add_backoff("bad")
            await queue.get()
            queue.done("bad")
        assert queue.failures("bad") == 3
        queue.forget("bad")
        assert queue.failures("bad") == 0

    asyncio.run(story())


def test_close_frees_the_waiting_workers() -> None:
    async def story() -> None:
        queue = WorkQueue(InstantClock())
        waiting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.close()
        with pytest.raises(QueueClosed):
            await waiting

    asyncio.run(story())


def test_a_cancelled_worker_hands_its_wake_up_on() -> None:
    async def story() -> None:
        queue = WorkQueue(InstantClock())
        first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        async with asyncio.timeout(1):
            assert await second == "a"

    asyncio.run(story())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.0, 1.0, 5.0])), max_size=40), st.integers())
def test_no_key_is_lost_or_worked_on_twice(adds: list[tuple[str, float]], seed: int) -> None:
    async def story() -> None:
        queue, random = WorkQueue(InstantClock()), Random(seed)
        wanted: dict[str, int] = {}
        seen: dict[str, int] = {}
        busy: set[str] = set()

        async def worker() -> None:
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                seen[key] = wanted.get(key, 0)
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(0)
                busy.discard(key)
                queue.done(key)

        workers = [asyncio.ensure_future(worker()) for _ in range(3)]
        for key, delay in adds:
            wanted[key] = wanted.get(key, 0) + 1
            queue.add_after(key, delay)
            if random.random() < 0.5:
                await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        for task in workers:
            task.cancel()
        assert seen == wanted

    asyncio.run(story())
