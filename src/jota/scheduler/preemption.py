"""Preemption: which pods of lower priority must go so that a pod fits, on which node. Pure but for trials in the snapshot.

Rules as upstream's DefaultPreemption: on each node that could help, all pods of lower priority are taken off and then put
back one by one, those that a disruption budget protects first; who cannot come back is a victim. Of the nodes, the one with
the fewest broken budgets, then the least important, then the fewest victims is taken.

Where only room is missing and no budget has a say, all nodes are judged at once (victims.py). Elsewhere (affinity, spread,
ports, budgets) pods are really taken off and put back in the snapshot, node by node; every such trial is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from jota.meta.selectors import LabelSelector
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Shape
from jota.scheduler.snapshot import Mask, Snapshot
from jota.scheduler.terms import Group, label_selector
from jota.scheduler.victims import Best, Verdicts, Victims, importance

_LEAST, _SHARE = 100, 0.1
"""Candidate nodes that are tried one by one: a tenth of all, at least a hundred (upstream's defaults)."""


@dataclass(slots=True, frozen=True, eq=False)
class Placed:
    """A pod that the snapshot counts, bound or assumed."""

    node: str
    shape: Shape
    uid: str
    namespace: str
    name: str
    priority: int = 0
    started: str = ""
    """RFC 3339; "" when it has not started."""
    terminating: bool = False


class _BudgetMeta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""


class _BudgetSpec(msgspec.Struct):
    selector: dict[str, Any] | None = None


class _BudgetStatus(msgspec.Struct):
    disruptionsAllowed: int = 0
    disruptedPods: dict[str, str] | None = None


class Budget(msgspec.Struct):
    """A PodDisruptionBudget, as far as it is read."""

    metadata: _BudgetMeta
    spec: _BudgetSpec = msgspec.field(default_factory=_BudgetSpec)
    status: _BudgetStatus = msgspec.field(default_factory=_BudgetStatus)

    @property
    def selector(self) -> LabelSelector:
        return label_selector(self.spec.selector)


@dataclass(slots=True)
class Candidate:
    node: str
    victims: list[Placed] = field(default_factory=list)
    violations: int = 0
    """Budgets' protection that would be broken."""
    displaced: list[Placed] = field(default_factory=list)
    """Less important pods that room was kept for there, which is theirs no more."""

    def cost(self) -> tuple[Any, ...]:
        """Lower is better. Ties go to the node whose most important victims started last."""
        highest = max(v.priority for v in self.victims)
        starts = [v.started or "~" for v in self.victims if v.priority == highest]
        return (
            self.violations,
            highest,
            sum(v.priority + 2**31 for v in self.victims),
            len(self.victims),
            _late(min(starts)),
        )


def _late(stamp: str) -> tuple[int, ...]:
    """Orders stamps from late to early."""
    return tuple(-ord(c) for c in stamp)


class Asked(NamedTuple):
    """Room for a pod that finds none."""

    cycle: Cycle
    nodes: Snapshot
    shape: Shape
    priority: int
    on_node: Mapping[str, Mapping[str, Placed]]
    budgets: Sequence[Budget]
    start: int
    """Where the round over the nodes begins."""


def find(asked: Asked, within: Mask | None = None) -> tuple[Candidate | None, str]:
    """The best candidate, or why there is none in upstream's words. `within`: only there, if given."""
    look = _look(asked, within)
    best = look.table.best(look.easy, look.verdicts, asked.priority, look.wanted, asked.start)
    chosen = look.candidate(asked.nodes, best) if best is not None else None
    if chosen is not None and not look.others.any():
        return chosen, ""  # most often; where room is all that is missing, it helps
    helpful = _helpful(asked, within)
    tried = _best_of(asked, look.others & helpful)
    if tried is not None and (chosen is None or tried.cost() < chosen.cost()):
        chosen = tried
    if chosen is not None:
        return chosen, ""
    total = int(asked.nodes.live.sum())
    return None, no_victims(total, total - int(helpful.sum()))


def find_alike(asked: Asked, count: int) -> list[Candidate]:
    """Of up to so many pods of a shape the best candidates, each as `find` would give it once room is kept for those before it.

    As many as one look tells, none where it takes a closer one (`find`): where more than room is missing."""
    if not asked.cycle.minds_only_room(asked.shape):
        return []
    look = _look(asked, None)
    if look.others.any():
        return []
    found = look.table.best_for_each(
        look.easy, look.verdicts, asked.shape, asked.priority, look.wanted, asked.start, count
    )
    return [look.candidate(asked.nodes, best) for best in found]


class _Look(NamedTuple):
    """At all nodes at once."""

    table: Victims
    verdicts: Verdicts
    wanted: list[tuple[str, float]]
    """What NodeResourcesFit looks for."""
    easy: Mask
    """Nodes with less important pods, where nothing but room is missing."""
    others: Mask
    """Nodes with less important pods, which must be tried one by one."""

    def candidate(self, nodes: Snapshot, best: Best) -> Candidate:
        row = self.table.row(best.slot)
        return Candidate(nodes.names[best.slot], [row[place] for place in best.places])


def _look(asked: Asked, within: Mask | None) -> _Look:
    cycle, shape, priority = asked.cycle, asked.shape, asked.priority
    table = cycle.victims
    table.follow(asked.on_node)
    wanted = cycle.wanted(shape)
    verdicts = table.verdicts(shape, priority, wanted)
    some = verdicts.lower if within is None else verdicts.lower & within
    plain = cycle.lacks_only_room(shape)
    easy = some & plain if plain is not None else np.zeros(asked.nodes.size, np.bool_)
    if asked.budgets:
        guarded = _Guarded(asked.budgets)
        for slot in np.flatnonzero(easy).tolist():
            easy[slot] = not any(guarded.has(p) for p in table.row(slot) if p.priority < priority)
    return _Look(table, verdicts, wanted, easy, some & ~easy)


def every(asked: Asked, within: Mask | None = None) -> tuple[list[Candidate], str]:
    """As `find`, for who wants to choose among candidates: a tenth of all nodes, at least a hundred, tried one by one."""
    total, helpful = int(asked.nodes.live.sum()), _helpful(asked, within)
    enough, found = max(_LEAST, int(total * _SHARE)), list[Candidate]()
    for slot in _round(asked, helpful):
        candidate = _try(asked, slot)
        if candidate is not None:
            found.append(candidate)
            if len(found) >= enough:
                break
    return found, "" if found else no_victims(total, total - int(helpful.sum()))


def _helpful(asked: Asked, within: Mask | None) -> Mask:
    """Where room would help."""
    helpful = asked.nodes.live & ~asked.cycle.hopeless(asked.shape)
    return helpful if within is None else helpful & within


def _round(asked: Asked, among: Mask) -> list[int]:
    """The slots in the order in which they are tried."""
    slots = np.flatnonzero(among)
    order: list[int] = np.roll(slots, -int(np.searchsorted(slots, asked.start))).tolist()
    return order


def _best_of(asked: Asked, among: Mask) -> Candidate | None:
    """Node by node."""
    chosen: Candidate | None = None
    tried, enough = 0, max(_LEAST, int(asked.nodes.live.sum() * _SHARE))
    first: tuple[Any, ...] = ()
    for slot in _round(asked, among):
        candidate = _try(asked, slot)
        if candidate is None:
            continue
        if chosen is None or candidate.cost() < chosen.cost():
            chosen = candidate
        tried += 1
        first = first or candidate.cost()[:-1]
        # A hundred nodes and not one better than the first: they are all alike, and more of them tell nothing new.
        if tried >= enough or (tried >= _LEAST and chosen.cost()[:-1] == first):
            break
    return chosen


class _Guarded:
    """Whether any budget looks after a pod, asked once per group of pods."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets
        self._known: dict[Group, bool] = {}

    def has(self, pod: Placed) -> bool:
        group = pod.shape.group
        known = self._known.get(group)
        if known is None:
            known = self._known[group] = any(
                b.metadata.namespace == group.namespace and b.selector.matches(group.labels) for b in self._budgets
            )
        return known


def no_victims(total: int, hopeless: int) -> str:
    parts = []
    if total - hopeless:
        parts.append(f"{total - hopeless} No preemption victims found for incoming pod")
    if hopeless:
        parts.append(f"{hopeless} Preemption is not helpful for scheduling")
    return f"0/{total} nodes are available: {', '.join(sorted(parts))}."


def _try(asked: Asked, slot: int) -> Candidate | None:
    cycle, nodes, shape = asked.cycle, asked.nodes, asked.shape
    here = asked.on_node.get(nodes.names[slot], {})
    lower = [p for p in here.values() if p.priority < asked.priority]
    if not lower:
        return None
    candidate, protected = Candidate(nodes.names[slot]), _protected(lower, asked.budgets)
    away: dict[str, Placed] = {}
    """Who is taken off the node at this moment of the trial."""
    try:
        for pod in lower:
            nodes.remove_pod(pod.node, pod.shape)
            away[pod.uid] = pod
        if not cycle.fits(shape, slot):
            return None
        for pod in sorted(lower, key=lambda p: (p.uid not in protected, *importance(p))):
            nodes.add_pod(pod.node, pod.shape)
            del away[pod.uid]
            if not cycle.fits(shape, slot):
                nodes.remove_pod(pod.node, pod.shape)
                away[pod.uid] = pod
                candidate.victims.append(pod)
                candidate.violations += pod.uid in protected
    finally:
        for pod in away.values():
            nodes.add_pod(pod.node, pod.shape)
    return candidate if candidate.victims else None


def _protected(pods: list[Placed], budgets: Sequence[Budget]) -> set[str]:
    """The uids of pods whose going would break a budget."""
    left = {id(b): b.status.disruptionsAllowed for b in budgets}
    found = set()
    for pod in sorted(pods, key=importance):
        for budget in budgets:
            if guards(budget, pod):
                left[id(budget)] -= 1
                if left[id(budget)] < 0:
                    found.add(pod.uid)
    return found


def guards(budget: Budget, pod: Placed) -> bool:
    return (
        budget.metadata.namespace == pod.namespace
        and budget.selector.matches(pod.shape.group.labels)
        and pod.name not in (budget.status.disruptedPods or {})
    )
