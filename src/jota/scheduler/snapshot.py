"""Nodes as NumPy columns: what they have, what is used, their labels as codes. One slot per node, stable while it lives.

Plugins answer for all nodes at once from these columns. Answers that depend on node objects alone (labels, taints) are
memoised until `generation` moves, which it does when such a fact changes and not with every heartbeat. Next: cycle.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from jota.meta.quantity import milli, value
from jota.scheduler.attached import Attached
from jota.scheduler.counts import PodCounts
from jota.scheduler.devices import Devices
from jota.scheduler.pod import Shape
from jota.scheduler.storage import Storage
from jota.scheduler.topology import Topology, topology_of
from jota.scheduler.workloads import Workloads

Mask = NDArray[np.bool_]
Column = NDArray[np.float64]
K = TypeVar("K")
_JOURNAL = 4096
"""Changes of accounts that are remembered; who comes later looks at all nodes again."""
N = TypeVar("N", bound=np.generic)


class Taint(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(msgspec.Struct):
    unschedulable: bool = False
    taints: list[Taint] | None = None


class NodeImage(msgspec.Struct, gc=False):
    names: list[str] | None = None
    sizeBytes: int = 0


class NodeStatus(msgspec.Struct):
    allocatable: dict[str, str | int | float] | None = None
    images: list[NodeImage] | None = None


class NodeMeta(msgspec.Struct):
    name: str
    labels: dict[str, str] | None = None
    deletionTimestamp: str | None = None


class Node(msgspec.Struct):
    metadata: NodeMeta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


@dataclass(slots=True)
class _Labels:
    """One label key: a code per node (-1: absent) and what each code stands for."""

    codes: NDArray[np.int32]
    values: dict[str, int] = field(default_factory=dict)


class Snapshot:
    """The cluster's nodes. `size` slots are in use by live or former nodes; `alive` tells which."""

    def __init__(self) -> None:
        self.size = 0
        self.generation = 0
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
        self.facts: list[Node | None] = []
        self.ports: dict[int, dict[tuple[str, str, int], int]] = {}
        """Slot -> host ports in use, counted."""
        self.softly_tainted: set[int] = set()
        """Slots with a PreferNoSchedule taint (few or none: scores need not look at the others)."""
        self.images: dict[str, dict[int, int]] = {}
        """Image name -> slot -> bytes."""
        self.disks: dict[int, dict[tuple[str, ...], int]] = {}
        """Slot -> disks that pods there use (Volumes.exclusive), counted."""
        self.claims: dict[tuple[str, str], dict[int, int]] = {}
        """(namespace, claim) -> slot -> pods that use it."""
        self.taint_sets: list[tuple[Taint, ...]] = [()]
        """What the codes in `taints` stand for; no taints is 0."""
        self._taint_codes: dict[tuple[Taint, ...], int] = {(): 0}
        self._taints: NDArray[np.int32] = np.zeros(0, np.int32)
        self._cordoned: Mask = np.zeros(0, np.bool_)
        self.pods = PodCounts(self.topology)
        self.workloads = Workloads()
        self.storage = Storage()
        self.devices = Devices()
        self.attached = Attached(self.storage)
        self._topologies: dict[str, Topology] = {}
        """Kept until `generation` moves."""
        self._topologies_of = 0
        self._journal: list[int] = []
        self._journal_begin = 0
        self._versions: NDArray[np.int64] = np.zeros(0, np.int64)
        self._free: list[int] = []
        self._room = 0
        self.alive: Mask = np.zeros(0, np.bool_)
        self.used_cpu: Column = np.zeros(0)
        """For scores: with the defaults of containers that request nothing."""
        self.used_memory: Column = np.zeros(0)
        self._allocatable: dict[str, Column] = {}
        self._used: dict[str, Column] = {}
        self._inverse: dict[str, tuple[Column, bool]] = {}
        """Kept until a node's allocatable changes."""
        self._labels: dict[str, _Labels] = {}
        self._pending: dict[str, list[Shape]] = {}
        """Pods that are bound to nodes which we have not seen yet."""

    # -- columns

    def allocatable(self, resource: str) -> Column:
        """Per slot; cpu in milli-units. Zeros for a resource that no node has."""
        return self._column(self._allocatable, resource)[: self.size]

    def allocatable_at(self, resource: str, slot: int) -> float:
        """One entry of `allocatable`."""
        column = self._allocatable.get(resource)
        return 0.0 if column is None else column.item(slot)

    def used_at(self, resource: str, slot: int) -> float:
        """One entry of `used`."""
        column = self._used.get(resource)
        return 0.0 if column is None else column.item(slot)

    def inverse(self, resource: str) -> tuple[Column, bool]:
        """(1 / allocatable per slot, 0 where there is none; whether every live node has some). Not to be changed."""
        known = self._inverse.get(resource)
        if known is None or len(known[0]) != self.size:
            capacity = self.allocatable(resource)
            inverse = np.divide(1.0, capacity, out=np.zeros(self.size), where=capacity > 0)
            known = self._inverse[resource] = inverse, bool((inverse[self.live] > 0).all())
        return known

    def used(self, resource: str) -> Column:
        return self._column(self._used, resource)[: self.size]

    def label(self, key: str) -> tuple[NDArray[np.int32], dict[str, int]]:
        """(code per slot, value -> code); built at first use of a key and kept up from then on."""
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = _Labels(np.full(self._room, -1, np.int32))
            for slot, node in enumerate(self.facts):
                if node is not None:
                    _code(labels, slot, (node.metadata.labels or {}).get(key))
        return labels.codes[: self.size], labels.values

    def topology(self, key: str) -> Topology:
        """A label key as domains of nodes."""
        if self._topologies_of != self.generation:
            self._topologies.clear()
            self._topologies_of = self.generation
        known = self._topologies.get(key)
        if known is None:
            known = self._topologies[key] = topology_of(*self.label(key), self.live)
        return known

    def pods_changed(self, node: str) -> None:
        """Something about its pods has changed that the accounts do not hold (when they started)."""
        if (slot := self.slots.get(node)) is not None:
            self._versions[slot] += 1

    @property
    def versions(self) -> NDArray[np.int64]:
        """Per slot, a number that moves with every change of the node's accounts and pods."""
        return self._versions[: self.size]

    def mark(self) -> int:
        """A moment in the journal of accounts, for `changed_since`."""
        return self._journal_begin + len(self._journal)

    def changed_since(self, mark: int) -> list[int] | None:
        """Slots whose accounts or amounts have changed, some of them several times; None: too many, look at all."""
        begin = mark - self._journal_begin
        return self._journal[begin:] if begin >= 0 else None

    def touch(self, slot: int) -> None:
        """What is kept about this node must be looked at again."""
        self._journal.append(slot)
        self._versions[slot] += 1
        if len(self._journal) > _JOURNAL:
            self._cut_journal()

    def _cut_journal(self) -> None:
        del self._journal[: _JOURNAL // 2]
        self._journal_begin += _JOURNAL // 2

    @property
    def taints(self) -> NDArray[np.int32]:
        """Per slot, an index into `taint_sets`."""
        return self._taints[: self.size]

    @property
    def cordoned(self) -> Mask:
        """Per slot, spec.unschedulable."""
        return self._cordoned[: self.size]

    @property
    def live(self) -> Mask:
        return self.alive[: self.size]

    def _column(self, columns: dict[str, Column], resource: str) -> Column:
        column = columns.get(resource)
        if column is None:
            column = columns[resource] = np.zeros(self._room)
        return column

    # -- nodes

    def put_node(self, node: Node) -> bool:
        """Add or change a node; whether anything that could let a waiting pod fit has changed."""
        name = node.metadata.name
        slot = self.slots.get(name)
        if slot is None:
            slot = self._take_slot(name)
            for shape in self._pending.pop(name, ()):
                self._account(slot, shape, 1)
        before = self.facts[slot]
        self.facts[slot] = node
        self._set_images(slot, before, node)
        moved = self._set_allocatable(slot, node)
        if before is None or _placing(before) != _placing(node):
            self.generation += 1
            soft = any(t.effect == "PreferNoSchedule" for t in node.spec.taints or ())
            (self.softly_tainted.add if soft else self.softly_tainted.discard)(slot)
            self._taints[slot] = self._taint_code(tuple(node.spec.taints or ()))
            self._cordoned[slot] = node.spec.unschedulable
            self.pods.relabelled()
            for key, labels in self._labels.items():
                _code(labels, slot, (node.metadata.labels or {}).get(key))
            return True
        return moved

    def remove_node(self, name: str) -> None:
        slot = self.slots.pop(name, None)
        if slot is None:
            return
        before, self.facts[slot] = self.facts[slot], None
        self._inverse.clear()
        self.alive[slot] = False
        self.ports.pop(slot, None)
        self.disks.pop(slot, None)
        self.attached.leave(slot)
        for users in self.claims.values():
            users.pop(slot, None)
        self._set_images(slot, before, None)
        for labels in self._labels.values():
            labels.codes[slot] = -1
        self._taints[slot] = 0
        self._cordoned[slot] = False
        self.pods.leave(slot)
        self.softly_tainted.discard(slot)
        for columns in (self._allocatable, self._used):
            for column in columns.values():
                column[slot] = 0
        self.used_cpu[slot] = self.used_memory[slot] = 0
        self._free.append(slot)
        self.touch(slot)
        self.generation += 1

    def _take_slot(self, name: str) -> int:
        if self._free:
            slot = self._free.pop()
            self.names[slot] = name
        else:
            slot = self.size
            if slot == self._room:
                self._grow()
            self.size += 1
            self.names.append(name)
            self.facts.append(None)
        self.slots[name] = slot
        self.alive[slot] = True
        self._inverse.clear()
        self.generation += 1
        self.touch(slot)
        return slot

    def _grow(self) -> None:
        self._room = max(64, self._room * 2)
        for columns in (self._allocatable, self._used):
            for key, column in columns.items():
                columns[key] = _extended(column, self._room, 0.0)
        self.used_cpu = _extended(self.used_cpu, self._room, 0.0)
        self.used_memory = _extended(self.used_memory, self._room, 0.0)
        alive = np.zeros(self._room, np.bool_)
        alive[: self.size] = self.alive[: self.size]
        self.alive = alive
        self._versions = _widened(self._versions, self._room)
        self._cordoned = _widened(self._cordoned, self._room)
        self._taints = _widened(self._taints, self._room)
        self.pods.grow(self._room)
        self.attached.grow(self._room)
        for labels in self._labels.values():
            codes = np.full(self._room, -1, np.int32)
            codes[: self.size] = labels.codes[: self.size]
            labels.codes = codes

    def _set_allocatable(self, slot: int, node: Node) -> bool:
        moved = False
        given = node.status.allocatable or {}
        for resource in {*given, *self._allocatable}:
            quantity = given.get(resource, 0)
            amount = float(milli(str(quantity)) if resource == "cpu" else value(str(quantity)))
            column = self._column(self._allocatable, resource)
            if column[slot] != amount:
                moved = moved or amount > column[slot]
                self._inverse.clear()
                column[slot] = amount
                self.touch(slot)
        return moved

    def _taint_code(self, taints: tuple[Taint, ...]) -> int:
        code = self._taint_codes.get(taints)
        if code is None:
            code = self._taint_codes[taints] = len(self.taint_sets)
            self.taint_sets.append(taints)
        return code

    def _set_images(self, slot: int, old: Node | None, new: Node | None) -> None:
        before = (old.status.images if old else None) or []
        after = (new.status.images if new else None) or []
        if before == after:
            return
        self.generation += 1
        for image in before:
            for name in image.names or ():
                self.images[name].pop(slot, None)
                if not self.images[name]:
                    del self.images[name]
        for image in after:
            for name in image.names or ():
                self.images.setdefault(name, {})[slot] = image.sizeBytes

    # -- pods

    def add_pod(self, node: str, shape: Shape) -> None:
        slot = self.slots.get(node)
        if slot is None:
            self._pending.setdefault(node, []).append(shape)
        else:
            self._account(slot, shape, 1)

    def add_alike(self, slots: list[int], shape: Shape) -> None:
        """A pod of the shape to each of these nodes, no two of which are the same."""
        if shape.host_ports or shape.volumes.any:
            for slot in slots:
                self._account(slot, shape, 1)
            return
        self._journal += slots
        self._versions[slots] += 1
        if len(self._journal) > _JOURNAL:
            self._cut_journal()
        for resource, amount in shape.requests.items():
            self._column(self._used, resource)[slots] += amount
        self.used_cpu[slots] += shape.score_cpu
        self.used_memory[slots] += shape.score_memory
        self.pods.add_alike(slots, shape.group, shape.terms)

    def remove_pod(self, node: str, shape: Shape) -> None:
        slot = self.slots.get(node)
        if slot is not None:
            self._account(slot, shape, -1)
        elif shape in self._pending.get(node, ()):
            self._pending[node].remove(shape)

    def change_pod(self, node: str, was: Shape, now: Shape) -> None:
        """A pod there has another shape now: most often it is being deleted, which is told by its group alone."""
        slot = self.slots.get(node)
        if slot is None or was.own is not now.own or was.volumes.any or now.volumes.any:
            self.remove_pod(node, was)
            self.add_pod(node, now)
            return
        self._versions[slot] += 1
        self.pods.add(slot, was.group, was.terms, -1)
        self.pods.add(slot, now.group, now.terms, 1)

    def _account(self, slot: int, shape: Shape, sign: int) -> None:
        self.touch(slot)
        used = self._used
        for resource, amount in shape.requests.items():
            (used[resource] if resource in used else self._column(used, resource))[slot] += sign * amount
        self.used_cpu[slot] += sign * shape.score_cpu
        self.used_memory[slot] += sign * shape.score_memory
        self.pods.add(slot, shape.group, shape.terms, sign)
        for port in shape.host_ports:
            _tally(self.ports.setdefault(slot, {}), port, sign)
        for disk in shape.volumes.exclusive:
            _tally(self.disks.setdefault(slot, {}), disk, sign)
        for claim in shape.volumes.claims:
            key = (shape.group.namespace, claim)
            users = self.claims.setdefault(key, {})
            first = slot not in users
            _tally(users, slot, sign)
            if first or slot not in users:
                self.attached.add(key, slot, 1 if first else -1)
            if not users:
                del self.claims[key]


def _tally(counts: dict[K, int], key: K, sign: int) -> None:
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


def _widened(column: NDArray[N], room: int) -> NDArray[N]:
    bigger = np.zeros(room, column.dtype)
    bigger[: len(column)] = column
    return bigger


def all_of(masks: Sequence[Mask]) -> Mask:
    """True where every one is."""
    out = masks[0].copy()
    for mask in masks[1:]:
        out &= mask
    return out


def _extended(column: Column, room: int, fill: float) -> Column:
    bigger = np.full(room, fill)
    bigger[: len(column)] = column
    return bigger


def _code(labels: _Labels, slot: int, text: str | None) -> None:
    labels.codes[slot] = -1 if text is None else labels.values.setdefault(text, len(labels.values))


def _placing(node: Node) -> tuple[Any, ...]:
    return node.metadata.labels, node.spec.unschedulable, node.spec.taints, node.metadata.deletionTimestamp is None
