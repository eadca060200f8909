"""PodResizeValidator: a pod that runs on a node may not be resized to more than the whole node has, nor on one without Linux.

What else runs there is the node's affair: it takes the resize up at once, or defers it (node/resizes.py).
"""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.core.pod.totals import totals
from jota.kinds.kind import Kind, Object
from jota.kinds.quantities import nanos
from jota.kinds.shape import meta, part, strings, text
from jota.meta.errors import ApiError, FieldError, forbidden
from jota.meta.quantity import NANO
from jota.meta.resource import NODES, PODS, Resource

_UNITS = (("cpu", NANO // 1000), ("memory", NANO))
"""Resource -> nano-units in the unit that the message counts in: milli-cpu, bytes."""


class PodResize(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = ()
    apart: ClassVar[bool] = True
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403, with a cause that says which of the two it was."""
        pod, old = attrs.object, attrs.old
        if attrs.subresource != "resize" or attrs.operation != "UPDATE" or pod is None or old is None:
            return
        spec = part(pod, "spec")
        name = text(spec, "nodeName")
        if not name or meta(pod).get("generation") == meta(old).get("generation"):
            return
        node = attrs.registry.look(NODES, "", name)
        if node is None:
            raise forbidden("pods", attrs.name, f'node "{name}" not found')
        system = strings(meta(node), "labels").get("kubernetes.io/os", "linux")
        if system != "linux":
            detail = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise _refused(attrs, detail, "UnsupportedPlatform")
        if beyond := _beyond(spec, part(part(node, "status"), "allocatable")):
            raise _refused(attrs, f"node didn't have enough allocatable resources: {'; '.join(beyond)}", "NodeCapacity")


def _beyond(spec: Object, allocatable: Object) -> list[str]:
    asked = totals(spec, "requests")
    return [
        f"{name}, requested: {asked[name] // unit}, allocatable: {most // unit}"
        for name, unit in _UNITS
        if asked.get(name, 0) > (most := nanos(allocatable.get(name)) or 0)
    ]


def _refused(attrs: AdmissionAttributes, detail: str, reason: str) -> ApiError:
    return forbidden("pods", attrs.name, detail, causes=[FieldError(reason, "", "")])
