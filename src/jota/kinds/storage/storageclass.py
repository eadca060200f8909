"""StorageClasses: how volumes are made for claims."""

from __future__ import annotations

from collections.abc import Iterable

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Column, Kind
from jota.kinds.shape import Object, meta, parts, put_missing, strings, text, texts
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from jota.meta.resource import Resource

DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
BINDING_MODES = ["Immediate", "WaitForFirstConsumer"]
RECLAIM_POLICIES = ["Delete", "Retain"]


def default_of(classes: Iterable[Object]) -> str:
    """The name of the newest that is marked as the default (of two as old, the first by name); "" when none is."""
    found = [c for c in classes if any(strings(meta(c), "annotations").get(a) == "true" for a in DEFAULT_ANNOTATIONS)]
    found.sort(key=lambda c: text(meta(c), "name"))
    found.sort(key=lambda c: text(meta(c), "creationTimestamp"), reverse=True)
    return text(meta(found[0]), "name") if found else ""


def default(cls: Object) -> None:
    put_missing(cls, "reclaimPolicy", "Delete")
    put_missing(cls, "volumeBindingMode", "Immediate")


def validate(cls: Object) -> list[FieldError]:
    errors = [] if text(cls, "provisioner") else [required("provisioner")]
    if text(cls, "reclaimPolicy") not in RECLAIM_POLICIES:
        errors.append(not_supported("reclaimPolicy", text(cls, "reclaimPolicy"), RECLAIM_POLICIES))
    if text(cls, "volumeBindingMode") not in BINDING_MODES:
        errors.append(not_supported("volumeBindingMode", text(cls, "volumeBindingMode"), BINDING_MODES))
    for i, term in enumerate(parts(cls, "allowedTopologies")):
        errors += validate_topology(term, f"allowedTopologies[{i}].matchLabelExpressions")
    return errors


def validate_topology(term: Object, path: str) -> list[FieldError]:
    """Upstream's ValidateTopologySelectorTerm: labels, each once, with values, each once."""
    errors: list[FieldError] = []
    keys: set[str] = set()
    for i, wanted in enumerate(parts(term, "matchLabelExpressions")):
        key, values, seen = text(wanted, "key"), texts(wanted, "values"), set[str]()
        if not values:
            errors.append(required(f"{path}[{i}].values"))
        for n, value in enumerate(values):
            if value in seen:
                errors.append(duplicate(f"{path}[{i}].values[{n}]", value))
            seen.add(value)
        errors += [invalid(f"{path}[{i}].key", key, detail) for detail in names.qualified_name(key)]
        if key in keys:
            errors.append(duplicate(f"{path}[{i}].key", key))
        keys.add(key)
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = []
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if (new.get(field) or None) != (old.get(field) or None):
            detail = "updates to volumeBindingMode are forbidden." if field == "volumeBindingMode" else ""
            errors.append(forbidden_field(field, detail or f"updates to {field} are forbidden."))
    return errors


def is_default(cls: Object) -> bool:
    annotations = strings(meta(cls), "annotations")
    return any(annotations.get(key) == "true" for key in DEFAULT_ANNOTATIONS)


def _name(cls: Object, now: float) -> str:
    return str(NAME.cell(cls, now)) + (" (default)" if is_default(cls) else "")


def _grows(cls: Object, _now: float) -> bool:
    return cls.get("allowVolumeExpansion") is True


KIND = Kind(
    Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False),
    schema="io.k8s.api.storage.v1.StorageClass",
    singular="storageclass",
    short_names=("sc",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(
        Column("Name", _name, format="name"),
        plain("Provisioner", path_cell("provisioner", missing="")),
        plain("ReclaimPolicy", path_cell("reclaimPolicy", missing="Delete")),
        plain("VolumeBindingMode", path_cell("volumeBindingMode", missing="<unset>")),
        plain("AllowVolumeExpansion", _grows),
        AGE,
    ),
)
