"""How many pods that a selector means are on each node, kept up with every pod; and per topology domain.

Two families. *Selected*: pods that a selector matches (an incoming pod's affinity and spread). *Carried*: pods that carry a
term (their anti-affinity and preferences bind newcomers too). Each is an array over node slots; domain sums are made from
it at first use and kept up from then on. Worked example, zones a a b on slots 0 1 2, two matching pods on slots 0 and 2:

    count.slots = [1, 0, 1]     domains("zone") = [1 (a), 1 (b), 0 (no zone)]     per_node("zone") = [1, 1, 1]

A pod costs one dictionary lookup when nobody has asked about its like. Next: snapshot.py owns one of these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.terms import Group, PodSelector, PodTerms, Term
from jota.scheduler.topology import Topology

Counts = NDArray[np.float64]
"""Whole numbers; floating, so that scores are made of them without conversion."""
Kind = Literal["anti", "hard", "soft"]
"""Required anti-affinity, required affinity, preferred either way."""
_MOST_SELECTED = 2048
"""Selectors that are counted at once; the least recently used is forgotten and counted anew when it is asked for."""


class Count:
    """Pods per node slot, and per domain of the topology keys that were asked for."""

    __slots__ = ("domains", "near", "slots", "stale", "total")

    def __init__(self, room: int) -> None:
        self.slots: Counts = np.zeros(room)
        self.total = 0
        self.domains: dict[str, Counts] = {}
        self.near: dict[str, Counts] = {}
        """Topology key -> per slot, the pods in the node's domain."""
        self.stale: set[str] = set()
        """Keys whose `near` does not follow `domains` yet."""


class PodCounts:
    def __init__(self, topology: Callable[[str], Topology]) -> None:
        self._topology = topology
        self._room = 0
        self._groups: dict[Group, dict[int, int]] = {}
        """Group -> slot -> pods."""
        self._selected: OrderedDict[tuple[PodSelector, ...], Count] = OrderedDict()
        self._carried: dict[tuple[Kind, Term], Count] = {}
        """A term that nobody carries is dropped."""
        self._counting: dict[Group, list[Count]] = {}
        """Group -> the selected counts that its pods belong to."""
        self._binding: dict[Group, list[tuple[Kind, Term, Count]]] = {}
        """Group -> the carried terms that match its pods."""
        self.namespaces: dict[str, dict[str, str]] = {}

    # -- changes

    def add(self, slot: int, group: Group, terms: PodTerms, sign: int) -> None:
        """A pod came to (1) or left (-1) the node in `slot`."""
        here = self._groups.setdefault(group, {})
        here[slot] = here.get(slot, 0) + sign
        if not here[slot]:
            del here[slot]
            if not here:
                del self._groups[group]
        for count in self._matching(group):
            self._add(count, slot, sign)
        if terms.affinity or terms.anti_affinity or terms.preferred:
            self._carry(slot, terms, sign)
        if not here and sign < 0:
            self._counting.pop(group, None)
            self._binding.pop(group, None)

    def add_alike(self, slots: list[int], group: Group, terms: PodTerms) -> None:
        """A pod came to each of these nodes, no two of which are the same."""
        here = self._groups.setdefault(group, {})
        for slot in slots:
            here[slot] = here.get(slot, 0) + 1
        for count in self._matching(group):
            count.slots[slots] += 1
            count.total += len(slots)
            for key, sums in count.domains.items():
                codes = self._topology(key).codes[slots]
                np.add.at(sums, codes[codes >= 0], 1)
                count.stale.add(key)
        if terms.affinity or terms.anti_affinity or terms.preferred:
            for slot in slots:
                self._carry(slot, terms, 1)

    def _carry(self, slot: int, terms: PodTerms, sign: int) -> None:
        families: tuple[tuple[Kind, tuple[Term, ...]], ...] = (
            ("hard", terms.affinity),
            ("anti", terms.anti_affinity),
            ("soft", terms.preferred),
        )
        for kind, family in families:
            for term in family:
                key = (kind, term)
                count = self._carried.get(key)
                if count is None:
                    count = self._carried[key] = Count(self._room)
                    self._binding.clear()
                self._add(count, slot, sign)
                if not count.total:
                    del self._carried[key]
                    self._binding.clear()

    def _add(self, count: Count, slot: int, sign: int) -> None:
        count.slots[slot] += sign
        count.total += sign
        for key, sums in count.domains.items():
            code = self._topology(key).codes[slot]
            if code >= 0:
                sums[code] += sign
                count.stale.add(key)

    def leave(self, slot: int) -> None:
        """The node is gone, and its pods with it."""
        for group in list(self._groups):
            here = self._groups[group]
            here.pop(slot, None)
            if not here:
                del self._groups[group]
        for key, count in [*self._carried.items(), *((None, c) for c in self._selected.values())]:
            count.total -= int(count.slots[slot])
            count.slots[slot] = 0
            if key is not None and not count.total:
                del self._carried[key]
        self._binding.clear()
        self.relabelled()

    def relabelled(self) -> None:
        """Nodes came, went, or changed a label: domains are summed anew when they are asked for."""
        for count in (*self._selected.values(), *self._carried.values()):
            count.domains.clear()
            count.near.clear()

    def grow(self, room: int) -> None:
        self._room = room
        for count in (*self._selected.values(), *self._carried.values()):
            bigger = np.zeros(room)
            bigger[: len(count.slots)] = count.slots
            count.slots = bigger

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """None: it is gone. True when the labels changed; what was counted by them is counted anew."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        self._selected.clear()
        self._counting.clear()
        self._binding.clear()
        return True

    # -- questions

    def selected(self, *selectors: PodSelector) -> Count:
        """Pods that match all of these."""
        count = self._selected.get(selectors)
        if count is not None:
            self._selected.move_to_end(selectors)
            return count
        count = self._selected[selectors] = Count(self._room)
        for group, here in self._groups.items():
            if self._matches(selectors, group):
                for slot, pods in here.items():
                    count.slots[slot] += pods
                    count.total += pods
        if len(self._selected) > _MOST_SELECTED:
            self._selected.popitem(last=False)
        self._counting.clear()
        return count

    def carried(self, group: Group) -> list[tuple[Kind, Term, Count]]:
        """The terms of pods on nodes that match a pod of this group."""
        known = self._binding.get(group)
        if known is None:
            found = [(k, t, c) for (k, t), c in self._carried.items() if t.selector.matches(group, self.namespaces)]
            known = self._binding[group] = found
            if len(self._binding) > 4 * _MOST_SELECTED:
                self._binding.pop(next(iter(self._binding)))
        return known

    def domains(self, count: Count, key: str) -> Counts:
        """Pods per domain code of the topology `key`, and a last 0 for nodes outside. Not to be changed."""
        sums = count.domains.get(key)
        topology = self._topology(key)
        if sums is None or len(sums) <= topology.domains:
            sums = count.domains[key] = self.sums(count, topology, topology.keyed)
            count.near.pop(key, None)
        return sums

    def sums(self, count: Count, topology: Topology, among: NDArray[np.bool_]) -> Counts:
        """Pods per domain, on these nodes alone (all of which have the label); and a last 0."""
        weights = count.slots[: len(among)][among]
        summed = np.bincount(topology.codes[among], weights=weights, minlength=topology.domains + 1)
        return summed.astype(np.float64, copy=False)  # sums of nothing come as integers

    def per_node(self, count: Count, key: str) -> Counts:
        """Per slot, the pods in the node's own domain; 0 for nodes without the label. Not to be changed."""
        topology = self._topology(key)
        if topology.lone and topology.everywhere:
            return count.slots[: len(topology.codes)]
        sums = self.domains(count, key)
        near = count.near.get(key)
        if near is None or key in count.stale:
            near = count.near[key] = sums.take(topology.codes, mode="wrap")
            count.stale.discard(key)
        return near

    def in_every_domain(self, count: Count, key: str) -> bool:
        """Whether each live node has such a pod in its domain."""
        topology = self._topology(key)
        if not topology.everywhere or count.total < topology.present:
            return False
        return int(np.count_nonzero(count.slots if topology.lone else self.domains(count, key))) == topology.present

    def anywhere(self, count: Count, key: str) -> bool:
        """Whether there is such a pod on any node with the label."""
        if not count.total or self._topology(key).everywhere:
            return bool(count.total)
        return bool(self.per_node(count, key).any())

    def matches(self, selector: PodSelector, group: Group) -> bool:
        return selector.matches(group, self.namespaces)

    def _matching(self, group: Group) -> list[Count]:
        known = self._counting.get(group)
        if known is None:
            known = [c for s, c in self._selected.items() if self._matches(s, group)]
            self._counting[group] = known
        return known

    def _matches(self, selectors: tuple[PodSelector, ...], group: Group) -> bool:
        return all(s.matches(group, self.namespaces) for s in selectors)
