"""HorizontalPodAutoscalers, version v2: keep a metric near its target by changing a workload's replicas.

Next: horizontalpodautoscaler_v1.py, the older form of the same stored objects.
"""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, count_cell, path_cell, plain, some
from jota.kinds.kind import Kind
from jota.kinds.names import path_segment
from jota.kinds.quantities import canonical_resources
from jota.kinds.shape import Object, attach, deep, number, part, parts, put_missing, text
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
UNKNOWN = "<unknown>"
SCALE_UP = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
SCALE_DOWN = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
MAX_WINDOW, MAX_PERIOD = 3600, 1800


def default(scaler: Object) -> None:
    spec = attach(scaler, "spec")
    put_missing(spec, "minReplicas", 1)
    if not parts(spec, "metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    for metric in parts(spec, "metrics"):
        for source in SOURCES.values():
            canonical_resources(part(metric, source), "target", only="value")
            canonical_resources(part(metric, source), "target", only="averageValue")
    if isinstance(spec.get("behavior"), dict):
        up = attach(spec["behavior"], "scaleUp")
        put_missing(up, "stabilizationWindowSeconds", 0)
        _default_rules(up, SCALE_UP)
        _default_rules(attach(spec["behavior"], "scaleDown"), SCALE_DOWN)


def _default_rules(rules: Object, policies: tuple[Object, ...]) -> None:
    put_missing(rules, "selectPolicy", "Max")
    if rules.get("policies") is None:
        rules["policies"] = [dict(policy) for policy in policies]


def validate(scaler: Object) -> list[FieldError]:
    spec = part(scaler, "spec")
    low, high = number(spec, "minReplicas", 1), number(spec, "maxReplicas")
    errors: list[FieldError] = []
    if low < 1:
        errors.append(invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than 0"))
    if high < low:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    errors += _validate_reference(part(spec, "scaleTargetRef"), "spec.scaleTargetRef")
    for i, metric in enumerate(parts(spec, "metrics")):
        errors += _validate_metric(metric, f"spec.metrics[{i}]")
    return errors + _validate_behavior(part(spec, "behavior"))


def _validate_reference(ref: Object, path: str) -> list[FieldError]:
    """A controller that may do everything asks for what is named here."""
    errors: list[FieldError] = []
    for field in ("kind", "name"):
        errors += _validate_segment(text(ref, field), f"{path}.{field}")
    return errors


def _validate_segment(value: str, path: str) -> list[FieldError]:
    return [invalid(path, value, detail) for detail in path_segment(value)] if value else [required(path)]


def _validate_metric(metric: Object, path: str) -> list[FieldError]:
    type = text(metric, "type")
    if not type:
        return [required(f"{path}.type", "must specify a metric source type")]
    if type not in SOURCES:
        return [not_supported(f"{path}.type", type, sorted(SOURCES))]
    key = SOURCES[type]
    if not isinstance(metric.get(key), dict):
        return [required(f"{path}.{key}", "must populate information for the given metric source")]
    errors = _validate_names(part(metric, key), key, f"{path}.{key}")
    return errors + _validate_target(part(part(metric, key), "target"), f"{path}.{key}.target")


def _validate_names(source: Object, key: str, path: str) -> list[FieldError]:
    """validateMetricIdentifier and validateCrossVersionObjectReference: they become parts of URLs."""
    if key in ("resource", "containerResource"):
        return []
    errors = _validate_segment(text(part(source, "metric"), "name"), f"{path}.metric.name")
    if key == "object":
        errors += _validate_reference(part(source, "describedObject"), f"{path}.describedObject")
    return errors


def _validate_target(target: Object, path: str) -> list[FieldError]:
    wanted = text(target, "type")
    if not wanted:
        return [required(f"{path}.type", "must specify a metric target type")]
    if wanted not in ("Utilization", "Value", "AverageValue"):
        return [invalid(f"{path}.type", wanted, "must be either Utilization, Value, or AverageValue")]
    field = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}[wanted]
    return [] if target.get(field) is not None else [required(f"{path}.{field}")]


def _validate_behavior(behavior: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for direction in ("scaleUp", "scaleDown"):
        rules, path = part(behavior, direction), f"spec.behavior.{direction}"
        window = rules.get("stabilizationWindowSeconds")
        if type(window) is int and not 0 <= window <= MAX_WINDOW:
            detail = (
                f"must be less than or equal to {MAX_WINDOW}" if window > 0 else "must be greater than or equal to zero"
            )
            errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, detail))
        if "policies" in rules and not parts(rules, "policies"):
            errors.append(required(f"{path}.policies", "must specify at least one Policy"))
        for i, policy in enumerate(parts(rules, "policies")):
            errors += _validate_policy(policy, f"{path}.policies[{i}]")
    return errors


def _validate_policy(policy: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if text(policy, "type") not in ("Pods", "Percent"):
        errors.append(not_supported(f"{path}.type", text(policy, "type"), ["Percent", "Pods"]))
    for field, limit in (("value", None), ("periodSeconds", MAX_PERIOD)):
        amount = number(policy, field)
        if amount <= 0:
            errors.append(invalid(f"{path}.{field}", amount, "must be greater than zero"))
        elif limit is not None and amount > limit:
            errors.append(invalid(f"{path}.{field}", amount, f"must be less than or equal to {limit}"))
    return errors


def reference(scaler: Object, _now: float) -> str:
    target = deep(scaler, "spec", "scaleTargetRef")
    return f"{text(target, 'kind')}/{text(target, 'name')}"


def _targets(scaler: Object, _now: float) -> str:
    current = parts(part(scaler, "status"), "currentMetrics")
    shown = []
    for i, metric in enumerate(parts(part(scaler, "spec"), "metrics")):
        shown.append(_target(metric, current[i] if i < len(current) else {}))
    return some(shown, limit=2) if len(shown) > 2 else ", ".join(shown) or "<none>"


def _target(metric: Object, current: Object) -> str:
    key = SOURCES.get(text(metric, "type"), "")
    source, now = part(metric, key), part(part(current, key), "current")
    wanted = part(source, "target")
    prefix = f"{text(source, 'name')}: " if key in ("resource", "containerResource") else ""
    if wanted.get("averageUtilization") is not None:
        has = now.get("averageUtilization")
        return f"{prefix}{UNKNOWN if has is None else f'{has}%'}/{wanted['averageUtilization']}%"
    if wanted.get("averageValue") is not None:
        return f"{prefix}{now.get('averageValue') or UNKNOWN}/{wanted['averageValue']}" + (
            " (avg)" if not prefix else ""
        )
    return f"{prefix}{now.get('value') or UNKNOWN}/{wanted.get('value') or '<auto>'}"


KIND = Kind(
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    schema="io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    singular="horizontalpodautoscaler",
    short_names=("hpa",),
    categories=("all",),
    default=default,
    validate=validate,
    columns=(
        NAME,
        plain("Reference", reference),
        plain("Targets", _targets),
        plain("MinPods", path_cell("spec", "minReplicas", missing="<unset>")),
        plain("MaxPods", count_cell("spec", "maxReplicas")),
        plain("Replicas", count_cell("status", "currentReplicas")),
        AGE,
    ),
    status=True,
)
