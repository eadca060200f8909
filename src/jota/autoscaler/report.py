"""ConfigMap kube-system/cluster-autoscaler-status: how the cluster and each group are, in upstream's form (since 1.30).

In: a Plan's counts, what is remembered, the time. Out: the document; YAML under the key `status`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from jota.aio.clock import rfc3339
from jota.autoscaler.actions import GroupCounts, Memory, Plan
from jota.autoscaler.world import Observed

NAMESPACE, NAME = "kube-system", "cluster-autoscaler-status"
UPDATED = "cluster-autoscaler.kubernetes.io/last-updated"
FRESH = 60.0
"""Seconds after which the times are written anew although nothing has changed."""
SHOWN = 10
Object = dict[str, Any]


@dataclass(slots=True)
class Report:
    """Remembers since when each part has its status."""

    _since: dict[str, tuple[str, float]] = field(default_factory=dict)
    _written: Object | None = None
    _at: float = float("-inf")

    def due(self, observed: Observed, plan: Plan, memory: Memory, now: float) -> Object | None:
        """The ConfigMap, when it should be written. The caller says `written` once it is."""
        if self._facts(observed, plan, memory, now) == self._written and now - self._at < FRESH:
            return None
        document = {"time": rfc3339(now), "autoscalerStatus": "Running", **self._document(observed, plan, memory, now)}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {UPDATED: rfc3339(now)}},
            "data": {"status": yaml.safe_dump(document, sort_keys=False)},
        }

    def written(self, observed: Observed, plan: Plan, memory: Memory, now: float) -> None:
        self._written, self._at = self._facts(observed, plan, memory, now), now

    def _facts(self, observed: Observed, plan: Plan, memory: Memory, now: float) -> Object:
        """The document without its times."""
        found: Object = _timeless(self._document(observed, plan, memory, now))
        return found

    def _document(self, observed: Observed, plan: Plan, memory: Memory, now: float) -> Object:
        total = GroupCounts()
        for counts in plan.counts.values():
            for name in GroupCounts.__slots__:
                setattr(total, name, getattr(total, name) + getattr(counts, name))
        groups = []
        for view in observed.groups:
            counts = plan.counts[view.name]
            backoff = memory.backing_off(view.name, now)
            ill = view.fault or plan.unhealthy
            health = {
                **self._part(f"{view.name}/health", "Unhealthy" if ill else "Healthy", now),
                **({"message": ill} if ill else {}),
                "nodeCounts": _node_counts(counts),
                "cloudProviderTarget": counts.target,
                "minSize": view.settings.min,
                "maxSize": view.settings.max,
            }
            up = "Backoff" if backoff else "InProgress" if counts.scaling else "NoActivity"
            scale_up = self._part(f"{view.name}/up", up, now)
            if backoff is not None:
                scale_up["backoffInfo"] = {"errorCode": backoff.code, "errorMessage": backoff.message}
            groups.append(
                {
                    "name": view.name,
                    "health": health,
                    "scaleUp": scale_up,
                    "scaleDown": self._down(f"{view.name}/down", counts, now) | _unremovable(plan, view.name),
                }
            )
        wide = {
            "health": {
                **self._part("health", "Unhealthy" if plan.unhealthy else "Healthy", now),
                **({"message": plan.unhealthy} if plan.unhealthy else {}),
                "nodeCounts": _node_counts(total),
            },
            "scaleUp": self._part("up", "InProgress" if total.scaling else "NoActivity", now),
            "scaleDown": self._down("down", total, now),
        }
        return {"clusterWide": wide, "nodeGroups": groups}

    def _down(self, key: str, counts: GroupCounts, now: float) -> Object:
        found = self._part(key, "CandidatesPresent" if counts.candidates else "NoCandidates", now)
        return {**found, "candidates": counts.candidates} if counts.candidates else found

    def _part(self, key: str, status: str, now: float) -> Object:
        since = self._since.get(key)
        if since is None or since[0] != status:
            since = self._since[key] = status, now
        return {"status": status, "lastProbeTime": rfc3339(now), "lastTransitionTime": rfc3339(since[1])}


def _unremovable(plan: Plan, group: str) -> Object:
    """Beyond upstream, which only logs it: the first few nodes that use little, and why they stay."""
    kept = sorted(plan.kept.get(group, {}).items())[:SHOWN]
    return {"unremovable": [f"{node}: {reason}" for node, reason in kept]} if kept else {}


def _node_counts(counts: GroupCounts) -> Object:
    return {
        "registered": {
            "total": counts.registered,
            "ready": counts.ready,
            "notStarted": counts.starting,
            "beingDeleted": counts.deleted,
            "unready": {"total": counts.unready, "resourceUnready": 0},
        },
        "longUnregistered": counts.late,
        "unregistered": counts.unregistered,
    }


def _timeless(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: _timeless(v) for k, v in document.items() if k not in ("lastProbeTime", "lastTransitionTime")}
    return [_timeless(v) for v in document] if isinstance(document, list) else document
