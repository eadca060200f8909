"""The Node object and its status, from config and machine. Pure. Next: nodekeeper.py writes them."""

from __future__ import annotations

from collections.abc import Iterable

from jota.aio.clock import rfc3339
from jota.meta.quantity import Quantity, parse
from jota.node.config import NodeConfig
from jota.node.model import Object
from jota.runtime.protocol import Image

MAX_IMAGES = 50

_CALM = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}
_PRESSED = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    "DiskPressure": ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}


def node_object(config: NodeConfig, architecture: str) -> Object:
    """What is created when the node is new."""
    spec: Object = {}
    if config.provider_id:
        spec["providerID"] = config.provider_id
    if config.taints:
        spec["taints"] = config.taints
    if config.unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.name,
            "labels": node_labels(config, architecture),
            "annotations": dict(config.annotations),
        },
        "spec": spec,
    }


def node_labels(config: NodeConfig, architecture: str) -> dict[str, str]:
    return {
        "kubernetes.io/hostname": config.hostname or config.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        "node.kubernetes.io/instance-type": "jota",
        **config.labels,
    }


def capacity(config: NodeConfig, machine: dict[str, str]) -> dict[str, str]:
    return {**machine, **config.capacity}


def allocatable(config: NodeConfig, total: dict[str, str]) -> dict[str, str]:
    """Capacity less what is reserved; never below zero."""
    out = dict(total)
    for name, amount in config.reserved.items():
        if name in out:
            have = parse(out[name])
            out[name] = str(Quantity(max(0, have.nanos - parse(amount).nanos), have.format))
    return out


def node_status(
    config: NodeConfig,
    machine: dict[str, str],
    info: dict[str, str],
    images: Iterable[Image],
    conditions: list[Object],
) -> Object:
    total = capacity(config, machine)
    return {
        "capacity": total,
        "allocatable": allocatable(config, total),
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": config.address},
            {"type": "Hostname", "address": config.hostname or config.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.kubelet_port}},
        "nodeInfo": {
            **info,
            "containerRuntimeVersion": config.runtime_version,
            "kubeletVersion": config.kubelet_version,
            "kubeProxyVersion": "",
        },
        "images": image_list(images),
    }


def image_list(images: Iterable[Image]) -> list[Object]:
    """The largest images with their names, as the scheduler's image locality wants them."""
    named = [i for i in images if i.tags or i.digests]
    named.sort(key=lambda i: (-i.size, i.id))
    return [{"names": [*i.digests, *i.tags], "sizeBytes": i.size} for i in named[:MAX_IMAGES]]


def conditions(old: Iterable[Object], pressures: dict[str, bool], problem: str, now: float) -> list[Object]:
    """MemoryPressure, DiskPressure, PIDPressure and Ready; `problem` "" means ready. Others' conditions are kept."""
    before = {c["type"]: c for c in old}
    out = [
        _condition(name, pressed, *(_PRESSED if pressed else _CALM)[name], before.pop(name, None), now)
        for name, pressed in pressures.items()
    ]
    reason, message = ("KubeletNotReady", problem) if problem else ("KubeletReady", "kubelet is posting ready status")
    out.append(_condition("Ready", not problem, reason, message, before.pop("Ready", None), now))
    return [*before.values(), *out]


def _condition(name: str, true: bool, reason: str, message: str, old: Object | None, now: float) -> Object:
    status, at = "True" if true else "False", rfc3339(now)
    same = old is not None and old.get("status") == status
    return {
        "type": name,
        "status": status,
        "lastHeartbeatTime": at,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else at,
        "reason": reason,
        "message": message,
    }


def differs(old: Object, new: Object) -> bool:
    """Whether the new status tells anything that the old one did not, heartbeats aside."""
    return _calm(old) != _calm(new)


def _calm(status: Object) -> Object:
    quiet = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions") or []]
    return {**status, "conditions": sorted(quiet, key=lambda c: str(c["type"]))}
