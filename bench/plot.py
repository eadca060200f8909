"""A line chart as SVG text, for docs/benchmarks.md: series over one axis, both from zero. No library, no fonts of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 16, 44
COLOURS = ("#1f6feb", "#d29922", "#2da44e", "#cf222e", "#8250df")
Points = Sequence[tuple[float, float]]


def svg(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """One line per series, named at its end."""
    most_x = max(x for points in series.values() for x, _ in points)
    most_y = max(y for points in series.values() for _, y in points)
    step_x, step_y = _step(most_x), _step(most_y)
    top_y = step_y * -(-most_y // step_y)

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * x / most_x, TOP + high * (1 - y / top_y)

    style = "font:12px sans-serif;fill:#57606a"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for value in _ticks(top_y, step_y):
        x0, y = at(0, value)
        x1, _ = at(most_x, value)
        lines.append(f'<path d="M{x0:.1f} {y:.1f}H{x1:.1f}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{x0 - 6:.1f}" y="{y + 4:.1f}" text-anchor="end" style="{style}">{value:g}</text>')
    for value in _ticks(most_x, step_x):
        x, y = at(value, 0)
        lines.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle" style="{style}">{value:,g}</text>')
    lines.append(f'<text x="{LEFT}" y="{HEIGHT - 8}" style="{style}">{x_label}; vertical: {y_label}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*p) for p in points))
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            x, y = at(*point)
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        lines.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" style="font:12px sans-serif;fill:{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _step(most: float) -> float:
    """A round number of which four to nine make up `most`."""
    rough = most / 5
    unit = 10.0 ** floor(log10(rough))
    return float(next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough))


def _ticks(most: float, step: float) -> list[float]:
    return [step * n for n in range(int(most / step + 1e-9) + 1)]
