"""What may change in a pod after it was made: very little, and through which endpoint (ValidatePodUpdate and friends).

In: the new object and the old, both defaulted. Out: errors. `api/subresources/ephemeralcontainers.py` uses the pair at the end.
Next: resize.py, what a write through /resize may change.
"""

from __future__ import annotations

import copy

from jota.kinds.core.pod.security import MAX_ID
from jota.kinds.core.pod.validate import MIRROR
from jota.kinds.shape import Object, deep, meta, number, part, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid

FROZEN = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
LISTS = ("containers", "initContainers")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Errors of a write through the pod's own endpoint."""
    if wrong := mirror(new, old):
        return wrong
    after, before = part(new, "spec"), part(old, "spec")
    if after == before:
        return []
    for key in LISTS:
        if len(parts(after, key)) != len(parts(before, key)):
            return [forbidden_field(f"spec.{key}", "pod updates may not add or remove containers")]
    errors = _deadline(after, before)
    errors += _tolerations(after, before)
    gated = bool(parts(before, "schedulingGates"))
    errors += _gates(after, before)
    if gated:
        errors += _gated_placement(after, before)
    if errors:
        return errors
    changed = _changed_fields(after, before, gated)
    return [forbidden_field("spec", f"{FROZEN}\nchanged: {', '.join(changed)}")] if changed else []


def mirror(new: Object, old: Object) -> list[FieldError]:
    """A pod is a mirror for all its life, or never: its node runs it, or does not (ValidatePodSpecificAnnotationUpdates)."""
    after, before = (strings(meta(pod), "annotations").get(MIRROR) for pod in (new, old))
    if after == before:
        return []
    verb = "add" if before is None else "remove or update"
    return [forbidden_field(f"metadata.annotations[{MIRROR}]", f"may not {verb} mirror pod annotation")]


def _deadline(after: Object, before: Object) -> list[FieldError]:
    path, now, was = (
        "spec.activeDeadlineSeconds",
        after.get("activeDeadlineSeconds"),
        before.get("activeDeadlineSeconds"),
    )
    if type(now) is int:
        if not 0 <= now <= MAX_ID:
            return [invalid(path, now, f"must be between 0 and {MAX_ID}, inclusive")]
        if type(was) is int and was < now:
            return [invalid(path, now, "must be less than or equal to previous value")]
    elif was is not None:
        return [invalid(path, now, "must not update from a positive integer to nil value")]
    return []


def _tolerations(after: Object, before: Object) -> list[FieldError]:
    """Each old one is still there; only how long it tolerates may differ."""
    kept = [_without_seconds(t) for t in parts(after, "tolerations")]
    if all(_without_seconds(t) in kept for t in parts(before, "tolerations")):
        return []
    detail = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden_field("spec.tolerations", detail)]


def _without_seconds(toleration: Object) -> Object:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _gates(after: Object, before: Object) -> list[FieldError]:
    known = {text(gate, "name") for gate in parts(before, "schedulingGates")}
    errors = []
    for i, gate in enumerate(parts(after, "schedulingGates")):
        name = text(gate, "name")
        if name not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{name}'"
            errors.append(forbidden_field(f"spec.schedulingGates[{i}]", detail))
    return errors


def _gated_placement(after: Object, before: Object) -> list[FieldError]:
    """While gates hold a pod back, the choice of its node may become narrower."""
    errors = []
    now, was = strings(after, "nodeSelector"), strings(before, "nodeSelector")
    if any(now.get(key) != value for key, value in was.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", now, detail))
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = parts(deep(after, "affinity", "nodeAffinity", required), "nodeSelectorTerms")
    old_terms = parts(deep(before, "affinity", "nodeAffinity", required), "nodeSelectorTerms")
    if old_terms and not (len(terms) == len(old_terms) and all(map(_narrower, terms, old_terms))):
        path = f"spec.affinity.nodeAffinity.{required}.nodeSelectorTerms"
        errors.append(invalid(path, terms, "only additions are allowed (no mutations or deletions)"))
    return errors


def _narrower(now: Object, was: Object) -> bool:
    return all(rule in parts(now, key) for key in ("matchExpressions", "matchFields") for rule in parts(was, key))


def _changed_fields(after: Object, before: Object, gated: bool) -> list[str]:
    """Paths of what differs beyond what is allowed; empty when nothing does."""
    free = {"activeDeadlineSeconds", "tolerations", "schedulingGates", "containers", "initContainers"}
    if gated:
        free |= {"nodeSelector", "affinity"}
    if number(before, "terminationGracePeriodSeconds") < 0 and after.get("terminationGracePeriodSeconds") == 1:
        free.add("terminationGracePeriodSeconds")
    fields = sorted((after.keys() | before.keys()) - free)
    changed = [f"spec.{field}" for field in fields if after.get(field) != before.get(field)]
    if gated:
        now, was = dict(part(after, "affinity")), dict(part(before, "affinity"))
        now.pop("nodeAffinity", None)
        was.pop("nodeAffinity", None)
        changed += ["spec.affinity"] if now != was else []
    for key in LISTS:
        for i, (one, other) in enumerate(zip(parts(after, key), parts(before, key), strict=True)):
            names = sorted((one.keys() | other.keys()) - {"image"})
            changed += [f"spec.{key}[{i}].{name}" for name in names if one.get(name) != other.get(name)]
    return changed


def prepare_ephemeral(new: Object, old: Object) -> None:
    """A write through /ephemeralcontainers: everything but that list is the old pod's."""
    containers = part(new, "spec").get("ephemeralContainers")
    new["spec"] = copy.deepcopy(part(old, "spec"))
    if containers is not None:
        new["spec"]["ephemeralContainers"] = containers
    else:
        new["spec"].pop("ephemeralContainers", None)
    new["status"] = part(old, "status")


def validate_ephemeral(new: Object, old: Object) -> list[FieldError]:
    """Ephemeral containers are added, never changed nor removed. `validate_pod` judges the new ones."""
    path = "spec.ephemeralContainers"
    if MIRROR in strings(meta(old), "annotations"):
        return [forbidden_field("", "static pods do not support ephemeral containers")]
    now = {text(c, "name"): c for c in parts(part(new, "spec"), "ephemeralContainers")}
    errors = []
    for container in parts(part(old, "spec"), "ephemeralContainers"):
        name = text(container, "name")
        if name not in now:
            errors.append(forbidden_field(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif now[name] != container:
            errors.append(forbidden_field(path, f'existing ephemeral containers "{name}" may not be changed\n'))
    return errors
