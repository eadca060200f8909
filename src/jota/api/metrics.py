"""/metrics: counters and latencies of requests in the Prometheus text format. Own, small: no client library."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

from jota.api.path import Target

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Seconds."""
_MOST_ROWS = 5000
Labels = tuple[str, str, str, str]
"""Verb, group, resource, subresource."""


class Row:
    """What is counted of all requests of the same labels."""

    __slots__ = ("buckets", "codes", "seconds")

    def __init__(self) -> None:
        self.codes: defaultdict[int, int] = defaultdict(int)
        self.buckets = [0] * (len(BUCKETS) + 1)
        """The last one holds what is beyond them all."""
        self.seconds = 0.0
        """Of all together."""

    def count(self, code: int, seconds: float) -> None:
        self.codes[code] += 1
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Metrics:
    def __init__(self) -> None:
        self._rows: dict[Labels, Row] = {}
        self._known: dict[Target | None, Row] = {}
        """By the kin of targets."""
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """name -> (help, how to read it now)."""
        self.more: list[Callable[[], list[str]]] = []
        """Lines from elsewhere."""

    @property
    def answered(self) -> int:
        """Requests, of all kinds."""
        return sum(sum(row.buckets) for row in self._rows.values())

    def observe(self, target: Target | None, method: str, code: int, seconds: float) -> None:
        self.row(target.kin if target is not None else None, method).count(code, seconds)

    def row(self, kin: Target | None, method: str) -> Row:
        """Where requests of this kin are counted, now and later."""
        return self._known.get(kin) or self._row(kin, method)

    def _row(self, kin: Target | None, method: str) -> Row:
        """Paths that nobody serves must not grow the tables for ever."""
        if kin is None:
            labels = (method.lower() if method.isalpha() and len(method) < 9 else "other", "", "", "")
        else:
            labels = (kin.verb, kin.group, kin.resource, kin.subresource)
        if labels not in self._rows and len(self._rows) >= _MOST_ROWS:
            labels = (labels[0], "", "other", "")
        row = self._rows.setdefault(labels, Row())
        if kin is not None:
            if len(self._known) >= _MOST_ROWS:
                self._known.clear()
            self._known[kin] = row
        return row

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
            out += _histogram(_labels(*labels), self._rows[labels])
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


def _histogram(labels: str, row: Row) -> list[str]:
    name, total, out = "apiserver_request_duration_seconds", 0, []
    for bound, n in zip((*BUCKETS, "+Inf"), row.buckets, strict=True):
        total += n
        out.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
    return [*out, f"{name}_sum{{{labels}}} {row.seconds:g}", f"{name}_count{{{labels}}} {total}"]
