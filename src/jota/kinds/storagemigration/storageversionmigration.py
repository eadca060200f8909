"""StorageVersionMigrations: write every object of a resource once more, in the version that is stored today."""

from __future__ import annotations

from jota.kinds import conditions, names
from jota.kinds.common import NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, deep, part, parts, text
from jota.kinds.status import only_status
from jota.meta.conditions import is_true
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource

MIGRATIONS = Resource("storagemigration.k8s.io", "v1", "storageversionmigrations", "StorageVersionMigration", False)


def validate(migration: Object) -> list[FieldError]:
    resource, path = deep(migration, "spec", "resource"), "spec.resource"
    plural, group = text(resource, "resource"), text(resource, "group")
    errors: list[FieldError] = []
    if not plural:
        errors.append(required(f"{path}.resource", "resource is required to be set"))
    elif problems := names.dns_1035_label(plural):
        errors.append(invalid(f"{path}.resource", plural, ",".join(problems)))
    if group and (problems := names.dns_subdomain(group)):
        errors.append(invalid(f"{path}.group", group, ",".join(problems)))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec = part(new, "spec")
    return [invalid("spec", spec, IMMUTABLE)] if spec != part(old, "spec") else []


def validate_status(new: Object, old: Object) -> list[FieldError]:
    status, was = part(new, "status"), part(old, "status")
    errors: list[FieldError] = []
    at, version = "status.resourceVersion", text(status, "resourceVersion")
    if version and not version.isdecimal():
        errors.append(invalid(at, version, f"resource version is not well formed: {version}"))
    errors += conditions.validate(status)
    if text(was, "resourceVersion") and version != text(was, "resourceVersion"):
        errors.append(invalid(at, version, IMMUTABLE))
    running, succeeded, failed = (is_true(parts(status, "conditions"), t) for t in ("Running", "Succeeded", "Failed"))
    shown = parts(status, "conditions")
    for wrong, detail in (
        (succeeded and failed, "Both success and failed conditions cannot be true at the same time"),
        (succeeded and running, "Running condition cannot be true when success condition is true"),
        (failed and running, "Running condition cannot be true when failed condition is true"),
        (_was(was, "Succeeded") and not succeeded, "Success condition cannot be set to false once it is true"),
        (_was(was, "Failed") and not failed, "Failed condition cannot be set to false once it is true"),
    ):
        if wrong:
            errors.append(invalid("status.conditions", shown, detail))
    return errors


def _was(status: Object, type_: str) -> bool:
    return is_true(parts(status, "conditions"), type_)


def _resource(migration: Object, _now: float) -> str:
    resource = deep(migration, "spec", "resource")
    plural, group = text(resource, "resource"), text(resource, "group")
    return f"{plural}.{group}" if group else plural


KIND = Kind(
    MIGRATIONS,
    schema="io.k8s.api.storagemigration.v1.StorageVersionMigration",
    singular="storageversionmigration",
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    prepare_status=only_status,
    columns=(NAME, plain("Resource", _resource, about="Fully qualified resource to migrate")),
    status=True,
)
