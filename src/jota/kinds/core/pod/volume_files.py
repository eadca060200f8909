"""Validation of the files of a volume: their paths and modes, and where their content comes from."""

from __future__ import annotations

from jota.kinds.core.pod.env import VOLUME_FIELDS, field_ref, resource_ref
from jota.kinds.core.pod.localpath import local_path
from jota.kinds.shape import Object, parts, text
from jota.meta.errors import FieldError, invalid, required

MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"


def files(source: Object, path: str, errors: list[FieldError]) -> None:
    mode(source, "defaultMode", path, errors)
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
        own_path(target, f"{path}.path", errors)
    mode(item, "mode", path, errors)


def mode(owner: Object, field: str, path: str, errors: list[FieldError]) -> None:
    value = owner.get(field)
    if type(value) is int and not 0 <= value <= 0o777:
        errors.append(invalid(f"{path}.{field}", value, MODE_TEXT))


def downward(source: Object, path: str, errors: list[FieldError]) -> None:
    mode(source, "defaultMode", path, errors)
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


def own_path(value: str, path: str, errors: list[FieldError]) -> None:
    """A path below the volume, where names that begin with two dots are the node's own (upstream's non-reserved path)."""
    local_path(value, path, errors)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(invalid(path, value, "must not start with '..'"))
