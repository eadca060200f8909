"""Turns of the scheduler's writes: first come, first served, none lost."""

from __future__ import annotations

import asyncio

from jota.scheduler.places import Places


def test_who_must_not_wait_takes_more_than_there_are_and_all_others_wait_for_it() -> None:
    async def story() -> None:
        places = Places(2)
        for _ in range(4):
            places.take()
        assert places.free == -2
        done: list[str] = []

        async def writer(name: str) -> None:
            await places.acquire()
            done.append(name)

        async def decider() -> None:
            await places.room()
            done.append("decider")

        tasks = [asyncio.ensure_future(t) for t in (writer("first"), decider(), writer("second"))]
        await asyncio.sleep(0)
        for expected in ([], [], ["first"], ["first", "decider", "second"]):
            places.release()
            for _ in range(3):
                await asyncio.sleep(0)
            assert done == expected
        assert all(t.done() for t in tasks)
        assert places.free == 0

    asyncio.run(story())


def test_a_place_that_was_given_to_somebody_who_is_cancelled_goes_to_the_next() -> None:
    async def story() -> None:
        places = Places(1)
        await places.acquire()
        waiting = [asyncio.ensure_future(places.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        places.release()  # the second has it, and does not know yet
        waiting[1].cancel()
        await asyncio.wait(waiting[:2])
        await asyncio.wait_for(waiting[2], 5)
        assert waiting[0].cancelled()
        assert waiting[1].cancelled()
        assert places.free == 0

    asyncio.run(story())
