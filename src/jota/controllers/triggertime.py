"""When what endpoints show began to change: annotation endpoints.kubernetes.io/last-change-trigger-time, by which proxies and
monitors measure how long the network takes to follow.

In: a service and the pods behind it, at each look. Out: the earliest of the changes since the last look, to write with whatever
this look writes. As upstream's TriggerTimeTracker: a pod changes when its condition Ready does, a service when it is made; the
first look at a service says when it was made; a pod that changed twice between two looks says the later time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from jota.controllers.views import Pod

Object = dict[str, Any]
ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(slots=True)
class _State:
    made: str = ""
    """creationTimestamp of the service."""
    pods: dict[str, str] = field(default_factory=dict)
    """Name -> when its condition Ready last changed."""


class TriggerTimes:
    """Times are as the API has them: in UTC and whole seconds, so that the earlier is the lesser text."""

    def __init__(self) -> None:
        self._known: dict[str, _State] = {}

    def of_all(self, key: str, service: Object, pods: Iterable[Pod]) -> str:
        """A look at every pod behind the service. "": nothing has changed."""
        known = self._known.get(key)
        before = known or _State()
        now = self._known[key] = _State(_made(service), {})
        changed = [now.made] if now.made > before.made else []
        for pod in pods:
            when = _of_pod(pod)
            if when:
                now.pods[pod.metadata.name] = when
                if when > before.pods.get(pod.metadata.name, ""):
                    changed.append(when)
        return now.made if known is None else min(changed, default="")

    def of_changed(self, key: str, names: Iterable[str], pod_named: Callable[[str], Pod | None]) -> str:
        """The same of a service that was looked at before, when nothing but these pods is other than it was."""
        pods, changed = self._known[key].pods, []
        for name in names:
            pod = pod_named(name)
            when = _of_pod(pod) if pod is not None else ""
            before = pods.pop(name, "")
            if when:
                pods[name] = when
                if when > before:
                    changed.append(when)
        return min(changed, default="")

    def forget(self, key: str) -> None:
        """The service is gone."""
        self._known.pop(key, None)


def mark(meta: Object, when: str) -> None:
    """Put it into metadata that is about to be written; "" takes away what the last write said."""
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != ANNOTATION}
    if when:
        annotations[ANNOTATION] = when
    if annotations or "annotations" in meta:
        meta["annotations"] = annotations


def _made(service: Object) -> str:
    return str(service["metadata"].get("creationTimestamp") or "")


def _of_pod(pod: Pod) -> str:
    condition = pod.ready_condition
    return (condition.lastTransitionTime or "") if condition is not None else ""
