"""The scheduling framework: what a plugin is. A plugin answers for all nodes at once; `plugins/` has one file each.

A filter's mask says where a pod may go, a score says where it had better go. `static` filters look at node objects alone,
so their masks are memoised per shape until a node changes. `reasons` explains a refusal in upstream's words, node by node.
"""

from __future__ import annotations

from typing import Protocol

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

BEST = 100.0
"""A plugin's highest score for a node, before its weight."""


class Filter(Protocol):
    name: str
    static: bool

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where the pod passes, one entry per slot; None: everywhere. The caller does not change it."""
        ...

    def reasons(self, nodes: Snapshot, shape: Shape, slot: int) -> list[str]:
        """Why the node in `slot`, where `mask` is False, was refused."""
        ...


class Score(Protocol):
    name: str
    weight: float

    def score(self, nodes: Snapshot, shape: Shape) -> Column | None:
        """0 to BEST per slot; None: the same everywhere."""
        ...

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float:
        """The same for one slot, after its use has changed (batches of one shape re-score only the chosen node)."""
        ...
