"""Nodes: machines that run pods. The columns read the labels that node agents set."""

from __future__ import annotations

from collections.abc import Callable

from jota.kinds.common import AGE, NAME, NONE, UNKNOWN, path_cell, plain
from jota.kinds.kind import Kind, Nothing
from jota.kinds.quantities import canonical_resources
from jota.kinds.shape import Object, meta, part, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required
from jota.meta.resource import NODES

ROLE_PREFIX = "node-role.kubernetes.io/"
ROLE_LABEL = "kubernetes.io/role"
TAINT_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"]


def default(node: Object) -> None:
    status = part(node, "status")
    canonical_resources(status, "capacity", "allocatable")
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def validate(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(parts(part(node, "spec"), "taints")):
        path, key, effect = f"spec.taints[{i}]", text(taint, "key"), text(taint, "effect")
        if not key:
            errors.append(invalid(f"{path}.key", key, "name part must be non-empty"))
        if not effect:
            errors.append(required(f"{path}.effect"))
        elif effect not in TAINT_EFFECTS:
            errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))
        if (key, effect) in seen:
            detail = "taints must be unique by key and effect pair"
            errors.append(invalid(path, f"{key}:{effect}", detail))
        seen.add((key, effect))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Addresses and identity are set once: podCIDRs and providerID may be filled in, not changed."""
    errors: list[FieldError] = []
    after, before = part(new, "spec"), part(old, "spec")
    for field in ("podCIDRs", "providerID"):
        if before.get(field) and after.get(field) != before.get(field):
            name = field.removesuffix("s")
            detail = f'node updates may not change {name} except from "" to valid'
            errors.append(forbidden_field(f"spec.{field}", detail))
    return errors


def _status(node: Object, _now: float) -> str:
    ready = [text(c, "status") for c in parts(part(node, "status"), "conditions") if c.get("type") == "Ready"]
    word = "Unknown" if not ready else "Ready" if ready[0] == "True" else "NotReady"
    return word + (",SchedulingDisabled" if part(node, "spec").get("unschedulable") is True else "")


def _roles(node: Object, _now: float) -> str:
    labels = strings(meta(node), "labels")
    roles = {k[len(ROLE_PREFIX) :] for k in labels if k.startswith(ROLE_PREFIX) and len(k) > len(ROLE_PREFIX)}
    if labels.get(ROLE_LABEL):
        roles.add(labels[ROLE_LABEL])
    return ",".join(sorted(roles)) or NONE


def _address(kind: str) -> Callable[[Object, float], str]:
    def cell(node: Object, _now: float) -> str:
        for address in parts(part(node, "status"), "addresses"):
            if address.get("type") == kind:
                return text(address, "address")
        return NONE

    return cell


_INFO = ("status", "nodeInfo")

KIND = Kind(
    NODES,
    schema="io.k8s.api.core.v1.Node",
    singular="node",
    short_names=("no",),
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(
        NAME,
        plain("Status", _status, about="The status of the node."),
        plain("Roles", _roles, about="The roles of the node."),
        AGE,
        plain("Version", path_cell(*_INFO, "kubeletVersion", missing=""), about="Version of the node agent."),
        plain("Internal-IP", _address("InternalIP"), wide=True),
        plain("External-IP", _address("ExternalIP"), wide=True),
        plain("OS-Image", path_cell(*_INFO, "osImage", missing=UNKNOWN), wide=True),
        plain("Kernel-Version", path_cell(*_INFO, "kernelVersion", missing=UNKNOWN), wide=True),
        plain("Container-Runtime", path_cell(*_INFO, "containerRuntimeVersion", missing=UNKNOWN), wide=True),
    ),
    selectable={"spec.unschedulable": lambda n: "true" if part(n, "spec").get("unschedulable") is True else "false"},
    status=True,
    apart={"status": None},
    relabelled_from=Nothing,
    subresources=("proxy",),
)
