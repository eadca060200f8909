"""What a write through pods/resize may change: cpu and memory of containers that exist, and of the pod (ValidatePodResize).

In: the new object and the old, both defaulted, so that equal amounts have equal texts. Out: errors.
`api/subresources/resize.py` uses the pair; whether the node is large enough is asked by `api/admission/pod_resize.py`.
"""

from __future__ import annotations

import copy

from jota.kinds.core.pod.qos import qos_class
from jota.kinds.core.pod.update import LISTS
from jota.kinds.core.pod.validate import MIRROR
from jota.kinds.shape import Object, meta, part, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid

RESIZABLE = ("cpu", "memory")
SIDES = ("limits", "requests")
_ONLY = "only cpu and memory resources are mutable"
_ONLY_INIT = "only cpu and memory resources for init or sidecar containers are mutable"
_NO_RESTART = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"


def prepare_resize(new: Object, old: Object) -> None:
    """Everything but resources and resize policies is the old pod's. Lists of other containers stay, to be refused."""
    spec, wanted = copy.deepcopy(part(old, "spec")), part(new, "spec")
    for key in LISTS:
        mine, theirs = parts(spec, key), parts(wanted, key)
        if [text(c, "name") for c in mine] != [text(c, "name") for c in theirs]:
            spec[key] = theirs
            continue
        for container, asked in zip(mine, theirs, strict=True):
            for field in ("resources", "resizePolicy"):
                if field in asked:
                    container[field] = asked[field]
                else:
                    container.pop(field, None)
    if "resources" in wanted:  # clients that do not know it leave it out: then it stays
        spec["resources"] = wanted["resources"]
    new["spec"], new["status"] = spec, part(old, "status")


def validate_resize(new: Object, old: Object) -> list[FieldError]:
    if MIRROR in strings(meta(old), "annotations"):
        return [forbidden_field("", "static pods cannot be resized")]
    after, before = part(new, "spec"), part(old, "spec")
    if text(part(before, "os"), "name") == "windows":
        return [forbidden_field("", "windows pods cannot be resized")]
    errors: list[FieldError] = []
    was = text(part(old, "status"), "qosClass") or qos_class(before)
    if qos_class(after) != was:
        detail = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid("spec", qos_class(after), detail))
    if not _supported(part(old, "status")):
        errors.append(forbidden_field("spec", "Pod running on node without support for resize"))
    errors += _whole(part(after, "resources"), part(before, "resources"))
    if moved := _order(after, before):
        return errors + moved
    for key in LISTS:
        for i, (one, other) in enumerate(zip(parts(after, key), parts(before, key), strict=True)):
            errors += _removed(one, other, f"spec.{key}[{i}].resources", "resource")
    for one, other in zip(parts(after, "containers"), parts(before, "containers"), strict=True):
        if _fixed(one) != _fixed(other):
            errors.append(forbidden_field("spec", _ONLY))
    for i, (one, other) in enumerate(zip(parts(after, "initContainers"), parts(before, "initContainers"), strict=True)):
        errors += _init(one, other, f"spec.initContainers[{i}]")
    return errors


def _supported(status: Object) -> bool:
    """A node that resizes shows what its running containers have; without one nobody can tell, and it is supposed to."""
    for shown in parts(status, "containerStatuses"):
        if "running" in part(shown, "state"):
            return "resources" in shown
    return True


def _whole(now: Object, was: Object) -> list[FieldError]:
    """The pod-level resources; a client that leaves them out was given the old ones by `prepare_resize`."""
    errors = _removed({"resources": now}, {"resources": was}, "spec.resources", "pod-level resource")
    if _fixed({"resources": now}) != _fixed({"resources": was}):
        errors.append(forbidden_field("spec", f"{_ONLY} at pod-level"))
    return errors


def _order(after: Object, before: Object) -> list[FieldError]:
    errors = []
    for key in LISTS:
        now, was = parts(after, key), parts(before, key)
        if len(now) != len(was):
            errors.append(forbidden_field(f"spec.{key}", f"{key} may not be added or removed on resize"))
            continue
        for i, (one, other) in enumerate(zip(now, was, strict=True)):
            if text(one, "name") != text(other, "name"):
                errors.append(
                    forbidden_field(f"spec.{key}[{i}].name", f"{key} may not be renamed or reordered on resize")
                )
    return errors


def _removed(one: Object, other: Object, path: str, what: str) -> list[FieldError]:
    now, was = part(one, "resources"), part(other, "resources")
    return [
        forbidden_field(f"{path}.{side}", f"{what} {side} cannot be removed")
        for side in reversed(SIDES)
        if part(was, side).keys() - part(now, side).keys()
    ]


def _fixed(owner: Object) -> Object:
    """What no resize changes of a container: all but the amounts of cpu and memory."""
    resources = dict(part(owner, "resources"))
    for side in SIDES:
        resources[side] = {n: v for n, v in part(resources, side).items() if n not in RESIZABLE}
    return {**owner, "resources": resources}


def _init(one: Object, other: Object, path: str) -> list[FieldError]:
    errors = []
    if _fixed(one) != _fixed(other):
        errors.append(forbidden_field(path, _ONLY_INIT))
    restarts = any(text(p, "restartPolicy") == "RestartContainer" for p in parts(one, "resizePolicy"))
    if one != other and restarts and text(one, "restartPolicy") != "Always":
        errors.append(forbidden_field(path, _NO_RESTART))
    return errors
