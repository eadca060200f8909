"""The status that a new object has before any controller looked at it: what Go's zero value of it shows on the wire.

Clients rely on its presence (`deployment.status` is never missing). In: a kind. Out: a fresh status. Kinds whose own
`prepare_create` sets one (pods, namespaces, claims) do not need it; custom resources have none.
"""

from __future__ import annotations

from typing import Any

from jota.kinds.kind import Kind

_BALANCED: dict[str, Any] = {"loadBalancer": {}}
_ZERO: dict[tuple[str, str], dict[str, Any]] = {
    ("", "replicationcontrollers"): {"replicas": 0},
    ("", "services"): _BALANCED,
    ("apps", "replicasets"): {"replicas": 0},
    ("apps", "statefulsets"): {"replicas": 0, "availableReplicas": 0},
    ("apps", "daemonsets"): {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    ("autoscaling", "horizontalpodautoscalers"): {"currentReplicas": 0, "desiredReplicas": 0},
    ("networking.k8s.io", "ingresses"): _BALANCED,
    ("policy", "poddisruptionbudgets"): {
        "disruptionsAllowed": 0,
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "expectedPods": 0,
    },
    ("storage.k8s.io", "volumeattachments"): {"attached": False},
}
"""(group, plural) -> fields that are written even when they are zero; all other statuses begin empty."""


def initial(kind: Kind) -> dict[str, Any] | None:
    """None for a kind that has no status, or whose status only its controller knows (custom resources)."""
    if not kind.status or not kind.schema:
        return None
    zero = _ZERO.get((kind.resource.group, kind.resource.plural), {})
    return {key: dict(value) if isinstance(value, dict) else value for key, value in zero.items()}


def only_status(new: dict[str, Any], old: dict[str, Any]) -> None:
    """For `prepare_status` of kinds whose /status changes no metadata, not even labels (`ResetObjectMetaForStatus`)."""
    kept = {k: new["metadata"][k] for k in ("resourceVersion", "managedFields") if k in new["metadata"]}
    new["metadata"] = {**old["metadata"], **kept}
