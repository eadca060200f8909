"""Validation of volumes: one source each, with what that source needs."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.core.pod.containers import local_path, no_backsteps
from jota.kinds.core.pod.env import VOLUME_FIELDS, field_ref, resource_ref
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
MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
SHORTEST_TOKEN = 600
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
    _files(source, path, errors)


def _config_map(source: Object, path: str, errors: list[FieldError]) -> None:
    if not text(source, "name"):
        errors.append(required(f"{path}.name"))
    _files(source, path, errors)


def _files(source: Object, path: str, errors: list[FieldError]) -> None:
    _mode(source, "defaultMode", path, errors)
    for i, item in enumerate(parts(source, "items")):
        where = f"{path}.items[{i}]"
        if not text(item, "key"):
            errors.append(required(f"{where}.key"))
        _file(item, where, errors)


def _file(item: Object, path: str, errors: list[FieldError]) -> None:
    target = text(item, "path")
    if not target:
        errors.append(required(f"{path}.path"))
    else:
        local_path(target, f"{path}.path", errors)
    _mode(item, "mode", path, errors)


def _mode(owner: Object, field: str, path: str, errors: list[FieldError]) -> None:
    mode = owner.get(field)
    if type(mode) is int and not 0 <= mode <= 0o777:
        errors.append(invalid(f"{path}.{field}", mode, MODE_TEXT))


def _downward(source: Object, path: str, errors: list[FieldError]) -> None:
    _mode(source, "defaultMode", path, errors)
    for i, item in enumerate(parts(source, "items")):
        where = f"{path}.items[{i}]"
        _file(item, where, errors)
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if isinstance(field, dict):
            field_ref(field, f"{where}.fieldRef", VOLUME_FIELDS, errors)
            if isinstance(resource, dict):
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                errors.append(invalid(where, "resource", detail))
        elif isinstance(resource, dict):
            resource_ref(resource, f"{where}.resourceFieldRef", errors, in_volume=True)
        else:
            errors.append(required(f"{where}.fieldRef", "one of fieldRef and resourceFieldRef is required"))


def _projected(source: Object, path: str, errors: list[FieldError]) -> None:
    _mode(source, "defaultMode", path, errors)
    for i, entry in enumerate(parts(source, "sources")):
        where = f"{path}.sources[{i}]"
        kinds = [key for key, value in entry.items() if isinstance(value, dict)]
        if len(kinds) != 1:
            detail = "may not specify more than 1 volume type per source" if kinds else ""
            errors.append(forbidden_field(where, detail) if kinds else required(where, "no projection specified"))
            continue
        kind, body, where = kinds[0], entry[kinds[0]], f"{where}.{kinds[0]}"
        if kind in ("secret", "configMap"):
            if not text(body, "name"):
                errors.append(required(f"{where}.name"))
            _files(body, where, errors)
        elif kind == "downwardAPI":
            _downward(body, where, errors)
        elif kind == "serviceAccountToken":
            _token(body, where, errors)


def _token(source: Object, path: str, errors: list[FieldError]) -> None:
    seconds = source.get("expirationSeconds")
    if type(seconds) is int:
        if seconds < SHORTEST_TOKEN:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
        elif seconds > 1 << 32:
            detail = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
    if not text(source, "path"):
        errors.append(required(f"{path}.path"))
    else:
        local_path(source["path"], f"{path}.path", errors)


def _nfs(source: Object, path: str, errors: list[FieldError]) -> None:
    target = text(source, "path")
    if target and not target.startswith("/"):
        errors.append(invalid(f"{path}.path", target, "must be an absolute path"))


def _ephemeral(source: Object, path: str, errors: list[FieldError]) -> None:
    if not part(source, "volumeClaimTemplate"):
        errors.append(required(f"{path}.volumeClaimTemplate"))


_CHECKS = {
    "configMap": _config_map,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "ephemeral": _ephemeral,
    "hostPath": _host_path,
    "nfs": _nfs,
    "projected": _projected,
    "secret": _secret,
}
