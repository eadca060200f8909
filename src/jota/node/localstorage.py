"""Local ephemeral storage: which pods use more of the node's disk than they may. In: pods. Out: verdicts, for agent.py.

As the kubelet's eviction manager, in its order: the sizeLimit of an emptyDir on disk, the sum of the containers' limits on
`ephemeral-storage` (writable layers, logs and emptyDirs count), each container's own (its layer and its logs). Only pods with
such a limit are measured, and none for more than a twentieth of the time. Memory-backed volumes are limited by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from jota.aio.clock import Clock
from jota.meta import quantity
from jota.node.config import NodeConfig
from jota.node.eviction import CRITICAL, GRACE
from jota.node.model import Object, Verdict, parts, uid_of
from jota.node.resources import amount, limits_of
from jota.runtime import trees
from jota.runtime.protocol import Container, Runtime

STORAGE = "ephemeral-storage"
_SHARE = 20.0
"""A pod is looked at again after this many times the seconds that the last look took."""


@dataclass(slots=True)
class Use:
    """Bytes on disk."""

    containers: dict[str, int] = field(default_factory=dict)
    """Container -> writable layer and logs."""
    volumes: dict[str, int] = field(default_factory=dict)
    """emptyDir -> content."""


class StorageLimits:
    def __init__(self, runtime: Runtime, config: NodeConfig, clock: Clock) -> None:
        self._runtime, self._config, self._clock = runtime, config, clock
        self._not_before: dict[str, float] = {}
        """Pod uid -> monotonic time."""

    async def exceeded(self, pods: Iterable[Object]) -> list[tuple[Object, Verdict]]:
        """Those that use too much, with why. Raises RuntimeFault, OSError."""
        now = self._clock.monotonic()
        limited = {uid_of(pod): pod for pod in pods if is_limited(pod)}
        self._not_before = {uid: at for uid, at in self._not_before.items() if uid in limited}
        due = {uid: pod for uid, pod in limited.items() if self._not_before.get(uid, 0.0) <= now}
        if not due:
            return []
        held: dict[str, list[Container]] = {uid: [] for uid in due}
        for container in await self._runtime.containers():
            if container.pod_uid in held:
                held[container.pod_uid].append(container)
        out = []
        for uid, pod in due.items():
            began = self._clock.monotonic()
            found = await asyncio.to_thread(measure, pod, held[uid], self._config)
            ended = self._clock.monotonic()
            self._not_before[uid] = ended + _SHARE * (ended - began)
            if (verdict := judge(pod, found)) is not None:
                out.append((pod, verdict))
        return out


def is_limited(pod: Object) -> bool:
    """Critical pods are not: they are never evicted."""
    if int(pod["spec"].get("priority") or 0) >= CRITICAL:
        return False
    return any(STORAGE in limits_of(p.spec) for p in parts(pod)) or any(
        source.get("sizeLimit") for _, source in disk_volumes(pod)
    )


def disk_volumes(pod: Object) -> Iterator[tuple[str, Object]]:
    """(name, source) of the emptyDirs that are not in memory."""
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("emptyDir")
        if source is not None and source.get("medium") != "Memory":
            yield volume["name"], source


def judge(pod: Object, use: Use) -> Verdict | None:
    """The first limit that is exceeded, in upstream's words."""
    for name, source in disk_volumes(pod):
        limit = source.get("sizeLimit")
        if limit and 0 < amount(limit) < use.volumes.get(name, 0):
            return _evicted(f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
    whole = pod_limit(pod)
    if whole is not None and sum(use.containers.values()) + sum(use.volumes.values()) > amount(whole):
        return _evicted(f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. ")
    for p in parts(pod):
        limit = limits_of(p.spec).get(STORAGE)
        if p.role in ("app", "sidecar") and limit and 0 < amount(limit) < use.containers.get(p.name, 0):
            return _evicted(f'Container {p.name} exceeded its local ephemeral storage limit "{limit}". ')
    return None


def _evicted(message: str) -> Verdict:
    """Its own doing: not a disruption (as upstream)."""
    return Verdict("Evicted", message, grace=GRACE)


def pod_limit(pod: Object) -> str | None:
    """What all containers together may use: the sum, or the largest init container; None when none has a limit.

    A container without a limit adds nothing, as upstream."""
    found = [(p.role, limit) for p in parts(pod) if (limit := limits_of(p.spec).get(STORAGE))]
    if not found:
        return None
    together = quantity.add("0", *(limit for role, limit in found if role in ("app", "sidecar")))
    return max(together, *(limit for role, limit in found if role == "init"), "0", key=amount)


def measure(pod: Object, containers: Iterable[Container], config: NodeConfig) -> Use:
    """Walks directories: not on the event loop. Of each container the latest run counts, and its logs."""
    meta = pod["metadata"]
    latest: dict[str, Container] = {}
    for container in containers:
        held = latest.get(container.name)
        if held is None or (held.attempt, held.created_at) < (container.attempt, container.created_at):
            latest[container.name] = container
    logs = config.log_directory(meta["namespace"], meta["name"], meta["uid"])
    empty = os.path.join(config.pod_dir(meta["uid"]), "volumes", "kubernetes.io~empty-dir")
    return Use(
        {name: _written(c.writable) + _written(os.path.join(logs, name)) for name, c in latest.items()},
        {name: _written(os.path.join(empty, name)) for name, _ in disk_volumes(pod)},
    )


def _written(directory: str) -> int:
    """Bytes that a tree takes on its file system: hard links once, other file systems not. What goes meanwhile is passed over."""
    seen: set[int] = set()
    total = 0
    try:
        for info in trees.entries(directory):
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if info.st_ino in seen:
                    continue
                seen.add(info.st_ino)
            total += info.st_blocks * 512
    except OSError:
        return total
    return total
