"""Deployments: a ReplicaSet per version of the template, replaced step by step."""

from __future__ import annotations

from jota.kinds.apps.template import Templated, validate_selector_and_template, warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, plain, selector_column
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.kind import Kind, Scale
from jota.kinds.numbers import IMMUTABLE, at_most_100_percent, int_or_percent, not_negative
from jota.kinds.shape import Object, attach, number, part, put_missing, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import DEPLOYMENTS

STRATEGIES = ["Recreate", "RollingUpdate"]


def default(deployment: Object) -> None:
    spec = attach(deployment, "spec")
    put_missing(spec, "replicas", 1)
    put_missing(spec, "revisionHistoryLimit", 10)
    put_missing(spec, "progressDeadlineSeconds", 600)
    strategy = attach(spec, "strategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = attach(strategy, "rollingUpdate")
        put_missing(rolling, "maxUnavailable", "25%")
        put_missing(rolling, "maxSurge", "25%")
    default_template(spec)


def validate(deployment: Object) -> list[FieldError]:
    spec = part(deployment, "spec")
    errors = not_negative(spec.get("replicas"), "spec.replicas")
    errors += validate_selector_and_template(spec, "deployment")
    errors += _validate_strategy(part(spec, "strategy"))
    errors += not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    errors += not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    deadline = spec.get("progressDeadlineSeconds")
    errors += not_negative(deadline, "spec.progressDeadlineSeconds")
    if type(deadline) is int and deadline <= number(spec, "minReadySeconds"):
        errors.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def _validate_strategy(strategy: Object) -> list[FieldError]:
    kind, rolling = text(strategy, "type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden_field("spec.strategy.rollingUpdate", detail)]
        return []
    if kind != "RollingUpdate":
        return [not_supported("spec.strategy.type", kind, STRATEGIES)]
    if not isinstance(rolling, dict):
        return [required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")]
    path = "spec.strategy.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent(unavailable, f"{path}.maxUnavailable") + int_or_percent(surge, f"{path}.maxSurge")
    if unavailable in (0, "0%") and surge in (0, "0%"):
        errors.append(invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_100_percent(unavailable, f"{path}.maxUnavailable")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    selector = part(new, "spec").get("selector")
    if selector != part(old, "spec").get("selector"):
        return [invalid("spec.selector", selector, IMMUTABLE)]
    return []


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    status = part(new, "status")
    errors: list[FieldError] = []
    for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"):
        errors += not_negative(status.get(field), f"status.{field}")
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if number(status, field) > number(status, "replicas"):
            errors.append(invalid(f"status.{field}", number(status, field), "cannot be greater than status.replicas"))
    if number(status, "availableReplicas") > number(status, "readyReplicas"):
        detail = "cannot be greater than readyReplicas"
        errors.append(invalid("status.availableReplicas", number(status, "availableReplicas"), detail))
    return errors


def _ready(deployment: Object, _now: float) -> str:
    return f"{number(part(deployment, 'status'), 'readyReplicas')}/{number(part(deployment, 'spec'), 'replicas')}"


KIND = Kind(
    DEPLOYMENTS,
    schema="io.k8s.api.apps.v1.Deployment",
    singular="deployment",
    short_names=("deploy",),
    categories=("all",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    columns=(
        NAME,
        plain("Ready", _ready, about="Number of pods that are ready, of those wanted."),
        plain("Up-to-date", lambda d, _now: number(part(d, "status"), "updatedReplicas")),
        plain("Available", lambda d, _now: number(part(d, "status"), "availableReplicas")),
        AGE,
        CONTAINERS,
        IMAGES,
        selector_column("spec", "selector"),
    ),
    status=True,
    apart={"status": None},
    scale=Scale(),
    generation=True,
    relabelled_from=Templated,
)
