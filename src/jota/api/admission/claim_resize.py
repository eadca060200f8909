"""PersistentVolumeClaimResize: a claim may ask for more only when it is bound and its class allows volumes to grow."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.default_storage_class import CLAIMS, CLASSES
from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.core.persistentvolume import storage_class
from jota.kinds.kind import Kind, Object
from jota.kinds.quantities import nanos
from jota.kinds.shape import deep, part, text
from jota.meta.errors import forbidden
from jota.meta.resource import Resource

_NOT_BOUND = "only bound persistent volume claims can be expanded"
_FIXED = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)


class ClaimResize(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = ()
    apart: ClassVar[bool] = True  # of a claim only the status is written apart, and here nobody looks at that
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == CLAIMS

    def validate(self, attrs: AdmissionAttributes) -> None:
        new, old = attrs.object, attrs.old
        if attrs.operation != "UPDATE" or attrs.subresource or new is None or old is None or not _grows(new, old):
            return
        if text(part(old, "status"), "phase") != "Bound":
            raise forbidden(attrs.kind.resource.group_resource, attrs.name, _NOT_BOUND)
        found = attrs.registry.look(CLASSES, "", storage_class(old)) if storage_class(old) else None
        if found is None or found.get("allowVolumeExpansion") is not True:
            raise forbidden(attrs.kind.resource.group_resource, attrs.name, _FIXED)


def _grows(new: Object, old: Object) -> bool:
    asked, was = (nanos(deep(c, "spec", "resources", "requests").get("storage")) for c in (new, old))
    return asked is not None and was is not None and asked > was
