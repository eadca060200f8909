"""Figures -> text for a terminal, JSON, or the pages of docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.table import Bench


@dataclass(frozen=True, slots=True)
class Result:
    bench: Bench
    figures: list[Figure]
    skipped: str = ""
    """Why there are no figures."""


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for result in results:
        if result.skipped:
            rows.append({"bench": result.bench.name, "skipped": result.skipped})
        for figure in result.figures:
            rows.append({"bench": result.bench.name, **asdict(figure), "ratio": figure.ratio, "met": figure.met})
    return rows


def as_text(result: Result) -> str:
    if result.skipped:
        return f"{result.bench.name}: skipped: {result.skipped}"
    rows = [("figure", "value", "target", "peer", "ratio")]
    rows += [(f"{result.bench.name}: {f.name}", _value(f), _target(f), _peer(f), _ratio(f)) for f in result.figures]
    widths = [max(len(row[n]) for row in rows) for n in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)).rstrip() for r in rows)


def as_markdown(results: Sequence[Result], command: str) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `{command}`, version {_version()}, on {machine()}.",
        "",
        "Every value was measured in that one run; a peer's value as well, unless it says *published*. The ratio tells how",
        "many times better Jota does than the peer (below 1: worse). Medians of several runs unless said otherwise. The",
        "load generators run on the same machine and share its cores with what they measure. Run it again: `make bench`.",
    ]
    for result in results:
        lines += ["", f"## {result.bench.title}", ""]
        if result.bench.method:
            lines += [result.bench.method, ""]
        lines += _skipped(result) if result.skipped else _table(result.figures)
    return "\n".join(lines) + "\n"


def _skipped(result: Result) -> list[str]:
    return [f"Not measured: {result.skipped}."]


def _table(figures: Sequence[Figure]) -> list[str]:
    lines = ["| figure | value | target | peer | ratio |", "|---|---|---|---|---|"]
    lines += [f"| {f.name} | {_value(f)} | {_target(f)} | {_peer(f)} | {_ratio(f)} |" for f in figures]
    notes = [f"- {f.name}: {f.note}" for f in figures if f.note]
    missed = [f"- **{f.name}** {_shortfall(f)}: {f.why}." for f in figures if f.why and _shortfall(f)]
    return lines + (["", *notes] if notes else []) + (["", *missed] if missed else [])


def _shortfall(figure: Figure) -> str:
    if figure.met is False:
        return f"missed its target of {_number(figure.target or 0)} {figure.unit}"
    return "is behind its peer" if figure.ratio is not None and figure.ratio < 1 else ""


def _value(figure: Figure) -> str:
    return f"{_number(figure.value)} {figure.unit}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "<=" if figure.better == "less" else ">="
    return f"{sign} {_number(figure.target)} {'met' if figure.met else 'MISSED'}"


def _peer(figure: Figure) -> str:
    if figure.peer_value is None:
        return figure.peer
    return f"{_number(figure.peer_value)} ({figure.peer}{', published' if figure.published else ''})"


def _ratio(figure: Figure) -> str:
    return f"{figure.ratio:.2g}x" if figure.ratio is not None and figure.ratio < 10 else _whole(figure.ratio)


def _whole(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.0f}x"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> str:
    """Processor, cores, memory, kernel and Python of this machine."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    load = os.getloadavg()[1]
    state = f"load average at the end: {load:.1f}; {_speed():,.0f} JSON documents of 4 KB decoded a second on one core"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB memory, {system} ({state})"


def _speed() -> float:
    """How fast this machine is just now, for comparing runs: on a shared one it varies by a factor of two and more."""
    import orjson

    labels = {f"key-{n}": f"value-{n}" for n in range(20)}
    document = orjson.dumps({"items": [{"name": f"n{n}", "labels": labels} for n in range(8)]})
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(1000):
            orjson.loads(document)
        best = max(best, 1000 / (time.perf_counter() - begin))
    return best


def _version() -> str:
    from jota import __version__

    return __version__
