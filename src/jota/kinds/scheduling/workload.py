"""Workloads: templates of pod groups, which whoever makes the groups copies from. Plain storage, as upstream. Beta."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.scheduling.gangs import validate_group
from jota.kinds.shape import Object, part, parts, text
from jota.meta.errors import FieldError, duplicate, forbidden_field, invalid, required
from jota.meta.resource import Resource

MOST_TEMPLATES = 8


def validate(workload: Object) -> list[FieldError]:
    spec, errors = part(workload, "spec"), list[FieldError]()
    templates = parts(spec, "podGroupTemplates")
    if spec.get("compositePodGroupTemplates"):
        errors.append(forbidden_field("spec.compositePodGroupTemplates", "groups of pod groups are not supported"))
    elif not templates:
        errors.append(required("spec.podGroupTemplates", "must have at least one item"))
    if len(templates) > MOST_TEMPLATES:
        errors.append(forbidden_field("spec.podGroupTemplates", f"must have at most {MOST_TEMPLATES} items"))
    seen: set[str] = set()
    for i, template in enumerate(templates):
        path, name = f"spec.podGroupTemplates[{i}]", text(template, "name")
        if not name:
            errors.append(required(f"{path}.name"))
        elif name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        errors += validate_group(template, path)
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    templates = part(new, "spec").get("podGroupTemplates")
    if templates == part(old, "spec").get("podGroupTemplates"):
        return []
    return [invalid("spec.podGroupTemplates", templates, IMMUTABLE)]


KIND = Kind(
    Resource("scheduling.k8s.io", "v1beta1", "workloads", "Workload"),
    schema="io.k8s.api.scheduling.v1beta1.Workload",
    singular="workload",
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, AGE),
    generation=True,
    stability="beta",
)
