"""ControllerRevisions: frozen templates of StatefulSets and DaemonSets, for history and rollback."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, NONE, count_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE, not_negative
from jota.kinds.shape import Object, meta, parts, text
from jota.meta.errors import FieldError, invalid, required
from jota.meta.resource import Resource


def validate(revision: Object) -> list[FieldError]:
    errors = not_negative(revision.get("revision"), "revision")
    return errors if revision.get("data") is not None else [*errors, required("data", "data is mandatory")]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return [] if new.get("data") == old.get("data") else [invalid("data", new.get("data"), IMMUTABLE)]


def _controller(revision: Object, _now: float) -> str:
    for owner in parts(meta(revision), "ownerReferences"):
        if owner.get("controller") is True:
            group = text(owner, "apiVersion").rpartition("/")[0]
            kind = text(owner, "kind").lower()
            return f"{kind}.{group}/{text(owner, 'name')}" if group else f"{kind}/{text(owner, 'name')}"
    return NONE


KIND = Kind(
    Resource("apps", "v1", "controllerrevisions", "ControllerRevision"),
    schema="io.k8s.api.apps.v1.ControllerRevision",
    singular="controllerrevision",
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Controller", _controller, about="The object that this is a revision of."),
        plain("Revision", count_cell("revision"), about="Its number."),
        AGE,
    ),
)
