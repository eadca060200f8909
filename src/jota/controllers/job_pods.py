"""A Job's pods: what they carry and what is read from them. Pure. Next: job.py."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from jota.aio.clock import parse_rfc3339
from jota.controllers import claim
from jota.controllers.views import Pod
from jota.meta.resource import Resource

Object = dict[str, Any]

JOBS = Resource("batch", "v1", "jobs", "Job")
FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
_NAME_LIMIT = 63


def index_of(pod: Pod) -> int | None:
    return _number(pod, INDEX)


def index_failures(pod: Pod) -> int:
    """Failures of the pod's index before this pod."""
    return _number(pod, INDEX_FAILURES) or 0


def ignored_failures(pod: Pod) -> int:
    return _number(pod, IGNORED_FAILURES) or 0


def _number(pod: Pod, annotation: str) -> int | None:
    text = (pod.metadata.annotations or {}).get(annotation, "")
    return int(text) if text.isdecimal() else None


def finished_at(pod: Pod, now: float) -> float:
    """Epoch seconds of a pod's end: its last container's, else the last change of Ready, else its deletion, else `now`."""
    ends = [
        parse_rfc3339(s.state.terminated.finishedAt)
        for s in pod.status.containerStatuses or ()
        if s.state is not None and s.state.terminated is not None and s.state.terminated.finishedAt
    ]
    if ends:
        return max(ends)
    ready = pod.ready_condition
    if ready is not None and ready.lastTransitionTime:
        return parse_rfc3339(ready.lastTransitionTime)
    if pod.metadata.deletionTimestamp:
        return min(now, parse_rfc3339(pod.metadata.deletionTimestamp))
    return now


def removal_rank(pod: Pod, now: float) -> tuple[Any, ...]:
    """Sorts the pods to lose first: unassigned, pending, unready, young."""
    phase = {"Pending": 0, "Unknown": 1, "": 0}.get(pod.status.phase, 2)
    return (bool(pod.spec.nodeName), phase, pod.ready, now - pod.created, pod.key)


def build(job: Object, index: int | None, failures: int, ignored: int) -> Object:
    """The pod to create. An indexed one knows its index by annotation, label, environment and host name."""
    meta, spec = job["metadata"], job["spec"]
    template = deepcopy(spec["template"])
    given = template.get("metadata") or {}
    metadata: Object = {k: dict(given[k]) for k in ("labels", "annotations") if given.get(k)}
    metadata["finalizers"] = [*(f for f in given.get("finalizers") or () if f != FINALIZER), FINALIZER]
    metadata["namespace"] = meta["namespace"]
    metadata["ownerReferences"] = [claim.reference(job, JOBS.api_version, JOBS.kind)]
    metadata["generateName"] = f"{meta['name']}-"
    if index is not None:
        _number_it(metadata, template["spec"], meta["name"], index)
        if spec.get("backoffLimitPerIndex") is not None:
            metadata["annotations"][INDEX_FAILURES] = str(failures)
            if ignored:
                metadata["annotations"][IGNORED_FAILURES] = str(ignored)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _number_it(metadata: Object, spec: Object, job: str, index: int) -> None:
    metadata.setdefault("annotations", {})[INDEX] = str(index)
    metadata.setdefault("labels", {})[INDEX] = str(index)
    metadata["generateName"] = f"{job[: _NAME_LIMIT - 7 - len(str(index))]}-{index}-"
    if len(host := f"{job}-{index}") <= _NAME_LIMIT:
        spec["hostname"] = host
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        env = container["env"] = container.get("env") or []
        if not any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
            env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
