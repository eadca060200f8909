"""A node label as a topology: which domain each node is in. Values only; Snapshot.topology keeps them until a node changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Topology:
    """Arrays over node slots; not to be changed.

    A node without the label has the code -1. Sums per domain have one entry more, which stays 0, so that
    `sums.take(codes, mode="wrap")` gives such nodes nothing.
    """

    codes: NDArray[np.intp]
    domains: int
    """Codes that were ever given."""
    keyed: Mask
    """Live nodes with the label."""
    keyed_count: int
    present: int
    """Domains of live nodes."""
    everywhere: bool
    """Every live node has the label."""
    lone: bool
    """Every domain is a single node, as with host names."""
    whole: bool
    """Every live node is in the one domain."""


def topology_of(codes: NDArray[np.int32], values: dict[str, int], live: Mask) -> Topology:
    keyed = live & (codes >= 0)
    count = int(np.count_nonzero(keyed))
    there = np.zeros(len(values), np.bool_)
    there[codes[keyed]] = True
    present = int(np.count_nonzero(there))
    everywhere = count == int(np.count_nonzero(live))
    return Topology(
        codes=codes.astype(np.intp),
        domains=len(values),
        keyed=keyed,
        keyed_count=count,
        present=present,
        everywhere=everywhere,
        lone=count == present,
        whole=everywhere and present == 1,
    )
