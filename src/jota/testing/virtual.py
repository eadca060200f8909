"""Time that stands still until a test moves it: an hour of probes, backoffs and leases passes in milliseconds.

clock = VirtualClock()
task = asyncio.create_task(component(clock))
await clock.advance(60)      # every sleep that ends within the minute ends, in order
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

TURNS = 100_000
"""Turns of the loop that one settling may take before it is called endless."""
BLIND_TURNS = 50
"""Turns given on a loop that does not show whether anything is left to run."""


class VirtualClock:
    """aio.clock.Clock. Wall clock and monotonic clock move together."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        """`start`: epoch seconds."""
        self._start = self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    async def settle(self) -> None:
        """Let everything run that can run without time passing. Raises RuntimeError when that never ends."""
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        for turn in range(TURNS):
            await asyncio.sleep(0)
            if not ready if ready is not None else turn >= BLIND_TURNS:
                return
        raise RuntimeError("the tasks of this test never come to rest")

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: each sleep that ends on the way ends at its own time."""
        end = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now = when
            future.set_result(None)
            if not (self._sleepers and self._sleepers[0][0] == when):
                await self.settle()
        self._now = end
        await self.settle()
