"""Why a workload is not complete: its own conditions first, then the pod that holds it up."""

from __future__ import annotations

from jota.meta.resource import PODS, REPLICASETS, Resource
from jota.why import pod as pods
from jota.why.finding import Finding, Object, subject
from jota.why.world import World

JOBS = Resource("batch", "v1", "jobs", "Job")


async def deployment(world: World, obj: Object) -> list[Finding]:
    about, spec, status = subject(obj, "Deployment"), obj["spec"], obj.get("status", {})
    found = _common(about, obj)
    progressing = next((c for c in status.get("conditions") or () if c["type"] == "Progressing"), None)
    if progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded":
        found.append(Finding(about, "deadline", {"seconds": spec.get("progressDeadlineSeconds", 600)}))
    wanted = spec.get("replicas", 1)
    if status.get("availableReplicas", 0) >= wanted and status.get("updatedReplicas", 0) >= wanted:
        return found or [Finding(about, "healthy", {"state": f"{wanted}/{wanted}"}, "good")]
    facts = {"ready": status.get("readyReplicas", 0), "wanted": wanted, "updated": status.get("updatedReplicas", 0)}
    found.append(Finding(about, "progress", facts))
    for replica_set in _newest_first(await world.owned(REPLICASETS, obj)):
        deeper = await _pods_of(world, replica_set)
        if deeper:
            return [*found, *deeper]
    return found


async def controller(world: World, obj: Object) -> list[Finding]:
    """ReplicaSet, ReplicationController, StatefulSet, DaemonSet: whatever owns pods and counts them."""
    about, status = subject(obj), obj.get("status", {})
    found = _common(about, obj)
    wanted = status.get("desiredNumberScheduled", obj["spec"].get("replicas", 1))
    ready = status.get("readyReplicas", status.get("numberReady", 0))
    if wanted == 0 and "desiredNumberScheduled" in status:
        return [*found, Finding(about, "daemon-nowhere")]
    if ready >= wanted and not found:
        return [Finding(about, "healthy", {"state": f"{ready}/{wanted}"}, "good")]
    updated = status.get("updatedReplicas", status.get("updatedNumberScheduled", status.get("replicas", 0)))
    found.append(Finding(about, "progress", {"ready": ready, "wanted": wanted, "updated": updated}))
    return [*found, *await _pods_of(world, obj)]


async def job(world: World, obj: Object) -> list[Finding]:
    about, status = subject(obj, "Job"), obj.get("status", {})
    if obj["spec"].get("suspend"):
        return [Finding(about, "suspended", {"subject": about}, "wait")]
    if (manager := obj["spec"].get("managedBy")) and manager != "kubernetes.io/job-controller":
        return [Finding(about, "managed-by", {"manager": manager}, "wait")]
    for condition in status.get("conditions") or ():
        if condition["type"] == "Failed" and condition["status"] == "True":
            facts = {"reason": condition.get("reason", ""), "message": condition.get("message", "")}
            return [Finding(about, "failed", facts), *await _pods_of(world, obj)]
        if condition["type"] == "Complete" and condition["status"] == "True":
            return [Finding(about, "healthy", {"state": "Complete"}, "good")]
    deeper = await _pods_of(world, obj)
    return deeper or [Finding(about, "healthy", {"state": f"{status.get('active', 0)} active"}, "good")]


async def cronjob(world: World, obj: Object) -> list[Finding]:
    """Suspended, held back by a run that does not end, or well but for its last job."""
    about, spec = subject(obj, "CronJob"), obj["spec"]
    if spec.get("suspend"):
        return [Finding(about, "suspended", {"subject": about}, "wait")]
    jobs = sorted(await world.owned(JOBS, obj), key=lambda j: str(j["metadata"].get("creationTimestamp")), reverse=True)
    found = []
    running = [r["name"] for r in obj.get("status", {}).get("active") or ()]
    if running and spec.get("concurrencyPolicy") == "Forbid":
        found.append(Finding(about, "cron-forbid", {"job": running[0]}, "wait"))
    if event := await world.last_event(obj, "FailedCreate", "UnknownTimeZone", "UnparseableSchedule"):
        found.append(Finding(about, "cron-refused", {"message": event.get("message", "")}))
    for last in jobs[:1]:
        found += [f for f in await job(world, {"kind": "Job", **last}) if f.level != "good"]
    schedule = f"{spec['schedule']} {spec.get('timeZone') or 'UTC'}"
    return found or [Finding(about, "healthy", {"state": schedule}, "good")]


async def conditions(world: World, obj: Object) -> list[Finding]:
    """Kinds that tell everything in their conditions (HorizontalPodAutoscaler, APIService, CustomResourceDefinition)."""
    bad = [
        Finding(subject(obj), "condition", {"type": c["type"], "status": c["status"], "message": c.get("message", "")})
        for c in obj.get("status", {}).get("conditions") or ()
        if (c["status"] != "True") != (c["type"] in ("ScalingLimited", "NonStructuralSchema", "Terminating"))
    ]
    return bad or [Finding(subject(obj), "healthy", {"state": "all conditions hold"}, "good")]


def _common(about: str, obj: Object) -> list[Finding]:
    spec, found = obj["spec"], []
    if spec.get("paused"):
        found.append(Finding(about, "paused", {"subject": about}))
    if spec.get("replicas") == 0:
        found.append(Finding(about, "zero", {"subject": about}))
    for condition in obj.get("status", {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            found.append(Finding(about, "refused-pods", {"message": condition.get("message", "")}))
    return found


async def _pods_of(world: World, owner: Object) -> list[Finding]:
    """The chain of the first pod that is not ready."""
    for pod in await world.owned(PODS, owner):
        if not pods.is_ready(pod) and pod.get("status", {}).get("phase") != "Succeeded":
            deeper = await pods.explain(world, pod)
            return [Finding(subject(owner), "blocked-by", {"other": subject(pod, "Pod")}), *deeper]
    event = await world.last_event(owner, "FailedCreate")
    if event is not None:
        return [Finding(subject(owner), "refused-pods", {"message": event.get("message", "")})]
    return []


def _newest_first(replica_sets: list[Object]) -> list[Object]:
    def revision(obj: Object) -> int:
        text = (obj["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "0")
        return int(text) if text.isdigit() else 0

    return sorted(replica_sets, key=revision, reverse=True)
