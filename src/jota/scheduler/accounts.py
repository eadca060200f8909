"""Which pods the snapshot counts and where: those that are bound, and those that are assumed to be until that is seen.

In: pods that were placed, seen bound, changed or gone. Out: the snapshot counts each once; who stands on a node, for
preemption.py. Called by scheduler.py, which decides whom a change may help.
"""

from __future__ import annotations

from collections import Counter

from jota.scheduler.nominations import uncount
from jota.scheduler.pod import Pod, Shape
from jota.scheduler.preemption import Placed
from jota.scheduler.snapshot import Snapshot


class Accounts:
    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self.placed: dict[str, Placed] = {}
        """Pod uid -> every pod that the snapshot counts."""
        self.on_node: dict[str, dict[str, Placed]] = {}
        self.assumed: set[str] = set()
        """Uids of those that nobody has seen bound yet."""
        self._priorities: Counter[int] = Counter()
        """Of the placed pods."""

    def any_below(self, priority: int) -> bool:
        return any(p < priority for p in self._priorities)

    def assume(self, pod: Pod, node: str, shape: Shape) -> None:
        """The snapshot counts it already, since it was placed."""
        self.assumed.add(pod.metadata.uid)
        self._hold(placed_on(pod, node, shape))

    def seen(self, pod: Pod, shape: Shape) -> bool:
        """A bound pod as it is now. Whether its node or what it needs is other than what was counted."""
        uid, node = pod.metadata.uid, pod.spec.nodeName
        known = self.placed.get(uid)
        if known is None or known.node != node:
            self.forget(uid)
            self._nodes.add_pod(node, shape)
        elif known.shape is not shape:
            self._nodes.change_pod(node, known.shape, shape)
        else:
            if bool(known.started) != bool(pod.status.startTime):
                self._hold(placed_on(pod, node, shape))
                self._nodes.pods_changed(node)
            return False
        self._hold(placed_on(pod, node, shape))
        return True

    def forget(self, uid: str) -> bool:
        """The pod holds no resources any more; whether it held some."""
        self.assumed.discard(uid)
        known = self.placed.pop(uid, None)
        if known is None:
            return False
        uncount(self._priorities, known.priority)
        there = self.on_node[known.node]
        there.pop(uid, None)
        if not there:
            del self.on_node[known.node]
        self._nodes.remove_pod(known.node, known.shape)
        return True

    def lose_node(self, name: str) -> None:
        """Its pods keep their place in the accounts: the node may come back under its name before they are gone."""
        self._nodes.remove_node(name)
        for placed in self.on_node.get(name, {}).values():
            self._nodes.add_pod(name, placed.shape)

    def _hold(self, placed: Placed) -> None:
        if placed.uid not in self.placed:
            self._priorities[placed.priority] += 1
        self.placed[placed.uid] = placed
        self.on_node.setdefault(placed.node, {})[placed.uid] = placed


def placed_on(pod: Pod, node: str, shape: Shape) -> Placed:
    """As it is to be counted there."""
    meta, going = pod.metadata, pod.metadata.deletionTimestamp is not None
    return Placed(node, shape, meta.uid, meta.namespace, meta.name, pod.spec.priority, pod.status.startTime, going)
