"""The statuses that simulated kubelets write: (pod, step, addresses, time) -> a strategic merge patch. Pure.

The form is the real node agent's (node/status.py), so controllers and kubectl see no difference.
"""

from __future__ import annotations

from typing import Any

from jota.node.hollow.lifecycle import Container, Pod, Step, gates_open

Object = dict[str, Any]
_READY_TYPES = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


def patch_for(pod: Pod, step: Step, *, host_ip: str, pod_ip: str, stamp: str) -> Object:
    """`stamp`: now, as RFC 3339."""
    restarts = pod.restarts + (step.verb == "restart") + (step.verb == "crash")
    finished = step.verb in ("end", "remove") or (step.verb == "crash" and pod.spec.restartPolicy == "Never")
    code = 1 if step.verb == "crash" else step.code
    if finished:
        phase = "Failed" if code else "Succeeded"
        state: Object = {"terminated": _ended(pod, code, stamp)}
    elif step.verb == "crash":
        phase, state = "Running", {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
    else:
        phase, state = "Running", {"running": {"startedAt": stamp}}
    up = phase == "Running" and step.verb != "crash"
    status: Object = {
        "phase": phase,
        "conditions": _conditions(pod, phase, up, stamp),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": pod.status.startTime or stamp,
        "containerStatuses": [_container(pod, c, state, up, restarts, code, stamp) for c in pod.spec.containers],
    }
    if pod.metadata.generation:
        status["observedGeneration"] = pod.metadata.generation
    if pod.spec.initContainers:
        status["initContainerStatuses"] = [_init(pod, c, stamp) for c in pod.spec.initContainers]
    return {"metadata": {"uid": pod.metadata.uid}, "status": status}


def _conditions(pod: Pod, phase: str, up: bool, stamp: str) -> list[Object]:
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
    ready, ready_reason = (True, "") if up else (False, reason)
    if up and not gates_open(pod):
        ready, ready_reason = False, "ReadinessGatesNotReady"
    values = {
        "PodReadyToStartContainers": (phase == "Running", ""),
        "Initialized": (True, "PodCompleted" if phase == "Succeeded" else ""),
        "Ready": (ready, ready_reason),
        "ContainersReady": (up, "" if up else reason),
    }
    conditions = [_condition(pod, name, *values[name], stamp) for name in _READY_TYPES]
    if not any(c.type == "PodScheduled" and c.status == "True" for c in pod.status.conditions or ()):
        conditions.append(_condition(pod, "PodScheduled", True, "", stamp))  # bound by who made it, as static pods are
    return conditions


def _condition(pod: Pod, name: str, true: bool, reason: str, stamp: str) -> Object:
    out: Object = {
        "type": name,
        "status": "True" if true else "False",
        "lastTransitionTime": stamp,
    }
    if reason:
        out["reason"] = reason
    if pod.metadata.generation:
        out["observedGeneration"] = pod.metadata.generation
    return out


def _container(pod: Pod, c: Container, state: Object, up: bool, restarts: int, code: int, stamp: str) -> Object:
    last: Object = {"terminated": _ended(pod, code, stamp)} if restarts and "terminated" not in state else {}
    return {
        "name": c.name,
        "state": state,
        "lastState": last,
        "ready": up,
        "restartCount": restarts,
        "image": c.image,
        "imageID": f"hollow://{c.image}",
        "containerID": _id(pod, c.name),
        "started": up,
    }


def _init(pod: Pod, c: Container, stamp: str) -> Object:
    sidecar = c.restartPolicy == "Always"
    state: Object = {"running": {"startedAt": stamp}} if sidecar else {"terminated": _ended(pod, 0, stamp)}
    return {**_container(pod, c, state, True, 0, 0, stamp), "started": sidecar}


def _ended(pod: Pod, code: int, stamp: str) -> Object:
    return {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "startedAt": pod.status.startTime or stamp,
        "finishedAt": stamp,
    }


def _id(pod: Pod, container: str) -> str:
    return f"hollow://{pod.metadata.uid}/{container}"
