"""Long computations on the loop: short ones run where they are called, long ones let others have their turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from jota.aio import slices
from jota.aio.slices import FIRST, SLICE


def job(units: int, step: int = 100, said: list[str] | None = None) -> Callable[[], str]:
    """Spends so many units; tells in which thread."""

    def work() -> str:
        for _ in range(units // step):
            slices.spend(step)
        if said is not None:
            said.append(threading.current_thread().name)
        return "done"

    return work


async def turns(of: asyncio.Task[str]) -> int:
    """How many turns the loop takes until it is done."""
    count = 0
    while not of.done():
        await asyncio.sleep(0)
        count += 1
    return count


def test_a_short_one_runs_at_once_where_it_is_called() -> None:
    async def main() -> None:
        said: list[str] = []
        running = slices.run(job(FIRST - 100, said=said))
        with pytest.raises(StopIteration) as ended:
            running.send(None)  # without a turn of the loop
        assert ended.value.value == "done"
        assert said == [threading.current_thread().name]

    asyncio.run(main())


def test_a_long_one_leaves_the_loop_to_others_after_each_slice() -> None:
    async def main() -> None:
        said: list[str] = []
        task = asyncio.ensure_future(slices.run(job(10 * SLICE, said=said)))
        assert await turns(task) >= 10
        assert task.result() == "done"
        assert said == ["slices"]
        assert slices.pace.left > FIRST  # the loop's own thread is as it was

    asyncio.run(main())


def test_two_long_ones_take_turns() -> None:
    async def main() -> None:
        order: list[str] = []

        def noted(name: str) -> Callable[[], str]:
            def work() -> str:
                for _ in range(8):
                    order.append(name)
                    slices.spend(SLICE + 1)
                return name

            return work

        assert await asyncio.gather(slices.run(noted("a")), slices.run(noted("b"))) == ["a", "b"]
        # each begins on the loop, and once more in its thread
        assert "".join(order).startswith(("ab" * 6, "aab" + "ab" * 5, "aabb" + "ab" * 5)), order

    asyncio.run(main())


def test_many_short_ones_share_the_turns_of_the_loop() -> None:
    async def main() -> None:
        said: list[str] = []
        tasks = [asyncio.ensure_future(slices.run(job(FIRST // 2, said=said))) for _ in range(20)]
        passed = 0
        while not all(t.done() for t in tasks):
            await asyncio.sleep(0)
            passed += 1
        assert passed >= 7  # two or three in a turn
        assert set(said) == {threading.current_thread().name}  # none needed a thread

    asyncio.run(main())


def test_what_it_raises_comes_out() -> None:
    def bad(units: int) -> Callable[[], str]:
        def work() -> str:
            job(units)()
            raise ValueError("bad")

        return work

    async def main() -> None:
        for units in (100, 3 * SLICE):
            with pytest.raises(ValueError, match="bad"):
                await slices.run(bad(units))

    asyncio.run(main())


def test_a_handler_of_errors_does_not_keep_it_on_the_loop() -> None:
    """CEL's `||` absorbs errors: beginning again is none."""

    def work() -> str:
        for _ in range(4):
            try:
                slices.spend(SLICE)
            except Exception:
                return "taken for an error"
        return threading.current_thread().name

    assert asyncio.run(slices.run(work)) == "slices"


def test_nobody_waits_any_more_and_the_thread_is_gone() -> None:
    async def main() -> None:
        ended: list[bool] = []

        def work() -> str:
            try:
                while True:
                    slices.spend(SLICE)
            finally:
                ended.append(True)

        task = asyncio.ensure_future(slices.run(work))
        for _ in range(10):
            await asyncio.sleep(0)
        assert ended == [True]  # the first try, on the loop
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True, True]

    asyncio.run(main())
    assert not [t for t in threading.enumerate() if t.name == "slices" and not _ends(t)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_outside_of_run_nothing_pauses() -> None:
    assert job(100 * SLICE)() == "done"
