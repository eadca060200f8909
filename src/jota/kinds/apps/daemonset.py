"""DaemonSets: one pod on every node that fits."""

from __future__ import annotations

from jota.kinds.apps.template import Templated, validate_selector_and_template, warnings
from jota.kinds.common import AGE, CONTAINERS, IMAGES, NAME, count_cell, labels_text, plain, selector_column
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE, at_most_100_percent, int_or_percent, not_negative
from jota.kinds.shape import Object, attach, deep, part, put_missing, strings, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

STRATEGIES = ["OnDelete", "RollingUpdate"]


def default(daemon: Object) -> None:
    spec = attach(daemon, "spec")
    strategy = attach(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = attach(strategy, "rollingUpdate")
        put_missing(rolling, "maxUnavailable", 1)
        put_missing(rolling, "maxSurge", 0)
    put_missing(spec, "revisionHistoryLimit", 10)
    default_template(spec)


def validate(daemon: Object) -> list[FieldError]:
    spec = part(daemon, "spec")
    errors = validate_selector_and_template(spec, "daemonset", deadline_kind="DaemonSet")
    errors += not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    errors += not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    return errors + _validate_strategy(part(spec, "updateStrategy"))


def _validate_strategy(strategy: Object) -> list[FieldError]:
    kind, path = text(strategy, "type"), "spec.updateStrategy"
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(f"{path}.type", kind, STRATEGIES)]
    if not isinstance(strategy.get("rollingUpdate"), dict):
        return [required(f"{path}.rollingUpdate")]
    rolling = part(strategy, "rollingUpdate")
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    path = f"{path}.rollingUpdate"
    errors: list[FieldError] = []
    for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        errors += int_or_percent(value, f"{path}.{field}") + at_most_100_percent(value, f"{path}.{field}")
    some_unavailable, some_surge = unavailable not in (0, "0%", None), surge not in (0, "0%", None)
    if some_unavailable and some_surge:
        errors.append(invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    if not some_unavailable and not some_surge:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    selector = part(new, "spec").get("selector")
    if selector != part(old, "spec").get("selector"):
        return [invalid("spec.selector", selector, IMMUTABLE)]
    return []


def _nodes(daemon: Object, _now: float) -> str:
    return labels_text(strings(deep(daemon, "spec", "template", "spec"), "nodeSelector"))


KIND = Kind(
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
    schema="io.k8s.api.apps.v1.DaemonSet",
    singular="daemonset",
    short_names=("ds",),
    categories=("all",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
    columns=(
        NAME,
        plain("Desired", count_cell("status", "desiredNumberScheduled"), "integer"),
        plain("Current", count_cell("status", "currentNumberScheduled"), "integer"),
        plain("Ready", count_cell("status", "numberReady"), "integer"),
        plain("Up-to-date", count_cell("status", "updatedNumberScheduled"), "integer"),
        plain("Available", count_cell("status", "numberAvailable"), "integer"),
        plain("Node Selector", _nodes),
        AGE,
        CONTAINERS,
        IMAGES,
        selector_column("spec", "selector"),
    ),
    status=True,
    apart={"status": None},
    generation=True,
    relabelled_from=Templated,
)
