"""Namespaces. Deletion runs through `spec.finalizers` and the subresource /finalize, which the API serves."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, meta, part, put_missing, text, texts
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import NAMESPACES

NAME_LABEL = "kubernetes.io/metadata.name"


def default(namespace: Object) -> None:
    """Every namespace carries its own name as a label, so that selectors can name it; generated names get theirs on create."""
    attach(namespace, "spec")
    put_missing(attach(namespace, "status"), "phase", "Active")
    label_with_name(namespace)


def label_with_name(namespace: Object) -> None:
    name = text(meta(namespace), "name")
    if name:
        attach(attach(namespace, "metadata"), "labels")[NAME_LABEL] = name


def prepare_create(namespace: Object) -> None:
    namespace["status"] = {"phase": "Active"}
    spec = attach(namespace, "spec")
    if "kubernetes" not in texts(spec, "finalizers"):
        spec["finalizers"] = [*texts(spec, "finalizers"), "kubernetes"]
    label_with_name(namespace)


def prepare_update(new: Object, old: Object) -> None:
    """Finalizers are changed by /finalize alone."""
    attach(new, "spec")["finalizers"] = part(old, "spec").get("finalizers", [])


def validate_status(new: Object, old: Object) -> list[FieldError]:
    """The phase follows from the deletionTimestamp (ValidateNamespaceStatusUpdate)."""
    going, phase = bool(meta(new).get("deletionTimestamp")), text(part(new, "status"), "phase")
    wanted = "Terminating" if going else "Active"
    if phase == wanted:
        return []
    state = "not empty" if going else "empty"
    return [invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` is {state}")]


KIND = Kind(
    NAMESPACES,
    schema="io.k8s.api.core.v1.Namespace",
    singular="namespace",
    short_names=("ns",),
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate_status=validate_status,
    columns=(NAME, plain("Status", path_cell("status", "phase", missing=""), about="The status of the namespace"), AGE),
    selectable={"status.phase": lambda ns: text(part(ns, "status"), "phase")},
    status=True,
    subresources=("finalize",),
    name_rule="dns-label",
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)
