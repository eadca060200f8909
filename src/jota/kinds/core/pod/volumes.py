"""Defaults of volumes: modes, the projected token's lifetime, emptyDir when nothing is said (SetDefaults_Volume and friends).

In: a pod spec, changed in place. Next: validate_volumes.py.
"""

from __future__ import annotations

from jota.kinds.quantities import canonical_resources
from jota.kinds.shape import Object, part, parts, put_missing, text

MODE = 0o644

SOURCE_DEFAULTS: dict[str, tuple[tuple[str, object], ...]] = {
    "secret": (("defaultMode", MODE),),
    "configMap": (("defaultMode", MODE),),
    "downwardAPI": (("defaultMode", MODE),),
    "projected": (("defaultMode", MODE),),
    "hostPath": (("type", ""),),
    "iscsi": (("iscsiInterface", "default"),),
    "rbd": (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")),
    "azureDisk": (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", False)),
    "scaleIO": (("storageMode", "ThinProvisioned"), ("fsType", "xfs")),
}


def pull_policy(image: str) -> str:
    """Always for :latest and for no tag at all; a digest pins the content."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def default_volumes(spec: Object) -> None:
    for volume in parts(spec, "volumes"):
        if not any(value is not None for key, value in volume.items() if key != "name"):
            volume["emptyDir"] = {}
            continue
        for source, defaults in SOURCE_DEFAULTS.items():
            if isinstance(volume.get(source), dict):
                for key, value in defaults:
                    put_missing(volume[source], key, value)
        if "downwardAPI" in volume:
            _downward(part(volume, "downwardAPI"))
        if "projected" in volume:
            _projected(part(volume, "projected"))
        if "emptyDir" in volume:
            canonical_resources(volume, "emptyDir", only="sizeLimit")
        if isinstance(volume.get("image"), dict) and not volume["image"].get("pullPolicy"):
            volume["image"]["pullPolicy"] = pull_policy(text(volume["image"], "reference"))
        if "ephemeral" in volume:
            _ephemeral(part(volume, "ephemeral"))


def _downward(source: Object) -> None:
    for item in parts(source, "items"):
        field = part(item, "fieldRef")
        if field:
            put_missing(field, "apiVersion", "v1")
        resource = part(item, "resourceFieldRef")
        if resource:
            put_missing(resource, "divisor", "0")


def _projected(source: Object) -> None:
    for entry in parts(source, "sources"):
        if isinstance(entry.get("serviceAccountToken"), dict):
            put_missing(entry["serviceAccountToken"], "expirationSeconds", 3600)
        if "downwardAPI" in entry:
            _downward(part(entry, "downwardAPI"))


def _ephemeral(source: Object) -> None:
    template = part(source, "volumeClaimTemplate")
    if isinstance(template.get("spec"), dict):
        put_missing(template["spec"], "volumeMode", "Filesystem")
        canonical_resources(part(template["spec"], "resources"), "limits", "requests")
