"""Cron schedules: when next, and which was the last time before now. Pure: times are epoch seconds, zones are arguments.

The syntax is judged in kinds/batch/cronjob.py (`cron_problem`); here it becomes sets of numbers. As in the library that
upstream uses: a day matches when day of month *or* day of week does, unless one of them is a star; a local time that a
leap ahead skips does not happen; hours count in absolute time, so an hour that repeats is offered twice.
Worked example: "*/20 9-17 * * mon-fri" fires at minutes 0, 20, 40 of nine hours on five days. Next: cronjob.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from jota.kinds.batch.cronjob import DAYS, FIELDS, MONTHS, cron_problem

YEARS = 5
"""How far ahead a time is looked for; 30 February never comes."""
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")


class Schedule(Protocol):
    def after(self, time: float) -> float | None:
        """The first time later than `time`; None when there is none within five years."""
        ...


@dataclass(slots=True, frozen=True)
class Every:
    """@every <duration>: whole seconds, at least one."""

    seconds: float

    def after(self, time: float) -> float | None:
        return int(time) + self.seconds


@dataclass(slots=True, frozen=True)
class Table:
    """Five fields as sets, in a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Day of month or day of week is a star: both must match (a star always does)."""
    zone: tzinfo

    def after(self, time: float) -> float | None:
        at = time - time % 60 + 60
        end = time + YEARS * 366 * 86400
        while at < end:
            local = datetime.fromtimestamp(at, self.zone)
            if local.month not in self.months:
                at = max(at + 60, self._midnight(_next_month(local)))
            elif not self._day(local):
                at = max(at + 60, self._midnight(local + timedelta(days=1)))
            elif local.hour not in self.hours:
                at += 60 * (60 - local.minute)
            elif local.minute not in self.minutes:
                at += 60
            else:
                return at
        return None

    def _day(self, local: datetime) -> bool:
        of_month, of_week = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return of_month and of_week if self.any_day else of_month or of_week

    def _midnight(self, local: datetime) -> float:
        return datetime(local.year, local.month, local.day, tzinfo=self.zone).timestamp()


def _next_month(local: datetime) -> datetime:
    return local.replace(day=1, hour=12) + timedelta(days=31)


def parse(text: str, zone: tzinfo = UTC) -> Schedule:
    """Raises ValueError with the reason."""
    if problem := cron_problem(text):
        raise ValueError(problem)
    if text.startswith("@every"):
        seconds = sum(float(n) * _UNITS[u] for n, u in _PART.findall(text.split()[1]))
        return Every(float(max(1, int(seconds))))
    fields = _MACROS.get(text, text).split()
    sets = [_field(f, *spec) for f, spec in zip(fields, FIELDS, strict=True)]
    star = any(_starred(f) for f in (fields[2], fields[4]))
    weekdays = frozenset(d % 7 for d in sets[4])
    return Table(sets[0], sets[1], sets[2], sets[3], weekdays, star, zone)


def _starred(field: str) -> bool:
    return any(
        term.partition("/")[0] in ("*", "?") and term.partition("/")[2] in ("", "1") for term in field.split(",")
    )


def _field(field: str, name: str, low: int, high: int) -> frozenset[int]:
    names = MONTHS if name == "month" else DAYS if name == "dow" else {}
    out: set[int] = set()
    for term in field.split(","):
        span, slash, step = term.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            ends = [names[e.lower()] if e.lower() in names else int(e) for e in span.split("-")]
            # "5/15" without an end means "from 5 on".
            first, last = ends[0], high if slash and len(ends) == 1 else ends[-1]
        out.update(range(first, last + 1, int(step) if slash else 1))
    return frozenset(out)


def last_missed(schedule: Schedule, since: float, now: float) -> tuple[float | None, int]:
    """(the latest scheduled time in (since, now], roughly how many there are). Cheap however long ago `since` is."""
    first = schedule.after(since)
    if first is None or first > now:
        return None, 0
    second = schedule.after(first)
    if second is None or second > now:
        return first, 1
    between = second - first
    back, latest = between, first
    while (start := now - back) > first:
        found = schedule.after(start)
        if found is not None and found <= now:
            latest = found
            break
        back *= 2
    while (following := schedule.after(latest)) is not None and following <= now:
        latest = following
    return latest, int((now - first) // between) + 1
