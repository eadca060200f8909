"""Python's cyclic collector, at moments of our choosing: nobody's request waits for it.

Nearly everything here dies by its reference count, and a look at the youngest objects finds nothing: looking cost a server
under load a sixteenth of its time. So the collector's own rhythm is off. The youngest are looked at in small pieces (some ten
milliseconds), ever more rarely while that finds nothing and each time once it does; those that are passed over, and those
that survived, are not looked at again until the process has a quiet moment, since a look at all of a large heap stops the
loop for a quarter of a second and more. `postpone` as a process begins, `settle` once after its start, then `run_collector`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from jota.aio.clock import Clock

YOUNG, CROWD = 20_000, 100_000
"""New objects that live at once when they are worth a look; and when there are so many that it would take too long."""
MOST_PASSED = 15
"""Generations of the young that are passed over between two looks, at most."""
SOON, LATER = 0.1, 1.0
"""Seconds between two counts of the young, when many are born and when few."""
PERIOD = 30.0
"""Seconds between two looks at how busy the process is."""
QUIET = 10.0
"""Requests per second at which a moment counts as quiet: heartbeats of a hundred nodes."""
OFTEN, AT_LAST = 300.0, 6 * 3600.0
"""Seconds between two whole collections: at least, and at most however busy the process is."""
WORTH = 20
"""Generations of the young since then, below which little can have gathered."""
LARGEST = 2_000_000
"""Objects of which a whole look takes a second or two: more are never looked at, what died among them in cycles is lost."""


class Young:
    """Decides which generations of the young are looked at."""

    def __init__(self) -> None:
        self.generations = 0
        """How many there were."""
        self._passing = self._passed = 0

    def worth(self, count: int) -> bool:
        """Whether to look at `count` new objects; else they are passed over."""
        self.generations += 1
        if count <= CROWD and self._passed >= self._passing:
            self._passed = 0
            return True
        self._passed += 1
        return False

    def found(self, dead: int) -> None:
        """What the look gave."""
        self._passing = 0 if dead else min(MOST_PASSED, 2 * self._passing + 1)


def postpone() -> None:
    """Until `settle`: what a start makes stays, but for a fifth of a megabyte, and to look for that only costs time."""
    gc.disable()


def settle() -> None:
    """Take all that the start made out of the collector's sight, until the first whole look, and switch its own rhythm off."""
    gc.freeze()
    gc.disable()


def due(since: float, rate: float, generations: int) -> bool:
    """Whether to look at everything now: `since` seconds after the last time, at `rate` requests/s, after so many
    generations of the young."""
    if since >= AT_LAST:
        return generations > 0
    return since >= OFTEN and rate <= QUIET and generations >= WORTH


async def run_collector(clock: Clock, requests: Callable[[], int]) -> None:
    """Until cancelled. `requests`: how many were answered so far."""
    young = Young()
    last = counted = clock.monotonic()
    generations, answered = 0, requests()
    while True:
        await clock.sleep(SOON if gc.get_count()[0] > YOUNG // 4 else LATER)
        if (count := gc.get_count()[0]) > YOUNG:
            if young.worth(count):
                young.found(gc.collect(0))
            gc.freeze()
        now = clock.monotonic()
        if now - counted < PERIOD:
            continue
        total = requests()
        if due(now - last, (total - answered) / (now - counted), young.generations - generations):
            _look_at_all()
            last, generations = clock.monotonic(), young.generations
        counted, answered = now, total


def _look_at_all() -> None:
    gc.freeze()
    if gc.get_freeze_count() <= LARGEST:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
