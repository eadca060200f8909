"""Priority: priorityClassName of pods and pod groups -> spec.priority and preemptionPolicy. System classes need no object."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import number, part, text
from jota.meta.errors import forbidden
from jota.meta.resource import PODGROUPS, PODS, Resource

CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class Priority(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (CLASSES,)
    apart: ClassVar[bool] = True
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource in (PODS, PODGROUPS, CLASSES)

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.kind.resource not in (PODS, PODGROUPS) or attrs.object is None or attrs.subresource:
            return
        spec = part(attrs.object, "spec")
        if attrs.operation == "CREATE":
            self._create(attrs, spec)
        elif attrs.old is not None:
            before = part(attrs.old, "spec")
            for field in ("priority", "preemptionPolicy", "priorityClassName"):
                if field in before:
                    spec.setdefault(field, before[field])

    def validate(self, attrs: AdmissionAttributes) -> None:
        """At most one class is the default."""
        new = attrs.object
        if attrs.kind.resource != CLASSES or new is None or new.get("globalDefault") is not True:
            return
        for other in attrs.registry.objects(CLASSES):
            name = other["metadata"]["name"]
            if other.get("globalDefault") is True and name != attrs.name:
                detail = f"PriorityClass {name} is already marked as default. Only one default can exist"
                raise forbidden("priorityclasses", attrs.name, detail, CLASSES.group)

    def _create(self, attrs: AdmissionAttributes, spec: Object) -> None:
        name, value, policy = self._class(attrs, text(spec, "priorityClassName"))
        if name:
            spec["priorityClassName"] = name
        resource = attrs.kind.resource
        what = "pod" if resource == PODS else "pod group"
        given = spec.get("priority")
        if given is not None and given != value:
            detail = f"the integer value of priority ({given}) must not be provided in {what} spec; "
            detail += f"priority admission controller computed {value} from the given PriorityClass name"
            raise forbidden(resource.plural, attrs.name, detail, resource.group)
        spec["priority"] = value
        wanted = text(spec, "preemptionPolicy")
        if wanted and wanted != policy:
            detail = f"the string value of PreemptionPolicy ({wanted}) must not be provided in {what} spec; "
            detail += f"priority admission controller computed {policy} from the given PriorityClass name"
            raise forbidden(resource.plural, attrs.name, detail, resource.group)
        spec["preemptionPolicy"] = policy

    def _class(self, attrs: AdmissionAttributes, name: str) -> tuple[str, int, str]:
        """(name, value, preemption policy). Raises ApiError 403."""
        if name in SYSTEM:
            return name, SYSTEM[name], "PreemptLowerPriority"
        if not name:
            if not attrs.registry.count(CLASSES):
                return "", 0, "PreemptLowerPriority"
            found = next((c for c in attrs.registry.look_over(CLASSES) if c.get("globalDefault") is True), None)
        else:
            found = attrs.registry.look(CLASSES, "", name)
            if found is None:
                resource = attrs.kind.resource
                detail = f"no PriorityClass with name {name} was found"
                raise forbidden(resource.plural, attrs.name, detail, resource.group)
        if found is None:
            return "", 0, "PreemptLowerPriority"
        policy = text(found, "preemptionPolicy") or "PreemptLowerPriority"
        return found["metadata"]["name"], number(found, "value"), policy
