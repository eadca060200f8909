"""PodDisruptionBudgets: how many pods of a set may be evicted at once."""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.common import AGE, NAME, count_cell, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import at_most_100_percent, int_or_percent, not_negative
from jota.kinds.shape import Object, part, text
from jota.meta.errors import FieldError, invalid, not_supported
from jota.meta.resource import Resource

POLICIES = ["AlwaysAllow", "IfHealthyBudget"]


def validate(budget: Object) -> list[FieldError]:
    spec = part(budget, "spec")
    errors: list[FieldError] = []
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        errors.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field in ("minAvailable", "maxUnavailable"):
        path = f"spec.{field}"
        errors += int_or_percent(spec.get(field), path) + at_most_100_percent(spec.get(field), path)
    errors += labels.validate_selector(spec.get("selector"), "spec.selector")
    policy = text(spec, "unhealthyPodEvictionPolicy")
    if policy and policy not in POLICIES:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, POLICIES))
    return errors


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    status = part(new, "status")
    errors: list[FieldError] = []
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        errors += not_negative(status.get(field), f"status.{field}")
    return errors


KIND = Kind(
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    schema="io.k8s.api.policy.v1.PodDisruptionBudget",
    singular="poddisruptionbudget",
    short_names=("pdb",),
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        plain("Min Available", path_cell("spec", "minAvailable", missing="N/A")),
        plain("Max Unavailable", path_cell("spec", "maxUnavailable", missing="N/A")),
        plain("Allowed Disruptions", count_cell("status", "disruptionsAllowed"), "integer"),
        AGE,
    ),
    status=True,
    generation=True,
    unconditional_update=False,
)
