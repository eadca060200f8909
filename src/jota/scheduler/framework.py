"""The scheduling framework: what a plugin is. A plugin answers for all nodes at once; `plugins/` has one file each.

A filter's mask says where a pod may go, a score says where it had better go. `static` filters look at node objects and at
the pod's Placement alone, so their masks are memoised until a node changes. `tally` explains refusals in upstream's
words. Plugins of other packages are entry points of the group "jota.scheduler.plugins" (config.py).

Answers that one node's object and accounts decide for all shapes of one `Shape.own` may be kept from pod to pod: a plugin
says so by `own = True` (Own, OwnFilter). Everything else is asked again for each pod, which is always right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Column, Mask, Snapshot

if TYPE_CHECKING:
    from jota.scheduler.related import Raw

BEST = 100.0
"""A plugin's highest score for a node, before its weight."""


@runtime_checkable
class Filter(Protocol):
    name: str
    static: bool

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        """True where the pod passes, one entry per slot; None: everywhere. The caller does not change it."""
        ...

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        """Upstream's reason -> how many of the `refused` nodes (where `mask` is False) it kept out."""
        ...


@runtime_checkable
class Score(Protocol):
    name: str

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Column | None:
        """0 to BEST per slot; None: the same everywhere, also beside more pods of this shape.

        Only entries of `feasible` nodes are looked at. The caller does not change the column.
        """
        ...

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        """The same for one slot after its use has changed; None when it depends on other nodes too.

        Batches of one shape re-score only the chosen node, if every plugin that has a say can do that.
        """
        ...


@runtime_checkable
class Related(Score, Protocol):
    """A score that is a straight line over a raw number per node (related.py); `score_one` is None where it has a say."""

    def raw(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> Raw | None:
        """None: no node has an advantage now. The caller may change the column."""
        ...

    def line(self, low: float, high: float) -> tuple[float, float] | None:
        """(factor, addend) that make 0 to BEST of raw numbers between these; None: the same for all."""
        ...


@runtime_checkable
class Own(Protocol):
    """A score with `own = True`: `score_one` is never None, and looks only at the node's object and accounts and at what
    shapes of one `Shape.own` have in common. Where `score` is None it stays so until a node's object changes."""

    own: bool


@runtime_checkable
class OwnFilter(Filter, Protocol):
    """A filter that can judge one node alone: as Own, for filters. A static one helps pods that name their node."""

    def fits(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        """The mask's entry for one slot."""
        ...


@runtime_checkable
class Coupled(Filter, Protocol):
    """A filter whose answer may stay the same while pods of one shape are placed."""

    def couples(self, nodes: Snapshot, shape: Shape) -> bool:
        """Whether placing one pod of this shape can change where the next may go."""
        ...


@runtime_checkable
class Narrow(Coupled, Protocol):
    """A coupled filter of which a placed pod changes no more than the answer for its own node."""

    def room_at(self, nodes: Snapshot, shape: Shape, slot: int) -> bool:
        """The mask's entry for one slot, where there is a mask."""
        ...


@runtime_checkable
class Easing(Filter, Protocol):
    """A filter of which it may be known that preemption only helps."""

    def eases(self, nodes: Snapshot, shape: Shape) -> bool:
        """Whether a node that passes now passes whichever pods go."""
        ...
