"""PersistentVolumeClaims: a pod's request for storage. Once made, a claim may only ask for more."""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.core.persistentvolume import (
    ATTRIBUTES_CLASS,
    VOLUME_MODE,
    modes_text,
    phase,
    storage_class,
    validate_modes,
)
from jota.kinds.kind import Kind, Nothing
from jota.kinds.quantities import canonical_resources, nanos, not_negative_quantity
from jota.kinds.shape import Object, attach, deep, part, put_missing, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, required
from jota.meta.resource import Resource

FROZEN = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
SMALLER = "field can not be less than status.capacity"


def default(claim: Object) -> None:
    default_claim_spec(attach(claim, "spec"))
    put_missing(attach(claim, "status"), "phase", "Pending")
    canonical_resources(claim["status"] if isinstance(claim["status"], dict) else {}, "capacity", "allocatedResources")


def default_claim_spec(spec: Object) -> None:
    put_missing(spec, "volumeMode", "Filesystem")
    canonical_resources(part(spec, "resources"), "limits", "requests")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source and not reference:
        spec["dataSourceRef"] = dict(source) if isinstance(source, dict) else source
    elif isinstance(reference, dict) and not source and not reference.get("namespace"):
        spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


def prepare_create(claim: Object) -> None:
    claim["status"] = {"phase": "Pending"}


def validate(claim: Object) -> list[FieldError]:
    spec = part(claim, "spec")
    errors = labels.validate_selector(spec.get("selector"), "spec.selector") + validate_modes(spec)
    path, amount = "spec.resources[storage]", deep(spec, "resources", "requests").get("storage")
    if amount is None:
        return [*errors, required(path)]
    errors += not_negative_quantity(amount, path)
    if nanos(amount) == 0:
        errors.append(invalid(path, str(amount), "must be greater than zero"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    bound = text(part(old, "status"), "phase") == "Bound"
    after, before = _frozen(new, old, bound), _frozen(old, old, bound)
    errors = [] if after == before else [forbidden_field("spec", FROZEN)]
    asked = nanos(deep(new, "spec", "resources", "requests").get("storage"))
    was = nanos(deep(old, "spec", "resources", "requests").get("storage"))
    if bound and asked is not None and was is not None and asked < was:
        has = nanos(deep(old, "status", "capacity").get("storage"))
        if has is None or asked <= has:
            errors.append(forbidden_field("spec.resources.requests.storage", SMALLER))
    return errors


def _frozen(claim: Object, old: Object, bound: bool) -> Object:
    """The spec without what may change: for bound claims requests and the attributes class; the volume until it is set."""
    spec = dict(part(claim, "spec"))
    if not text(part(old, "spec"), "volumeName"):
        spec.pop("volumeName", None)
    if "storageClassName" not in part(old, "spec"):
        spec.pop("storageClassName", None)
    if bound:
        spec.pop("volumeAttributesClassName", None)
        spec["resources"] = {k: v for k, v in part(spec, "resources").items() if k != "requests"}
    return spec


def _capacity(claim: Object, _now: float) -> str:
    return text(deep(claim, "status", "capacity"), "storage") if text(part(claim, "spec"), "volumeName") else ""


def _modes(claim: Object, _now: float) -> str:
    return modes_text(texts(part(claim, "status"), "accessModes")) if text(part(claim, "spec"), "volumeName") else ""


KIND = Kind(
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    schema="io.k8s.api.core.v1.PersistentVolumeClaim",
    singular="persistentvolumeclaim",
    short_names=("pvc",),
    default=default,
    prepare_create=prepare_create,
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Status", phase),
        plain("Volume", path_cell("spec", "volumeName", missing="")),
        plain("Capacity", _capacity),
        plain("Access Modes", _modes),
        plain("StorageClass", lambda c, _now: storage_class(c)),
        ATTRIBUTES_CLASS,
        AGE,
        VOLUME_MODE,
    ),
    status=True,
    apart={"status": None},
    relabelled_from=Nothing,
    own_names={"volumeName": "label"},
)
