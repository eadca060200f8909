"""Which machines to make for pods that fit nowhere. Pure but for trials in the simulation. Next: plan.py.

For every group that may grow, nodes are added one by one until all pods are placed, nothing more fits or the group is full;
the group that wastes least is taken, and what is left is tried again with the others (upstream's expander `least-waste`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jota.autoscaler.actions import Create, Memory
from jota.autoscaler.census import Census
from jota.autoscaler.simulation import Simulation
from jota.autoscaler.world import GroupView, Node, Observed, Pod

FULL, WAITING, SILENT = "max node group size reached", "in backoff after failed scale-up", "not ready for scale-up"
TOTAL = "max cluster size reached"
EXPLAINED = 50
"""Shapes of pods whose reasons are worked out in one pass."""


@dataclass(slots=True)
class ScaleUp:
    creates: list[Create] = field(default_factory=list)
    helped: dict[str, list[Pod]] = field(default_factory=dict)
    """Group -> the pods for which its machines are made."""
    unhelped: list[Pod] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Option:
    view: GroupView
    names: list[str]
    left: list[Pod]
    waste: float
    placed: int


def least(simulation: Simulation, census: Census, observed: Observed, memory: Memory, now: float) -> ScaleUp:
    """Machines that are missing for the groups' minimum; they count in the simulation from now on."""
    up = ScaleUp()
    for view in observed.groups:
        if view.fault or memory.backing_off(view.name, now) is not None:
            continue
        missing = min(view.settings.min - census.size(view) - census.revivable(view), census.room(view))
        names = census.names(view, observed.nodes)
        for _ in range(max(0, missing)):
            name = next(names)
            simulation.add_node(name, view)
            up.creates.append(Create(view.name, name))
    return up


def grow(
    up: ScaleUp,
    pods: Sequence[Pod],
    simulation: Simulation,
    census: Census,
    observed: Observed,
    memory: Memory,
    now: float,
) -> None:
    """Add to `up` what the pods need."""
    left = list(pods)
    while left:
        options = [
            o for v in observed.groups if (o := _estimate(v, left, up, simulation, census, observed, memory, now))
        ]
        if not options:
            break
        best = min(options, key=lambda o: (round(o.waste, 6), -o.placed, len(o.names), o.view.name))
        for name in best.names:
            simulation.add_node(name, best.view)
            up.creates.append(Create(best.view.name, name))
        still = simulation.place(left)
        kept = {id(p) for p in still}
        up.helped.setdefault(best.view.name, []).extend(p for p in left if id(p) not in kept)
        if len(still) == len(left):
            break
        left = still
    up.unhelped = left


def room(view: GroupView, up: ScaleUp, census: Census, observed: Observed) -> int:
    """Machines that the group may still get."""
    ordered = sum(c.group == view.name for c in up.creates)
    free = census.room(view) - ordered
    if total := observed.options.maxNodesTotal:
        coming = sum(m.node is None and m.stage == "starting" for m in census.members) + len(up.creates)
        free = min(free, total - len(observed.nodes) - coming)
    return max(0, free)


def _estimate(
    view: GroupView,
    pods: list[Pod],
    up: ScaleUp,
    simulation: Simulation,
    census: Census,
    observed: Observed,
    memory: Memory,
    now: float,
) -> Option | None:
    """What the group would make of these pods; None when it cannot help."""
    free = room(view, up, census, observed)
    if not free or view.fault or memory.backing_off(view.name, now) is not None:
        return None
    names, made, left = _free_names(view, up, census, observed.nodes), list[str](), pods
    begin = simulation.mark()
    while left and len(made) < free:
        here, name = simulation.mark(), next(names)
        simulation.add_node(name, view)
        still = simulation.place(left)
        if len(still) == len(left):
            simulation.undo(here)
            break
        made.append(name)
        left = still
    waste = simulation.waste(made)
    simulation.undo(begin)
    return Option(view, made, left, waste, len(pods) - len(left)) if made else None


def _free_names(view: GroupView, up: ScaleUp, census: Census, nodes: list[Node]) -> Iterator[str]:
    ordered = {c.name for c in up.creates}
    return (name for name in census.names(view, nodes) if name not in ordered)


def explain(
    pods: Sequence[Pod],
    up: ScaleUp,
    simulation: Simulation,
    census: Census,
    observed: Observed,
    memory: Memory,
    now: float,
) -> list[tuple[Pod, str]]:
    """For each pod the text of NotTriggerScaleUp: how many groups do not help, and why."""
    known: dict[int, str] = {}
    told = []
    for pod in pods:
        shape = id(simulation.rehearsal.shape(pod))
        if shape not in known:
            if len(known) >= EXPLAINED:
                continue
            known[shape] = _reasons(pod, up, simulation, census, observed, memory, now)
        told.append((pod, known[shape]))
    return told


def _reasons(
    pod: Pod, up: ScaleUp, simulation: Simulation, census: Census, observed: Observed, memory: Memory, now: float
) -> str:
    tally: dict[str, int] = {}
    for view in observed.groups:
        if view.fault:
            reasons = [SILENT]
        elif memory.backing_off(view.name, now) is not None:
            reasons = [WAITING]
        elif not census.room(view) - sum(c.group == view.name for c in up.creates):
            reasons = [FULL]
        elif not room(view, up, census, observed):
            reasons = [TOTAL]
        else:
            reasons = simulation.refusals(pod, next(_free_names(view, up, census, observed.nodes)), view)
        for reason in reasons:
            tally[reason] = tally.get(reason, 0) + 1
    return "pod didn't trigger scale-up: " + ", ".join(f"{n} {reason}" for reason, n in sorted(tally.items()))
