"""A deadline that is armed only when its coroutine waits: what it passes through, when it strikes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from jota.aio.deadline import _queues, within


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


async def forever(log: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.append("cancelled")
        raise


def test_results_and_exceptions_go_through() -> None:
    async def now() -> int:
        return 1

    async def later() -> int:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return 2

    async def broken(wait: float | None) -> None:
        if wait is not None:
            await asyncio.sleep(wait)
        raise LookupError("lost")

    async def caught() -> str:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("told"))
        try:
            await future
        except ValueError as error:
            return str(error)
        return "nothing"

    async def story() -> None:
        assert (await within(5, now()), await within(5, later()), await within(5, caught())) == (1, 2, "told")
        for wait in (None, 0, 0.001):
            with pytest.raises(LookupError):
                await within(5, broken(wait))

    play(story)


def test_who_waits_too_long_is_interrupted_and_cleans_up() -> None:
    async def story() -> None:
        log: list[str] = []
        with pytest.raises(TimeoutError):
            await within(0.01, forever(log))
        task = asyncio.current_task()
        assert log == ["cancelled"]
        assert task is not None
        assert task.cancelling() == 0, "the task itself was never cancelled"
        await asyncio.sleep(0.001)

    play(story)


def test_time_that_runs_out_between_two_waits_strikes_at_the_next_step() -> None:
    async def busy(log: list[str]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.1
        for _ in range(1_000_000):  # the timer comes due while nothing is waited for: each wait is over at once
            await asyncio.sleep(0)
            if loop.time() > end:
                break
        log.append("not interrupted")

    async def story() -> None:
        log: list[str] = []
        with pytest.raises(TimeoutError):
            await within(0.01, busy(log))
        assert log == []

    play(story)


def test_a_cancelled_task_is_cancelled_not_late() -> None:
    async def story() -> None:
        log: list[str] = []
        task = asyncio.ensure_future(_awaited(within(5, forever(log))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["cancelled"]

    play(story)


def test_both_at_once_is_a_cancellation() -> None:
    async def slow_to_end(ended: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ended.wait()  # here the time runs out

    async def story() -> None:
        task = asyncio.ensure_future(_awaited(within(0.02, slow_to_end(asyncio.Event()))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_a_task_that_outlived_a_cancellation_can_still_be_late() -> None:
    async def last_words(log: list[str]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(TimeoutError):
                await within(0.01, forever(log))
            log.append("late")

    async def story() -> None:
        log: list[str] = []
        task = asyncio.ensure_future(last_words(log))
        await asyncio.sleep(0)
        task.cancel()
        await task
        assert log == ["cancelled", "late"]

    play(story)


def test_who_swallows_the_interruption_goes_on() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return "done all the same"

    async def story() -> None:
        assert await within(0.01, stubborn()) == "done all the same"

    play(story)


def test_groups_and_inner_deadlines_end_with_it() -> None:
    async def group(log: list[str]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever(log))
            tasks.create_task(forever(log))

    async def nested(log: list[str]) -> None:
        await within(5, forever(log))

    async def inner(log: list[str]) -> str:
        try:
            await within(0.01, forever(log))
        except TimeoutError:
            await asyncio.sleep(0.001)
            return "the inner one"
        return ""

    async def story() -> None:
        log: list[str] = []
        for make in (group, nested):
            with pytest.raises(TimeoutError):
                await within(0.01, make(log))
        assert log == ["cancelled"] * 3
        assert await within(5, inner(log)) == "the inner one"

    play(story)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def test_those_that_wait_for_the_same_time_are_interrupted_each_at_its_own() -> None:
    """One that begins later runs out later; one that is through in time is left alone, and so is who waits longer."""

    async def story() -> None:
        loop, log, over = asyncio.get_running_loop(), list[tuple[str, float]](), asyncio.Event()

        async def wait(name: str, seconds: float, work: Awaitable[Any]) -> None:
            began = loop.time()

            async def waiting() -> None:
                await work

            try:
                await within(seconds, waiting())
            except TimeoutError:
                log.append((name, loop.time() - began))
            else:
                log.append((f"{name} is through", loop.time() - began))

        async with asyncio.TaskGroup() as tasks:
            late = [tasks.create_task(wait("first", 0.05, asyncio.sleep(9)))]
            tasks.create_task(wait("quick", 0.05, asyncio.sleep(0)))
            tasks.create_task(wait("patient", 9, over.wait()))
            await asyncio.sleep(0.02)
            late.append(tasks.create_task(wait("second", 0.05, asyncio.sleep(9))))
            await asyncio.sleep(0.04)
            late.append(tasks.create_task(wait("third", 0.05, asyncio.sleep(9))))
            await asyncio.wait(late)
            over.set()
        assert [name for name, _ in log] == ["quick is through", "first", "second", "third", "patient is through"]
        assert all(took >= 0.049 for name, took in log if "through" not in name)
        assert not _queues

    play(story)


def test_one_that_does_not_heed_its_end_keeps_nobody_else_from_theirs() -> None:
    async def deaf() -> str:
        for _ in range(3):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                return "heard and went on"
        return "never heard"

    async def story() -> None:
        answers = await asyncio.gather(
            within(0.01, deaf()), within(0.01, asyncio.sleep(9)), within(0.01, deaf()), return_exceptions=True
        )
        assert (answers[0], type(answers[1]), answers[2]) == ("heard and went on", TimeoutError, "heard and went on")
        assert not _queues

    play(story)
