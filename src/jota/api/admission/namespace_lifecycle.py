"""NamespaceLifecycle: nothing is created in a namespace that is absent or going; the first namespaces stay for ever."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind
from jota.meta.errors import FieldError, forbidden, not_found
from jota.meta.resource import NAMESPACES, Resource

IMMORTAL = ("default", "kube-public", "kube-system")


class NamespaceLifecycle(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (NAMESPACES,)
    apart: ClassVar[bool] = True
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource.namespaced or kind.resource == NAMESPACES

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or not attrs.kind.resource.namespaced:
            return
        resource, name = attrs.kind.resource, attrs.namespace
        namespace = attrs.registry.look(NAMESPACES, "", name)
        if namespace is None:
            raise not_found("namespaces", name)
        if namespace["metadata"].get("deletionTimestamp"):
            cause = FieldError("NamespaceTerminating", "metadata.namespace", f"namespace {name} is being terminated")
            detail = f"unable to create new content in namespace {name} because it is being terminated"
            raise forbidden(resource.plural, attrs.name, detail, resource.group, [cause])

    def validate(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation == "DELETE" and attrs.kind.resource == NAMESPACES and attrs.name in IMMORTAL:
            raise forbidden("namespaces", attrs.name, "this namespace may not be deleted")
