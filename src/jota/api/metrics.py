"""/metrics: counters and latencies of requests in the Prometheus text format. Own, small: no client library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from jota.api.path import Target

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Seconds."""
_MOST_ROWS = 5000
Labels = tuple[str, str, str, str]
"""Verb, group, resource, subresource."""


class _Row:
    """What is counted of all requests of the same labels."""

    __slots__ = ("codes", "seconds")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.seconds = [0.0] * (len(BUCKETS) + 3)
        """Buckets, what is beyond them, sum, count."""


class Metrics:
    def __init__(self) -> None:
        self.answered = 0
        """Requests, of all kinds."""
        self._rows: dict[Labels, _Row] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """name -> (help, how to read it now)."""
        self.more: list[Callable[[], list[str]]] = []
        """Lines from elsewhere."""

    def observe(self, target: Target | None, method: str, code: int, seconds: float) -> None:
        if target is None or not target.resource:
            verb = method.lower() if method.isalpha() and len(method) < 9 else "other"
            labels = (verb, "", "", "")
        else:
            labels = (target.verb, target.group, target.resource, target.subresource)
        self.answered += 1
        row = self._rows.get(labels) or self._add(labels)
        codes, histogram = row.codes, row.seconds
        codes[code] = codes.get(code, 0) + 1
        histogram[bisect_left(BUCKETS, seconds)] += 1
        histogram[-2] += seconds
        histogram[-1] += 1

    def _add(self, labels: Labels) -> _Row:
        """Paths that nobody serves must not grow the table for ever."""
        if len(self._rows) >= _MOST_ROWS:
            labels = (labels[0], "", "other", "")
        return self._rows.setdefault(labels, _Row())

    def text(self) -> bytes:
        """The exposition, version 0.0.4."""
        out = ["# HELP apiserver_request_total Requests by verb, resource and HTTP code."]
        out.append("# TYPE apiserver_request_total counter")
        for labels in sorted(self._rows):
            for code, n in sorted(self._rows[labels].codes.items()):
                out.append(f'apiserver_request_total{{{_labels(*labels)},code="{code}"}} {n}')
        out.append("# HELP apiserver_request_duration_seconds Time to answer (to begin, for streams).")
        out.append("# TYPE apiserver_request_duration_seconds histogram")
        for labels in sorted(self._rows):
            out += _histogram(_labels(*labels), self._rows[labels].seconds)
        for name, (about, read) in sorted(self.gauges.items()):
            out += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        for lines in self.more:
            out += lines()
        return ("\n".join(out) + "\n").encode()


def _labels(verb: str, group: str, resource: str, subresource: str) -> str:
    pairs = (("verb", verb.upper()), ("group", group), ("resource", resource), ("subresource", subresource))
    return ",".join(f'{k}="{_escape(v)}"' for k, v in pairs)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")[:128]


def _histogram(labels: str, row: list[float]) -> list[str]:
    name, total, out = "apiserver_request_duration_seconds", 0.0, []
    for bound, n in zip((*BUCKETS, "+Inf"), row, strict=False):
        total += n
        out.append(f'{name}_bucket{{{labels},le="{bound}"}} {total:g}')
    return [*out, f"{name}_sum{{{labels}}} {row[-2]:g}", f"{name}_count{{{labels}}} {row[-1]:g}"]
