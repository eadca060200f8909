"""A deadline for a coroutine that most often never waits: the timer is armed only when it suspends for the first time.

`asyncio.timeout` would do, at ten times the price; a server pays it for every write. What differs: the time running out is
not a cancellation of the task, only of what it waits for, so there is nothing to take back. And those that wait beside one
another for the same time share one timer, for they run out in the order in which they began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Protocol, TypeVar

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
    limit, cancelled, queue = _Limit(yielded), _cancelling(loop), queue_of(loop, seconds)
    queue.add(limit)
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
        if limit.fired and _cancelling(loop) <= cancelled:
            raise TimeoutError from None
        raise
    finally:
        queue.remove(limit)


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


class Limited(Protocol):
    def fire(self) -> None:
        """Its time has run out. Raises nothing."""
        ...


class Queue:
    """All that run out of time so many seconds after they began, on one loop, while there are any."""

    __slots__ = ("_key", "_loop", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._key = loop, (loop, seconds)
        self._waiting: dict[Limited, float] = {}
        """When they run out, on the loop's clock: the first one first."""
        self._timer = loop.call_later(seconds, self._strike)

    def add(self, limit: Limited) -> None:
        self._waiting[limit] = self._loop.time() + self._key[1]

    def remove(self, limit: Limited) -> None:
        self._waiting.pop(limit, None)
        if not self._waiting and _queues.get(self._key) is self:
            del _queues[self._key]
            self._timer.cancel()

    def _strike(self) -> None:
        """For those whose time has come; the others' is still to come, or they are through."""
        now = self._loop.time()
        for limit, when in [*self._waiting.items()]:
            if when > now:
                self._timer = self._loop.call_at(when, self._strike)
                return
            limit.fire()
            del self._waiting[limit]
        _queues.pop(self._key, None)


_queues: dict[tuple[asyncio.AbstractEventLoop, float], Queue] = {}


def queue_of(loop: asyncio.AbstractEventLoop, seconds: float) -> Queue:
    """To be added to at once: one that is empty ends when somebody leaves it."""
    queue = _queues.get((loop, seconds))
    if queue is None:
        queue = _queues[loop, seconds] = Queue(loop, seconds)
    return queue


def _cancelling(loop: asyncio.AbstractEventLoop) -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task(loop)
    return 0 if task is None else task.cancelling()
