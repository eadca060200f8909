"""The obviously correct scheduler: plain loops, one pod at a time, one node at a time. The vectorised one must agree.

Written from upstream's documented behaviour, from the API's own fields, without arrays, memos or shared code beyond a pod's
amounts (`shape_of`: requests, ports, images).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jota.meta.quantity import milli, value
from jota.scheduler.pod import Shape, Spec, Toleration
from jota.scheduler.snapshot import Node, Taint

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
Labels = dict[str, str]


def amount(name: str, quantity: object) -> float:
    return float(milli(str(quantity)) if name == "cpu" else value(str(quantity)))


def tolerates(tolerations: list[Toleration], taint: Taint) -> bool:
    for t in tolerations:
        same_effect = t.effect in ("", taint.effect)
        same_key = t.key in ("", taint.key)
        same_value = t.operator == "Exists" or (t.key != "" and t.value == taint.value)
        if same_effect and same_key and same_value:
            return True
    return False


def expression_holds(e: dict[str, Any], labels: Labels) -> bool:
    have, operator, values = labels.get(e["key"]), e["operator"], e.get("values") or []
    if operator == "Exists":
        return have is not None
    if operator == "DoesNotExist":
        return have is None
    if operator == "In":
        return have in values
    if operator == "NotIn":
        return have not in values
    try:
        number, bound = int(have or ""), int(values[0])
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound


def selects(selector: dict[str, Any] | None, labels: Labels) -> bool:
    if selector is None:
        return False
    exact = all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return exact and all(expression_holds(e, labels) for e in selector.get("matchExpressions") or ())


@dataclass(eq=False)
class NaiveClaim:
    """A bound PersistentVolumeClaim and its volume."""

    driver: str = ""
    single: bool = False
    """ReadWriteOncePod"""
    only_on: tuple[str, ...] = ()
    """Host names that the volume's affinity allows; none: all."""
    zone: str = ""


@dataclass(eq=False)
class NaivePod:
    spec: Spec
    shape: Shape
    namespace: str
    labels: Labels
    terminating: bool = False
    claims: tuple[str, ...] = ()
    priority: int = 0
    started: str = ""
    uid: str = ""

    def terms(self, kind: str, form: str) -> list[tuple[dict[str, Any], int]]:
        """(term, weight)"""
        part = ((self.spec.affinity or {}).get(kind) or {}).get(f"{form}DuringSchedulingIgnoredDuringExecution") or []
        return [(t["podAffinityTerm"], t["weight"]) if form == "preferred" else (t, 0) for t in part]

    def disks(self) -> list[tuple[str, bool]]:
        found = [v.gcePersistentDisk for v in self.spec.volumes or () if v.gcePersistentDisk]
        return [(d["pdName"], bool(d.get("readOnly"))) for d in found]


class NaiveNode:
    def __init__(self, node: Node, limits: dict[str, int] | None = None) -> None:
        self.node = node
        self.name = node.metadata.name
        self.labels = node.metadata.labels or {}
        self.limits = limits or {}
        self.pods: list[NaivePod] = []
        self.capacity = {k: amount(k, v) for k, v in (node.status.allocatable or {}).items()}

    def used(self, resource: str) -> float:
        return sum(p.shape.requests.get(resource, 0.0) for p in self.pods)

    def taints_tolerated(self, pod: NaivePod) -> bool:
        hard = [t for t in self.node.spec.taints or () if t.effect != "PreferNoSchedule"]
        return all(tolerates(pod.spec.tolerations or [], t) for t in hard)

    def selected(self, pod: NaivePod) -> bool:
        if any(self.labels.get(k) != v for k, v in (pod.spec.nodeSelector or {}).items()):
            return False
        affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        return required is None or any(self.term_holds(t) for t in required["nodeSelectorTerms"])

    def term_holds(self, term: dict[str, Any]) -> bool:
        expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
        if not expressions and not fields:
            return False
        named = all(expression_holds(f, {"metadata.name": self.name}) for f in fields)
        return named and all(expression_holds(e, self.labels) for e in expressions)

    def ports_free(self, pod: NaivePod) -> bool:
        return not any(
            protocol == p2 and port == n2 and (address == a2 or "0.0.0.0" in (address, a2))
            for protocol, address, port in pod.shape.host_ports
            for other in self.pods
            for p2, a2, n2 in other.shape.host_ports
        )

    def own_refusals(self, pod: NaivePod) -> list[str]:
        cordon = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
        if self.node.spec.unschedulable and not tolerates(pod.spec.tolerations or [], cordon):
            return ["unschedulable"]
        if not self.taints_tolerated(pod):
            return ["taint"]
        if not self.selected(pod):
            return ["selector"]
        if not self.ports_free(pod):
            return ["ports"]
        for disk, read_only in pod.disks():
            for other in self.pods:
                if any(disk == d and not (read_only and r) for d, r in other.disks()):
                    return ["disk"]
        return [r for r, a in pod.shape.requests.items() if self.used(r) + a > self.capacity.get(r, 0.0)]

    def own_score(self, pod: NaivePod) -> float:
        cpu, memory = self.capacity.get("cpu", 0.0), self.capacity.get("memory", 0.0)
        used_cpu = sum(p.shape.score_cpu for p in self.pods) + pod.shape.score_cpu
        used_memory = sum(p.shape.score_memory for p in self.pods) + pod.shape.score_memory
        parts = [(used_cpu, cpu), (used_memory, memory)]
        left = [100 * max(0.0, 1 - u / c) for u, c in parts if c]
        score = sum(left) / len(left) if left else 0.0
        if "cpu" in pod.shape.requests or "memory" in pod.shape.requests:
            asked = [
                (self.used(r) + pod.shape.requests.get(r, 0.0), self.capacity.get(r, 0.0)) for r in ("cpu", "memory")
            ]
            share = [min(1.0, u / c) for u, c in asked if c]
            score += 100 - (50 * abs(share[0] - share[1]) if len(share) == 2 else 0.0)
        return score

    def image(self, name: str) -> int:
        return next((i.sizeBytes for i in self.node.status.images or () if name in (i.names or ())), 0)


@dataclass
class NaiveCluster:
    nodes: list[NaiveNode]
    namespaces: dict[str, Labels]
    claims: dict[tuple[str, str], NaiveClaim] = field(default_factory=dict)
    services: list[tuple[str, Labels]] = field(default_factory=list)
    """(namespace, selector)"""

    # -- filters

    def refusals(self, pod: NaivePod, node: NaiveNode) -> list[str]:
        found = node.own_refusals(pod)
        found += self._volume_refusals(pod, node)
        hard = [c for c in self._constraints(pod) if c["whenUnsatisfiable"] == "DoNotSchedule"]
        if not all(self._spread_ok(pod, c, node, hard) for c in hard):
            found.append("spread")
        if not self._near_ok(pod, node):
            found.append("affinity")
        for term, _ in pod.terms("podAntiAffinity", "required"):
            if any(self._meant(term, pod, p) for p in self._in_domain(node, term)):
                found.append("anti-affinity")
        for other in self.nodes:
            for there in other.pods:
                for term, _ in there.terms("podAntiAffinity", "required"):
                    if self._together(node, other, term) and self._meant(term, there, pod):
                        found.append("existing anti-affinity")
        return found

    def _volume_refusals(self, pod: NaivePod, node: NaiveNode) -> list[str]:
        mine = {n: self.claims.get((pod.namespace, n)) for n in pod.claims}
        if any(c is None for c in mine.values()):
            return ["no claim"]
        found = []
        here = {(p.namespace, n) for p in node.pods for n in p.claims}
        used = {(p.namespace, n) for o in self.nodes for p in o.pods for n in p.claims}
        for name, claim in mine.items():
            assert claim is not None
            if claim.single and (pod.namespace, name) in used:
                found.append("single")
            if claim.only_on and node.labels.get(HOSTNAME) not in claim.only_on:
                found.append("volume affinity")
            # Nodes that know no zones are let through.
            if claim.zone and ZONE in node.labels and node.labels[ZONE] != claim.zone:
                found.append("zone")
        for driver, limit in node.limits.items():
            after = here | {(pod.namespace, n) for n in mine}
            fresh = [n for n, c in mine.items() if c and c.driver == driver and (pod.namespace, n) not in here]
            total = [k for k in after if (c := self.claims.get(k)) is not None and c.driver == driver]
            if fresh and len(total) > limit:
                found.append("limits")
        return found

    def _meant(self, term: dict[str, Any], owner: NaivePod, other: NaivePod) -> bool:
        """Whether a term of `owner` means `other`."""
        names, chosen = term.get("namespaces") or [], term.get("namespaceSelector")
        if names or chosen is not None:
            labels = self.namespaces.get(other.namespace, {})
            if other.namespace not in names and not (chosen is not None and selects(chosen, labels)):
                return False
        elif other.namespace != owner.namespace:
            return False
        return self._labels_meant(term, owner, other)

    def _labels_meant(self, term: dict[str, Any], owner: NaivePod, other: NaivePod) -> bool:
        if not selects(term.get("labelSelector"), other.labels):
            return False
        same = [k for k in term.get("matchLabelKeys") or () if k in owner.labels]
        unlike = [k for k in term.get("mismatchLabelKeys") or () if k in owner.labels]
        return all(other.labels.get(k) == owner.labels[k] for k in same) and all(
            other.labels.get(k) != owner.labels[k] for k in unlike
        )

    def _together(self, one: NaiveNode, other: NaiveNode, term: dict[str, Any]) -> bool:
        mine = one.labels.get(term["topologyKey"])
        return mine is not None and mine == other.labels.get(term["topologyKey"])

    def _in_domain(self, node: NaiveNode, term: dict[str, Any]) -> list[NaivePod]:
        return [p for other in self.nodes if self._together(node, other, term) for p in other.pods]

    def _near_ok(self, pod: NaivePod, node: NaiveNode) -> bool:
        terms = [t for t, _ in pod.terms("podAffinity", "required")]
        if not terms:
            return True

        def all_terms(p: NaivePod) -> bool:
            return all(self._meant(t, pod, p) for t in terms)

        if any(t["topologyKey"] not in node.labels for t in terms):
            return False
        if all(any(all_terms(p) for p in self._in_domain(node, t)) for t in terms):
            return True
        anywhere = any(
            all_terms(p) and any(t["topologyKey"] in other.labels for t in terms)
            for other in self.nodes
            for p in other.pods
        )
        return not anywhere and all_terms(pod)

    def _constraints(self, pod: NaivePod) -> list[dict[str, Any]]:
        """Its own; without any, the cluster's defaults over what Services select."""
        own = pod.spec.topologySpreadConstraints
        if own:
            return own
        matching = [s for ns, s in self.services if ns == pod.namespace and selects({"matchLabels": s}, pod.labels)]
        if not matching:
            return []
        selector = {"matchLabels": {k: v for s in matching for k, v in s.items()}}
        soft = {"whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector, "default": True}
        return [soft | {"topologyKey": ZONE, "maxSkew": 3}, soft | {"topologyKey": HOSTNAME, "maxSkew": 5}]

    def _counts(self, pod: NaivePod, c: dict[str, Any], node: NaiveNode, keys: list[str]) -> bool:
        """Whether the node's pods count for the constraint."""
        if c["topologyKey"] not in node.labels or (not c.get("default") and any(k not in node.labels for k in keys)):
            return False
        if c.get("nodeAffinityPolicy", "Honor") == "Honor" and not node.selected(pod):
            return False
        return c.get("nodeTaintsPolicy", "Ignore") == "Ignore" or node.taints_tolerated(pod)

    def _pods_meant(self, c: dict[str, Any], pod: NaivePod, node: NaiveNode) -> int:
        return sum(
            p.namespace == pod.namespace and not p.terminating and self._labels_meant(c, pod, p) for p in node.pods
        )

    def _spread_ok(self, pod: NaivePod, c: dict[str, Any], node: NaiveNode, hard: list[dict[str, Any]]) -> bool:
        key = c["topologyKey"]
        if key not in node.labels:
            return False
        domains: dict[str, int] = {}
        for other in self.nodes:
            if self._counts(pod, c, other, [o["topologyKey"] for o in hard]):
                domain = other.labels[key]
                domains[domain] = domains.get(domain, 0) + self._pods_meant(c, pod, other)
        lowest = min(domains.values(), default=10**9)
        if len(domains) < (c.get("minDomains") or 1):
            lowest = 0
        own = self._labels_meant(c, pod, pod)
        return domains.get(node.labels[key], 0) + own - lowest <= c["maxSkew"]

    # -- scores

    def scores(self, pod: NaivePod) -> dict[str, float]:
        """Node -> score, of the nodes that pass."""
        passed = [n for n in self.nodes if not self.refusals(pod, n)]
        total = {n.name: n.own_score(pod) + self._images(pod, n) for n in passed}
        parts = (
            (3, self._taints(pod, passed)),
            (2, self._node_affinity(pod, passed)),
            (2, self._affinity(pod, passed)),
            (2, self._spread(pod, passed)),
        )
        for weight, part in parts:
            for name, score in part.items():
                total[name] += weight * score
        return total

    def _images(self, pod: NaivePod, node: NaiveNode) -> float:
        mega, wanted = 1024 * 1024, pod.shape.images
        held = 0.0
        for image in wanted:
            held += node.image(image) * sum(n.image(image) > 0 for n in self.nodes) / len(self.nodes)
        most = 1000 * mega * max(1, len(wanted))
        return 100 * (min(max(held, 23 * mega), most) - 23 * mega) / (most - 23 * mega)

    def _taints(self, pod: NaivePod, passed: list[NaiveNode]) -> dict[str, float]:
        soft = {
            n.name: sum(
                t.effect == "PreferNoSchedule" and not tolerates(pod.spec.tolerations or [], t)
                for t in n.node.spec.taints or ()
            )
            for n in passed
        }
        most = max(soft.values(), default=0)
        return {name: 100 - 100 * count / most for name, count in soft.items()} if most else {}

    def _node_affinity(self, pod: NaivePod, passed: list[NaiveNode]) -> dict[str, float]:
        affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
        preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        raw = {n.name: sum(p["weight"] for p in preferred if n.term_holds(p["preference"])) for n in passed}
        most = max(raw.values(), default=0)
        return {name: 100 * s / most for name, s in raw.items()} if most else {}

    def _affinity(self, pod: NaivePod, passed: list[NaiveNode]) -> dict[str, float]:
        def pulls(owner: NaivePod, other: NaivePod, hard: int) -> list[tuple[str, int]]:
            """(topology key, weight) of the owner's terms that mean the other."""
            terms = [(t, w) for t, w in owner.terms("podAffinity", "preferred")]
            terms += [(t, -w) for t, w in owner.terms("podAntiAffinity", "preferred")]
            terms += [(t, hard) for t, _ in owner.terms("podAffinity", "required")]
            return [(t["topologyKey"], w) for t, w in terms if self._meant(t, owner, other)]

        raw = {}
        for n in passed:
            score = 0
            for other in self.nodes:
                for there in other.pods:
                    for key, weight in (*pulls(pod, there, 0), *pulls(there, pod, 1)):
                        if self._together(n, other, {"topologyKey": key}):
                            score += weight
            raw[n.name] = score
        low, high = min(raw.values(), default=0), max(raw.values(), default=0)
        return {name: 100 * (s - low) / (high - low) for name, s in raw.items()} if high > low else {}

    def _spread(self, pod: NaivePod, passed: list[NaiveNode]) -> dict[str, float]:
        soft = [c for c in self._constraints(pod) if c["whenUnsatisfiable"] == "ScheduleAnyway"]
        keys = [c["topologyKey"] for c in soft]
        among = [n for n in passed if all(c.get("default") or all(k in n.labels for k in keys) for c in soft)]
        if not soft or not among:
            return {}
        raw = {}
        for n in among:
            cost = 0.0
            for c in soft:
                key = c["topologyKey"]
                if key not in n.labels:
                    continue
                if key == HOSTNAME:
                    size, pods = len(among), self._pods_meant(c, pod, n)
                else:
                    size = len({o.labels[key] for o in among if key in o.labels})
                    same = [o for o in self.nodes if o.labels.get(key) == n.labels[key]]
                    pods = sum(self._pods_meant(c, pod, o) for o in same if self._counts(pod, c, o, keys))
                cost += pods * math.log(size + 2) + (c["maxSkew"] - 1)
            raw[n.name] = cost
        low, high = min(raw.values()), max(raw.values())
        return {name: 100.0 if high == 0 else 100 * (high + low - s) / high for name, s in raw.items()}

    # -- preemption

    def victims(
        self, pod: NaivePod, node: NaiveNode, budgets: list[tuple[str, Labels, int]]
    ) -> tuple[list[NaivePod], int] | None:
        """(victims, broken budgets) if the pod could have room there. `budgets`: (namespace, selector, allowed)."""
        everyone = list(node.pods)
        lower = sorted(
            (p for p in everyone if p.priority < pod.priority), key=lambda p: (-p.priority, p.started or "~")
        )
        left = [b[2] for b in budgets]
        protected = []
        for p in lower:
            for n, (namespace, selector, _) in enumerate(budgets):
                if namespace == p.namespace and selects({"matchLabels": selector}, p.labels):
                    left[n] -= 1
                    if left[n] < 0:
                        protected.append(p)
        try:
            node.pods = [p for p in everyone if p not in lower]
            if self.refusals(pod, node):
                return None
            gone = []
            for p in [p for p in lower if p in protected] + [p for p in lower if p not in protected]:
                node.pods.append(p)
                if self.refusals(pod, node):
                    node.pods.remove(p)
                    gone.append(p)
        finally:
            node.pods = everyone
        return (gone, sum(p in protected for p in gone)) if gone else None
