"""HorizontalPodAutoscalers, version v1: only a CPU target. What v1 cannot say travels in annotations, as upstream does.

In and out: `to_storage` makes the v2 object of horizontalpodautoscaler.py, `from_storage` the v1 one.
"""

from __future__ import annotations

import json
from typing import Any

from jota.kinds.autoscaling import horizontalpodautoscaler as v2
from jota.kinds.common import AGE, NAME, count_cell, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, attach, meta, number, part, parts, put_missing, strings, text
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import Resource

PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, CURRENT, CONDITIONS, BEHAVIOR = (
    PREFIX + word for word in ("metrics", "current-metrics", "conditions", "behavior")
)


def to_storage(scaler: Object) -> None:
    notes = strings(meta(scaler), "annotations")
    spec, status = attach(scaler, "spec"), part(scaler, "status")
    metrics = _read(notes, METRICS, [])
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        metrics = [_cpu_metric("target", target), *metrics]
    if metrics:
        spec["metrics"] = metrics
    if behavior := _read(notes, BEHAVIOR, {}):
        spec["behavior"] = behavior
    current = status.pop("currentCPUUtilizationPercentage", None)
    seen = _read(notes, CURRENT, [])
    if current is not None:
        seen = [_cpu_metric("current", current), *seen]
    if seen:
        status["currentMetrics"] = seen
    if conditions := _read(notes, CONDITIONS, []):
        status["conditions"] = conditions
    _drop_notes(scaler)
    scaler["apiVersion"] = "autoscaling/v2"


def from_storage(scaler: Object) -> None:
    spec, status, notes = attach(scaler, "spec"), part(scaler, "status"), {}
    target, metrics = _split_cpu(spec.pop("metrics", None), "target")
    if target is not None:
        spec["targetCPUUtilizationPercentage"] = target
    current, seen = _split_cpu(status.pop("currentMetrics", None), "current")
    if current is not None:
        status["currentCPUUtilizationPercentage"] = current
    extras = ((METRICS, metrics), (CURRENT, seen), (CONDITIONS, status.pop("conditions", None)))
    for key, value in (*extras, (BEHAVIOR, spec.pop("behavior", None))):
        if value:
            notes[key] = json.dumps(value, separators=(",", ":"))
    if notes:
        attach(attach(scaler, "metadata"), "annotations").update(notes)
    scaler["apiVersion"] = "autoscaling/v1"


def _cpu_metric(side: str, percent: Any) -> Object:
    amounts: Object = {"averageUtilization": percent}
    if side == "target":
        amounts["type"] = "Utilization"
    return {"type": "Resource", "resource": {"name": "cpu", side: amounts}}


def _split_cpu(metrics: Any, side: str) -> tuple[Any, list[Object]]:
    """(the utilisation of cpu, the other metrics)."""
    found, others = None, []
    for metric in parts({"metrics": metrics}, "metrics"):
        source = part(metric, "resource")
        percent = part(source, side).get("averageUtilization")
        if found is None and text(source, "name") == "cpu" and percent is not None:
            found = percent
        else:
            others.append(metric)
    return found, others


def _read(notes: dict[str, str], key: str, empty: Any) -> Any:
    """An annotation written by `from_storage`; one that is not JSON of the right shape was not, and stays unread."""
    try:
        value = json.loads(notes.get(key, "null"))
    except ValueError:
        return empty
    return value if isinstance(value, type(empty)) else empty


def _drop_notes(scaler: Object) -> None:
    annotations = part(meta(scaler), "annotations")
    for key in (METRICS, CURRENT, CONDITIONS, BEHAVIOR):
        annotations.pop(key, None)


def default(scaler: Object) -> None:
    put_missing(attach(scaler, "spec"), "minReplicas", 1)


def validate(scaler: Object) -> list[FieldError]:
    spec = part(scaler, "spec")
    known = {key: value for key, value in spec.items() if key != "targetCPUUtilizationPercentage"}
    errors = v2.validate({"spec": known})
    target = spec.get("targetCPUUtilizationPercentage")
    if type(target) is int and target < 1:
        errors.append(invalid("spec.targetCPUUtilizationPercentage", target, "must be greater than 0"))
    return errors


def _targets(scaler: Object, _now: float) -> str:
    target = number(part(scaler, "spec"), "targetCPUUtilizationPercentage")
    current = part(scaler, "status").get("currentCPUUtilizationPercentage")
    return f"cpu: {'<unknown>' if current is None else f'{current}%'}/{target or 80}%"


KIND = Kind(
    Resource("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    schema="io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    singular="horizontalpodautoscaler",
    short_names=("hpa",),
    categories=("all",),
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("Reference", v2.reference),
        plain("Targets", _targets),
        plain("MinPods", path_cell("spec", "minReplicas", missing="<unset>")),
        plain("MaxPods", count_cell("spec", "maxReplicas")),
        plain("Replicas", count_cell("status", "currentReplicas")),
        AGE,
    ),
    status=True,
    storage=v2.KIND.resource,
    to_storage=to_storage,
    from_storage=from_storage,
)
