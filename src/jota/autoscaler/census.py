"""Who is who: machines of the providers and Nodes of the API, matched. Pure. In: an Observed. Out: a Census. Next: plan.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jota.aio.clock import parse_rfc3339
from jota.autoscaler.actions import GroupCounts, Memory
from jota.autoscaler.provider import Machine
from jota.autoscaler.world import GroupView, Node, Observed

_FIRST_REPORT = 30.0
"""Seconds after its birth in which a node says for the first time that it is not ready."""


@dataclass(slots=True, frozen=True)
class Member:
    """A machine of a group, with its Node once that has registered."""

    view: GroupView
    machine: Machine
    node: Node | None
    stage: str
    """ready | unready | starting (soon a node) | late (it should be one by now) | failed | going"""
    since: float
    """When the machine was made, or first seen."""


@dataclass(slots=True)
class Census:
    members: list[Member] = field(default_factory=list)
    gone: list[Node] = field(default_factory=list)
    """Nodes of known groups whose machines are no more."""

    def of(self, view: GroupView) -> list[Member]:
        return [m for m in self.members if m.view is view]

    def size(self, view: GroupView) -> int:
        """Machines that count for the minimum: those that are and will stay."""
        return sum(m.stage not in ("going", "failed", "late") for m in self.of(view))

    def revivable(self, view: GroupView) -> int:
        """Nodes whose drain can be called off."""
        return sum(
            m.node is not None and m.node.ready and m.node.marked_at is not None and m.machine.state != "deleting"
            for m in self.of(view)
        )

    def room(self, view: GroupView) -> int:
        """How many machines may still be made. Those that are going still count."""
        return max(0, view.settings.max - len(self.of(view)))

    def names(self, view: GroupView, nodes: list[Node]) -> Iterator[str]:
        """Free names for new machines, the lowest number first."""
        taken = (
            {m.machine.name for m in self.members}
            | {m.machine.node_name for m in self.members}
            | {n.name for n in nodes}
        )
        number = view.first
        while True:
            name = f"{view.prefix}{number}"
            if name not in taken:
                yield name
            number += 1

    def away(self, nodes: list[Node]) -> set[str]:
        """Nodes that no pod can count on."""
        return {n.name for n in nodes if not n.ready or n.marked_at is not None or n.metadata.deletionTimestamp}


def take(observed: Observed, memory: Memory, now: float) -> Census:
    census = Census()
    nodes = {n.name: n for n in observed.nodes}
    provision = observed.options.maxNodeProvisionTime
    seen: dict[tuple[str, str], float] = {}
    for view in observed.groups:
        mine: set[str] = set()
        for machine in view.machines:
            key = view.name, machine.name
            seen[key] = memory.first_seen.get(key, now)
            since = machine.created or seen[key]
            node = nodes.get(machine.node_name)
            mine.add(machine.node_name)
            census.members.append(Member(view, machine, node, _stage(machine, node, since, provision, now), since))
        if not view.fault:
            census.gone += [n for n in observed.nodes if n.group == view.name and n.name not in mine]
    memory.first_seen = seen
    return census


def _stage(machine: Machine, node: Node | None, since: float, provision: float, now: float) -> str:
    if machine.state == "deleting" or (node is not None and node.marked_at is not None):
        return "going"
    if node is None:
        if machine.state == "failed":
            return "failed"
        return "late" if now - since > provision else "starting"
    if node.ready:
        return "ready"
    born = parse_rfc3339(node.metadata.creationTimestamp) if node.metadata.creationTimestamp else since
    return "starting" if now - max(born, since) <= provision and _never_ready(node, born) else "unready"


def _never_ready(node: Node, born: float) -> bool:
    """A node that lost its readiness long after its birth is broken, not young."""
    return node.unready_since - born < _FIRST_REPORT


def counts(census: Census, view: GroupView) -> GroupCounts:
    found = GroupCounts()
    for member in census.of(view):
        found.target += member.stage not in ("going", "failed", "late")
        found.registered += member.node is not None
        found.ready += member.stage == "ready"
        found.unready += member.stage == "unready"
        found.starting += member.stage == "starting" and member.node is not None
        found.deleted += member.stage == "going"
        found.unregistered += member.stage == "starting" and member.node is None
        found.late += member.stage in ("late", "failed")
    return found
