"""ReplicationControllers: the ancestor of ReplicaSets, with a plain map as selector."""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.apps.replicaset import validate_status
from jota.kinds.apps.template import warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, count_cell, labels_text, plain
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.core.pod.validate import validate_template
from jota.kinds.kind import Kind, Scale
from jota.kinds.numbers import not_negative
from jota.kinds.shape import Object, attach, deep, meta, number, part, put_missing, strings, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource


def default(controller: Object) -> None:
    spec = attach(controller, "spec")
    put_missing(spec, "replicas", 1)
    given = strings(deep(spec, "template", "metadata"), "labels")
    if given:
        if not spec.get("selector"):
            spec["selector"] = dict(given)
        if not meta(controller).get("labels"):
            attach(controller, "metadata")["labels"] = dict(given)
    if isinstance(spec.get("template"), dict):
        default_template(spec)


def validate(controller: Object) -> list[FieldError]:
    spec = part(controller, "spec")
    selector = strings(spec, "selector")
    errors = not_negative(spec.get("replicas"), "spec.replicas")
    errors += not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    if not selector:
        errors.append(required("spec.selector"))
    template = spec.get("template")
    if not isinstance(template, dict):
        return [*errors, required("spec.template")]
    given = strings(meta(template), "labels")
    if not labels.matches({"matchLabels": selector}, given):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid("spec.template.metadata.labels", given, detail))
    restart = text(part(template, "spec"), "restartPolicy")
    if restart != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", restart, ["Always"]))
    return errors + validate_template(template, "spec.template")


KIND = Kind(
    Resource("", "v1", "replicationcontrollers", "ReplicationController"),
    schema="io.k8s.api.core.v1.ReplicationController",
    singular="replicationcontroller",
    short_names=("rc",),
    categories=("all",),
    default=default,
    validate=validate,
    validate_status=validate_status,
    warnings=warnings,
    policy="Orphan",
    columns=(
        NAME,
        plain("Desired", count_cell("spec", "replicas"), "integer"),
        plain("Current", count_cell("status", "replicas"), "integer"),
        plain("Ready", count_cell("status", "readyReplicas"), "integer"),
        AGE,
        CONTAINERS,
        IMAGES,
        plain("Selector", lambda rc, _now: labels_text(strings(part(rc, "spec"), "selector")), wide=True),
    ),
    selectable={"status.replicas": lambda rc: str(number(part(rc, "status"), "replicas"))},
    status=True,
    apart={"status": None},
    scale=Scale(),
    generation=True,
)
