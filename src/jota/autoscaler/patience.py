"""When the removal of a machine may be tried again: not at once after it failed, nor while the provider is still at it.

Pure: the caller owns the clock. Machines that nobody removes any more are forgotten.
"""

from __future__ import annotations

from jota.aio.backoff import Backoff

Machine = tuple[str, str]
"""(group, name)."""
GOING = 30.0
"""Seconds after which the removal of a machine that is listed still is asked for again."""
FIRST, LONGEST = 5.0, 300.0
"""Seconds after a failure."""
FORGOTTEN = 2 * LONGEST
"""Seconds after which a machine whose turn has come was not tried again: it is gone, or stays."""


class Patience:
    def __init__(self) -> None:
        self._until: dict[Machine, float] = {}
        self._failures = Backoff(FIRST, LONGEST)

    def __len__(self) -> int:
        return len(self._until)

    def over(self, machine: Machine, now: float) -> bool:
        """Whether it may be tried. `now` monotonic."""
        return now >= self._until.get(machine, 0.0)

    def failed(self, machine: Machine, now: float) -> None:
        self._set(machine, now, self._failures.next("/".join(machine)))

    def asked(self, machine: Machine, now: float) -> None:
        """The provider has taken it on."""
        self._failures.forget("/".join(machine))
        self._set(machine, now, GOING)

    def _set(self, machine: Machine, now: float, seconds: float) -> None:
        for old in [m for m, until in self._until.items() if until < now - FORGOTTEN]:
            del self._until[old]
            self._failures.forget("/".join(old))
        self._until[machine] = now + seconds
