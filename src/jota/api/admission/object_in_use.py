"""StorageObjectInUseProtection: claims and volumes are born with a finalizer, so that nothing in use goes away.

The controllers that bind volumes take it off when the last user is gone.
"""

from __future__ import annotations

from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin, never
from jota.kinds.kind import Kind
from jota.kinds.shape import attach
from jota.meta.resource import Resource

FINALIZERS = {
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"): "kubernetes.io/pvc-protection",
    Resource("", "v1", "persistentvolumes", "PersistentVolume", False): "kubernetes.io/pv-protection",
}


class StorageObjectInUse(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = ()
    minds = never

    def handles(self, kind: Kind) -> bool:
        return kind.resource in FINALIZERS

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or attrs.object is None or attrs.subresource:
            return
        meta, finalizer = attach(attrs.object, "metadata"), FINALIZERS[attrs.kind.resource]
        if finalizer not in (meta.get("finalizers") or ()):
            meta["finalizers"] = [*(meta.get("finalizers") or ()), finalizer]
