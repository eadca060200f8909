"""DefaultStorageClass: a claim that names no class gets the newest one that is marked as the default."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import attach, part, text
from jota.kinds.storage.storageclass import DEFAULT_ANNOTATIONS
from jota.meta.resource import Resource

CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_OLD_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


class DefaultStorageClass(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (CLASSES,)
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource == CLAIMS

    def admit(self, attrs: AdmissionAttributes) -> None:
        claim = attrs.object
        if attrs.operation != "CREATE" or claim is None or attrs.subresource:
            return
        if "storageClassName" in part(claim, "spec") or _OLD_ANNOTATION in part(part(claim, "metadata"), "annotations"):
            return
        chosen = _default(attrs)
        if chosen:
            attach(claim, "spec")["storageClassName"] = chosen


def _default(attrs: AdmissionAttributes) -> str:
    """The name of the newest default class (of two as old, the first by name); "" without one."""
    found = [c for c in attrs.registry.objects(CLASSES) if _is_default(c)]
    found.sort(key=lambda c: text(c["metadata"], "name"))
    found.sort(key=lambda c: text(c["metadata"], "creationTimestamp"), reverse=True)
    return text(found[0]["metadata"], "name") if found else ""


def _is_default(storage_class: Object) -> bool:
    annotations = part(storage_class["metadata"], "annotations")
    return any(annotations.get(a) == "true" for a in DEFAULT_ANNOTATIONS)
