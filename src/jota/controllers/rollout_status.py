"""A Deployment's status: counts, the conditions Available, Progressing and ReplicaFailure, and when to look again. Pure."""

from __future__ import annotations

from typing import Any

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.controllers import conditions
from jota.controllers.revisions import counted, max_unavailable, replicas

Object = dict[str, Any]

NO_DEADLINE = 2**31 - 1
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def status_of(
    deployment: Object, new: Object | None, old: list[Object], now: float, created: bool = False
) -> tuple[Object, float | None]:
    """(status, seconds until the progress deadline must be checked, or None). `created`: `new` was made just now."""
    before: Object = deployment.get("status") or {}
    status = _counts(deployment, new, old)
    conds = _available(deployment, status, before.get("conditions") or [], now)
    if "deletionTimestamp" not in deployment["metadata"]:
        conds = _progressing(deployment, status, conds, new, created, now)
    failure = next((f for s in [*([new] if new else []), *old] if (f := _failure(s))), None)
    conds = conditions.without(conds, "ReplicaFailure")
    if failure is not None:
        conds = _set(conds, "ReplicaFailure", failure["status"], failure["reason"], failure.get("message", ""), now)
    status["conditions"] = conds
    if _same(before, status):
        status = before
    return status, _again(deployment, status, now)


def failed_create(deployment: Object, new: Object | None, old: list[Object], error: str, now: float) -> Object:
    """The status after the new ReplicaSet could not be created."""
    status, _ = status_of(deployment, new, old, now)
    if deadline(deployment) is None:
        return status
    conds = _set(status["conditions"], "Progressing", "False", "ReplicaSetCreateError", error, now)
    return {**status, "conditions": conds}


def _counts(deployment: Object, new: Object | None, old: list[Object]) -> Object:
    sets = [*old, *([new] if new else [])]
    available = sum(counted(s, "availableReplicas") for s in sets)
    counts = {
        "replicas": sum(counted(s, "replicas") for s in sets),
        "updatedReplicas": counted(new, "replicas") if new else 0,
        "readyReplicas": sum(counted(s, "readyReplicas") for s in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas(s) for s in sets) - available),
    }
    status: Object = {k: v for k, v in counts.items() if v}
    if (leaving := _terminating(sets)) is not None:
        status["terminatingReplicas"] = leaving
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    if (collisions := (deployment.get("status") or {}).get("collisionCount")) is not None:
        status["collisionCount"] = collisions
    return status


def _terminating(sets: list[Object]) -> int | None:
    """Pods on their way out; None when a set does not tell. One that nobody looked at yet has none."""
    told = [(s.get("status") or {}).get("terminatingReplicas") for s in sets if counted(s, "observedGeneration")]
    return None if None in told else sum(int(n) for n in told if n is not None)


def _available(deployment: Object, status: Object, conds: list[Object], now: float) -> list[Object]:
    if (status.get("availableReplicas") or 0) >= replicas(deployment) - max_unavailable(deployment):
        text = "Deployment has minimum availability."
        return _set(conds, "Available", "True", "MinimumReplicasAvailable", text, now)
    text = "Deployment does not have minimum availability."
    return _set(conds, "Available", "False", "MinimumReplicasUnavailable", text, now)


def _progressing(
    deployment: Object, status: Object, conds: list[Object], new: Object | None, created: bool, now: float
) -> list[Object]:
    current = conditions.find(conds, "Progressing")
    reason = current["reason"] if current else ""
    if deadline(deployment) is None:
        return conditions.without(conds, "Progressing")
    if deployment["spec"].get("paused"):
        if reason in ("DeploymentPaused", "ProgressDeadlineExceeded"):
            return conds
        return _set(conds, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if reason == "DeploymentPaused":
        return _set(conds, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    if created and new is not None:
        text = f'Created new replica set "{new["metadata"]["name"]}"'
        return _set(conds, "Progressing", "True", "NewReplicaSetCreated", text, now)
    if current is None and new is not None:
        text = f'Found new replica set "{new["metadata"]["name"]}"'
        conds = _set(conds, "Progressing", "True", "FoundNewReplicaSet", text, now)
    done = (status.get("replicas") or 0) == (status.get("updatedReplicas") or 0)
    if done and reason == "NewReplicaSetAvailable":
        return conds
    return _rollout_condition(deployment, status, conds, new, now)


def _rollout_condition(
    deployment: Object, status: Object, conds: list[Object], new: Object | None, now: float
) -> list[Object]:
    name = deployment["metadata"]["name"]
    subject = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{name}"'
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        return _set(conds, "Progressing", "True", "NewReplicaSetAvailable", text, now)
    if _moved(deployment.get("status") or {}, status):
        conds = _set(conds, "Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        # Every step forward restarts the deadline.
        return [{**c, "lastUpdateTime": rfc3339(now)} if c["type"] == "Progressing" else c for c in conds]
    if _timed_out(deployment, conditions.find(conds, "Progressing"), now):
        text = f"{subject} has timed out progressing."
        return _set(conds, "Progressing", "False", "ProgressDeadlineExceeded", text, now)
    return conds


def deadline(deployment: Object) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds >= NO_DEADLINE else int(seconds)


def is_complete(deployment: Object, status: Object) -> bool:
    wanted = replicas(deployment)
    return all((status.get(f) or 0) == wanted for f in ("updatedReplicas", "replicas", "availableReplicas")) and status[
        "observedGeneration"
    ] >= deployment["metadata"].get("generation", 0)


def _moved(old: Object, new: Object) -> bool:
    def outdated(status: Object) -> int:
        return (status.get("replicas") or 0) - (status.get("updatedReplicas") or 0)

    return outdated(new) < outdated(old) or any(
        (new.get(f) or 0) > (old.get(f) or 0) for f in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _timed_out(deployment: Object, current: Object | None, now: float) -> bool:
    seconds = deadline(deployment)
    if current is None or seconds is None or current["reason"] == "NewReplicaSetAvailable":
        return False
    if current["reason"] == "ProgressDeadlineExceeded":
        return True
    return parse_rfc3339(current.get("lastUpdateTime") or current["lastTransitionTime"]) + seconds < now


def _again(deployment: Object, status: Object, now: float) -> float | None:
    current, seconds = conditions.find(status.get("conditions"), "Progressing"), deadline(deployment)
    if current is None or seconds is None or deployment["spec"].get("paused") or is_complete(deployment, status):
        return None
    if current["reason"] in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    begun = parse_rfc3339(current.get("lastUpdateTime") or current["lastTransitionTime"])
    return max(0.0, begun + seconds - now) + 1.0


def _failure(one: Object) -> Object | None:
    return conditions.find((one.get("status") or {}).get("conditions"), "ReplicaFailure")


def _set(conds: list[Object], type_: str, status: str, reason: str, message: str, now: float) -> list[Object]:
    """conditions.put with Deployments' own rule: the same status and reason change nothing; lastUpdateTime exists."""
    old = conditions.find(conds, type_)
    if old and (old["status"], old.get("reason")) == (status, reason):
        return conds
    out = conditions.put(conds, type_, status, reason, message, now)
    return [{**c, "lastUpdateTime": rfc3339(now)} if c["type"] == type_ else c for c in out]


def _same(before: Object, status: Object) -> bool:
    """Equal for readers: zero and absent are one."""
    return {k: v for k, v in before.items() if v not in (0, None)} == {
        k: v for k, v in status.items() if v not in (0, None)
    }
