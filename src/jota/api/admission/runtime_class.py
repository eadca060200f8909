"""RuntimeClass: a pod's runtimeClassName must exist; its overhead and its nodes become the pod's."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta.errors import forbidden
from jota.meta.resource import PODS, Resource

CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)


class RuntimeClass(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (CLASSES,)
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or attrs.object is None or attrs.subresource:
            return
        spec = part(attrs.object, "spec")
        name = text(spec, "runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise forbidden("pods", attrs.name, "pod rejected: Pod Overhead set without corresponding RuntimeClass")
            return
        found = attrs.registry.get(CLASSES, "", name)
        if found is None:
            raise forbidden("pods", attrs.name, f'pod rejected: RuntimeClass "{name}" not found')
        self._overhead(attrs, spec, found)
        self._scheduling(attrs, spec, part(found, "scheduling"))

    def _overhead(self, attrs: AdmissionAttributes, spec: Object, found: Object) -> None:
        fixed = part(part(found, "overhead"), "podFixed")
        if spec.get("overhead") and spec["overhead"] != fixed:
            text_ = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            raise forbidden("pods", attrs.name, text_)
        if fixed:
            spec["overhead"] = dict(fixed)

    def _scheduling(self, attrs: AdmissionAttributes, spec: Object, scheduling: Object) -> None:
        own, its = part(spec, "nodeSelector"), part(scheduling, "nodeSelector")
        for key, value in its.items():
            if own.get(key, value) != value:
                text_ = f'conflict: RuntimeClass scheduling conflicts with the pod\'s nodeSelector at "{key}"'
                raise forbidden("pods", attrs.name, text_)
        if its:
            spec["nodeSelector"] = {**own, **its}
        tolerations = parts(spec, "tolerations")
        added = [t for t in parts(scheduling, "tolerations") if t not in tolerations]
        if added:
            spec["tolerations"] = [*tolerations, *added]
