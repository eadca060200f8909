"""VolumeAttributesClasses: parameters of a CSI driver that a claim may ask for, and change to, while it is bound."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid, required, too_long
from jota.meta.resource import Resource

MOST, LARGEST = 512, 256 << 10
"""Parameters, and bytes of all of them."""


def validate(cls: Object) -> list[FieldError]:
    driver, parameters = text(cls, "driverName"), strings(cls, "parameters")
    errors = [invalid("driverName", driver, p) for p in names.qualified_name(driver.lower())] if driver else []
    if not driver:
        errors.append(required("driverName", ""))
    if len(parameters) > MOST:
        errors.append(too_long("parameters", MOST))
        return errors
    if "" in parameters:
        errors.append(invalid("parameters", "", "field can not be empty."))
    if sum(len(k.encode()) + len(v.encode()) for k, v in parameters.items()) > LARGEST:
        errors.append(too_long("parameters", LARGEST))
    if not parameters:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return [
        forbidden_field(field, f"updates to {field} are forbidden.")
        for field in ("driverName", "parameters")
        if (new.get(field) or None) != (old.get(field) or None)
    ]


KIND = Kind(
    Resource("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", False),
    schema="io.k8s.api.storage.v1.VolumeAttributesClass",
    singular="volumeattributesclass",
    short_names=("vac",),
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(NAME, plain("DriverName", path_cell("driverName", missing="")), AGE),
)
