"""A deadline for a coroutine that most often never waits: the timer is armed only when it suspends for the first time.

`asyncio.timeout` would do, at five times the price; a server pays it for every write. What differs: the time running out is
not a cancellation of the task, only of what it waits for, so there is nothing to take back.
"""

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
    loop = asyncio.get_running_loop()
    limit, cancelled = _Limit(yielded), _cancelling()
    timer = loop.call_later(seconds, limit.fire)
    # from here on values and exceptions go through, as in PEP 380
    try:
        while True:
            try:
                sent = yield limit.waiting
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as error:
                limit.waiting = coro.throw(error)
            else:
                limit.waiting = coro.throw(limit.late()) if limit.missed else coro.send(sent)
    except StopIteration as stop:
        result = stop.value
        return result
    except asyncio.CancelledError:
        if limit.fired and _cancelling() <= cancelled:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


class _Limit:
    """The time of one coroutine: what it waits for, and whether it has run out."""

    __slots__ = ("fired", "missed", "waiting")

    def __init__(self, waiting: Any) -> None:
        self.waiting = waiting
        self.fired = False
        self.missed = False
        """It ran out when nothing was waited for any more; the coroutine learns it at its next step."""

    def fire(self) -> None:
        self.fired = True
        self.missed = self.waiting is None or not self.waiting.cancel()

    def late(self) -> BaseException:
        self.missed = False
        return asyncio.CancelledError()


def _cancelling() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
