"""What a plan asks for. Each action is safe to repeat, and each is found again from the API and the providers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jota.autoscaler.settings import Options
from jota.autoscaler.world import Node, Pod


@dataclass(slots=True, frozen=True)
class Create:
    """Order a machine."""

    group: str
    name: str


@dataclass(slots=True, frozen=True)
class Remove:
    """Give a machine back, then delete its Node object if there is one."""

    group: str
    machine: str
    node: Node | None
    drained: bool = False
    """Whether pods had to move."""
    broken: str = ""
    """For a machine that never became a node: why it goes."""


@dataclass(slots=True, frozen=True)
class Forget:
    """Delete the Node object of a machine that is gone."""

    node: Node


@dataclass(slots=True, frozen=True)
class Adopt:
    """Label a Node with the group whose machine it is."""

    node: Node
    group: str


@dataclass(slots=True, frozen=True)
class Mark:
    """Begin to drain: taint and cordon."""

    node: Node
    group: str
    full: bool = False
    """Whether pods will have to move."""


@dataclass(slots=True, frozen=True)
class Unmark:
    """Give a node back."""

    node: Node
    reason: str
    failed: bool = True
    """False: it is needed again, which is no failure."""


@dataclass(slots=True, frozen=True)
class Evict:
    pod: Pod


Action = Create | Remove | Forget | Adopt | Mark | Unmark | Evict


@dataclass(slots=True, frozen=True)
class Tell:
    """An event. `about`: a pod, a node, or None for the status ConfigMap."""

    about: Pod | Node | None
    reason: str
    message: str
    type: str = "Normal"


@dataclass(slots=True)
class Backoff:
    """A group whose provider failed is left alone for a while; twice as long each time."""

    until: float
    duration: float
    failed: float
    code: str
    message: str


@dataclass(slots=True)
class Memory:
    """What is remembered between two passes. Losing it (a restart) only makes the autoscaler more patient."""

    unneeded: dict[str, float] = field(default_factory=dict)
    """Node -> since when it could go."""
    first_seen: dict[tuple[str, str], float] = field(default_factory=dict)
    """(group, machine) -> when we first saw it, for providers that do not tell its age."""
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    added: float = float("-inf")
    failed: float = float("-inf")
    """When a scale-up and a failed scale-down were last."""
    told: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Pod uid -> the last NotTriggerScaleUp text, and when."""

    def backing_off(self, group: str, now: float) -> Backoff | None:
        found = self.backoffs.get(group)
        return found if found is not None and found.until > now else None

    def provider_failed(self, group: str, code: str, message: str, now: float, options: Options) -> None:
        """Leave the group alone; the next failure before long counts double. Failures while it waits change only the words."""
        before = self.backoffs.get(group)
        if before is not None and before.until > now:
            before.code, before.message = code, message
            return
        duration = options.initialNodeGroupBackoffDuration
        if before is not None and now - before.failed < options.nodeGroupBackoffResetTimeout:
            duration = min(options.maxNodeGroupBackoffDuration, before.duration * 2)
        self.backoffs[group] = Backoff(now + duration, duration, now, code, message)


@dataclass(slots=True)
class GroupCounts:
    """For the status: how many machines of a group are what."""

    target: int = 0
    registered: int = 0
    ready: int = 0
    unready: int = 0
    starting: int = 0
    """Registered, not ready yet, and not late."""
    deleted: int = 0
    """Being drained or removed."""
    unregistered: int = 0
    late: int = 0
    """Without a node although the time for that is over."""
    candidates: int = 0
    scaling: bool = False


@dataclass(slots=True)
class Plan:
    actions: list[Action] = field(default_factory=list)
    tells: list[Tell] = field(default_factory=list)
    counts: dict[str, GroupCounts] = field(default_factory=dict)
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    """Group -> node that uses little and stays all the same -> why."""
    unhealthy: str = ""
    """Why the whole cluster is not touched."""

    def of(self, kind: type[Any]) -> Sequence[Any]:
        return [a for a in self.actions if isinstance(a, kind)]
