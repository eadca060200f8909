"""Run a coroutine's first step at once, without a Task; make a Task only of what is left when it suspends.

Most requests are answered from memory and never suspend: a Task for each costs a tenth of the whole request. What comes in
is a fresh coroutine; what goes out is its result, or the Task that finishes it. Used by `wire/http.py`.

Three things make the first step look like any other step of a Task:
- it runs in a context of its own, which the Task then continues in (contextvars set before the first suspension hold);
- `asyncio.current_task()` gives a stand-in, because `asyncio.timeout` and `TaskGroup` keep hold of it; it passes on
  `cancel`, `uncancel` and the rest to the Task once there is one;
- the future that the first step yielded is handed to the Task as if the Task had just received it.

What ends in the Task is told at once (`finished`), and what the first step waits for may be there before the Task begins: a turn
of the loop less each, in which others would be read and begun first.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class _StandIn:
    """The current task of a first step. Everything it is asked is answered by the Task as soon as there is one."""

    task: asyncio.Task[Any] | None = None
    cancels = 0

    def cancel(self, msg: Any = None) -> bool:
        if self.task is not None:
            return self.task.cancel(msg)
        self.cancels += 1
        return True

    def cancelling(self) -> int:
        return self.cancels if self.task is None else self.task.cancelling()

    def uncancel(self) -> int:
        if self.task is not None:
            return self.task.uncancel()
        self.cancels = max(0, self.cancels - 1)
        return self.cancels

    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def get_name(self) -> str:
        return "first-step" if self.task is None else self.task.get_name()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


class _Rest(Coroutine[Any, Any, T]):
    """A coroutine that was stepped once, as a coroutine whose first step yields what that step yielded."""

    __slots__ = ("_coro", "_finished", "_pending", "_yielded")

    def __init__(self, coro: Coroutine[Any, Any, T], yielded: Any, finished: Callable[[T], None]) -> None:
        self._coro, self._yielded, self._pending = coro, yielded, True
        self._finished = finished

    def send(self, value: Any) -> Any:
        if self._pending:
            self._pending = False
            yielded, self._yielded = self._yielded, None
            if yielded is None or not yielded.done():
                return yielded
            yielded._asyncio_future_blocking = False
        try:
            return self._coro.send(value)
        except StopIteration as stop:
            self._finished(stop.value)
            raise

    def throw(self, *args: Any) -> Any:
        """A Task cancelled before its first step throws here: cancel what is waited for first, as a Task does."""
        if self._pending:
            self._pending = False
            yielded, self._yielded = self._yielded, None
            error = args[0] if len(args) == 1 else args[1]
            if isinstance(error, asyncio.CancelledError) and yielded is not None and yielded.cancel():
                return yielded
            if yielded is not None:
                yielded._asyncio_future_blocking = False
        try:
            return self._coro.throw(*args)
        except StopIteration as stop:
            self._finished(stop.value)
            raise

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise TypeError("a stepped coroutine belongs to its Task")


def _nothing(_: Any) -> None:
    pass


def first_step(
    coro: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, finished: Callable[[T], None] = _nothing
) -> T | asyncio.Task[T]:
    """Step `coro` once. Returns its result if it finished, else the Task that runs the rest; `finished` is called with the
    result of that, in its last step.

    Must be called from a loop callback, not from within a Task. Raises what the coroutine raises.
    """
    stand_in: Any = _StandIn()
    context = copy_context()
    _enter_task(loop, stand_in)
    try:
        yielded = context.run(coro.send, None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        _leave_task(loop, stand_in)
    task = loop.create_task(_Rest(coro, yielded, finished), context=context)
    stand_in.task = task
    for _ in range(stand_in.cancels):
        task.cancel()
    return task
