"""Sets of completion indexes and their text, as `status.completedIndexes` and `status.failedIndexes` carry them. Pure.

Worked example: {1, 3, 4, 5, 7} is "1,3-5,7".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count


def parse(text: str | None, limit: int) -> set[int]:
    """The indexes below `limit`. Parts that are no numbers are skipped: a status may have been edited by hand."""
    out: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            out.update(range(int(first), min(int(last or first) + 1, limit)))
    return {i for i in out if i < limit}


def render(indexes: Iterable[int]) -> str:
    """Ascending, with runs of three and more (and of two) written as ranges."""
    runs: list[list[int]] = []
    for i in sorted(indexes):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(f"{a}" if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in runs)


def pending(taken: set[int], limit: int, wanted: int) -> list[int]:
    """The first `wanted` indexes below `limit` that are not taken."""
    out: list[int] = []
    numbers: Iterator[int] = count()
    while len(out) < wanted and (i := next(numbers)) < limit:
        if i not in taken:
            out.append(i)
    return out
