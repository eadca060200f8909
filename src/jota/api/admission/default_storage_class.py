"""DefaultStorageClass: a claim that names no class gets the newest one that is marked as the default. One that comes before
there is any gets it later (controllers/volumebinder.py)."""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind
from jota.kinds.shape import attach, part
from jota.kinds.storage.storageclass import default_of
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
        chosen = default_of(attrs.registry.objects(CLASSES))
        if chosen:
            attach(claim, "spec")["storageClassName"] = chosen
