"""Writes through a pod's /status: the class of service stays, and what has ended for good does not run again.

In: the new object and the old. Out: errors (ValidatePodStatusUpdate). Node agents are the usual writers. No rule looks at
addresses, names of nodes or ids of containers: api/alikepatches.py takes these for names of a pod's own.
"""

from __future__ import annotations

from jota.kinds.shape import Object, number, part, parts, text
from jota.meta.errors import FieldError, forbidden_field

LISTS = (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers"))


def prepare_status(new: Object, old: Object) -> None:
    """The class of service was set on create; a writer that leaves it out does not erase it."""
    was = text(part(old, "status"), "qosClass")
    if was and isinstance(new.get("status"), dict):
        new["status"]["qosClass"] = was


def validate_status(new: Object, old: Object) -> list[FieldError]:
    spec = part(old, "spec")
    if text(spec, "restartPolicy") not in ("Never", "OnFailure"):
        return []
    errors: list[FieldError] = []
    for field, containers in LISTS:
        running = {
            text(status, "name")
            for status in parts(part(new, "status"), field)
            if not isinstance(part(status, "state").get("terminated"), dict)
        }
        own = {text(c, "name"): text(c, "restartPolicy") for c in parts(spec, containers)}
        for i, status in enumerate(parts(part(old, "status"), field)):
            name, ended = text(status, "name"), part(status, "state").get("terminated")
            if name in running and isinstance(ended, dict) and _for_good(spec, own.get(name, ""), ended):
                detail = "may not be transitioned to non-terminated state"
                errors.append(forbidden_field(f"status.{field}[{i}].state", detail))
    return errors


def _for_good(spec: Object, own_policy: str, ended: Object) -> bool:
    """Whether the pod's restart policy, or the container's own, rules out another run."""
    policy = own_policy or text(spec, "restartPolicy")
    if policy == "Always":
        return False
    return policy == "Never" or not number(ended, "exitCode")
