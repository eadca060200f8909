"""The nouns that planner, worker and status builder share: what the pod asks, what the runtime shows, what was learnt.

`Observed` comes from the runtime and the network, `Facts` is the worker's memory. Both are snapshots for `plan.py` and
`status.py`, which only look. Nothing in `Facts` is needed for correctness after a crash: a new agent starts with none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from jota.runtime.protocol import Container, Resources, Sandbox

Object = dict[str, Any]

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
SPEC_HASH = "jota.dev/spec-hash"
BACKOFF_STEP = "jota.dev/backoff-step"
"""How many starts in a row came before this one; kept on the container so that a new agent continues the curve."""
RESOURCES = "jota.dev/resources"
"""The resources that a container, or a sandbox, has now, as JSON: it is resized in place when others are allocated."""
GRACE = "jota.dev/termination-grace"

Role = Literal["init", "sidecar", "app", "ephemeral"]


class Part(NamedTuple):
    """One container of the pod's spec."""

    role: Role
    spec: Object

    @property
    def name(self) -> str:
        return str(self.spec["name"])


def parts(pod: Object) -> Iterator[Part]:
    """Every container of the pod: init containers (sidecars marked), app containers, ephemeral ones; in spec order."""
    spec = pod["spec"]
    for c in spec.get("initContainers") or []:
        yield Part("sidecar" if c.get("restartPolicy") == "Always" else "init", c)
    for c in spec.get("containers") or []:
        yield Part("app", c)
    for c in spec.get("ephemeralContainers") or []:
        yield Part("ephemeral", c)


def uid_of(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def key_of(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def full_name(pod: Object) -> str:
    """name_namespace(uid), as kubelet messages spell a pod."""
    meta = pod["metadata"]
    return f"{meta['name']}_{meta['namespace']}({meta['uid']})"


def spec_hash(container: Object) -> str:
    """Identity of what needs a restart when it changes: name and image (upstream hashes the same two)."""
    text = orjson.dumps([container["name"], container.get("image", "")])
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def resources_text(container: Object) -> str:
    """Requests and limits in one canonical text."""
    wanted = container.get("resources") or {}
    sized = {k: v for k, v in wanted.items() if k in ("limits", "requests") and v}
    return orjson.dumps(sized, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(slots=True)
class Observed:
    """What exists for one pod right now."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    ip: str = ""

    def sandbox(self) -> Sandbox | None:
        """The ready sandbox, the newest when a crash left several."""
        ready = [s for s in self.sandboxes if s.state == "ready"]
        return max(ready, key=lambda s: (s.spec.attempt, s.created_at), default=None)

    def of(self, name: str) -> list[Container]:
        """The attempts of one container, newest first."""
        mine = [c for c in self.containers if c.name == name]
        return sorted(mine, key=lambda c: (c.attempt, c.created_at), reverse=True)

    def alive(self) -> list[Container]:
        return [c for c in self.containers if c.state == "running"]


@dataclass(slots=True)
class Failure:
    """A step that failed: what users see, and when to try again (epoch seconds)."""

    reason: str
    message: str
    at: float
    retry_at: float
    count: int = 1


@dataclass(slots=True)
class ImageFact:
    """The outcome of the pull policy for one attempt of one container."""

    attempt: int
    reference: str
    id: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class Stop:
    """The pod must stop. `deadline`: epoch seconds at which containers are killed."""

    deadline: float
    event: str = ""
    """Why, for the Killing event; "" gives upstream's "Stopping container"."""


@dataclass(slots=True)
class Resizing:
    """What condition PodResizePending or PodResizeInProgress says of a resize under way."""

    reason: str
    message: str
    generation: int
    """Of the spec that asked for it."""
    since: float
    """Epoch seconds at which the reason became this one."""


@dataclass(slots=True)
class Verdict:
    """The node itself decided the phase: rejected at admission, evicted, deadline passed."""

    reason: str
    message: str
    phase: str = "Failed"
    grace: float | None = None
    """Seconds that its containers have to end; None: the pod's own."""
    disrupts: bool = False
    """Nothing that the pod did: shown as condition DisruptionTarget, too, which Jobs' pod failure policies tell apart."""


@dataclass(slots=True)
class Facts:
    """A worker's memory of one pod."""

    start_time: float = 0.0
    volumes_ready: bool = False
    volumes_failure: Failure | None = None
    sandbox_failure: Failure | None = None
    images: dict[str, ImageFact] = field(default_factory=dict)
    starts: dict[str, Failure] = field(default_factory=dict)
    """Container name -> why it could not be created or started."""
    hooked: dict[str, str] = field(default_factory=dict)
    """Container id -> "" when postStart succeeded, its error when it failed. Absent while it has not ended."""
    probes: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(container id, "startup" | "liveness" | "readiness") -> last settled result."""
    busy: dict[str, float] = field(default_factory=dict)
    """Operation in flight ("start:web", "kill:web", "sandbox") -> its deadline, 0 without one."""
    stop: Stop | None = None
    verdict: Verdict | None = None
    torn_down: bool = False
    removed: bool = False
    last_lines: dict[str, str] = field(default_factory=dict)
    """Container id -> last line of its log, once it has died."""
    termination: dict[str, str] = field(default_factory=dict)
    """Container id -> termination message."""
    pending: Resizing | None = None
    """What the spec asks for is not allocated: Deferred or Infeasible."""
    progress: Resizing | None = None
    """What is allocated is not yet what the containers have; reason "" or Error."""
    resize_failure: Failure | None = None
    bounds: Resources | None = None
    """What the pod's own group is to have; None: not worked out."""

    def is_busy(self, *keys: str) -> bool:
        return any(k in self.busy for k in keys)
