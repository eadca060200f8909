"""The real scheduler on a copy of the cluster: nodes are added and emptied for trial, and every trial can be undone.

    mark = simulation.mark()
    simulation.add_node("local-3", group)
    left = simulation.place(pods)       # those that fit nowhere
    simulation.undo(mark)

In: an Observed, and which of its nodes do not count. Next: scaleup.py and scaledown.py ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from jota.autoscaler.world import (
    CORDONED,
    GROUP,
    HOSTNAME,
    TO_BE_DELETED,
    GroupView,
    Node,
    NodeMeta,
    NodeStatus,
    Observed,
    Pod,
)
from jota.scheduler.pod import Shapes
from jota.scheduler.rehearsal import Rehearsal
from jota.scheduler.snapshot import NodeSpec, Taint

_OF_THE_MOMENT = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    TO_BE_DELETED,
    "DeletionCandidateOfClusterAutoscaler",
)
"""Taints that say how a node is just now; a new node of its group does not have them."""


@dataclass(slots=True)
class Simulation:
    observed: Observed
    away: Collection[str] = ()
    """Names of nodes that do not count: not ready, or being removed."""
    shapes: Shapes = field(default_factory=Shapes)
    rehearsal: Rehearsal = field(init=False)
    on_node: dict[str, list[Pod]] = field(default_factory=dict)
    """Node -> the pods that are bound to it and not over."""
    guests: dict[str, list[Pod]] = field(default_factory=dict)
    """Node -> the pods that are there for trial."""
    _journal: list[Callable[[], None]] = field(default_factory=list)
    _daemons: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        seen = self.observed
        copy = self.rehearsal = Rehearsal(shapes=self.shapes)
        nodes = copy.nodes
        for namespace in seen.namespaces:
            nodes.pods.set_namespace(namespace.metadata.name, namespace.metadata.labels or {})
        nodes.storage.claims.update({c.key: c for c in seen.claims})
        nodes.storage.volumes.update({v.metadata.name: v for v in seen.volumes})
        nodes.storage.classes.update({c.metadata.name: c for c in seen.classes})
        for limits in seen.csinodes:
            counts = {d.name: d.allocatable.count for d in limits.spec.drivers or () if d.allocatable is not None}
            nodes.storage.limits[limits.metadata.name] = {k: v for k, v in counts.items() if v is not None}
        for kind, objects in seen.selecting.items():
            for obj in objects:
                nodes.workloads.put(kind, obj)
        for pod in seen.pods:
            if pod.spec.nodeName and not pod.finished:
                self.on_node.setdefault(pod.spec.nodeName, []).append(pod)
        here = [n for n in seen.nodes if n.name not in self.away]
        copy.load(here, [p for n in here for p in self.on_node.get(n.name, ())])
        self._daemons = [_daemon_pod(d.metadata.namespace, d.metadata.name, d.spec.template) for d in seen.daemons]

    # -- trials

    def mark(self) -> int:
        """A moment to which `undo` can return."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        while len(self._journal) > mark:
            self._journal.pop()()

    def add_node(self, name: str, group: GroupView) -> None:
        """A node as the group makes them, with its daemons."""
        self._put(template_node(name, group, self.observed.nodes))
        for pod in self.on_node.get(name, ()):
            self._hold(pod, name)
        if name not in self.on_node:
            for pod in self._daemons:
                if self.rehearsal.allowed(pod, name):
                    self._hold(pod, name)

    def bring_back(self, node: Node) -> None:
        """A node that did not count, as if nobody were removing it."""
        taints = [t for t in node.spec.taints or () if t.key != TO_BE_DELETED]
        ours = CORDONED in (node.metadata.annotations or {})
        spec = NodeSpec(node.spec.unschedulable and not ours, taints)
        self._put(msgspec.structs.replace(node, spec=spec))
        for pod in self.on_node.get(node.name, ()):
            self._hold(pod, node.name)

    def take_out(self, node: Node) -> list[Pod]:
        """Remove a node with everything on it; the pods that were there for trial, which need another place too."""
        guests = list(self.guests.get(node.name, ()))
        everything = [*self.on_node.get(node.name, ()), *guests]
        for pod in everything:
            self.rehearsal.lift(pod, node.name)
        self.rehearsal.nodes.remove_node(node.name)

        def back() -> None:
            self.rehearsal.nodes.put_node(node)
            for pod in everything:
                self.rehearsal.hold(pod, node.name)

        self._journal.append(back)
        return guests

    def place(self, pods: Sequence[Pod]) -> list[Pod]:
        """Put the pods where the scheduler would, the most important first; those that fit nowhere."""
        batches: dict[tuple[int, int], list[Pod]] = {}
        for pod in sorted(pods, key=lambda p: -p.spec.priority):
            batches.setdefault((pod.spec.priority, id(self.rehearsal.shape(pod))), []).append(pod)
        left = []
        for batch in batches.values():
            names = self.rehearsal.place(batch)
            for pod, name in zip(batch, names, strict=False):
                self._note(pod, name)
            left += batch[len(names) :]
        return left

    def put_on(self, pod: Pod, node: str) -> None:
        """The pod goes there, fitting or not: preemption is making room for it."""
        self._hold(pod, node)

    # -- asking

    def utilization(self, name: str) -> float:
        """The larger part of cpu and memory that is requested (upstream's measure); 0 for a node without any."""
        return max((used / whole for used, whole in self._amounts(name) if whole), default=0.0)

    def waste(self, names: Iterable[str]) -> float:
        """The part of these nodes' cpu and memory that nobody requests, on average."""
        parts = [1 - min(1.0, used / whole) for n in names for used, whole in self._amounts(n) if whole]
        return sum(parts) / len(parts) if parts else 0.0

    def refusals(self, pod: Pod, name: str, group: GroupView) -> list[str]:
        """Why the pod would not go to a new node of the group."""
        mark = self.mark()
        self.add_node(name, group)
        reasons = self.rehearsal.refused(pod, name)
        self.undo(mark)
        return reasons

    def _amounts(self, name: str) -> list[tuple[float, float]]:
        nodes = self.rehearsal.nodes
        slot = nodes.slots[name]
        return [(float(nodes.used(r)[slot]), float(nodes.allocatable(r)[slot])) for r in ("cpu", "memory")]

    def _put(self, node: Node) -> None:
        self.rehearsal.nodes.put_node(node)
        self._journal.append(lambda: self.rehearsal.nodes.remove_node(node.name))

    def _hold(self, pod: Pod, node: str) -> None:
        self.rehearsal.hold(pod, node)
        self._note(pod, node)

    def _note(self, pod: Pod, node: str) -> None:
        self.guests.setdefault(node, []).append(pod)

        def undo() -> None:
            self.rehearsal.lift(pod, node)
            self.guests[node].remove(pod)

        self._journal.append(undo)


def template_node(name: str, group: GroupView, nodes: Sequence[Node]) -> Node:
    """What a new node of the group is like: one of its ready nodes without what is its own, else the provider's word."""
    example = next((n for n in nodes if n.group == group.name and n.ready and n.marked_at is None), None)
    labels = dict(example.metadata.labels or {}) if example is not None else dict(group.template.labels)
    labels |= {HOSTNAME: name, GROUP: group.name}
    if example is None:
        taints = [Taint(t["key"], t.get("value") or "", t["effect"]) for t in group.template.taints]
        allocatable: dict[str, str | int | float] = dict(group.template.allocatable)
    else:
        taints = [t for t in example.spec.taints or () if not t.key.startswith(_OF_THE_MOMENT)]
        allocatable = dict(example.status.allocatable or {})
    return Node(
        metadata=NodeMeta(name=name, labels=labels),
        spec=NodeSpec(False, taints),
        status=NodeStatus(allocatable=allocatable),
    )


_DAEMONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
"""What every daemon's pod tolerates (upstream: AddOrUpdateDaemonPodTolerations)."""


def _daemon_pod(namespace: str, name: str, template: dict[str, object]) -> Pod:
    pod = msgspec.convert(template | {"metadata": {"name": name, "namespace": namespace}}, Pod)
    labels = (template.get("metadata") or {}).get("labels")  # type: ignore[attr-defined]
    pod.metadata.labels = labels
    given = msgspec.to_builtins(pod.spec.tolerations or [])
    given += [{"key": key, "operator": "Exists", "effect": effect} for key, effect in _DAEMONS]
    pod.spec = msgspec.convert({**msgspec.to_builtins(pod.spec), "tolerations": given}, type(pod.spec))
    return pod
