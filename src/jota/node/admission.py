"""The node's own check before it starts a pod: does it fit, is it wanted here? Pure. A refusal makes the pod Failed.

The scheduler has checked the same against its cache; bindings race, nodes change, and nodeName can be set by hand.
Reasons are the kubelet's: PodOSNotSupported, OutOfcpu, OutOfmemory, OutOfpods, NodeAffinity, NodePorts, SysctlForbidden, NodeName.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jota.meta.quantity import parse
from jota.meta.selectors import from_node_terms
from jota.node.model import Object, Verdict, parts
from jota.node.resources import pod_amounts
from jota.node.security import forbidden_sysctls, host_sysctls

ANY = "0.0.0.0"
NODE_AFFINITY = "NodeAffinity"
OS = "linux"


def pod_requests(pod: Object) -> dict[str, int]:
    """Nano-units per resource that the pod holds, or would hold."""
    return pod_amounts(pod, "requests")


def check(
    pod: Object, others: Iterable[Object], labels: Mapping[str, str], allocatable: Mapping[str, str], name: str
) -> Verdict | None:
    """Why `pod` may not run here beside `others` (the pods that hold resources); None when it may."""
    active = list(others)
    if (pod["spec"].get("os") or {}).get("name", OS) != OS:
        return Verdict("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if bad := forbidden_sysctls(pod):
        return Verdict("SysctlForbidden", f"forbidden sysctl: {bad[0]!r} not allowlisted".replace("'", '"'))
    for sysctl, kind in host_sysctls(pod):
        return Verdict("SysctlForbidden", f'forbidden sysctl: "{sysctl}" not allowed with host {kind} enabled')
    if not selected(pod, labels, name):
        return Verdict(
            NODE_AFFINITY,
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )
    if taken := _clash(_ports(pod), [q for o in active for q in _ports(o)]):
        return Verdict("NodePorts", f"Pod was rejected: Predicate NodePorts failed: port {taken} is taken")
    return _fits(pod, active, allocatable)


def _fits(pod: Object, active: list[Object], allocatable: Mapping[str, str]) -> Verdict | None:
    slots = parse(allocatable.get("pods", "110")).value
    if len(active) + 1 > slots:
        return _out("pods", 1, len(active), slots)
    used: dict[str, int] = {}
    for other in active:
        for name, value in pod_requests(other).items():
            used[name] = used.get(name, 0) + value
    for name, wanted in pod_requests(pod).items():
        if not wanted or name not in allocatable:
            continue  # extended resources belong to who patched them into the Node; the scheduler has counted them
        room = parse(allocatable[name]).nanos
        if used.get(name, 0) + wanted > room:
            unit = 10**6 if name == "cpu" else 10**9
            return _out(name, wanted // unit, used.get(name, 0) // unit, room // unit)
    return None


def _out(name: str, wanted: int, used: int, capacity: int) -> Verdict:
    text = f"Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
    return Verdict(f"OutOf{name}", text)


def _ports(pod: Object) -> list[tuple[str, str, int]]:
    """(host IP, protocol, port)"""
    out = []
    for p in parts(pod):
        for port in (p.spec.get("ports") or []) if p.role != "init" else ():
            if port.get("hostPort"):
                out.append((port.get("hostIP") or ANY, port.get("protocol", "TCP"), int(port["hostPort"])))
    return out


def _clash(wanted: list[tuple[str, str, int]], held: list[tuple[str, str, int]]) -> int:
    """A port that is wanted and held, 0 for none; the address of all zeros meets every other."""
    for ip, protocol, port in wanted:
        for other, protocol2, port2 in held:
            if (protocol, port) == (protocol2, port2) and (ip == other or ANY in (ip, other)):
                return port
    return 0


def selected(pod: Object, labels: Mapping[str, str], name: str) -> bool:
    """nodeSelector and required node affinity against this node."""
    spec = pod["spec"]
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(t, labels, name) for t in required.get("nodeSelectorTerms") or [])


def _term(term: Object, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    here = {"metadata.name": name}
    return from_node_terms(expressions).matches(dict(labels)) and from_node_terms(fields).matches(here)
