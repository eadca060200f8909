"""A coroutine that was stepped once without a Task behaves as if it had been a Task from the start."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from wirekit import run

from jota.wire.step import first_step

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="outside")


def step(coro, then=None):
    """Step from a loop callback (not from within a Task), then await what is left."""

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def callback():
            try:
                result = first_step(coro, loop)
                if then is not None:
                    then(result)
            except BaseException as error:
                done.set_exception(error)
                return
            done.set_result(result)

        loop.call_soon(callback)
        result = await done
        return await result if isinstance(result, asyncio.Task) else result

    return main()


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@LOOPS
def test_what_does_not_suspend_needs_no_task(loop):
    async def now():
        return 7

    seen = []
    assert run(step(now(), seen.append), loop) == 7
    assert seen == [7]


@LOOPS
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_rest_goes_on_where_it_stopped(loop, steps):
    async def counting():
        total = 0
        for n in range(steps):
            await asyncio.sleep(0.001 if n % 2 else 0)
            total += n
        return total

    assert run(step(counting()), loop) == sum(range(steps))


@LOOPS
def test_the_first_future_is_awaited_not_lost(loop):
    async def waiting():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, "value")
        return await future

    assert run(step(waiting()), loop) == "value"


@LOOPS
def test_errors_come_out_of_either_part(loop):
    async def early():
        raise KeyError("early")

    async def late():
        await asyncio.sleep(0)
        raise KeyError("late")

    for coro in (early(), late()):
        with pytest.raises(KeyError):
            run(step(coro), loop)


@LOOPS
def test_timeouts_and_groups_that_began_in_the_first_step_work(loop):
    async def timed():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        except TimeoutError:
            return "timed out"

    async def grouped():
        async def fail():
            await asyncio.sleep(0.001)
            raise ValueError("child")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.sleep(5)
        except ExceptionGroup as errors:
            return str(errors.exceptions[0])

    async def at_once():
        async with asyncio.timeout(1):  # noqa: ASYNC100 - that it does nothing is the point
            return "no suspension"

    assert run(step(timed()), loop) == "timed out"
    assert run(step(grouped()), loop) == "child"
    assert run(step(at_once()), loop) == "no suspension"


@LOOPS
def test_cancelling_before_the_rest_begins_reaches_the_await_and_what_it_waits_for(loop):
    story = []

    async def inner():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            story.append("inner")
            raise

    async def outer():
        try:
            await asyncio.create_task(inner())
        except asyncio.CancelledError:
            story.append("outer")
            raise
        finally:
            await asyncio.sleep(0)
            story.append("cleaned up")

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await step(outer(), lambda task: asyncio.get_running_loop().call_later(0.01, task.cancel))
        await step(plain(), lambda task: task.cancel())

    async def plain():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            story.append("plain")

    run(main(), loop)
    assert story == ["inner", "outer", "cleaned up", "plain"]


@LOOPS
def test_context_variables_hold_over_the_first_step_and_do_not_leak(loop):
    async def setting():
        token = VAR.set("inside")
        await asyncio.sleep(0)
        seen = VAR.get()
        VAR.reset(token)
        return seen

    async def main():
        return await step(setting()), VAR.get()

    assert run(main(), loop) == ("inside", "outside")


def test_the_current_task_is_the_same_to_whoever_asks_later():
    async def asking():
        first = asyncio.current_task()
        await asyncio.sleep(0)
        assert first is not None
        return first.get_name() == asyncio.current_task().get_name() and not first.done()

    assert run(step(asking())) is True


@LOOPS
def test_what_is_there_when_the_task_begins_is_not_waited_for(loop):
    async def main():
        turns, there = [], asyncio.get_running_loop().create_future()

        async def waiting():
            return await there

        def callback():
            first_step(waiting(), asyncio.get_running_loop(), turns.append)
            there.set_result("answer")
            asyncio.get_running_loop().call_soon(turns.append, "next")

        asyncio.get_running_loop().call_soon(callback)
        for _ in range(4):
            await asyncio.sleep(0)
        return turns

    assert run(main(), loop) == ["answer", "next"]


@LOOPS
@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_the_end_is_told_in_the_last_step_itself(loop, error):
    async def main():
        turns, there = [], asyncio.get_running_loop().create_future()

        async def waiting():
            try:
                return await there
            except ValueError as problem:
                return str(problem)

        def begin():
            task = first_step(waiting(), asyncio.get_running_loop(), turns.append)
            task.add_done_callback(lambda _: turns.append("done"))

        def end():
            there.set_exception(error) if error else there.set_result("answer")
            asyncio.get_running_loop().call_soon(turns.append, "next")

        asyncio.get_running_loop().call_soon(begin)
        for _ in range(3):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(end)
        for _ in range(4):
            await asyncio.sleep(0)
        return turns

    assert run(main(), loop) == ["late" if error else "answer", "next", "done"]


@LOOPS
def test_what_fails_in_the_task_is_not_told_as_an_answer(loop):
    told = []

    async def failing():
        await asyncio.sleep(0)
        raise LookupError

    async def main():
        loop_ = asyncio.get_running_loop()
        begun = loop_.create_future()
        loop_.call_soon(lambda: begun.set_result(first_step(failing(), loop_, told.append)))
        with pytest.raises(LookupError):
            await (await begun)

    run(main(), loop)
    assert told == []
