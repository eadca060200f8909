"""What `kubectl get pods` shows: READY, STATUS, RESTARTS and the wide columns (pkg/printers/internalversion, printPod).

In: a stored pod and the time. Out: cells. The STATUS word is found by walking init containers, then containers, as upstream
does; the last word wins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jota.kinds.common import AGE, NONE, human_duration, moment, path_cell, plain
from jota.kinds.kind import Column
from jota.kinds.shape import Object, meta, number, part, parts, text

TERMINAL = ("Succeeded", "Failed")


class Summary(NamedTuple):
    ready: int
    total: int
    reason: str
    restarts: int
    last_restart: float | None
    """Epoch seconds when the previous run of the most recently restarted container ended."""


class _Walk:
    """Counters of one pass over container statuses."""

    def __init__(self) -> None:
        self.ready = 0
        self.restarts = 0
        self.last: float | None = None

    def count(self, status: Object) -> None:
        self.restarts += number(status, "restartCount")
        ended = moment(part(part(status, "lastState"), "terminated").get("finishedAt"))
        if ended is not None and (self.last is None or ended > self.last):
            self.last = ended


def summarise(pod: Object) -> Summary:
    """The three columns that come from container statuses."""
    spec, status = part(pod, "spec"), part(pod, "status")
    sidecars = {text(c, "name") for c in parts(spec, "initContainers") if c.get("restartPolicy") == "Always"}
    total = len(parts(spec, "containers")) + len(sidecars)
    reason = _phase_word(status)
    walk, sidecar_walk = _Walk(), _Walk()
    waiting_word = _init_word(spec, status, sidecars, walk, sidecar_walk)
    if waiting_word:
        reason = waiting_word
    if not waiting_word or _condition(status, "Initialized"):
        sidecar_walk.ready = walk.ready
        walk = sidecar_walk
        reason = _container_word(status, reason, walk)
    return Summary(walk.ready, total, _deleted_word(pod, status, reason), walk.restarts, walk.last)


def _phase_word(status: Object) -> str:
    for condition in parts(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            return "SchedulingGated"
    return text(status, "reason") or text(status, "phase")


def _init_word(spec: Object, status: Object, sidecars: set[str], walk: _Walk, sidecar_walk: _Walk) -> str:
    """The Init:... word of the first init container that is not done; "" when all are."""
    for index, container in enumerate(parts(status, "initContainerStatuses")):
        is_sidecar = text(container, "name") in sidecars
        walk.count(container)
        if is_sidecar:
            sidecar_walk.count(container)
        state = part(container, "state")
        ended, waiting = state.get("terminated"), text(part(state, "waiting"), "reason")
        if isinstance(ended, dict) and not number(ended, "exitCode"):
            continue
        if is_sidecar and container.get("started") is True:
            walk.ready += container.get("ready") is True
            continue
        if isinstance(ended, dict):
            return "Init:" + _ended_word(ended)
        if waiting and waiting != "PodInitializing":
            return "Init:" + waiting
        return f"Init:{index}/{len(parts(spec, 'initContainers'))}"
    return ""


def _container_word(status: Object, reason: str, walk: _Walk) -> str:
    running = False
    for container in reversed(parts(status, "containerStatuses")):
        walk.count(container)
        state = part(container, "state")
        ended, waiting = state.get("terminated"), text(part(state, "waiting"), "reason")
        if waiting:
            reason = waiting
        elif isinstance(ended, dict):
            reason = _ended_word(ended)
        elif container.get("ready") is True and isinstance(state.get("running"), dict):
            running = True
            walk.ready += 1
    if reason == "Completed" and running:
        return "Running" if _condition(status, "Ready") else "NotReady"
    return reason


def _ended_word(ended: Object) -> str:
    if text(ended, "reason"):
        return text(ended, "reason")
    signal = number(ended, "signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{number(ended, 'exitCode')}"


def _deleted_word(pod: Object, status: Object, reason: str) -> str:
    if not meta(pod).get("deletionTimestamp"):
        return reason
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if status.get("phase") in TERMINAL else "Terminating"


def _condition(status: Object, type: str) -> bool:
    return any(c.get("type") == type and c.get("status") == "True" for c in parts(status, "conditions"))


def _ready(pod: Object, _now: float) -> str:
    summary = summarise(pod)
    return f"{summary.ready}/{summary.total}"


def _status(pod: Object, _now: float) -> str:
    return summarise(pod).reason


def _restarts(pod: Object, now: float) -> str:
    return _restarted(summarise(pod), now)


def _restarted(summary: Summary, now: float) -> str:
    if not summary.restarts or summary.last_restart is None:
        return str(summary.restarts)
    return f"{summary.restarts} ({human_duration(now - summary.last_restart)} ago)"


def _ip(pod: Object, _now: float) -> str:
    status = part(pod, "status")
    addresses = parts(status, "podIPs")
    return (text(addresses[0], "ip") if addresses else text(status, "podIP")) or NONE


def _gates(pod: Object, _now: float) -> str:
    gates = parts(part(pod, "spec"), "readinessGates")
    if not gates:
        return NONE
    status = part(pod, "status")
    return f"{sum(_condition(status, text(g, 'conditionType')) for g in gates)}/{len(gates)}"


COLUMNS = (
    Column(
        "Name",
        path_cell("metadata", "name", missing=""),
        format="name",
        description="Name must be unique within a namespace.",
    ),
    plain("Ready", _ready, about="The aggregate readiness state of this pod for accepting traffic."),
    plain("Status", _status, about="The aggregate status of the containers in this pod."),
    plain("Restarts", _restarts, about="The number of times the containers in this pod have been restarted."),
    AGE,
    plain("IP", _ip, wide=True, about="IP address allocated to the pod."),
    plain("Node", path_cell("spec", "nodeName"), wide=True, about="The node that the pod is bound to."),
    plain(
        "Nominated Node", path_cell("status", "nominatedNodeName"), wide=True, about="The node that preemption aims at."
    ),
    plain("Readiness Gates", _gates, wide=True, about="Extra conditions that must be True, and how many are."),
)


def cells(pod: Object, now: float) -> list[Any]:
    """Of all columns, with one walk over the containers."""
    summary = summarise(pod)
    name, _, _, _, *rest = (column.cell for column in COLUMNS)
    shared = f"{summary.ready}/{summary.total}", summary.reason, _restarted(summary, now)
    return [name(pod, now), *shared, *(cell(pod, now) for cell in rest)]
