"""PodGroups: pods that are placed together or not at all. Pods name theirs in spec.schedulingGroup.podGroupName.

Beta: served with --runtime-config=scheduling.k8s.io/v1beta1=true. The scheduler (scheduler/gang.py) gives it its meaning.
"""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.scheduling.gangs import validate_group
from jota.kinds.shape import Object, deep, part, parts, put_missing, text
from jota.meta.errors import FieldError, invalid
from jota.meta.resource import PODGROUPS


def default(group: Object) -> None:
    spec = part(group, "spec")
    if spec:
        put_missing(spec, "disruptionMode", {"single": {}})


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """All is immutable but how many a gang needs."""
    return [] if _fixed(new) == _fixed(old) else [invalid("spec", part(new, "spec"), IMMUTABLE)]


def _fixed(group: Object) -> Object:
    spec = part(group, "spec")
    policy = {k: True for k, v in part(spec, "schedulingPolicy").items() if v is not None}
    return {**{k: v for k, v in spec.items() if v is not None}, "schedulingPolicy": policy}


def _policy(group: Object, _now: float) -> str:
    policy = deep(group, "spec", "schedulingPolicy")
    return f"gang({part(policy, 'gang').get('minCount', 0)})" if isinstance(policy.get("gang"), dict) else "basic"


def _scheduled(group: Object, _now: float) -> str:
    found = parts(part(group, "status"), "conditions")
    return next((text(c, "status") for c in found if text(c, "type") == "PodGroupInitiallyScheduled"), "")


KIND = Kind(
    PODGROUPS,
    schema="io.k8s.api.scheduling.v1beta1.PodGroup",
    singular="podgroup",
    default=default,
    validate=lambda group: validate_group(part(group, "spec"), "spec"),
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Policy", _policy),
        plain("Workload", path_cell("spec", "workloadRef", "workloadName", missing="")),
        plain("Scheduled", _scheduled),
        AGE,
    ),
    status=True,
    generation=True,
    stability="beta",
)
