"""What should happen next to a simulated pod. Pure: (pod, settings, now) -> a step and when. Next: podset.py does it.

pending --start--> running --end--> succeeded | failed, or restarted as its restartPolicy says
any --stop--> removed, once its deletion was asked for and its stop time has passed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.node.hollow.settings import (
    EXIT_CODE,
    RUN_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
    Settings,
    chance,
)


class Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None


class Container(msgspec.Struct, gc=False):
    name: str
    image: str = ""
    restartPolicy: str | None = None


class Gate(msgspec.Struct, gc=False):
    conditionType: str


class Spec(msgspec.Struct, gc=False):
    nodeName: str = ""
    containers: list[Container] = msgspec.field(default_factory=list)
    initContainers: list[Container] | None = None
    restartPolicy: str = "Always"
    hostNetwork: bool = False
    readinessGates: list[Gate] | None = None


class Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""


class ContainerStatus(msgspec.Struct, gc=False):
    restartCount: int = 0


class Status(msgspec.Struct, gc=False):
    phase: str = ""
    podIP: str = ""
    startTime: str | None = None
    conditions: list[Condition] | None = None
    containerStatuses: list[ContainerStatus] | None = None


class Pod(msgspec.Struct, gc=False):
    """What is read of a pod. Small: a fleet holds 150,000 of them."""

    metadata: Meta
    spec: Spec
    status: Status = msgspec.field(default_factory=Status)

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def restarts(self) -> int:
        statuses = self.status.containerStatuses
        return statuses[0].restartCount if statuses else 0


Verb = Literal["start", "crash", "end", "restart", "ready", "remove"]


@dataclass(slots=True, frozen=True)
class Step:
    verb: Verb
    after: float = 0.0
    """Seconds from when the pod came into the state that it is in."""
    code: int = 0
    """Exit code of what ended."""

    @property
    def label(self) -> str:
        return self.verb


def plan(pod: Pod, settings: Settings, now: float) -> Step | None:
    """The next step; None: nothing more happens by itself. `now`: epoch seconds."""
    if pod.metadata.deletionTimestamp is not None:
        return Step("remove", _stop_after(pod, settings, now))
    if pod.status.phase in ("Succeeded", "Failed"):
        return None
    fails = chance(pod.metadata.uid, "fails") < settings.failure_rate
    if not pod.status.containerStatuses:
        return Step("crash" if fails else "start", _varied(pod, settings, START_SECONDS, settings.start_seconds))
    if fails:
        return None
    if _condition(pod, "Ready") != ("True" if gates_open(pod) else "False"):
        return Step("ready")
    return _ending(pod, settings)


def gates_open(pod: Pod) -> bool:
    """All readiness gates are True."""
    return all(_condition(pod, g.conditionType) == "True" for g in pod.spec.readinessGates or ())


def _ending(pod: Pod, settings: Settings) -> Step | None:
    annotations = pod.metadata.annotations or {}
    policy = pod.spec.restartPolicy
    if RUN_SECONDS not in annotations and policy == "Always":
        return None
    code = int(_number(annotations.get(EXIT_CODE, ""), 0.0))
    after = _varied(pod, settings, RUN_SECONDS, settings.run_seconds)
    again = policy == "Always" or (policy == "OnFailure" and code != 0)
    return Step("restart" if again else "end", after, code)


def _stop_after(pod: Pod, settings: Settings, now: float) -> float:
    """Never later than the grace period allows, which began when the deletion was asked for."""
    wanted = _varied(pod, settings, STOP_SECONDS, settings.stop_seconds)
    if not wanted:
        return 0.0
    left = parse_rfc3339(pod.metadata.deletionTimestamp or "") - now
    return max(0.0, min(wanted, left))


def _varied(pod: Pod, settings: Settings, annotation: str, default: float) -> float:
    seconds = _number((pod.metadata.annotations or {}).get(annotation, ""), default)
    if settings.jitter and seconds:
        seconds *= 1 + settings.jitter * (2 * chance(pod.metadata.uid, annotation) - 1)
    return seconds


def _number(text: str, default: float) -> float:
    try:
        return max(0.0, float(text)) if text else default
    except ValueError:
        return default


def _condition(pod: Pod, name: str) -> str:
    return next((c.status for c in pod.status.conditions or () if c.type == name), "")
