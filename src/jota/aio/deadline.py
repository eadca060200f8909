"""A deadline for a coroutine that most often never waits: the timer is armed only when it suspends for the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def within(seconds: float, coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """`await within(seconds, coro)`: the coroutine's result. Raises TimeoutError, as `asyncio.timeout` does.

    Everything up to the first suspension runs without a timer: it cannot be interrupted anyway.
    """
    try:
        yielded = coro.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return (yield from _timed(seconds, coro, yielded).__await__())


async def _timed(seconds: float, coro: Coroutine[Any, Any, T], yielded: Any) -> T:
    async with asyncio.timeout(seconds):
        return await _rest(coro, yielded)


@coroutine
def _rest(coro: Coroutine[Any, Any, T], yielded: Any) -> Generator[Any, Any, T]:
    """What is left of a coroutine whose first step yielded `yielded`: values and exceptions go through, as in PEP 380."""
    while True:
        try:
            sent = yield yielded
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as error:
            try:
                yielded = coro.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
        else:
            try:
                yielded = coro.send(sent)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
