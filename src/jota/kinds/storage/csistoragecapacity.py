"""CSIStorageCapacities: how much a driver can still provision in a part of the cluster."""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.common import NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.quantities import canonical_text, not_negative_quantity
from jota.kinds.shape import Object, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource

AMOUNTS = ("capacity", "maximumVolumeSize")


def default(capacity: Object) -> None:
    for field in AMOUNTS:
        if capacity.get(field) is not None:
            capacity[field] = canonical_text(capacity[field])


def validate(capacity: Object) -> list[FieldError]:
    errors = [] if text(capacity, "storageClassName") else [required("storageClassName")]
    for field in AMOUNTS:
        if capacity.get(field) is not None:
            errors += not_negative_quantity(capacity[field], field)
    return errors + labels.validate_selector(capacity.get("nodeTopology"), "nodeTopology")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    fields = ("nodeTopology", "storageClassName")
    return [invalid(f, new.get(f), IMMUTABLE) for f in fields if new.get(f) != old.get(f)]


KIND = Kind(
    Resource("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity"),
    schema="io.k8s.api.storage.v1.CSIStorageCapacity",
    singular="csistoragecapacity",
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("StorageClassName", path_cell("storageClassName", missing="")),
        plain("Capacity", path_cell("capacity", missing="<unset>")),
    ),
    unconditional_update=False,
)
