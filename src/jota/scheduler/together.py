"""Pods that are placed together or not at all: trials in the snapshot that are undone when too few fit. No I/O.

In: the members of a gang, how many of them must be placed at least, where. Out: a Trial, or the room that others would
have to make. Members are placed greedily, most important first and then largest first; as upstream, no other order is
tried, so a gang of unlike pods may be refused though a cleverer order would fit it. Next: gang.py, who acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import msgspec
import numpy as np

from jota.scheduler import preemption
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Shape
from jota.scheduler.preemption import Budget, Candidate, Placed, guards
from jota.scheduler.queue import Waiting
from jota.scheduler.snapshot import Mask, Snapshot


class Reserver(Protocol):
    """Who keeps volumes or devices for a pod between the decision and its binding."""

    def reserve(self, shape: Shape, slot: int) -> None: ...
    def release(self, shape: Shape) -> None: ...


@dataclass(slots=True)
class Trial:
    placed: list[tuple[Waiting, int]] = field(default_factory=list)
    """With their slots; assumed in the snapshot unless the trial was undone."""
    refused: list[Waiting] = field(default_factory=list)
    refusals: dict[str, dict[str, int]] = field(default_factory=dict)
    """Why the first refused member fits nowhere beside those placed: plugin -> reason -> nodes."""
    plugins: set[str] = field(default_factory=set)
    """That had a part in refusing any member."""


class Together:
    def __init__(self, nodes: Snapshot, cycle_of: Callable[[Waiting], Cycle], reservers: Sequence[Reserver]) -> None:
        self._nodes, self._cycle_of, self._reservers = nodes, cycle_of, reservers

    def place(
        self, members: Iterable[Waiting], least: int, within: Mask | None = None, kept: Mapping[str, str] | None = None
    ) -> Trial:
        """As many members as fit, but at least `least` or none. `kept`: pod uid -> the node that was nominated for it."""
        trial = Trial()
        try:
            for run in self._runs(members):
                self._place_run(run, within, kept or {}, trial)
        except BaseException:
            self.undo(trial)
            raise
        if len(trial.placed) < least:
            self.undo(trial)
        return trial

    def undo(self, trial: Trial) -> None:
        """Take the placed ones out of the snapshot again; the trial still tells where they were."""
        for waiting, slot in reversed(trial.placed):
            for reserver in self._reservers if waiting.shape.reserves else ():
                reserver.release(waiting.shape)
            self._nodes.remove_pod(self._nodes.names[slot], waiting.shape)

    def domains(self, key: str, shape: Shape, members: Sequence[Waiting], taken: Iterable[str]) -> list[Mask]:
        """The parts of the cluster that the label divides it into, the roomiest first; only that of `taken` nodes, if any."""
        codes, values = self._nodes.label(key)
        here = {int(codes[self._nodes.slots[n]]) for n in taken if n in self._nodes.slots}
        feasible = self._cycle_of(members[0]).feasible(shape)
        chosen = [(int((feasible & (codes == code)).sum()), value, code) for value, code in values.items()]
        chosen = [c for c in chosen if not here or c[2] in here]
        return [codes == code for _, _, code in sorted(chosen, key=lambda c: (-c[0], c[1]))]

    def make_room(
        self,
        members: Iterable[Waiting],
        least: int,
        priority: int | None,
        on_node: Mapping[str, Mapping[str, Placed]],
        budgets: Iterable[Budget],
        mates: Callable[[Placed], Iterable[Placed]],
        start: int,
        within: Mask | None = None,
    ) -> list[tuple[Waiting, Candidate]]:
        """Where `least` members would fit, each with the victims that must go for it first; empty: it cannot be done.

        `mates`: who goes with a victim because they are disrupted as a whole. Everything is undone.
        """
        nodes, budgets = self._nodes, list(budgets)
        view: dict[str, Mapping[str, Placed]] = dict(on_node)
        found: list[tuple[Waiting, Candidate]] = []
        gone: list[Placed] = []
        failed: set[int] = set()
        """Shapes that fit nowhere even so."""
        try:
            for waiting in (w for run in self._runs(members) for w in run):
                if len(found) == least or id(waiting.shape) in failed:
                    continue
                cycle, shape = self._cycle_of(waiting), waiting.shape
                slots = cycle.place(shape, 1, within)
                if slots:
                    found.append((waiting, Candidate(nodes.names[slots[0]])))
                    continue
                own = waiting.pod.spec.priority if priority is None else priority
                asked = preemption.Asked(cycle, nodes, shape, own, view, budgets, start)
                candidate, _ = preemption.find(asked, within)
                if candidate is None:
                    failed.add(id(shape))
                    continue
                candidate.victims = with_mates(candidate.victims, mates, gone)
                for victim in candidate.victims:
                    nodes.remove_pod(victim.node, victim.shape)
                    gone.append(victim)
                    view[victim.node] = {u: p for u, p in view[victim.node].items() if u != victim.uid}
                    budgets = [_spent(b) if guards(b, victim) else b for b in budgets]
                nodes.add_pod(candidate.node, shape)
                found.append((waiting, candidate))
        finally:
            for waiting, candidate in found:
                nodes.remove_pod(candidate.node, waiting.shape)
            for victim in gone:
                nodes.add_pod(victim.node, victim.shape)
        return found if len(found) == least else []

    # -- parts

    def _runs(self, members: Iterable[Waiting]) -> Iterator[list[Waiting]]:
        """Members in order of their decision, those that one decision serves together."""
        sizes: dict[int, float] = {}
        for w in members:
            sizes.setdefault(id(w.shape), self._size(w.shape))

        def order(w: Waiting) -> tuple[int, float, int, str]:
            return -w.pod.spec.priority, -sizes[id(w.shape)], id(w.shape), w.pod.spec.schedulerName

        ordered = sorted(sorted(members, key=lambda w: w.order), key=order)
        for _, run in groupby(ordered, key=order):
            yield list(run)

    def _size(self, shape: Shape) -> float:
        """The largest share of any node's whole that it asks for."""
        shares = [0.0]
        for resource, amount in shape.requests.items():
            most = float(self._nodes.allocatable(resource).max(initial=0.0))
            shares.append(amount / most if most else np.inf)
        return max(shares)

    def _place_run(self, run: list[Waiting], within: Mask | None, kept: Mapping[str, str], trial: Trial) -> None:
        cycle, shape = self._cycle_of(run[0]), run[0].shape
        if not shape.reserves and not kept:
            slots = cycle.place(shape, len(run), within)
            trial.placed += zip(run, slots, strict=False)
            refused = run[len(slots) :]
        else:
            refused = []
            for waiting in run:
                slot = self._place_one(cycle, waiting, within, kept.get(waiting.pod.metadata.uid, ""))
                if slot is None:
                    refused.append(waiting)
                else:
                    trial.placed.append((waiting, slot))
                    for reserver in self._reservers if shape.reserves else ():
                        reserver.reserve(shape, slot)
        if refused:
            refusals = cycle.refusals(shape, within)
            trial.plugins |= refusals.keys()
            trial.refusals = trial.refusals or refusals
        trial.refused += refused

    def _place_one(self, cycle: Cycle, waiting: Waiting, within: Mask | None, kept: str) -> int | None:
        slots: list[int] = []
        if kept in self._nodes.slots:
            there = np.zeros(self._nodes.size, np.bool_)
            there[self._nodes.slots[kept]] = True
            slots = cycle.place(waiting.shape, 1, there if within is None else there & within)
        slots = slots or cycle.place(waiting.shape, 1, within)
        return slots[0] if slots else None


def with_mates(victims: list[Placed], mates: Callable[[Placed], Iterable[Placed]], gone: list[Placed]) -> list[Placed]:
    """The victims and who goes with them, each once, without those already `gone`."""
    known = {v.uid for v in gone}
    every = {v.uid: v for victim in victims for v in (victim, *mates(victim))}
    return [v for uid, v in every.items() if uid not in known]


def _spent(budget: Budget) -> Budget:
    status = msgspec.structs.replace(budget.status, disruptionsAllowed=budget.status.disruptionsAllowed - 1)
    return msgspec.structs.replace(budget, status=status)
