"""Policies of pod groups, shared by PodGroups and the templates of Workloads: basic, or gang with a number.

In: the spec of a group or of a template. Out: errors. What this cluster does not do is refused here, by name.
"""

from __future__ import annotations

from jota.kinds.shape import Object, number, part, parts, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required

POLICIES = ["basic", "gang"]
MODES = ["single", "all"]
PREEMPTION = ["Never", "PreemptLowerPriority"]
_LEFT_OUT = {
    "parentCompositePodGroupName": "groups of pod groups are not supported",
    "resourceClaims": "resource claims of a whole pod group are not supported: name them in the pods",
}


def validate_group(spec: Object, path: str) -> list[FieldError]:
    errors = _one_of(part(spec, "schedulingPolicy"), POLICIES, f"{path}.schedulingPolicy")
    gang = part(spec, "schedulingPolicy").get("gang")
    if isinstance(gang, dict) and number(gang, "minCount") < 1:
        where = f"{path}.schedulingPolicy.gang.minCount"
        errors.append(invalid(where, gang.get("minCount"), "must be greater than zero"))
    if spec.get("disruptionMode") is not None:
        errors += _one_of(part(spec, "disruptionMode"), MODES, f"{path}.disruptionMode")
    policy = text(spec, "preemptionPolicy")
    if policy and policy not in PREEMPTION:
        errors.append(not_supported(f"{path}.preemptionPolicy", policy, PREEMPTION))
    topology = parts(part(spec, "schedulingConstraints"), "topology")
    if len(topology) > 1:
        where = f"{path}.schedulingConstraints.topology"
        errors.append(forbidden_field(where, "must have at most 1 item"))
    errors += [
        required(f"{path}.schedulingConstraints.topology[{i}].key")
        for i, constraint in enumerate(topology)
        if not text(constraint, "key")
    ]
    return errors + [forbidden_field(f"{path}.{f}", why) for f, why in _LEFT_OUT.items() if spec.get(f)]


def _one_of(union: Object, members: list[str], path: str) -> list[FieldError]:
    given = [m for m in members if isinstance(union.get(m), dict)]
    if len(given) == 1:
        return []
    detail = f"exactly one of {', '.join(f'`{m}`' for m in members)} is required"
    return [invalid(path, given, f"{detail}, but multiple fields are set")] if given else [required(path, detail)]
