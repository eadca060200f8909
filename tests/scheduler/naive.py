"""The obviously correct scheduler: plain loops, one pod at a time, one node at a time. The vectorised one must agree.

Written from upstream's documented behaviour, without arrays, memos or shared code beyond the parsed pod.
"""

from __future__ import annotations

import math

from jota.meta.quantity import milli, value
from jota.scheduler.pod import Shape, Toleration
from jota.scheduler.snapshot import Node, Taint
from jota.scheduler.terms import PodSelector, Spread, Term

HOSTNAME = "kubernetes.io/hostname"


def amount(name: str, quantity: object) -> float:
    return float(milli(str(quantity)) if name == "cpu" else value(str(quantity)))


def tolerates(tolerations: tuple[Toleration, ...], taint: Taint) -> bool:
    for t in tolerations:
        same_effect = t.effect in ("", taint.effect)
        same_key = t.key in ("", taint.key)
        same_value = t.operator == "Exists" or (t.key != "" and t.value == taint.value)
        if same_effect and same_key and same_value:
            return True
    return False


class NaiveNode:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.metadata.name
        self.labels = node.metadata.labels or {}
        self.pods: list[Shape] = []
        self.capacity = {k: amount(k, v) for k, v in (node.status.allocatable or {}).items()}

    def used(self, resource: str) -> float:
        return sum(p.requests.get(resource, 0.0) for p in self.pods)

    def taints_tolerated(self, shape: Shape) -> bool:
        hard = [t for t in self.node.spec.taints or () if t.effect != "PreferNoSchedule"]
        return all(tolerates(shape.tolerations, t) for t in hard)

    def selected(self, shape: Shape) -> bool:
        return all(self.labels.get(k) == v for k, v in shape.selector)

    def own_refusals(self, shape: Shape) -> list[str]:
        cordon = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
        if self.node.spec.unschedulable and not tolerates(shape.tolerations, cordon):
            return ["unschedulable"]
        if not self.taints_tolerated(shape):
            return ["taint"]
        if not self.selected(shape):
            return ["selector"]
        for protocol, address, port in shape.host_ports:
            for other in self.pods:
                for p2, a2, n2 in other.host_ports:
                    if protocol == p2 and port == n2 and (address == a2 or "0.0.0.0" in (address, a2)):
                        return ["ports"]
        return [r for r, a in shape.requests.items() if self.used(r) + a > self.capacity.get(r, 0.0)]

    def own_score(self, shape: Shape) -> float:
        cpu, memory = self.capacity.get("cpu", 0.0), self.capacity.get("memory", 0.0)
        used_cpu = sum(p.score_cpu for p in self.pods) + shape.score_cpu
        used_memory = sum(p.score_memory for p in self.pods) + shape.score_memory
        parts = [(used_cpu, cpu), (used_memory, memory)]
        left = [100 * max(0.0, 1 - u / c) for u, c in parts if c]
        score = sum(left) / len(left) if left else 0.0
        if "cpu" in shape.requests or "memory" in shape.requests:
            share = [min(1.0, u / c) if c else 1.0 for u, c in parts]
            score += 100 - 50 * abs(share[0] - share[1])
        return score


class NaiveCluster:
    def __init__(self, nodes: list[NaiveNode], namespaces: dict[str, dict[str, str]]) -> None:
        self.nodes, self.namespaces = nodes, namespaces

    # -- filters

    def refusals(self, shape: Shape, node: NaiveNode) -> list[str]:
        found = node.own_refusals(shape)
        if not all(self._spread_ok(shape, c, node) for c in shape.terms.spread if c.hard):
            found.append("spread")
        if not self._near_ok(shape, node):
            found.append("affinity")
        if any(self._shares(node, t, lambda p, t=t: self._meant(t.selector, p)) for t in shape.terms.anti_affinity):
            found.append("anti-affinity")
        if any(
            node.labels.get(t.topology) is not None
            and node.labels[t.topology] == other.labels.get(t.topology)
            and self._meant(t.selector, shape)
            for other in self.nodes
            for pod in other.pods
            for t in pod.terms.anti_affinity
        ):
            found.append("existing anti-affinity")
        return found

    def _meant(self, selector: PodSelector, pod: Shape) -> bool:
        group = pod.group
        chosen = selector.namespace_selector
        here = group.namespace in selector.namespaces or (
            chosen is not None and chosen.matches(self.namespaces.get(group.namespace))
        )
        return here and selector.labels.matches(group.labels)

    def _shares(self, node: NaiveNode, term: Term, wanted) -> bool:  # type: ignore[no-untyped-def]
        mine = node.labels.get(term.topology)
        return mine is not None and any(
            other.labels.get(term.topology) == mine and any(wanted(p) for p in other.pods) for other in self.nodes
        )

    def _near_ok(self, shape: Shape, node: NaiveNode) -> bool:
        terms = shape.terms.affinity
        if not terms:
            return True

        def all_terms(p: Shape) -> bool:
            return all(self._meant(t.selector, p) for t in terms)

        if any(t.topology not in node.labels for t in terms):
            return False
        if all(self._shares(node, t, all_terms) for t in terms):
            return True
        anywhere = any(
            all_terms(p) and any(t.topology in other.labels for t in terms) for other in self.nodes for p in other.pods
        )
        return not anywhere and all_terms(shape)

    def _counts(self, shape: Shape, c: Spread, node: NaiveNode, keys: list[str]) -> bool:
        """Whether the node's pods count for the constraint."""
        if any(k not in node.labels for k in keys):
            return False
        if c.honor_affinity and not node.selected(shape):
            return False
        return not c.honor_taints or node.taints_tolerated(shape)

    def _pods_meant(self, c: Spread, node: NaiveNode) -> int:
        return sum(self._meant(c.selector, p) and not p.group.terminating for p in node.pods)

    def _spread_ok(self, shape: Shape, c: Spread, node: NaiveNode) -> bool:
        if c.topology not in node.labels:
            return False
        keys = [o.topology for o in shape.terms.spread if o.hard]
        domains: dict[str, int] = {}
        for other in self.nodes:
            if self._counts(shape, c, other, keys):
                domain = other.labels[c.topology]
                domains[domain] = domains.get(domain, 0) + self._pods_meant(c, other)
        lowest = min(domains.values(), default=10**9)
        if len(domains) < c.min_domains:
            lowest = 0
        own = c.selector.labels.matches(shape.group.labels)
        return domains.get(node.labels[c.topology], 0) + own - lowest <= c.max_skew

    # -- scores

    def scores(self, shape: Shape) -> dict[str, float]:
        """Node -> score, of the nodes that pass."""
        passed = [n for n in self.nodes if not self.refusals(shape, n)]
        total = {n.name: n.own_score(shape) for n in passed}
        parts = (
            (3, self._taints(shape, passed)),
            (2, self._affinity(shape, passed)),
            (2, self._spread(shape, passed)),
        )
        for weight, part in parts:
            for name, score in part.items():
                total[name] += weight * score
        return total

    def _taints(self, shape: Shape, passed: list[NaiveNode]) -> dict[str, float]:
        soft = {
            n.name: sum(
                t.effect == "PreferNoSchedule" and not tolerates(shape.tolerations, t) for t in n.node.spec.taints or ()
            )
            for n in passed
        }
        most = max(soft.values(), default=0)
        return {name: 100 - 100 * count / most for name, count in soft.items()} if most else {}

    def _affinity(self, shape: Shape, passed: list[NaiveNode]) -> dict[str, float]:
        raw = {}
        for n in passed:
            score = 0
            for other in self.nodes:
                for pod in other.pods:
                    pulls = [(t, t.weight) for t in shape.terms.preferred if self._meant(t.selector, pod)]
                    pulls += [(t, t.weight) for t in pod.terms.preferred if self._meant(t.selector, shape)]
                    pulls += [(t, 1) for t in pod.terms.affinity if self._meant(t.selector, shape)]
                    for term, weight in pulls:
                        mine = n.labels.get(term.topology)
                        if mine is not None and mine == other.labels.get(term.topology):
                            score += weight
            raw[n.name] = score
        low, high = min(raw.values(), default=0), max(raw.values(), default=0)
        return {name: 100 * (s - low) / (high - low) for name, s in raw.items()} if high > low else {}

    def _spread(self, shape: Shape, passed: list[NaiveNode]) -> dict[str, float]:
        soft = [c for c in shape.terms.spread if not c.hard]
        keys = [c.topology for c in soft]
        among = [n for n in passed if all(k in n.labels for k in keys)]
        if not soft or not among:
            return {}
        raw = {}
        for n in among:
            cost = 0.0
            for c in soft:
                if c.topology == HOSTNAME:
                    size, pods = len(among), self._pods_meant(c, n)
                else:
                    size = len({o.labels[c.topology] for o in among})
                    same = [o for o in self.nodes if o.labels.get(c.topology) == n.labels[c.topology]]
                    pods = sum(self._pods_meant(c, o) for o in same if self._counts(shape, c, o, keys))
                cost += pods * math.log(size + 2) + (c.max_skew - 1)
            raw[n.name] = cost
        low, high = min(raw.values()), max(raw.values())
        return {name: 100.0 if high == 0 else 100 * (high + low - s) / high for name, s in raw.items()}
