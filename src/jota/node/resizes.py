"""Who may be resized on this node, and when: the specs that ask for other resources than are allocated, decided one by one.

In: workers that ask, and word that something became free. Out: allocations, conditions and events of those workers. Admission is
that of new pods (admission.py), against what is allocated to the others; what does not fit waits, and is asked again.
Rule: kubelet's allocation manager. Next: allocation.py; plan.py, which carries an allocation out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from jota.node import admission
from jota.node.allocation import asked, grows
from jota.node.model import Object, Resizing, Verdict, parts
from jota.node.resources import qos_class

if TYPE_CHECKING:
    from jota.node.worker import PodWorker

log = logging.getLogger(__name__)

DEFERRED = "Deferred"
_REJECTED = "Pod was rejected: "


class Resizes:
    def __init__(
        self,
        name: str,
        holding: Callable[[PodWorker], list[Object]],
        labels: Callable[[], Mapping[str, str]],
        allocatable: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        """`holding(worker)`: the other pods that occupy resources here, as allocated."""
        self._name, self._holding, self._labels = name, holding, labels
        self._allocatable, self._now = allocatable, clock
        self._waiting: dict[str, PodWorker] = {}
        """By uid: those whose spec asks for something else than they have been allocated."""

    def ask(self, worker: PodWorker) -> None:
        """The pod's spec, or what is known of its allocation, is new: decide about it now."""
        if worker.uid in self._waiting or _differs(worker):
            self._waiting[worker.uid] = worker
            self.look()

    def forget(self, uid: str) -> None:
        """Its worker ended: what it held is free."""
        self._waiting.pop(uid, None)
        self.look()

    def look(self) -> None:
        """Something became free, or time has passed: ask again, the first in line first."""
        for worker in sorted(self._waiting.values(), key=_turn):
            self._decide(worker)

    def _decide(self, worker: PodWorker) -> None:
        facts = worker.facts
        if worker.stopping or not _differs(worker):
            del self._waiting[worker.uid]
            if facts.pending is not None:  # taken back
                facts.pending = None
                worker.wake()
            return
        pod = worker.pod
        verdict = admission.check(pod, self._holding(worker), self._labels(), self._allocatable, self._name)
        if verdict is not None:
            self._defer(worker, verdict)
            return
        try:
            worker.allocate(asked(pod))
        except OSError as e:
            log.warning("%s: its allocation cannot be written down, it is tried again: %s", worker.uid, e)
            return
        del self._waiting[worker.uid]
        facts.pending, facts.resize_failure = None, None
        facts.progress = Resizing("", "", generation(pod), self._now())
        worker.events.normal("ResizeStarted", summary("Pod resize started", pod, generation(pod)))
        worker.wake()

    def _defer(self, worker: PodWorker, verdict: Verdict) -> None:
        facts, pod = worker.facts, worker.pod
        message, before = verdict.message.removeprefix(_REJECTED), facts.pending
        same = before is not None and before.reason == DEFERRED
        since = before.since if same and before is not None else self._now()
        facts.pending = Resizing(DEFERRED, message, generation(pod), since)
        if facts.pending == before:
            return
        worker.wake()
        if not same or before is None or before.generation != generation(pod):
            text = summary(f"Pod resize {verdict.reason}", pod, generation(pod), message)
            worker.events.warning("ResizeDeferred", text)


def _differs(worker: PodWorker) -> bool:
    return worker.allocation is not None and worker.allocation != asked(worker.pod)


def _turn(worker: PodWorker) -> tuple[bool, int, bool, float]:
    """Who asks for no more goes first, then by priority, Guaranteed before the others, and then who waits longest."""
    pod, pending = worker.pod, worker.facts.pending
    return (
        grows(pod, worker.allocated),
        -int(pod["spec"].get("priority") or 0),
        qos_class(pod) != "Guaranteed",
        pending.since if pending is not None else float("inf"),
    )


def generation(pod: Object) -> int:
    return int(pod["metadata"].get("generation") or 0)


def summary(prefix: str, pod: Object, generation: int, error: str = "") -> str:
    """An event's message: what the pod is to have, as JSON in the kubelet's own order."""
    told: Object = {}
    for p in parts(pod):
        if p.role == "ephemeral":
            continue
        resources = p.spec.get("resources") or {}
        sorted_ = {k: dict(sorted(resources[k].items())) for k in ("limits", "requests") if resources.get(k)}
        section = "containers" if p.role == "app" else "initContainers"
        told.setdefault(section, []).append({"name": p.name, "resources": sorted_})
    told["generation"] = generation
    if error:
        told["error"] = error
    return f"{prefix}: {orjson.dumps(told).decode()}"
