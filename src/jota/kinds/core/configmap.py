"""ConfigMaps: keys and texts, optionally frozen by `immutable`. The size rule is shared with secret.py."""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind, Nothing
from jota.kinds.shape import Object, part
from jota.meta.errors import FieldError, forbidden_field, invalid, too_long
from jota.meta.resource import CONFIGMAPS

MAX_BYTES = 1024 * 1024
FROZEN = "field is immutable when `immutable` is set"


def validate(config: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data, binary = part(config, "data"), part(config, "binaryData")
    size = 0
    for key, value in data.items():
        errors += [invalid(f"data[{key}]", key, problem) for problem in names.config_map_key(key)]
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode()) if isinstance(value, str) else 0
    for key, value in binary.items():
        errors += [invalid(f"binaryData[{key}]", key, problem) for problem in names.config_map_key(key)]
        size += len(value) * 3 // 4 if isinstance(value, str) else 0
    if size > MAX_BYTES:
        errors.append(too_long("", MAX_BYTES))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return frozen_errors(new, old, ("data", "binaryData"))


def frozen_errors(new: Object, old: Object, fields: tuple[str, ...]) -> list[FieldError]:
    """Once `immutable` is true, neither it nor the data may change."""
    if old.get("immutable") is not True:
        return []
    errors = [] if new.get("immutable") is True else [forbidden_field("immutable", FROZEN)]
    for field in fields:
        if part(new, field) != part(old, field):
            errors.append(forbidden_field(field, FROZEN))
    return errors


def _count(config: Object, _now: float) -> int:
    return len(part(config, "data")) + len(part(config, "binaryData"))


KIND = Kind(
    CONFIGMAPS,
    schema="io.k8s.api.core.v1.ConfigMap",
    singular="configmap",
    short_names=("cm",),
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, plain("Data", _count, about="The number of keys."), AGE),
    relabelled_from=Nothing,
)
