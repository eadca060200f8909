"""How many writes of the scheduler may be on their way at once. In: who wants to write. Out: a turn, first come, first served.

A decision is made and taken into the accounts without waiting in between: whatever happens outside happens before or after it.
So the scheduler waits for `room` before it decides, and what it has decided takes its places at once, though they be too many;
the next decision waits until they are free again. Whoever can wait (reports, pods whose volumes were made ready) does: `acquire`.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Below zero while more is on its way than there should be."""
        return self._free

    def take(self) -> None:
        """A place at once, whether there is one or not."""
        self._free -= 1

    async def acquire(self) -> None:
        """A place, when it is this caller's turn."""
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release()  # it was ours already, and we cannot use it
            raise

    async def room(self) -> None:
        """Until there is a place, without taking it."""
        if self._free > 0 and not self._waiting:
            return
        await self.acquire()
        self.release()

    def release(self) -> None:
        """A place is free again."""
        self._free += 1
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
