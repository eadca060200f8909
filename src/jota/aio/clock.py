"""The one door to time. Everything that needs "now" or a delay is handed a Clock; tests hand in a virtual one."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Time as an input."""

    def now(self) -> float:
        """Seconds since the Unix epoch (wall clock; may jump)."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; for durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for `seconds`."""
        ...


_LAST = 253402300799
"""9999-12-31T23:59:59Z"""


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(seconds: float) -> str:
    """metav1.Time: second precision, UTC, `Z` (Kubernetes API conventions). What is later than can be written down (of a pod that
    may take as long as it likes) is the last moment that can."""
    return _rfc3339(int(min(seconds, _LAST)))


@lru_cache(64)
def _rfc3339(seconds: int) -> str:
    # a busy server asks for the same second thousands of times
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """metav1.MicroTime: six digits, UTC, `Z` (Lease, Event.eventTime)."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_rfc3339(whole)[:-1]}.{micro:06d}Z"


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
