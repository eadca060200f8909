"""A rehearsal: the real scheduler's decision for pods that do not exist yet, on a copy of the cluster's state. Nothing is written.

In: lists of the API's objects, then pods one after another. Out: an Outcome each: the node and why, or what is in the way.
Pods that were rehearsed stay in the copy, so a whole application is tried together. Used by `jota plan`; the cluster
autoscaler also adds and removes nodes and takes back what it tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jota.scheduler import preemption
from jota.scheduler.cycle import Cycle, explanation
from jota.scheduler.devicebinder import release, reserve
from jota.scheduler.pod import Pod, Shape, Shapes
from jota.scheduler.preemption import Budget, Placed
from jota.scheduler.profile import Profile, default_profile
from jota.scheduler.snapshot import Node, Snapshot


@dataclass(slots=True)
class Outcome:
    pod: str
    """namespace/name"""
    node: str = ""
    feasible: int = 0
    """Nodes that would have done."""
    total: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    """Plugin -> weighted score of the chosen node."""
    refusals: dict[str, int] = field(default_factory=dict)
    """Upstream's reason -> nodes kept out."""
    message: str = ""
    """FailedScheduling's text, when it fits nowhere."""
    victims: list[str] = field(default_factory=list)
    """Pods that preemption would send away for it."""


class Rehearsal:
    def __init__(self, profile: Profile | None = None, seed: int = 0, shapes: Shapes | None = None) -> None:
        """`shapes`: a memo that outlives this copy, for who rehearses the same pods again and again."""
        self.nodes = Snapshot()
        self._shapes = shapes or Shapes()
        self._profile = profile or default_profile()
        self._cycle = Cycle(self._profile, self.nodes, seed)
        self._on_node: dict[str, dict[str, Placed]] = {}
        self.budgets: list[Budget] = []

    def load(self, nodes: Iterable[Node], pods: Iterable[Pod]) -> None:
        """The cluster as it is."""
        for node in nodes:
            self.nodes.put_node(node)
        for pod in pods:
            if pod.spec.nodeName and not pod.finished:
                self.hold(pod, pod.spec.nodeName)

    def shape(self, pod: Pod) -> Shape:
        """Pods of one shape go to the same places."""
        return self._shapes.of(pod)

    def place(self, pods: Sequence[Pod]) -> list[str]:
        """Nodes for pods of one shape, in their order; fewer than pods when no more fit. They are then in the copy."""
        slots = self._cycle.place(self._shapes.of(pods[0]), len(pods))
        names = [self.nodes.names[slot] for slot in slots]
        for pod, name in zip(pods, names, strict=False):
            self._on_node.setdefault(name, {})[_identity(pod)] = self._placed(pod, name)
        return names

    def allowed(self, pod: Pod, node: str) -> bool:
        """Whether labels, taints and affinity let the pod go there, however full the node is."""
        slot = self.nodes.slots.get(node)
        return slot is not None and bool(self._cycle.allowed(self._shapes.of(pod))[slot])

    def refused(self, pod: Pod, node: str) -> list[str]:
        """Upstream's reasons why the pod cannot go to this one node now."""
        only = np.zeros(self.nodes.size, np.bool_)
        only[self.nodes.slots[node]] = True
        return [reason for tally in self._cycle.refusals(self._shapes.of(pod), only).values() for reason in tally]

    def try_pod(self, pod: Pod) -> Outcome:
        """Place the pod in the copy."""
        shape = self._shapes.of(pod)
        outcome = Outcome(pod.key, total=int(self.nodes.live.sum()))
        refusals = self._cycle.refusals(shape)
        for tally in refusals.values():
            for reason, count in tally.items():
                outcome.refusals[reason] = outcome.refusals.get(reason, 0) + count
        feasible = self._cycle.feasible(shape)
        outcome.feasible = int(feasible.sum())
        if outcome.feasible:
            scores = self._cycle.scorecard(shape, feasible)
            slot = self._cycle.place(shape, 1)[0]
            if shape.devices:
                reserve(self.nodes, shape, slot)
            outcome.node = self.nodes.names[slot]
            outcome.scores = {name: round(float(column[slot]), 2) for name, column in scores.items()}
            self._on_node.setdefault(outcome.node, {})[_identity(pod)] = self._placed(pod, outcome.node)
            return outcome
        outcome.message = explanation(refusals, outcome.total)
        if outcome.total and pod.spec.preemptionPolicy != "Never":
            priority, budgets = pod.spec.priority, self.budgets
            asked = preemption.Asked(self._cycle, self.nodes, shape, priority, self._on_node, budgets, 0)
            candidate, _ = preemption.find(asked)
            if candidate is not None:
                outcome.victims = sorted(f"{v.namespace}/{v.name}" for v in candidate.victims)
        return outcome

    def hold(self, pod: Pod, node: str) -> None:
        """The pod is on the node, whether it fits or not."""
        self.nodes.add_pod(node, self._shapes.of(pod))
        self._on_node.setdefault(node, {})[_identity(pod)] = self._placed(pod, node)

    def lift(self, pod: Pod, node: str) -> None:
        """The pod has left the node."""
        shape = self._shapes.of(pod)
        self.nodes.remove_pod(node, shape)
        self._on_node.get(node, {}).pop(_identity(pod), None)
        release(self.nodes, shape)

    def _placed(self, pod: Pod, node: str) -> Placed:
        meta = pod.metadata
        return Placed(
            node, self._shapes.of(pod), meta.uid, meta.namespace, meta.name, pod.spec.priority, pod.status.startTime
        )


def _identity(pod: Pod) -> str:
    return pod.metadata.uid or pod.key
