"""Validation of volumes: one source each, with what that source needs. Next: validate_projected.py, which joins several."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.core.pod.localpath import no_backsteps
from jota.kinds.core.pod.validate_projected import projected
from jota.kinds.core.pod.volume_files import downward, files
from jota.kinds.quantities import nanos
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required

HOST_PATH_TYPES = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
]
NEEDS: dict[str, tuple[str, ...]] = {
    "persistentVolumeClaim": ("claimName",),
    "csi": ("driver",),
    "nfs": ("server", "path"),
    "iscsi": ("targetPortal", "iqn"),
    "image": ("reference",),
    "glusterfs": ("endpoints", "path"),
    "awsElasticBlockStore": ("volumeID",),
    "gcePersistentDisk": ("pdName",),
    "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"),
    "flexVolume": ("driver",),
    "vsphereVolume": ("volumePath",),
    "cinder": ("volumeID",),
}
"""Fields that may not be empty, by source."""


def validate_volumes(spec: Object, path: str) -> tuple[frozenset[str], list[FieldError]]:
    """(names of the volumes that mounts may refer to, errors)."""
    errors: list[FieldError] = []
    found: set[str] = set()
    for i, volume in enumerate(parts(spec, "volumes")):
        name, where = text(volume, "name"), f"{path}.volumes[{i}]"
        if not name:
            errors.append(required(f"{where}.name"))
        else:
            errors += [invalid(f"{where}.name", name, problem) for problem in names.dns_label(name)]
            if name in found:
                errors.append(duplicate(f"{where}.name", name))
            found.add(name)
        _source(volume, where, errors)
    return frozenset(found), errors


def _source(volume: Object, path: str, errors: list[FieldError]) -> None:
    sources = [key for key, value in volume.items() if key != "name" and isinstance(value, dict)]
    if not sources:
        errors.append(required(path, "must specify a volume type"))
        return
    for source in sources[1:]:
        errors.append(forbidden_field(f"{path}.{source}", "may not specify more than 1 volume type"))
    kind = sources[0]
    body, where = volume[kind], f"{path}.{kind}"
    check = _CHECKS.get(kind)
    if check:
        check(body, where, errors)
    for field in NEEDS.get(kind, ()):
        if not text(body, field):
            errors.append(required(f"{where}.{field}"))


def _host_path(source: Object, path: str, errors: list[FieldError]) -> None:
    if not text(source, "path"):
        errors.append(required(f"{path}.path"))
    else:
        no_backsteps(source["path"], f"{path}.path", errors)
    if text(source, "type") not in HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", text(source, "type"), HOST_PATH_TYPES))


def _empty_dir(source: Object, path: str, errors: list[FieldError]) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and (nanos(limit) or 0) < 0:
        errors.append(forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))


def _secret(source: Object, path: str, errors: list[FieldError]) -> None:
    if not text(source, "secretName"):
        errors.append(required(f"{path}.secretName"))
    files(source, path, errors)


def _config_map(source: Object, path: str, errors: list[FieldError]) -> None:
    if not text(source, "name"):
        errors.append(required(f"{path}.name"))
    files(source, path, errors)


def _nfs(source: Object, path: str, errors: list[FieldError]) -> None:
    target = text(source, "path")
    if target and not target.startswith("/"):
        errors.append(invalid(f"{path}.path", target, "must be an absolute path"))


def _ephemeral(source: Object, path: str, errors: list[FieldError]) -> None:
    if not part(source, "volumeClaimTemplate"):
        errors.append(required(f"{path}.volumeClaimTemplate"))


_CHECKS = {
    "configMap": _config_map,
    "downwardAPI": downward,
    "emptyDir": _empty_dir,
    "ephemeral": _ephemeral,
    "hostPath": _host_path,
    "nfs": _nfs,
    "projected": projected,
    "secret": _secret,
}
