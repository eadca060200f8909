"""VolumeAttachments: a volume that is to be attached to a node."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, deep, part, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource


def validate(attachment: Object) -> list[FieldError]:
    spec = part(attachment, "spec")
    errors = [required(f"spec.{field}") for field in ("attacher", "nodeName") if not text(spec, field)]
    source = part(spec, "source")
    if not source:
        errors.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec = part(new, "spec")
    return [] if spec == part(old, "spec") else [invalid("spec", spec, IMMUTABLE)]


KIND = Kind(
    Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", False),
    schema="io.k8s.api.storage.v1.VolumeAttachment",
    singular="volumeattachment",
    validate=validate,
    validate_update=validate_update,
    returns_deleted=True,
    columns=(
        NAME,
        plain("Attacher", path_cell("spec", "attacher", missing="")),
        plain("PV", lambda a, _now: text(deep(a, "spec", "source"), "persistentVolumeName")),
        plain("Node", path_cell("spec", "nodeName", missing="")),
        plain("Attached", lambda a, _now: part(a, "status").get("attached") is True, "boolean"),
        AGE,
    ),
    status=True,
    own_names={"persistentVolumeName": "label", "nodeName": "label"},
    unconditional_update=False,
)
