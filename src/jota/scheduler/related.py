"""Scores that pods on other nodes have a part in: a straight line over a raw number per node, which follows the pods of a batch.

In: a plugin that gives raw numbers (framework.Related). Out: the score, or its share of a batch's row. Between two pods of a
batch few raw numbers change; what they change of the line's ends is looked up anew. Next: cycle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jota.scheduler.classes import Classes, Part, classes_of
from jota.scheduler.columns import extremes
from jota.scheduler.framework import Related, Score
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot


@dataclass(slots=True)
class Raw:
    column: Column
    """One's own."""
    among: Mask
    """The nodes that it is about; all others have no score."""
    follow: Callable[[int], bool]
    """Brings the column up to date after one more pod of the shape came to a slot; False: it must be made anew."""
    parts: Sequence[Part] = ()
    """What it is the sum of, if that is known."""


def cannot_follow(_slot: int) -> bool:
    return False


def score(plugin: Related, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
    """As Score.score."""
    raw = plugin.raw(nodes, shape, feasible)
    ends = None if raw is None else extremes(raw.column, raw.among)
    line = None if ends is None else plugin.line(*ends)
    if raw is None or line is None:
        return None
    raw.column *= line[0]
    raw.column += line[1]
    if raw.among is not feasible:
        raw.column[~raw.among] = 0.0
    return raw.column


class Following:
    """One plugin's say while pods of one shape are placed."""

    def __init__(self, plugin: Related, weight: float, nodes: Snapshot, shape: Shape) -> None:
        self._plugin, self._weight, self._nodes, self._shape = plugin, weight, nodes, shape
        self._raw: Raw | None = None
        self._known = False
        self._some: slice | np.ndarray[tuple[int], np.dtype[np.intp]] = slice(None)
        """Places of the nodes that the numbers are about."""
        self._outside: Mask | None = None
        """Feasible nodes among the others, if there are any."""

    def placed(self, slot: int) -> None:
        """A pod of the shape came there, and where the next may go is as before."""
        if self._raw is not None:
            self._known = self._raw.follow(slot)
        else:
            self._known = False

    def forget(self) -> None:
        """Where the next pod may go has changed."""
        self._known = False

    def added_to(self, row: Column) -> Column:
        """The row with the weighted score, but for what is the same everywhere."""
        if not self._known:
            self._make(row)
        raw = self._raw
        if raw is None:
            return row
        some = raw.column[self._some]
        line = self._plugin.line(float(some.min()), float(some.max())) if len(some) else None
        if line is None:
            return row
        column = raw.column * (self._weight * line[0])
        if self._outside is not None:
            column += self._weight * line[1]
            column[self._outside] = 0.0
        column += row
        return column

    def classes(self, row: Column, most: int) -> Classes | None:
        """The nodes in classes, for up to `most` pods that are placed in no other way; None: they do not fall into a few."""
        if not self._known:
            self._make(row)
        raw = self._raw
        if raw is None or not raw.parts or self._outside is not None:
            return None
        return classes_of(raw.column, raw.parts, row, self._plugin.line, self._weight, most)

    def _make(self, row: Column) -> None:
        feasible = row != -np.inf
        raw = self._raw = self._plugin.raw(self._nodes, self._shape, feasible)
        self._known = True
        if raw is None:
            return
        self._some = slice(None) if raw.among.all() else np.flatnonzero(raw.among)
        self._outside = None if raw.among is feasible else ~raw.among


class Asked:
    """The same for a plugin that gives nothing but its score."""

    def __init__(self, plugin: Score, weight: float, nodes: Snapshot, shape: Shape) -> None:
        self._plugin, self._weight, self._nodes, self._shape = plugin, weight, nodes, shape

    def placed(self, slot: int) -> None:
        """Nothing is kept."""

    def forget(self) -> None:
        """Nothing is kept."""

    def classes(self, _row: Column, _most: int) -> Classes | None:
        """Nothing is known of it."""
        return None

    def added_to(self, row: Column) -> Column:
        """The row with the weighted score."""
        column = self._plugin.score(self._nodes, self._shape, row != -np.inf)
        return row if column is None else row + self._weight * column
