"""ReplicaSets: so many pods of one template."""

from __future__ import annotations

from jota.kinds.apps.template import Templated, validate_selector_and_template, warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, plain, selector_column
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.kind import Kind, Scale
from jota.kinds.numbers import IMMUTABLE, not_negative
from jota.kinds.shape import Object, attach, number, part, put_missing
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import REPLICASETS


def default(replicaset: Object) -> None:
    spec = attach(replicaset, "spec")
    put_missing(spec, "replicas", 1)
    if "template" in spec:
        default_template(spec)


def validate(replicaset: Object) -> list[FieldError]:
    spec = part(replicaset, "spec")
    errors = not_negative(spec.get("replicas"), "spec.replicas")
    errors += not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    return errors + validate_selector_and_template(spec, "deployment")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    selector = part(new, "spec").get("selector")
    if selector != part(old, "spec").get("selector"):
        return [invalid("spec.selector", selector, IMMUTABLE)]
    return []


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    status = part(new, "status")
    replicas, errors = number(status, "replicas"), not_negative(status.get("replicas"), "status.replicas")
    for field in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        errors += not_negative(status.get(field), f"status.{field}")
        if number(status, field) > replicas:
            errors.append(invalid(f"status.{field}", number(status, field), "cannot be greater than status.replicas"))
    if number(status, "availableReplicas") > number(status, "readyReplicas"):
        detail = "cannot be greater than readyReplicas"
        errors.append(invalid("status.availableReplicas", number(status, "availableReplicas"), detail))
    return errors


KIND = Kind(
    REPLICASETS,
    schema="io.k8s.api.apps.v1.ReplicaSet",
    singular="replicaset",
    short_names=("rs",),
    categories=("all",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    columns=(
        NAME,
        plain("Desired", lambda r, _now: number(part(r, "spec"), "replicas"), "integer"),
        plain("Current", lambda r, _now: number(part(r, "status"), "replicas"), "integer"),
        plain("Ready", lambda r, _now: number(part(r, "status"), "readyReplicas"), "integer"),
        AGE,
        CONTAINERS,
        IMAGES,
        selector_column("spec", "selector"),
    ),
    selectable={"status.replicas": lambda r: str(number(part(r, "status"), "replicas"))},
    status=True,
    apart={"status": None},
    scale=Scale(),
    generation=True,
    relabelled_from=Templated,
)
