"""A DaemonSet's next step: one pod on every node that fits. Pure.

In: the set, nodes, its pods, the hash of its template. Out: nodes to create on, pods to delete, the status. First every
node gets its pod (or loses it), then old pods are replaced: with maxUnavailable the old one goes first, with maxSurge the
new one comes first. Next: daemonset.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jota.controllers import claim
from jota.controllers.history import HASH
from jota.controllers.nodefit import Fit, fits
from jota.controllers.revisions import share
from jota.controllers.views import Pod, Toleration
from jota.meta.resource import Resource

Object = dict[str, Any]

DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
BURST = 250
FAILED_BASE, FAILED_MAX = 1.0, 900.0
"""Seconds between the removals of failed pods of one node."""
_TAINT = "node.kubernetes.io/"
_TOLERATED = [
    *((name, "NoExecute") for name in ("not-ready", "unreachable")),
    *((name, "NoSchedule") for name in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")),
]


@dataclass(slots=True)
class Plan:
    create: list[str] = field(default_factory=list)
    """Node names."""
    delete: list[Pod] = field(default_factory=list)
    failed: list[Pod] = field(default_factory=list)
    """To delete because they ended."""
    status: Object = field(default_factory=dict)
    again: float | None = None


def plan(owner: Object, nodes: list[Object], pods: list[Pod], hash_: str, now: float) -> Plan:
    return _Step(owner, nodes, pods, hash_, now).take()


def tolerations(spec: Object) -> list[Object]:
    """The template's, and those that let a daemon run on a node in trouble."""
    added = [{"key": _TAINT + name, "operator": "Exists", "effect": effect} for name, effect in _TOLERATED]
    if spec.get("hostNetwork"):
        added.append({"key": f"{_TAINT}network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
    have = list(spec.get("tolerations") or ())
    return have + [t for t in added if t not in have]


def build(owner: Object, node: str, hash_: str) -> Object:
    """The pod for one node. The scheduler binds it: the node's name is a required affinity."""
    meta, template = owner["metadata"], deepcopy(owner["spec"]["template"])
    given, spec = template.get("metadata") or {}, template["spec"]
    metadata: Object = {k: given[k] for k in ("annotations", "finalizers") if given.get(k)}
    labels = {**(given.get("labels") or {}), HASH: hash_}
    if generation := (meta.get("annotations") or {}).get("deprecated.daemonset.template.generation"):
        labels["pod-template-generation"] = generation
    metadata |= {"generateName": f"{meta['name']}-", "namespace": meta["namespace"], "labels": labels}
    metadata["ownerReferences"] = [claim.reference(owner, DAEMONSETS.api_version, DAEMONSETS.kind)]
    affinity = spec["affinity"] = dict(spec.get("affinity") or {})
    node_affinity = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
    only = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [only]}
    spec["tolerations"] = tolerations(spec)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class _Step:
    def __init__(self, owner: Object, nodes: list[Object], pods: list[Pod], hash_: str, now: float) -> None:
        self.owner, self.spec, self.hash, self.now = owner, owner["spec"], hash_, now
        self.minimum = self.spec.get("minReadySeconds") or 0
        template = self.spec["template"]["spec"]
        tolerated = msgspec.convert(tolerations(template), list[Toleration])
        self.fits: dict[str, Fit] = {n["metadata"]["name"]: fits(template, n, tolerated) for n in nodes}
        self.on: dict[str, list[Pod]] = defaultdict(list)
        for pod in pods:
            self.on[pod.target].append(pod)
        self.wanted = sum(f.run for f in self.fits.values())
        strategy = self.spec.get("updateStrategy") or {}
        self.rolling: Object | None = None
        if strategy.get("type", "RollingUpdate") == "RollingUpdate":
            self.rolling = strategy.get("rollingUpdate") or {}
        rolling = self.rolling or {}
        self.surge = math.ceil(share(rolling.get("maxSurge") or 0, self.wanted))
        self.unavailable = math.ceil(share(rolling.get("maxUnavailable", 1), self.wanted))
        if not self.surge and not self.unavailable:
            self.unavailable = 1
        self.out = Plan()

    def take(self) -> Plan:
        if "deletionTimestamp" not in self.owner["metadata"]:
            for node, fit in self.fits.items():
                self._manage(node, fit)
            # Pods of nodes that are gone are the pod garbage collector's.
            if self.rolling is not None:
                self._roll_surging() if self.surge else self._roll()
        self.out.create = self.out.create[:BURST]
        self.out.delete = self.out.delete[:BURST]
        self._report()
        return self.out

    # -- one pod per node

    def _manage(self, node: str, fit: Fit) -> None:
        pods = self.on.get(node, [])
        if fit.run and not pods:
            self.out.create.append(node)
        elif fit.stay:
            ended = [p for p in pods if p.finished and not p.terminating]
            self.out.failed += ended
            running = sorted((p for p in pods if p.active), key=lambda p: (not p.ready, p.created, p.metadata.name))
            if self.surge and self.rolling is not None:
                new, old = self._split(running)
                self.out.delete += new[1:] + old[1:]
            else:
                self.out.delete += running[1:]
        else:
            self.out.delete += [p for p in pods if not p.terminating]

    def _split(self, pods: list[Pod]) -> tuple[list[Pod], list[Pod]]:
        """(of the current template, older)."""
        new = [p for p in pods if self._is_new(p)]
        return new, [p for p in pods if not self._is_new(p)]

    def _is_new(self, pod: Pod) -> bool:
        return (pod.metadata.labels or {}).get(HASH) == self.hash

    # -- rolling

    def _roll(self) -> None:
        """Old pods that are down go at once; of those that work, as many as maxUnavailable still allows."""
        down = 0
        free: list[Pod] = []
        candidates: list[Pod] = []
        gone = {p.metadata.uid for p in (*self.out.delete, *self.out.failed)}
        for node, fit in self.fits.items():
            if not fit.run:
                continue
            pods = [p for p in self.on.get(node, ()) if p.active and p.metadata.uid not in gone]
            new, old = self._split(pods)
            if bool(new) == bool(old):
                down += 1
            elif new:
                down += not self._available(new[0])
            elif self._available(old[0]):
                candidates.append(old[0])
            else:
                down += 1
                free.append(old[0])
        self.out.delete += free + candidates[: max(0, self.unavailable - down)]

    def _roll_surging(self) -> None:
        """New pods come beside old ones; an old one goes once its successor is available."""
        surging = 0
        free: list[str] = []
        candidates: list[str] = []
        gone = {p.metadata.uid for p in (*self.out.delete, *self.out.failed)}
        for node, fit in self.fits.items():
            pods = [p for p in self.on.get(node, ()) if p.active and p.metadata.uid not in gone]
            new, old = self._split(pods)
            if new and old:
                if self._available(new[0]):
                    self.out.delete.append(old[0])
                else:
                    surging += 1
            elif old and fit.run and len(self.on[node]) == 1:
                (candidates if self._available(old[0]) else free).append(node)
        self.out.create += free + candidates[: max(0, self.surge - surging)]

    def _available(self, pod: Pod) -> bool:
        if not pod.ready:
            return False
        left = pod.ready_since + self.minimum - self.now if self.minimum else 0.0
        if left > 0:
            self.out.again = left if self.out.again is None else min(self.out.again, left)
        return left <= 0

    # -- status

    def _report(self) -> None:
        old = self.owner.get("status") or {}
        current = misplaced = ready = available = updated = 0
        for node, fit in self.fits.items():
            pods = sorted(
                (p for p in self.on.get(node, ()) if p.active), key=lambda p: (not self._is_new(p), p.created)
            )
            if not pods:
                continue
            if not fit.run:
                misplaced += 1
                continue
            current += 1
            ready += any(p.ready for p in pods)
            available += any(self._available(p) for p in pods)
            updated += self._is_new(pods[0])
        status: Object = {
            "currentNumberScheduled": current,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": self.wanted,
            "numberReady": ready,
            "observedGeneration": self.owner["metadata"].get("generation", 0),
        }
        optional = {
            "updatedNumberScheduled": updated,
            "numberAvailable": available,
            "numberUnavailable": self.wanted - available,
            "collisionCount": old.get("collisionCount"),
            "conditions": old.get("conditions"),
        }
        self.out.status = status | {k: v for k, v in optional.items() if v}
