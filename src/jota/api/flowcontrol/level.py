"""One priority level at work: its seats, its queues, and which of its waiting requests is next.

Fair queuing by start tags: a queue's tag grows by the seats of what it was served, the smallest tag is served next, and a
queue that had nothing to do starts at the level's present tag. Levels among each other are weighed the same way, by their
nominal seats (`flows.py`). Nothing here awaits or reads a clock.
"""

from __future__ import annotations

import asyncio
from collections import deque

from jota.api.flowcontrol.limits import Limits
from jota.api.flowcontrol.measure import Counts


class Flow:
    """What one classification leads to: shared by all requests of the same user about the same thing."""

    __slots__ = ("counts", "exempt", "hand", "level", "lines")

    def __init__(self, schema_uid: str, level: Level, hand: tuple[int, ...], counts: Counts) -> None:
        self.level, self.hand, self.counts = level, hand, counts
        self.exempt = level.limits.exempt
        line = b"X-Kubernetes-PF-%b-UID: %b\r\n"
        uids = schema_uid.encode("ascii"), level.limits.uid.encode("ascii")
        self.lines = line % (b"FlowSchema", uids[0]) + line % (b"PriorityLevel", uids[1])
        """What answers say of it (`Response.own`)."""


class Waiter:
    __slots__ = ("flow", "future", "queue", "seats")

    def __init__(self, flow: Flow, seats: int, future: asyncio.Future[None]) -> None:
        self.flow, self.seats, self.future = flow, seats, future
        self.queue: Queue | None = None
        """None: not in line (any more)."""


class Queue:
    __slots__ = ("seats", "tag", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Waiter] = deque()
        self.seats = 0
        """Of all that waits here."""
        self.tag = 0.0


class Pool:
    """The seats of all limited levels together."""

    __slots__ = ("free", "waiting")

    def __init__(self, free: int) -> None:
        self.free = free
        """Neither in use nor kept for the level whose minimum they are."""
        self.waiting = 0
        """Requests in the queues of all levels."""


class Level:
    __slots__ = ("_active", "_queues", "_tag", "executing", "limits", "pool", "tag", "used", "waiting")

    def __init__(self, limits: Limits, pool: Pool) -> None:
        self.limits, self.pool = limits, pool
        self.used = self.executing = self.waiting = 0
        """Seats in use, requests at work, requests in the queues."""
        self.tag = 0.0
        """This level's own start tag among the levels."""
        self._tag = 0.0
        self._queues: dict[int, Queue] = {}
        """Those that have been used: there may be ten million."""
        self._active: dict[Queue, None] = {}

    # -- seats

    def width(self, seats: int) -> int:
        """What a request counts here: never more than the level could ever give."""
        return max(1, min(seats, self.limits.maximum))

    def fits(self, seats: int) -> bool:
        limits, after = self.limits, self.used + seats
        if after <= limits.minimum:
            return True
        if after > limits.maximum:
            return False
        return after - max(self.used, limits.minimum) <= self.pool.free

    def ceiling(self) -> int:
        """The most it could have in use at this moment."""
        return min(self.limits.maximum, max(self.used, self.limits.minimum) + max(self.pool.free, 0))

    def take(self, seats: int) -> None:
        minimum = self.limits.minimum
        before, self.used = self.used, self.used + seats
        if self.used > minimum:
            self.pool.free -= self.used - max(before, minimum)
        self.executing += 1

    def give_back(self, seats: int) -> None:
        minimum = self.limits.minimum
        before, self.used = self.used, self.used - seats
        if before > minimum:
            self.pool.free += before - max(self.used, minimum)
        self.executing -= 1

    # -- queues

    def enqueue(self, waiter: Waiter) -> bool:
        """Into the shortest queue of the flow's hand; False when that is full."""
        best = min((self._queue(i) for i in waiter.flow.hand if i < self.limits.queues), key=_load, default=None)
        if best is None or len(best.waiting) >= self.limits.length:
            return False
        if not best.waiting:
            best.tag = max(best.tag, self._tag)
            self._active[best] = None
        best.waiting.append(waiter)
        best.seats += waiter.seats
        waiter.queue = best
        self.waiting += 1
        self.pool.waiting += 1
        return True

    def _queue(self, number: int) -> Queue:
        found = self._queues.get(number)
        if found is None:
            found = self._queues[number] = Queue()
        return found

    def next(self) -> Waiter:
        """Who would be served next; only with `waiting`."""
        return min(self._active, key=_tag).waiting[0]

    def serve(self) -> Waiter:
        """Take the next from its queue."""
        queue = min(self._active, key=_tag)
        waiter = queue.waiting[0]
        self._tag = queue.tag
        queue.tag += waiter.seats
        self.remove(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Served, or gone before its turn."""
        queue, waiter.queue = waiter.queue, None
        if queue is None:
            return
        queue.waiting.remove(waiter)
        queue.seats -= waiter.seats
        self.waiting -= 1
        self.pool.waiting -= 1
        if not queue.waiting:
            self._active.pop(queue, None)

    def waiters(self) -> list[Waiter]:
        return [waiter for queue in self._active for waiter in queue.waiting]

    def requeue(self, limits: Limits) -> None:
        """Other settings: those who wait stay in line, in queues that go away until they are served. None stays wider than the
        level: it would wait for seats that there are not, and all others behind it."""
        self._queues = {number: queue for number, queue in self._queues.items() if number < limits.queues}
        self.limits = limits
        for queue in self._active:
            for waiter in queue.waiting:
                queue.seats -= waiter.seats
                waiter.seats = self.width(waiter.seats)
                queue.seats += waiter.seats


def _load(queue: Queue) -> int:
    return queue.seats


def _tag(queue: Queue) -> float:
    return queue.tag
