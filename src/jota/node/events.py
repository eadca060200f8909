"""A pod's events in the kubelet's words. In: what happened. Out: calls of the recorder, which writes in the background."""

from __future__ import annotations

from jota.client.events import EventRecorder
from jota.node.model import Object, full_name, parts
from jota.node.plan import Plan


class PodEvents:
    """Events about one pod; `container` adds the field path of that container."""

    def __init__(self, recorder: EventRecorder, pod: Object) -> None:
        self._recorder = recorder
        meta = pod["metadata"]
        self._reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            **({"resourceVersion": meta["resourceVersion"]} if meta.get("resourceVersion") else {}),
        }
        self._paths = {p.name: _path(p.role, p.name) for p in parts(pod)}
        self._told: dict[str, tuple[str, str]] = {}

    def normal(self, reason: str, message: str, container: str = "") -> None:
        self.tell("Normal", reason, message, container)

    def warning(self, reason: str, message: str, container: str = "") -> None:
        self.tell("Warning", reason, message, container)

    def tell(self, type_: str, reason: str, message: str, container: str = "") -> None:
        path = self._paths.get(container) or (f"spec.containers{{{container}}}" if container else "")
        self._recorder.event(dict(self._reference), type_, reason, message, path)

    def backoffs(self, steps: Plan, pod: Object) -> None:
        """One BackOff event when a container begins to wait, not at every look."""
        for name, (reason, message) in steps.waiting.items():
            if self._told.get(name) == (reason, message):
                continue
            self._told[name] = (reason, message)
            if reason == "CrashLoopBackOff":
                self.warning("BackOff", f"Back-off restarting failed container {name} in pod {full_name(pod)}", name)
            elif reason == "ImagePullBackOff":
                image = next((p.spec.get("image", "") for p in parts(pod) if p.name == name), "")
                self.normal("BackOff", f'Back-off pulling image "{image}"', name)
                self.warning("Failed", "Error: ImagePullBackOff", name)
        for name in [n for n in self._told if n not in steps.waiting]:
            del self._told[name]


def _path(role: str, name: str) -> str:
    section = {"app": "containers", "ephemeral": "ephemeralContainers"}.get(role, "initContainers")
    return f"spec.{section}{{{name}}}"
