"""Priority and fairness of the whole server: classify a request, let it in, or let it wait its turn. Used by `chain.py`.

Two things are scarce in a server of one event loop, and both are shared out by the levels' shares:
- seats, held by a request until it is answered (memory, and what waits for the store);
- turns of the loop: what is answered without waiting never holds a seat while others look, but a thousand of such requests
  that arrive together would keep everybody else from being read. So whoever comes when a turn has lasted `SLICE` waits in
  its queue, and each further turn serves about a slice, the least served level first.

    flow = flows.classify(user, target)          # memoised
    if not flows.enter(flow, seats, now): seats = await flows.wait(flow, seats, seconds)
    ...
    flows.leave(flow, seats, began)

Settings come from `keeper.py`, which reads the stored objects. Fair queuing is in `level.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from jota.aio.clock import Clock
from jota.api.filters.attributes import User
from jota.api.flowcontrol.level import Flow, Level, Pool, Waiter
from jota.api.flowcontrol.limits import Limits
from jota.api.flowcontrol.matching import Schema
from jota.api.flowcontrol.measure import Measures, observe, wait_row
from jota.api.flowcontrol.shuffle import deal
from jota.api.path import Target
from jota.meta.errors import ApiError, too_many_requests

SLICE = 0.005
"""Seconds of one turn of the loop that requests may take before further ones wait."""
LONGEST_WAIT = 15.0
"""Seconds in a queue (upstream: a quarter of the request's own time)."""
_REMEMBERED = 8192
_FIRST_GUESS = 0.0001
"""Seconds for one seat's request, until it has been measured."""

Key = tuple[str, tuple[str, ...], str, str, str, str, str, str]


class Flows:
    def __init__(self, total: int, clock: Clock) -> None:
        """`total`: seats of all limited levels together."""
        self.total, self._clock = total, clock
        self.measures = Measures()
        self.levels: dict[str, Level] = {}
        self._retired: list[Level] = []
        """Removed, but with requests that wait or work."""
        self._all: list[Level] = []
        """Levels that may have somebody waiting."""
        self._pool = Pool(total)
        self._schemas: list[Schema] = []
        self._memo: dict[Key, Flow] = {}
        self.changed: Callable[[], None] = _nothing
        """Called after each change of the settings: requests that were classified before are classified anew."""
        self._open = False
        """Whether the end of this turn is scheduled."""
        self._turn_began = self._steps_began = 0.0
        self._stepped = 0
        """Seats of those woken in the last turn."""
        self._cost = _FIRST_GUESS
        self._tag = 0.0

    # -- settings

    def configure(self, levels: dict[str, Limits], schemas: Iterable[Schema]) -> None:
        """From now on; requests at work and in queues keep their places. There must be a level "catch-all".

        A schema without its level is left out (it is dangling: upstream's rule)."""
        for name, limits in levels.items():
            found = self.levels.get(name)
            if found is not None and found.limits.exempt == limits.exempt:
                found.requeue(limits)
                continue
            if found is not None:
                self._retired.append(found)
            self.levels[name] = Level(limits, self._pool)
        for name in [n for n in self.levels if n not in levels]:
            self._retired.append(self.levels.pop(name))
        self._retired = [level for level in self._retired if level.waiting or level.executing]
        self._all = [level for level in (*self.levels.values(), *self._retired) if not level.limits.exempt]
        known = (schema for schema in schemas if schema.level in self.levels)
        self._schemas = sorted(known, key=lambda s: (s.precedence, s.name))
        self._pool.free = self.total - sum(max(level.used, level.limits.minimum) for level in self._all)
        self._memo.clear()
        self.changed()
        if self._pool.waiting:
            self._schedule()

    # -- classification

    def classify(self, user: User, target: Target) -> Flow:
        """The flow of a request; every request has one."""
        path = "" if target.resource else target.path
        key = (
            user.name,
            user.groups,
            target.verb,
            target.group,
            target.resource,
            target.subresource,
            target.namespace,
            path,
        )
        flow = self._memo.get(key)
        if flow is None:
            if len(self._memo) >= _REMEMBERED:
                self._memo.clear()
            flow = self._memo[key] = self._classify(user, target)
        return flow

    def _classify(self, user: User, target: Target) -> Flow:
        schema = next((s for s in self._schemas if s.matches(user, target)), None)
        if schema is None:
            level, name, uid, identity = self.levels["catch-all"], "catch-all", "", user.name
        else:
            level, name, uid = self.levels[schema.level], schema.name, schema.uid
            identity = schema.flow(user, target)
        hand = deal(name, identity, level.limits.queues, level.limits.hand)
        return Flow(uid, level, hand, self.measures.counts(name, level.limits.name))

    # -- a request's way

    def enter(self, flow: Flow, seats: int, now: float) -> bool:
        """Take the seats if the request may run now (monotonic); an exempt one needs none. False: `wait`."""
        if flow.exempt:
            flow.level.executing += 1
            return True
        may = self._may(flow.level, seats, now)
        if may:
            flow.level.take(seats)
        return may

    def at_once(self, flow: Flow, now: float) -> bool:
        """`enter` of a request that is answered before anybody else looks, so that no seat changes hands; exempt ones, too.

        It is not followed by `leave`, but counted by `Counts.answered`."""
        return flow.exempt or self._may(flow.level, 1, now)

    def _may(self, level: Level, seats: int, now: float) -> bool:
        if not self._open:
            self._open, self._turn_began = True, now
            asyncio.get_running_loop().call_soon(self._turn)
        elif now - self._turn_began > SLICE and level.limits.queues:
            return False
        return not level.waiting and level.fits(seats)

    async def wait(self, flow: Flow, seats: int, seconds: float) -> int:
        """Wait at most `seconds` for the seats and take them; fewer, when the level became narrower than that meanwhile. Returns
        how many they are. Raises ApiError 429."""
        level, began, counts = flow.level, self._clock.monotonic(), flow.counts
        loop = asyncio.get_running_loop()
        waiter = Waiter(flow, seats, loop.create_future())
        if not level.enqueue(waiter):
            raise rejection(flow, "queue-full" if level.limits.queues else "concurrency-limit")
        self._schedule()
        timer = loop.call_later(min(seconds, LONGEST_WAIT), _expire, waiter)
        try:
            await waiter.future
        except TimeoutError:
            observe(wait_row(counts, False), self._clock.monotonic() - began)
            raise rejection(flow, "time-out") from None
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                level.remove(waiter)
                counts.rejected["cancelled"] = counts.rejected.get("cancelled", 0) + 1
            elif waiter.future.exception() is None:
                self.give_back(flow, waiter.seats)  # it was its turn, and then the client went away
            raise
        finally:
            timer.cancel()
        observe(wait_row(counts, True), self._clock.monotonic() - began)
        return waiter.seats

    def leave(self, flow: Flow, seats: int, began: float) -> None:
        """The request is answered. `began`: when it got its seats, monotonic."""
        self.give_back(flow, seats)
        flow.counts.answered(self._clock.monotonic() - began)

    def give_back(self, flow: Flow, seats: int) -> None:
        """`leave`, of a request that is counted elsewhere."""
        if flow.exempt:
            flow.level.executing -= 1
            return
        flow.level.give_back(seats)
        if self._pool.waiting and not self._open:
            self._schedule()

    def executing(self) -> int:
        """Requests at work, exempt ones too."""
        return sum(level.executing for level in (*self.levels.values(), *self._retired))

    # -- turns

    def _schedule(self) -> None:
        if not self._open:
            self._open, self._turn_began = True, self._clock.monotonic()
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """All that arrived together has been begun or queued: serve those who wait, for about a slice."""
        self._open = False
        if self._stepped:
            cost = (self._clock.monotonic() - self._steps_began) / self._stepped
            self._cost += (cost - self._cost) * 0.25
            self._stepped = 0
        loop, budget = asyncio.get_running_loop(), max(1, int(SLICE / max(self._cost, 1e-6)))
        while self._stepped < budget:
            level = self._next_level()
            if level is None:
                break
            if not self._stepped:
                loop.call_soon(self._begin_steps)
            self._stepped += self._serve(level)
        if self._stepped:
            self._schedule()  # behind those who were just woken

    def _begin_steps(self) -> None:
        self._steps_began = self._clock.monotonic()

    def _next_level(self) -> Level | None:
        best: Level | None = None
        for level in self._all:
            if level.waiting and (best is None or level.tag < best.tag) and level.fits(level.next().seats):
                best = level
        return best

    def _serve(self, level: Level) -> int:
        waiter = level.serve()
        if waiter.future.done():
            return 0  # gone while it waited; its own code tells
        level.take(waiter.seats)
        self._tag = level.tag = max(level.tag, self._tag)
        level.tag += waiter.seats / max(level.limits.nominal, 1)
        waiter.future.set_result(None)
        return waiter.seats


def rejection(flow: Flow, reason: str) -> ApiError:
    """429 with Retry-After. `reason`: queue-full, concurrency-limit, time-out; counted."""
    flow.counts.rejected[reason] = flow.counts.rejected.get(reason, 0) + 1
    return too_many_requests("Too many requests, please try again later.")


def _nothing() -> None:
    pass


def _expire(waiter: Waiter) -> None:
    if not waiter.future.done():
        waiter.flow.level.remove(waiter)
        waiter.future.set_exception(TimeoutError())
