"""A measured figure, and the reason for having none. Every bench returns figures; report.py shows them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class Skipped(Exception):
    """What the bench needs is not on this machine; the text says what and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table. `why` explains a missed target, or why a peer is ahead, and what would mend it; it is shown only then."""

    name: str
    value: float
    unit: str
    better: Literal["less", "more"] = "less"
    target: float | None = None
    peer: str = ""
    """What `peer_value` was measured on, or who published it."""
    peer_value: float | None = None
    published: bool = False
    """The peer's value was published by others and not measured in this run."""
    note: str = ""
    why: str = ""

    @property
    def met(self) -> bool | None:
        """None without a target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "less" else self.value >= self.target

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer (above 1: we are ahead)."""
        if not self.peer_value or not self.value:
            return None
        return self.peer_value / self.value if self.better == "less" else self.value / self.peer_value


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]
