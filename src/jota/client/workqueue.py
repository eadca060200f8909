"""A queue of keys for reconcile loops: deduplicates, delays, backs off, and never hands one key to two workers at once.

In: keys ("look at this"). Out: the same keys, each at most once however often it was added meanwhile. A key added while
a worker holds it comes out again after `done`. Next: controllers/controller.py.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock

SLACK = 0.001
"""Seconds that a delay may end early: a sleep that wakes a rounding error too soon must not sleep again for nothing."""


class QueueClosed(Exception):
    """The queue was closed; the worker should return."""


@dataclass(slots=True)
class QueueMetrics:
    """Counters since the start; bounded: no per-key state."""

    adds: int = 0
    retries: int = 0
    depth: int = 0
    longest_wait: float = 0.0
    """Seconds that the slowest key so far waited between add and get."""


class WorkQueue:
    """Keys ready, keys delayed, keys in work. `backoff` gives the delays of `add_backoff` (default 5 ms to 60 s)."""

    def __init__(self, clock: Clock, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff(0.005, 60.0)
        self._ready: deque[str] = deque()
        self._dirty: dict[str, float] = {}
        """Every key that must come out, with the monotonic time at which it became ready."""
        self._working: set[str] = set()
        self._delayed: list[tuple[float, str]] = []
        self._resting: list[tuple[float, str]] = []
        """Keys in work whose worker is done with them, by when they may come out again."""
        self._due: dict[str, float] = {}
        """The earliest due time per delayed key; entries of the heap that differ are stale."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.metrics = QueueMetrics()

    def __len__(self) -> int:
        return len(self._ready)

    def idle(self) -> bool:
        """Nothing ready and nothing in work or at rest (delayed keys may exist)."""
        return not self._dirty and not self._working

    def add(self, key: str) -> None:
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._clock.monotonic()
        self.metrics.adds += 1
        if key not in self._working:
            self._ready.append(key)
            self._wake()
        self.metrics.depth = len(self._dirty)

    def add_after(self, key: str, seconds: float) -> None:
        """Add once `seconds` have passed; the earliest of several delays wins."""
        if seconds <= 0:
            return self.add(key)
        due = self._clock.monotonic() + seconds
        if self._closed or self._due.get(key, float("inf")) <= due:
            return None
        self._due[key] = due
        heapq.heappush(self._delayed, (due, key))
        if self._delayed[0][1] == key:
            self._wake()
        return None

    def add_backoff(self, key: str) -> None:
        """Add after the key's own, growing delay; `forget` resets it."""
        self.metrics.retries += 1
        self.add_after(key, self._backoff.next(key))

    def failures(self, key: str) -> int:
        return self._backoff.failures(key)

    def forget(self, key: str) -> None:
        self._backoff.forget(key)

    async def get(self) -> str:
        """The next key, which the caller now owns until `done(key)`. Raises QueueClosed."""
        while True:
            self._release_due()
            if self._closed:
                raise QueueClosed
            if self._ready:
                return self._take()
            await self._wait()

    def done(self, key: str, rest: float = 0.0) -> None:
        """`rest`: seconds in which adds of the key gather, before it comes out again."""
        if rest > 0:
            due = self._clock.monotonic() + rest
            heapq.heappush(self._resting, (due, key))
            if self._resting[0][0] == due:
                self._wake()
            return
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        self._closed = True
        while self._waiters:
            self._wake()

    def _take(self) -> str:
        key = self._ready.popleft()
        waited = self._clock.monotonic() - self._dirty.pop(key)
        self._working.add(key)
        self.metrics.longest_wait = max(self.metrics.longest_wait, waited)
        self.metrics.depth = len(self._dirty)
        return key

    def _release_due(self) -> None:
        now = self._clock.monotonic() + SLACK
        while self._resting and self._resting[0][0] <= now:
            self.done(heapq.heappop(self._resting)[1])
        while self._delayed and self._delayed[0][0] <= now:
            due, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _wait(self) -> None:
        """Until something may be ready: a wake-up, or the earliest delay has passed."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        pending: set[asyncio.Future[None]] = {waiter}
        timer: asyncio.Future[None] | None = None
        if coming := [heap[0][0] for heap in (self._delayed, self._resting) if heap]:
            timer = asyncio.ensure_future(self._clock.sleep(max(0.0, min(coming) - self._clock.monotonic())))
            pending.add(timer)
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if waiter.done():
                self._wake()  # the wake-up was ours to use and we cannot: hand it on
            raise
        finally:
            waiter.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()
