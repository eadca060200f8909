"""Pressure on memory, disk and process ids: when the node has too little, and which pod goes first. Pure but for `Machine`.

In: the machine's state and the pods with their use. Out: Node conditions, and the pod to evict. Hard thresholds only, as the
kubelet's defaults; ranking as upstream: above its request first, then by priority, then by how far above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jota.meta.quantity import NANO, Quantity, parse
from jota.node.config import EvictionThresholds
from jota.node.machine import Machine
from jota.node.model import Object, Verdict, parts
from jota.node.resources import amount, requests_of

GRACE = 1.0
"""Seconds: who is evicted at a hard threshold has no time of its own (upstream's immediateEvictionGracePeriodSeconds)."""
CRITICAL = 2_000_000_000
"""Priority of system pods: never evicted for pressure."""


class Pressure:
    """Remembers when each pressure was last felt, because a condition outlives it by `transition` seconds."""

    def __init__(self, thresholds: EvictionThresholds) -> None:
        self._thresholds = thresholds
        self._felt: dict[str, float] = {}

    def now(self, machine: Machine) -> dict[str, bool]:
        """What is short at this moment."""
        t = self._thresholds
        memory, disk, (pids, limit) = machine.memory(), machine.disk(), machine.pids()
        full = disk.available < disk.total * t.disk_available or (
            disk.inodes > 0 and disk.inodes_free < disk.inodes * t.inodes_free
        )
        return {
            "MemoryPressure": memory.available < t.memory_available,
            "DiskPressure": full,
            "PIDPressure": limit - pids < limit * t.pids_available,
        }

    def conditions(self, machine: Machine, now: float) -> dict[str, bool]:
        """What the Node shows."""
        if not self._thresholds.enabled:
            return dict.fromkeys(("MemoryPressure", "DiskPressure", "PIDPressure"), False)
        for name, pressed in self.now(machine).items():
            if pressed:
                self._felt[name] = now
        span = self._thresholds.transition
        names = ("MemoryPressure", "DiskPressure", "PIDPressure")
        return {name: name in self._felt and now - self._felt[name] < span for name in names}


def memory_request(pod: Object) -> int:
    return sum(amount(requests_of(c).get("memory", "0")) for c in pod["spec"].get("containers") or [])


def first_to_go(pods: Iterable[Object], used: Mapping[str, int]) -> Object | None:
    """The pod to evict for memory; `used`: pod uid -> working set in bytes. None when only critical pods are left."""
    candidates = [p for p in pods if int(p["spec"].get("priority") or 0) < CRITICAL and used.get(p["metadata"]["uid"])]

    def rank(pod: Object) -> tuple[bool, int, int]:
        over = used[pod["metadata"]["uid"]] - memory_request(pod)
        return over <= 0, int(pod["spec"].get("priority") or 0), -over

    return min(candidates, key=rank, default=None)


def evicted(pod: Object, available: int, threshold: int, used: Mapping[str, int]) -> Verdict:
    """In upstream's words, which name the containers that use more than they request. `used`: container -> bytes."""
    text = f"The node was low on resource: memory. Threshold quantity: {_bytes(threshold)}, available: {_bytes(available)}. "
    for p in parts(pod):
        request = parse(requests_of(p.spec).get("memory", "0"))
        if p.role in ("app", "sidecar") and used.get(p.name, 0) > request.value:
            text += (
                f"Container {p.name} was using {_bytes(used[p.name])}, request is {request}, "
                "has larger consumption of memory. "
            )
    return Verdict("Evicted", text, grace=GRACE, disrupts=True)


def _bytes(number: int) -> str:
    return str(Quantity(number * NANO, "BinarySI"))
