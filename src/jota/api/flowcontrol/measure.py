"""apiserver_flowcontrol_*: what priority and fairness did, per flow schema and priority level, for /metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jota.api.flowcontrol.level import Level

PREFIX = "apiserver_flowcontrol_"
BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
"""Seconds."""


class Counts:
    """Of one schema at one level."""

    __slots__ = ("dispatched", "level", "rejected", "schema", "served", "waited")

    def __init__(self, schema: str, level: str) -> None:
        self.schema, self.level = schema, level
        self.dispatched = 0
        self.rejected: dict[str, int] = {}
        self.served = _histogram()
        self.waited: dict[bool, list[float]] = {}
        """By whether the request was executed in the end."""

    def answered(self, took: float | None) -> None:
        """One more; `took`: seconds from getting its seats, None without any (exempt requests)."""
        self.dispatched += 1
        if took is not None:
            row = self.served
            row[bisect_left(BUCKETS, took)] += 1
            row[-2] += took
            row[-1] += 1

    def labels(self) -> str:
        return f'flow_schema="{self.schema}",priority_level="{self.level}"'


class Measures:
    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counts] = {}

    def counts(self, schema: str, level: str) -> Counts:
        found = self._counts.get((schema, level))
        if found is None:
            found = self._counts[(schema, level)] = Counts(schema, level)
        return found

    def text(self, levels: Iterable[Level]) -> list[str]:
        """Lines of the exposition."""
        rows = [self._counts[key] for key in sorted(self._counts)]
        out = _head("dispatched_requests_total", "counter", "Requests that were let in.")
        out += [f"{PREFIX}dispatched_requests_total{{{c.labels()}}} {c.dispatched}" for c in rows]
        out += _head(
            "rejected_requests_total", "counter", "Requests that were told to come back, or went away waiting."
        )
        for c in rows:
            for reason, n in sorted(c.rejected.items()):
                out.append(f'{PREFIX}rejected_requests_total{{{c.labels()},reason="{reason}"}} {n}')
        out += _head("request_execution_seconds", "histogram", "Time from getting seats to the answer.")
        for c in rows:
            out += _lines("request_execution_seconds", c.labels(), c.served)
        out += _head("request_wait_duration_seconds", "histogram", "Time in a queue.")
        for c in rows:
            for executed, row in sorted(c.waited.items()):
                labels = f'{c.labels()},execute="{str(executed).lower()}"'
                out += _lines("request_wait_duration_seconds", labels, row)
        return out + _gauges(sorted(levels, key=lambda level: level.limits.name))


def _gauges(levels: list[Level]) -> list[str]:
    """What each level has and does at this moment."""
    limited = [level for level in levels if not level.limits.exempt]
    tables = (
        ("current_executing_requests", "Requests at work.", [(v, v.executing) for v in levels]),
        ("current_executing_seats", "Seats in use.", [(v, v.used) for v in limited]),
        ("current_inqueue_requests", "Requests that wait.", [(v, v.waiting) for v in limited]),
        ("nominal_limit_seats", "Seats by shares.", [(v, v.limits.nominal) for v in levels]),
        ("lower_limit_seats", "Seats that are never lent.", [(v, v.limits.minimum) for v in limited]),
        ("upper_limit_seats", "Seats with all that may be borrowed.", [(v, v.limits.maximum) for v in limited]),
        ("current_limit_seats", "Seats that could be taken now.", [(v, v.ceiling()) for v in limited]),
    )
    out: list[str] = []
    for name, about, values in tables:
        out += _head(name, "gauge", about)
        out += [f'{PREFIX}{name}{{priority_level="{level.limits.name}"}} {value}' for level, value in values]
    return out


def observe(row: list[float], seconds: float) -> None:
    row[bisect_left(BUCKETS, seconds)] += 1
    row[-2] += seconds
    row[-1] += 1


def wait_row(counts: Counts, executed: bool) -> list[float]:
    return counts.waited.setdefault(executed, _histogram())


def _histogram() -> list[float]:
    """Buckets, what is beyond them, sum, count."""
    return [0.0] * (len(BUCKETS) + 3)


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} {kind}"]


def _lines(name: str, labels: str, row: list[float]) -> list[str]:
    total, out = 0.0, []
    for bound, n in zip((*BUCKETS, "+Inf"), row, strict=False):
        total += n
        out.append(f'{PREFIX}{name}_bucket{{{labels},le="{bound}"}} {total:g}')
    return [*out, f"{PREFIX}{name}_sum{{{labels}}} {row[-2]:g}", f"{PREFIX}{name}_count{{{labels}}} {row[-1]:g}"]
