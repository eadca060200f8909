"""Which nodes a volume is attached to and should be: (volume, who needs it where, attachments, nodes) -> what to do. Pure.

Rules as upstream's attach/detach controller: a volume that one node at a time may have is attached to the next node only
when the last one has let go of it; it is detached when no pod of the node needs it and the node no longer has it mounted.
A node that cannot answer is waited for 6 minutes, one with the out-of-service taint not at all. Next: attachdetach.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

PATIENCE = 360.0
"""Seconds that a node which does not answer may keep a volume that no pod needs (upstream's maxWaitForUnmountDuration)."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_SHARED = {"ReadWriteMany", "ReadOnlyMany"}


@dataclass(slots=True, frozen=True)
class Volume:
    """A CSI PersistentVolume that its driver attaches."""

    name: str
    driver: str
    handle: str
    modes: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether one node at a time may have it."""
        return bool(self.modes) and not _SHARED & set(self.modes)

    @property
    def unique(self) -> str:
        """Its name in a node's volumesAttached and volumesInUse."""
        return f"kubernetes.io/csi/{self.driver}^{self.handle}"

    def attachment(self, node: str) -> str:
        """The name of its VolumeAttachment: the CSI drivers' sidecars expect this one."""
        return "csi-" + hashlib.sha256(f"{self.handle}{self.driver}{node}".encode()).hexdigest()


@dataclass(slots=True, frozen=True)
class NodeFact:
    in_use: bool = False
    """The node has the volume mounted, it says."""
    ready: bool = True
    out_of_service: bool = False
    exists: bool = True


GONE = NodeFact(exists=False)


@dataclass(slots=True)
class Plan:
    attach: list[str] = field(default_factory=list)
    detach: list[str] = field(default_factory=list)
    blocked: dict[str, list[str]] = field(default_factory=dict)
    """Node that has to wait -> the nodes that still have the volume."""
    again: float | None = None
    """Seconds after which to look again."""


def plan(
    volume: Volume,
    wanted: Sequence[str],
    attached: Mapping[str, bool],
    nodes: Mapping[str, NodeFact],
    unwanted_since: Mapping[str, float],
    now: float,
) -> Plan:
    """`wanted`: nodes with pods that need it, who came first before others. `attached`: node -> whether the attachment is
    already on its way out. `unwanted_since`: when a node was first seen without need (monotonic seconds)."""
    out = Plan()
    for node, leaving in attached.items():
        if node in wanted or leaving:
            continue
        wait = _patience(nodes.get(node, GONE), now - unwanted_since.get(node, now))
        if wait == 0:
            out.detach.append(node)
        elif wait is not None:
            out.again = wait if out.again is None else min(out.again, wait)
    holders = list(attached)
    for node in wanted:
        if node in attached or not nodes.get(node, GONE).exists:
            continue
        others = [h for h in holders if h != node]
        if volume.exclusive and others:
            out.blocked[node] = others
        else:
            out.attach.append(node)
            holders.append(node)
    return out


def _patience(node: NodeFact, waited: float) -> float | None:
    """Seconds until the volume may be taken from a node that does not need it; None: only the node itself can end that."""
    if not node.exists or not node.in_use or node.out_of_service:
        return 0.0
    if node.ready:
        return None
    return max(0.0, PATIENCE - waited)


def volume_of(pv: Object) -> Volume | None:
    """None for a volume that is not CSI."""
    csi = pv["spec"].get("csi")
    if not csi:
        return None
    modes = tuple(pv["spec"].get("accessModes") or ())
    return Volume(pv["metadata"]["name"], csi.get("driver", ""), csi.get("volumeHandle", ""), modes)


def fact_of(node: Object | None, volume: Volume) -> NodeFact:
    if node is None:
        return GONE
    status = node.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    taints = {t["key"] for t in (node.get("spec") or {}).get("taints") or ()}
    return NodeFact(volume.unique in (status.get("volumesInUse") or ()), ready, OUT_OF_SERVICE in taints)


def multi_attach(volume: Volume, mine: str, users: Sequence[tuple[str, str]]) -> str:
    """The event's text for a pod of namespace `mine`. `users`: (namespace, pod) that have the volume elsewhere."""
    start = f'Multi-Attach error for volume "{volume.name}" '
    here = sorted(name for namespace, name in users if namespace == mine)
    others = len(users) - len(here)
    if not users:
        return start + "Volume is already exclusively attached to one node and can't be attached to another"
    if not here:
        return start + f"Volume is already used by {others} pod(s) in different namespaces"
    more = f" and {others} pod(s) in different namespaces" if others else ""
    return start + f"Volume is already used by pod(s) {', '.join(here)}{more}"
