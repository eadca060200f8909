"""Pods: the fact sheet. Its parts stand beside it: defaults, validate, update, columns, qos."""

from __future__ import annotations

from typing import TypedDict

from jota.kinds.core.pod.columns import COLUMNS, TERMINAL, cells
from jota.kinds.core.pod.defaults import default_pod
from jota.kinds.core.pod.qos import qos_class
from jota.kinds.core.pod.status import prepare_status, validate_status
from jota.kinds.core.pod.update import validate_update
from jota.kinds.core.pod.validate import validate_pod
from jota.kinds.core.pod.warnings import warnings
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, number, part, parts, text
from jota.meta.errors import FieldError, forbidden_field
from jota.meta.resource import PODS

GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
    "lastProbeTime": None,
    "lastTransitionTime": None,
}
"""No scheduler says it: it does not look at such a pod. What `kubectl get` shows instead of Pending."""
OWN_NAMES = {"claimName": "label", "hostname": "label"}


def prepare_create(pod: Object) -> None:
    """A new pod is Pending, with its class of service; nothing else of status is taken from the client."""
    spec = part(pod, "spec")
    status = pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if parts(spec, "schedulingGates"):
        status["conditions"] = [dict(GATED)]


def prepare_update(new: Object, old: Object) -> None:
    """Ephemeral containers are written through their own subresource."""
    spec, before = part(new, "spec"), part(old, "spec").get("ephemeralContainers")
    if before:
        spec["ephemeralContainers"] = before
    else:
        spec.pop("ephemeralContainers", None)


def validate_create(pod: Object) -> list[FieldError]:
    if parts(part(pod, "spec"), "ephemeralContainers"):
        return [forbidden_field("spec.ephemeralContainers", "cannot be set on create")]
    return []


def grace(pod: Object, asked: int | None) -> int:
    """Seconds until a deleted pod is gone: what was asked, else the spec's; none for pods that cannot be running."""
    spec = part(pod, "spec")
    seconds = asked if asked is not None else number(spec, "terminationGracePeriodSeconds", 0)
    if not text(spec, "nodeName") or text(part(pod, "status"), "phase") in TERMINAL:
        return 0
    return 1 if seconds < 0 else seconds


def _pod_ip(pod: Object) -> str:
    addresses = parts(part(pod, "status"), "podIPs")
    return text(addresses[0], "ip") if addresses else text(part(pod, "status"), "podIP")


class _Address(TypedDict, total=False):
    ip: str


class _Spec(TypedDict, total=False):
    nodeName: str
    restartPolicy: str
    schedulerName: str
    serviceAccountName: str
    hostNetwork: bool


class _Status(TypedDict, total=False):
    phase: str
    podIP: str
    podIPs: list[_Address]
    nominatedNodeName: str


class _Selected(TypedDict, total=False):
    spec: _Spec
    status: _Status


class _EndingSpec(TypedDict, total=False):
    nodeName: str
    terminationGracePeriodSeconds: int


class _EndingStatus(TypedDict, total=False):
    phase: str


class _Ending(TypedDict, total=False):
    spec: _EndingSpec
    status: _EndingStatus


class _Judged(TypedDict, total=False):
    """What the rules of a pod's /status look at in its spec (status.py; NodeRestriction)."""

    spec: _JudgedSpec


class _JudgedSpec(TypedDict, total=False):
    nodeName: str
    restartPolicy: str
    containers: list[_JudgedContainer]
    initContainers: list[_JudgedContainer]


class _JudgedContainer(TypedDict, total=False):
    name: str
    restartPolicy: str


class _Warned(TypedDict, total=False):
    """What `warnings` looks at beside metadata."""

    spec: Object


KIND = Kind(
    PODS,
    schema="io.k8s.api.core.v1.Pod",
    singular="pod",
    short_names=("po",),
    categories=("all",),
    default=default_pod,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate_pod,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    prepare_status=prepare_status,
    warnings=warnings,
    returns_deleted=True,
    columns=COLUMNS,
    cells=cells,
    selectable={
        "spec.nodeName": lambda pod: text(part(pod, "spec"), "nodeName"),
        "spec.restartPolicy": lambda pod: text(part(pod, "spec"), "restartPolicy"),
        "spec.schedulerName": lambda pod: text(part(pod, "spec"), "schedulerName"),
        "spec.serviceAccountName": lambda pod: text(part(pod, "spec"), "serviceAccountName"),
        "spec.hostNetwork": lambda pod: "true" if part(pod, "spec").get("hostNetwork") is True else "false",
        "status.phase": lambda pod: text(part(pod, "status"), "phase"),
        "status.podIP": _pod_ip,
        "status.podIPs": _pod_ip,
        "status.nominatedNodeName": lambda pod: text(part(pod, "status"), "nominatedNodeName"),
    },
    selected_from=_Selected,
    apart={"status": _Judged},
    own_names=OWN_NAMES,
    status=True,
    subresources=(
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "log",
        "portforward",
        "proxy",
        "resize",
    ),
    generation=True,
    grace=grace,
    graced_from=_Ending,
    relabelled_from=_Warned,
)
