"""CustomResourceDefinitions: a kind described by an object. What becomes of one is api/custom's; its schema's rules are in
structural.py, the rest in crd_rules.py. In: the object as plain JSON. Out: defaults, errors, columns.
"""

from __future__ import annotations

from jota.aio.clock import rfc3339
from jota.kinds.apiextensions.crd_rules import judge, validate, validate_create, validate_status, validate_update
from jota.kinds.common import CREATED, NAME
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, part, parts, put_missing, text, texts
from jota.meta import conditions
from jota.meta.resource import Resource

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
"""Held until every instance is gone."""


def storage_version(crd: Object) -> str:
    """The version that instances are kept in."""
    return next((text(v, "name") for v in parts(part(crd, "spec"), "versions") if v.get("storage") is True), "")


def is_true(crd: Object, condition: str) -> bool:
    return conditions.is_true(parts(part(crd, "status"), "conditions"), condition)


def default(crd: Object) -> None:
    spec = part(crd, "spec")
    if not spec:
        return
    names = spec.get("names")
    if isinstance(names, dict) and text(names, "kind"):
        put_missing(names, "singular", text(names, "kind").lower())
        put_missing(names, "listKind", text(names, "kind") + "List")
    conversion = attach(spec, "conversion")
    put_missing(conversion, "strategy", "None")
    service = part(part(part(conversion, "webhook"), "clientConfig"), "service")
    if service:
        put_missing(service, "port", 443)
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]


def prepare_create(crd: Object) -> None:
    crd["status"] = {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}
    _note_storage(crd)


def prepare_update(new: Object, _old: Object) -> None:
    _note_storage(new)


def _note_storage(crd: Object) -> None:
    """From now on instances may be stored in this version."""
    version, status = storage_version(crd), attach(crd, "status")
    stored = texts(status, "storedVersions")
    if version and version not in stored:
        status["storedVersions"] = [*stored, version]


def prepare_delete(crd: Object, now: float) -> None:
    """The definition stays until its instances are gone."""
    finalizers = crd["metadata"].setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    about = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    status = attach(crd, "status")
    status["conditions"] = conditions.set(
        parts(status, "conditions"),
        "Terminating",
        "True",
        now=rfc3339(now),
        reason="InstanceDeletionPending",
        message=about,
    )


KIND = Kind(
    CRDS,
    schema="io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    singular="customresourcedefinition",
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    prepare_delete=prepare_delete,
    validate=validate,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    judge=judge,
    columns=(NAME, CREATED),
    status=True,
    generation=True,
    unconditional_update=False,
)
