"""A long computation on the loop, a slice at a time: others are served between the slices.

In: a pure function that says `spend(units)` as it goes. Out: its result. Most are short: they run where they are called. One
that is not done after FIRST units is begun again in a thread of its own, which runs only while the loop waits for it, SLICE
units at a time (a thread for its stack alone: never two at once, so nothing needs a lock, and nobody fights for the
interpreter). Who uses it: api/resource.py (Kind.judge), api/admission (policies); who spends: meta/cel.

    async with tasks:                          loop:   | f | serve | f | serve | f, done |
        found = await slices.run(f)            thread:   ^           ^           ^
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
FIRST, SLICE = 5_000, 5_000
"""Units before a computation is begun again in a thread, and of one slice there. A unit is a microsecond, more or less."""
_ENDLESS = 1 << 62


class _Late(BaseException):
    """Begin again in a thread. No error: nothing on the way may take it for one."""


class _GivenUp(BaseException):
    """Nobody waits for the result any more."""


def _never() -> None:
    """Outside of `run` nobody is waited for."""
    pace.left = _ENDLESS


class Pace(threading.local):
    """What the computation of this thread may still spend before it must pause."""

    left: int = _ENDLESS
    pause: Callable[[], None] = staticmethod(_never)


pace = Pace()


def spend(units: int) -> None:
    """Some of the work is done; others may have their turn here."""
    pace.left -= units
    if pace.left < 0:
        pace.pause()


class TooLong(Exception):
    """It would need more than FIRST units; do it with `run`."""


def at_once(work: Callable[[], T]) -> tuple[T, int]:
    """(`work()`, the units that it took), for callers that cannot wait. Raises TooLong, and what `work` raises."""
    pace.left, pace.pause = FIRST, _late
    try:
        result = work()
        return result, FIRST - pace.left
    except _Late:
        raise TooLong from None
    finally:
        _never()
        pace.pause = _never


async def run(work: Callable[[], T]) -> T:
    """`work()`, which may be begun more than once. Raises what it raises."""
    turns = _of_this_loop()
    while turns.left <= 0:  # noqa: ASYNC110 - this turn of the loop has had its share, the next one is waited for
        await asyncio.sleep(0)
    try:
        return turns.run_here(work)
    except _Late:
        pass
    return await turns.run_sliced(work)


class _Turns:
    """One loop's shares."""

    def __init__(self) -> None:
        self.left = FIRST
        self._loop = asyncio.get_running_loop()
        self._slice = asyncio.Lock()

    def _renew(self) -> None:
        self.left = FIRST

    def run_here(self, work: Callable[[], T]) -> T:
        """Raises _Late when it takes longer than FIRST."""
        if self.left == FIRST:
            self._loop.call_soon(self._renew)
        pace.left, pace.pause = FIRST, _late
        try:
            return work()
        finally:
            self.left -= max(1, FIRST - pace.left)
            pace.left, pace.pause = _ENDLESS, _never

    async def run_sliced(self, work: Callable[[], T]) -> T:
        """All who are here take turns: a slice each, one in a turn of the loop."""
        thread = Sliced(work)
        try:
            while True:
                async with self._slice:
                    await asyncio.sleep(0)
                    done = thread.go_on()
                if done:
                    return thread.result()
        finally:
            thread.give_up()


def _late() -> None:
    raise _Late


_all: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _of_this_loop() -> _Turns:
    loop = asyncio.get_running_loop()
    found = _all.get(loop)
    if found is None:
        found = _all[loop] = _Turns()
    return found


class Sliced(Generic[T]):
    """A computation in its own thread, which stands still but for `go_on`."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._context = work, copy_context()
        self._go, self._back = threading.Lock(), threading.Lock()
        for lock in (self._go, self._back):
            lock.acquire()
        self._given_up = self._done = False
        self._result: Any = None
        self._problem: BaseException | None = None
        self.slices = 0
        threading.Thread(target=self._main, name="slices", daemon=True).start()

    def go_on(self) -> bool:
        """Run it until it pauses. True: it is done."""
        self.slices += 1
        self._go.release()
        self._back.acquire()
        return self._done

    def result(self) -> T:
        """Raises what the computation raised."""
        if self._problem is not None:
            raise self._problem
        result: T = self._result
        return result

    def give_up(self) -> None:
        """End it where it stands."""
        if not self._done:
            self._given_up = True
            self.go_on()

    def _main(self) -> None:
        self._go.acquire()
        pace.left, pace.pause = SLICE, self._hand_over
        try:
            if not self._given_up:
                self._result = self._context.run(self._work)
        except _GivenUp:
            pass
        except BaseException as problem:  # whoever waits gets it
            self._problem = problem
        self._done = True
        self._back.release()

    def _hand_over(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._given_up:
            raise _GivenUp
        pace.left = SLICE
