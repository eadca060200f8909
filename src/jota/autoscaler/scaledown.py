"""Which nodes are not needed, and how the drain of one goes on. Pure but for trials in the simulation. Next: plan.py.

A drain is what the API shows of it: the taint begins it, pods are evicted while there are any, then the machine goes. Each
pass asks anew whether the pods that are left fit elsewhere; when they do not, the node is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jota.autoscaler.actions import Evict, Mark, Memory, Plan, Remove, Tell, Unmark
from jota.autoscaler.census import Census, Member
from jota.autoscaler.movable import Keepers, Verdict, judge
from jota.autoscaler.simulation import Simulation
from jota.autoscaler.world import DRAINED, Node, Observed, Pod


@dataclass(slots=True)
class ScaleDown:
    """One pass."""

    observed: Observed
    simulation: Simulation
    census: Census
    memory: Memory
    now: float
    plan: Plan
    _receiving: set[str] = field(default_factory=set)
    """Nodes that take pods of nodes which are to go: they stay."""
    _keepers: Keepers = field(init=False)

    def __post_init__(self) -> None:
        self._keepers = Keepers.of(self.observed.budgets, self.observed.volumes)

    # -- drains that have begun

    def go_on(self, needed: Sequence[str]) -> None:
        """Next steps of all drains. `needed`: nodes that pending pods could use; they are given back."""
        for member in self.census.members:
            node = member.node
            if node is None or node.marked_at is None or node.metadata.deletionTimestamp:
                continue
            if node.name in needed:
                self.plan.actions.append(Unmark(node, "pending pods need it", failed=False))
            elif reason := self._step(member, node, node.marked_at):
                self._give_back(node, reason)

    def _step(self, member: Member, node: Node, begun: float) -> str:
        """Plan the next step; the reason why there is none any more, or ""."""
        seen = self.observed
        verdict = judge(node, self._pods(node), seen.options, self._keepers, ask_budgets=False)
        if member.machine.state == "deleting":
            return ""
        if self.census.size(member.view) < member.view.settings.min:
            return f"the group {member.view.name} is at its minimum"
        if verdict.reason:
            return verdict.reason
        if self.simulation.place(verdict.move):
            return "its pods fit nowhere else"
        waiting = [*verdict.move, *(verdict.leaving if node.ready else ())]
        if waiting and self.now - begun > seen.options.maxPodEvictionTime:
            return f"{len(waiting)} pods could not be evicted in {seen.options.maxPodEvictionTime:.0f} s"
        self.plan.actions += [Evict(p) for p in (*verdict.move, *verdict.leaving) if not p.terminating]
        if not waiting:
            drained = DRAINED in (node.metadata.annotations or {})
            self.plan.actions.append(Remove(member.view.name, member.machine.name, node, drained))
        return ""

    def _give_back(self, node: Node, reason: str) -> None:
        self.plan.actions.append(Unmark(node, reason))
        self.plan.tells.append(Tell(node, "ScaleDownFailed", f"failed to drain the node: {reason}", "Warning"))
        self.memory.failed = self.now

    # -- new ones

    def look(self, may_begin: bool) -> None:
        """Find the nodes that are not needed, and begin to drain those that have not been for long enough."""
        if not self.observed.options.scaleDownEnabled:
            self.memory.unneeded.clear()
            return
        unneeded = self._unneeded()
        before = self.memory.unneeded
        self.memory.unneeded = {m.machine.node_name: before.get(m.machine.node_name, self.now) for m, _ in unneeded}
        for member, _ in unneeded:
            self.plan.counts[member.view.name].candidates += 1
        if may_begin:
            self._begin(unneeded)

    def _begin(self, unneeded: list[tuple[Member, Verdict]]) -> None:
        options = self.observed.options
        going = [m for m in self.census.members if m.stage == "going"]
        drains = sum(m.node is not None and any(not p.stays for p in self._pods(m.node)) for m in going)
        free = options.maxScaleDownParallelism - len(going)
        for member, verdict in unneeded:
            node = member.node
            assert node is not None
            since = self.memory.unneeded[node.name]
            patience = options.scaleDownUnneededTime if node.ready else 0.0  # its own time has passed already
            full = bool(verdict.move or verdict.leaving)
            if free <= 0 or self.now - since < patience or (full and drains >= options.maxDrainParallelism):
                continue
            self.plan.actions.append(Mark(node, member.view.name, full))
            free -= 1
            drains += full

    def _unneeded(self) -> list[tuple[Member, Verdict]]:
        """In a fixed order, and together: each leaves in the simulation before the next is tried."""
        found: list[tuple[Member, Verdict]] = []
        spare = {v.name: self.census.size(v) - v.settings.min for v in self.observed.groups}
        tried = 0
        for member, verdict in self._candidates():
            node = member.node
            assert node is not None
            name = member.view.name
            if spare[name] <= 0 or node.name in self._receiving:
                continue
            if verdict.move:
                tried += 1
                if tried > self.observed.options.scaleDownNonEmptyCandidatesCount:
                    continue
            if self._leaves(node, verdict.move):
                found.append((member, verdict))
                spare[name] -= 1
            else:
                self._keep(member, "its pods fit nowhere else")
        return found

    def _candidates(self) -> list[tuple[Member, Verdict]]:
        """Nodes that use little and whose pods may move: the empty first, then those known for long, then by use."""
        seen, out = self.observed, []
        for member in self.census.members:
            node = member.node
            if node is None or node.metadata.deletionTimestamp:
                continue
            if member.stage == "unready" and self.now - node.unready_since >= seen.options.scaleDownUnreadyTime:
                use = 0.0
            elif member.stage == "ready":
                use = self.simulation.utilization(node.name)
                if use >= seen.options.scaleDownUtilizationThreshold:
                    continue
            else:
                continue
            verdict = judge(node, self._pods(node), seen.options, self._keepers)
            if verdict.reason:
                self._keep(member, verdict.reason)
                continue
            full = bool(verdict.move or self.simulation.guests.get(node.name))
            known = self.memory.unneeded.get(node.name, self.now)
            out.append(((full, known, use, node.name), member, verdict))
        return [(member, verdict) for _, member, verdict in sorted(out, key=lambda entry: entry[0])]

    def _keep(self, member: Member, reason: str) -> None:
        self.plan.kept.setdefault(member.view.name, {})[member.machine.node_name] = reason

    def _leaves(self, node: Node, move: list[Pod]) -> bool:
        """Whether all fits without the node; then it is out of the simulation."""
        mark = self.simulation.mark()
        pods = list(move)
        if node.name in self.simulation.rehearsal.nodes.slots:
            pods += [p for p in self.simulation.take_out(node) if not p.stays]
        before = {n: len(g) for n, g in self.simulation.guests.items()}
        if self.simulation.place(pods):
            self.simulation.undo(mark)
            return False
        self._receiving |= {n for n, g in self.simulation.guests.items() if len(g) > before.get(n, 0)}
        return True

    def _pods(self, node: Node) -> list[Pod]:
        return self.simulation.on_node.get(node.name, [])
