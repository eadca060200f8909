"""A node's `/metrics/resource` as numbers, and the use between two of them. Pure. Next: scrape.py.

Worked example: cpu counters 10.0 s and 12.5 s, five seconds apart, are 0.5 cores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)(?: (\d+))?\Z")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Reading(NamedTuple):
    """One counter and gauge: CPU seconds since the start, bytes in use, when, and when it started (epoch seconds, or 0)."""

    cpu: float
    memory: float
    at: float
    started: float = 0.0


class Use(NamedTuple):
    """CPU in cores, memory in bytes, the end and the length of the time it is about (seconds)."""

    cpu: float
    memory: float
    at: float
    window: float


@dataclass(slots=True)
class Sample:
    """Everything that one node said at one time."""

    node: Reading | None = None
    containers: dict[tuple[str, str, str], Reading] = field(default_factory=dict)
    """(namespace, pod, container) -> reading."""


def parse(text: str, now: float) -> Sample:
    """Lines that are not understood are skipped: exporters may add more. `now`: for lines without a time."""
    values: dict[tuple[str, tuple[str, str, str]], tuple[float, float]] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if line.startswith("#") or found is None:
            continue
        labels = dict(_LABEL.findall(found[2] or ""))
        whose = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
        try:
            values[(found[1], whose)] = (float(found[3]), int(found[4]) / 1000 if found[4] else now)
        except ValueError:
            continue
    out = Sample()
    for (name, whose), (cpu, at) in values.items():
        if name == "container_cpu_usage_seconds_total":
            memory = values.get(("container_memory_working_set_bytes", whose), (0.0, at))[0]
            started = values.get(("container_start_time_seconds", whose), (0.0, at))[0]
            out.containers[whose] = Reading(cpu, memory, at, started)
        elif name == "node_cpu_usage_seconds_total":
            out.node = Reading(cpu, values.get(("node_memory_working_set_bytes", whose), (0.0, at))[0], at)
    return out


def use(before: Reading | None, after: Reading | None) -> Use | None:
    """What began after the earlier reading (or began anew) is rated from its start; None without any earlier point."""
    if after is not None and after.started and (before is None or before.started != after.started):
        before = Reading(0.0, 0.0, after.started)
    if before is None or after is None or after.at <= before.at or after.cpu < before.cpu:
        return None
    window = after.at - before.at
    return Use((after.cpu - before.cpu) / window, after.memory, after.at, window)
