"""/metrics: counters and latencies of requests in the Prometheus text format. Own, small: no client library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from jota.api.path import Target

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
"""Seconds."""


class Metrics:
    def __init__(self) -> None:
        self.answered = 0
        """Requests, of all kinds."""
        self._requests: dict[tuple[str, str, str, str, int], int] = {}
        self._seconds: dict[tuple[str, str, str, str], list[float]] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """name -> (help, how to read it now)."""
        self.more: list[Callable[[], list[str]]] = []
        """Lines from elsewhere."""

    def observe(self, target: Target | None, method: str, code: int, seconds: float) -> None:
        if target is None or not target.resource:
            group = resource = subresource = ""
            verb = method.lower() if method.isalpha() and len(method) < 9 else "other"
        else:
            group, resource, subresource, verb = target.group, target.resource, target.subresource, target.verb
        if code == 404 and resource:
            # a path that nobody serves must not grow the table for ever
            resource = resource if len(self._requests) < 5000 else "other"
        key = (verb, group, resource, subresource)
        self.answered += 1
        counted = (*key, code)
        self._requests[counted] = self._requests.get(counted, 0) + 1
        row = self._seconds.get(key)
        if row is None:
            row = self._seconds[key] = [0.0] * (len(BUCKETS) + 3)
        row[bisect_left(BUCKETS, seconds)] += 1
        row[-2] += seconds
        row[-1] += 1

    def text(self) -> bytes:
        """The exposition, version 0.0.4."""
        out = ["# HELP apiserver_request_total Requests by verb, resource and HTTP code."]
        out.append("# TYPE apiserver_request_total counter")
        for (verb, group, resource, sub, code), n in sorted(self._requests.items()):
            out.append(f'apiserver_request_total{{{_labels(verb, group, resource, sub)},code="{code}"}} {n}')
        out.append("# HELP apiserver_request_duration_seconds Time to answer (to begin, for streams).")
        out.append("# TYPE apiserver_request_duration_seconds histogram")
        for labels, row in sorted(self._seconds.items()):
            out += _histogram(_labels(*labels), row)
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
