"""Writes through a pod's /status: the class of service stays, what has ended for good does not run again, addresses are such.

In: the new object and the old. Out: errors (ValidatePodStatusUpdate). Node agents are the usual writers. Of addresses, names of
nodes and ids of containers no rule looks at more than their form and at which of them are the same: api/alikepatches.py takes
these for names of a pod's own.
"""

from __future__ import annotations

from jota.kinds import names
from jota.kinds.core.pod.update import mirror
from jota.kinds.core.pod.validate import BAD_ADDRESS, is_address
from jota.kinds.shape import Object, number, part, parts, text
from jota.meta.errors import FieldError, forbidden_field, invalid

LISTS = (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers"))


def prepare_status(new: Object, old: Object) -> None:
    """The class of service was set on create; a writer that leaves it out does not erase it."""
    was = text(part(old, "status"), "qosClass")
    if was and isinstance(new.get("status"), dict):
        new["status"]["qosClass"] = was
    _reconcile_addresses(part(new, "status"))


def _reconcile_addresses(status: Object) -> None:
    """podIP is the first of podIPs. Where they differ it is the older field that counts, written by clients that do not know the
    other (upstream's conversion)."""
    one, several = text(status, "podIP"), parts(status, "podIPs")
    first = text(several[0], "ip") if several else ""
    if one and one != first:
        status["podIPs"] = [{"ip": one}]
    elif first and not one:
        status["podIP"] = first


def validate_status(new: Object, old: Object) -> list[FieldError]:
    status, before = part(new, "status"), part(old, "status")
    errors = mirror(new, old)
    errors += _validate_nominated(text(status, "nominatedNodeName"), text(before, "nominatedNodeName"))
    errors += _validate_states(new, old)
    errors += _validate_addresses(status, before, "podIPs")
    hosts = parts(status, "hostIPs")
    if hosts and text(status, "hostIP") != text(hosts[0], "ip"):
        errors.append(invalid("status.hostIPs[0].ip", text(hosts[0], "ip"), "must be equal to `hostIP`"))
    return errors + _validate_addresses(status, before, "hostIPs")


def _validate_nominated(node: str, before: str) -> list[FieldError]:
    if not node or node == before:
        return []
    return [invalid("status.nominatedNodeName", node, problem) for problem in names.dns_subdomain(node)]


def _validate_addresses(status: Object, before: Object, field: str) -> list[FieldError]:
    """What is there already may stay, whatever it is."""
    path, found = f"status.{field}", [text(one, "ip") for one in parts(status, field)]
    kept = {text(one, "ip") for one in parts(before, field)}
    errors = [
        invalid(f"{path}[{i}]", ip, BAD_ADDRESS) for i, ip in enumerate(found) if ip not in kept and not is_address(ip)
    ]
    if len(found) > len({":" in ip for ip in found}):
        errors.append(invalid(path, parts(status, field), "may specify no more than one IP for each IP family"))
    return errors


def _validate_states(new: Object, old: Object) -> list[FieldError]:
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
