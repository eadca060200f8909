"""Small sums over columns of nodes that several plugins need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Column = NDArray[np.float64]


def extremes(column: Column, among: Mask) -> tuple[float, float] | None:
    """(lowest, highest) of these nodes; None when there are none."""
    some = among_all(column, among)
    return (float(some.min()), float(some.max())) if len(some) else None


def among_all(column: Column, among: Mask) -> Column:
    """The entries of these nodes; the column itself when that is all."""
    return column if bool(among.all()) else column[among]
