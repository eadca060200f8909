"""PersistentVolumes: storage that outlives pods. Access modes and classes are shared with persistentvolumeclaim.py."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.core.pod.volumes import SOURCE_DEFAULTS
from jota.kinds.kind import Kind, Nothing
from jota.kinds.quantities import canonical_resources, nanos, not_negative_quantity
from jota.kinds.shape import Object, attach, meta, part, put_missing, strings, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import Resource

SHORT_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)
ACCESS_MODES = sorted(mode for mode, _ in SHORT_MODES)
RECLAIM_POLICIES = ["Delete", "Recycle", "Retain"]
VOLUME_MODES = ["Block", "Filesystem"]
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
NOT_SOURCES = frozenset(
    (
        "capacity",
        "accessModes",
        "claimRef",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "mountOptions",
        "volumeMode",
        "nodeAffinity",
        "volumeAttributesClassName",
    )
)


def default(volume: Object) -> None:
    spec = attach(volume, "spec")
    put_missing(spec, "persistentVolumeReclaimPolicy", "Retain")
    put_missing(spec, "volumeMode", "Filesystem")
    put_missing(attach(volume, "status"), "phase", "Pending")
    canonical_resources(spec, "capacity")
    for source in spec.keys() & SOURCE_DEFAULTS.keys():
        for key, value in SOURCE_DEFAULTS[source]:
            if isinstance(spec[source], dict):
                put_missing(spec[source], key, value)


def prepare_create(volume: Object) -> None:
    volume["status"] = {"phase": "Pending"}


def validate_modes(spec: Object) -> list[FieldError]:
    """Access modes and volume mode, for volumes and claims alike."""
    errors: list[FieldError] = []
    modes = texts(spec, "accessModes")
    if not modes:
        errors.append(required("spec.accessModes", "at least 1 access mode is required"))
    errors += [not_supported("spec.accessModes", mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        detail = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field("spec.accessModes", detail))
    volume_mode = text(spec, "volumeMode")
    if volume_mode and volume_mode not in VOLUME_MODES:
        errors.append(not_supported("spec.volumeMode", volume_mode, VOLUME_MODES))
    return errors


def validate(volume: Object) -> list[FieldError]:
    spec = part(volume, "spec")
    errors = validate_modes(spec)
    capacity = part(spec, "capacity")
    if not capacity:
        errors.append(required("spec.capacity"))
    elif set(capacity) != {"storage"}:
        errors.append(not_supported("spec.capacity", sorted(capacity), ["storage"]))
    for name, amount in capacity.items():
        errors += not_negative_quantity(amount, f"spec.capacity[{name}]")
        if nanos(amount) == 0:
            errors.append(invalid(f"spec.capacity[{name}]", str(amount), "must be greater than zero"))
    policy = text(spec, "persistentVolumeReclaimPolicy")
    if policy and policy not in RECLAIM_POLICIES:
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES))
    return errors + _validate_source(spec, policy)


def _validate_source(spec: Object, policy: str) -> list[FieldError]:
    sources = [key for key, value in spec.items() if key not in NOT_SOURCES and isinstance(value, dict)]
    if not sources:
        return [required("spec", "must specify a volume type")]
    errors = [forbidden_field(f"spec.{s}", "may not specify more than 1 volume type") for s in sources[1:]]
    if "hostPath" in sources and text(spec["hostPath"], "path") == "/" and policy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", detail))
    if "local" in sources and not part(spec, "nodeAffinity"):
        errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    after, before = part(new, "spec"), part(old, "spec")
    errors: list[FieldError] = []
    if {k: v for k, v in after.items() if k not in NOT_SOURCES} != {
        k: v for k, v in before.items() if k not in NOT_SOURCES
    }:
        detail = "spec.persistentvolumesource is immutable after creation"
        errors.append(forbidden_field("spec.persistentvolumesource", detail))
    if after.get("volumeMode") != before.get("volumeMode"):
        errors.append(invalid("spec.volumeMode", after.get("volumeMode"), "field is immutable"))
    if before.get("nodeAffinity") and after.get("nodeAffinity") != before["nodeAffinity"]:
        errors.append(invalid("spec.nodeAffinity", after.get("nodeAffinity"), "field is immutable"))
    return errors


def modes_text(modes: list[str]) -> str:
    return ",".join(short for mode, short in SHORT_MODES if mode in modes)


def storage_class(obj: Object) -> str:
    return strings(meta(obj), "annotations").get(CLASS_ANNOTATION) or text(part(obj, "spec"), "storageClassName")


def phase(obj: Object, _now: float) -> str:
    return "Terminating" if meta(obj).get("deletionTimestamp") else text(part(obj, "status"), "phase")


def _claim(volume: Object, _now: float) -> str:
    claim = part(part(volume, "spec"), "claimRef")
    return f"{text(claim, 'namespace')}/{text(claim, 'name')}" if claim else ""


ATTRIBUTES_CLASS = plain(
    "VolumeAttributesClass",
    path_cell("spec", "volumeAttributesClassName", missing="<unset>"),
    about="Name of the class.",
)
VOLUME_MODE = plain("VolumeMode", path_cell("spec", "volumeMode", missing="<unset>"), wide=True)

KIND = Kind(
    Resource("", "v1", "persistentvolumes", "PersistentVolume", False),
    schema="io.k8s.api.core.v1.PersistentVolume",
    singular="persistentvolume",
    short_names=("pv",),
    default=default,
    prepare_create=prepare_create,
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Capacity", path_cell("spec", "capacity", "storage", missing="")),
        plain("Access Modes", lambda v, _now: modes_text(texts(part(v, "spec"), "accessModes"))),
        plain("Reclaim Policy", path_cell("spec", "persistentVolumeReclaimPolicy", missing="")),
        plain("Status", phase),
        plain("Claim", _claim),
        plain("StorageClass", lambda v, _now: storage_class(v)),
        ATTRIBUTES_CLASS,
        plain("Reason", path_cell("status", "reason", missing="")),
        AGE,
        VOLUME_MODE,
    ),
    status=True,
    apart={"status": None},
    relabelled_from=Nothing,
    own_names={
        "name": "label",
        "namespace": "label",
        "uid": "text",
        "resourceVersion": "text",
        "volumeHandle": "text",
        "volumeID": "text",
    },
)
