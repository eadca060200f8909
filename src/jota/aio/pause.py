"""A long work of the loop's own that many small steps make up: between two of them, others have their turn when this one was long.

pause = Pause(clock)
for entry in thousands:
    ...
    if pause.due():
        await pause.take()
"""

from __future__ import annotations

import asyncio

from jota.aio.clock import Clock

TURN = 0.004
"""Seconds."""


class Pause:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end = clock.monotonic() + TURN

    def due(self) -> bool:
        return self._clock.monotonic() > self._end

    async def take(self) -> None:
        await asyncio.sleep(0)
        self._end = self._clock.monotonic() + TURN
