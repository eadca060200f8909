"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or unreachable, unless it says otherwise."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts
from jota.meta.resource import PODS, Resource

TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
SECONDS = 300


class DefaultTolerations(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = ()
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.object is None or attrs.subresource:
            return
        spec = part(attrs.object, "spec")
        have = parts(spec, "tolerations")
        missing = [
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
            for taint in TAINTS
            if not any(_tolerates(t, taint) for t in have)
        ]
        if missing:
            spec["tolerations"] = [*have, *missing]


def _tolerates(toleration: Object, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")
