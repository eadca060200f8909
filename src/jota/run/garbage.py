"""Python's cyclic collector, at moments of our choosing: nobody's request waits for it.

Nearly everything here dies by its reference count. What is new is looked at often and in small pieces (a few milliseconds);
what survived is not looked at again until the process has a quiet moment, since a look at all of a large heap stops the loop
for a quarter of a second. `settle` once after the start, then `run_collector`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from jota.aio.clock import Clock

YOUNG = 20_000
"""New objects that live at once when the youngest are looked at."""
PERIOD = 30.0
"""Seconds between two looks at how busy the process is."""
QUIET = 10.0
"""Requests per second at which a moment counts as quiet: heartbeats of a hundred nodes."""
OFTEN, AT_LAST = 300.0, 6 * 3600.0
"""Seconds between two whole collections: at least, and at most however busy the process is."""
WORTH = 20
"""Collections of the youngest since then, below which little can have gathered."""
_NEVER = 1 << 30


def settle() -> None:
    """Take all that the start made out of the collector's sight, and keep the survivors of later out of it, too."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, _NEVER, _NEVER)


def due(since: float, rate: float, looks: int) -> bool:
    """Whether to look at everything now: `since` seconds after the last time, at `rate` requests/s, after `looks` looks at
    the youngest."""
    if since >= AT_LAST:
        return looks > 0
    return since >= OFTEN and rate <= QUIET and looks >= WORTH


async def run_collector(clock: Clock, requests: Callable[[], int]) -> None:
    """Until cancelled. `requests`: how many were answered so far."""
    last, looks, answered = clock.monotonic(), _looks(), requests()
    while True:
        await clock.sleep(PERIOD)
        now, total = clock.monotonic(), requests()
        if due(now - last, (total - answered) / PERIOD, _looks() - looks):
            gc.collect()
            last, looks = clock.monotonic(), _looks()
        answered = total


def _looks() -> int:
    collections: int = gc.get_stats()[0]["collections"]
    return collections
