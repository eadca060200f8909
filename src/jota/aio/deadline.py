"""A deadline for a coroutine that most often never waits: the timer is armed only when it suspends for the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class within(Generic[T]):
    """`await within(seconds, coro)`: the coroutine's result. Raises TimeoutError, as `asyncio.timeout` does.

    Everything up to the first suspension runs without a timer: it cannot be interrupted anyway.
    """

    __slots__ = ("_coro", "_seconds")

    def __init__(self, seconds: float, coro: Coroutine[Any, Any, T]) -> None:
        self._seconds, self._coro = seconds, coro

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            yielded = self._coro.send(None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        return (yield from self._timed(yielded).__await__())

    async def _timed(self, yielded: Any) -> T:
        async with asyncio.timeout(self._seconds):
            result: T = await _rest(self._coro, yielded)
            return result


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
