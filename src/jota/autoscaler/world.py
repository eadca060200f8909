"""What the autoscaler sees at one moment. In: informers' caches and what providers list. Out: an Observed. Next: plan.py.

Pods and nodes are the scheduler's own structs with the few fields more that draining looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.autoscaler.provider import Machine, Template
from jota.autoscaler.settings import GroupSettings, Options
from jota.scheduler import pod as placing
from jota.scheduler import snapshot
from jota.scheduler.feed import Namespace
from jota.scheduler.preemption import Budget
from jota.scheduler.storage import Claim, Class, CsiNode, Volume
from jota.scheduler.workloads import Selecting

GROUP = "jota.dev/node-group"
"""Label of a Node: the group whose machine it is."""
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""Key of the taint that marks a node which is being drained; its value is the time of the mark (upstream's)."""
CORDONED = "jota.dev/cordoned-by"
"""Annotation of a Node that we, and nobody else, made unschedulable."""
DRAINED = "jota.dev/drained"
"""Annotation of a marked Node from which pods have to move."""
_NOT_READY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
HOSTNAME = "kubernetes.io/hostname"


class PodMeta(placing.Meta, kw_only=True):
    creationTimestamp: str = ""


class PodVolume(placing.Volume, kw_only=True):
    emptyDir: dict[str, Any] | None = None
    hostPath: dict[str, Any] | None = None


class PodSpec(placing.Spec, kw_only=True):
    volumes: list[PodVolume] | None = None  # type: ignore[assignment]
    terminationGracePeriodSeconds: int = 30


class Pod(placing.Pod, kw_only=True):
    metadata: PodMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)

    @property
    def owner(self) -> placing.Owner | None:
        return next((o for o in self.metadata.ownerReferences or () if o.controller), None)

    @property
    def stays(self) -> bool:
        """Belongs to its node: of a daemon set, or the mirror of a static pod."""
        return (self.owner is not None and self.owner.kind == "DaemonSet") or (
            "kubernetes.io/config.mirror" in (self.metadata.annotations or {})
        )

    @property
    def unschedulable(self) -> bool:
        """The scheduler has tried it and found no place."""
        return any(
            c.type == "PodScheduled" and c.status == "False" and c.reason == "Unschedulable"
            for c in self.status.conditions or ()
        )


class NodeMeta(snapshot.NodeMeta, kw_only=True):
    uid: str = ""
    annotations: dict[str, str] | None = None
    creationTimestamp: str = ""


class NodeCondition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    lastTransitionTime: str | None = None


class NodeStatus(snapshot.NodeStatus, kw_only=True):
    conditions: list[NodeCondition] | None = None


class Node(snapshot.Node, kw_only=True):
    metadata: NodeMeta
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def group(self) -> str:
        return (self.metadata.labels or {}).get(GROUP, "")

    @property
    def ready(self) -> bool:
        """Says so, and is believed: right after its first word the taint that keeps pods out is still there."""
        said = any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())
        return said and all(t.key not in _NOT_READY for t in self.spec.taints or ())

    @property
    def unready_since(self) -> float:
        """Epoch seconds; of a node that never reported, its creation."""
        condition = next((c for c in self.status.conditions or () if c.type == "Ready"), None)
        stamp = (condition.lastTransitionTime if condition else None) or self.metadata.creationTimestamp
        return parse_rfc3339(stamp) if stamp else 0.0

    @property
    def marked_at(self) -> float | None:
        """When the drain began (epoch seconds); None for a node that nobody is removing."""
        for taint in self.spec.taints or ():
            if taint.key == TO_BE_DELETED:
                return float(taint.value) if taint.value.isdigit() else 0.0
        return None


class _Template(msgspec.Struct):
    template: dict[str, Any] = {}


class _DaemonMeta(msgspec.Struct):
    name: str
    namespace: str = ""


class DaemonSet(msgspec.Struct):
    metadata: _DaemonMeta
    spec: _Template = msgspec.field(default_factory=_Template)


@dataclass(slots=True)
class GroupView:
    """A group and what its provider says."""

    settings: GroupSettings
    machines: list[Machine] = field(default_factory=list)
    template: Template = field(default_factory=Template)
    prefix: str = ""
    first: int = 0
    fault: str = ""
    """Why its provider does not answer; then nothing of the group is touched."""

    @property
    def name(self) -> str:
        return self.settings.name


@dataclass(slots=True)
class Observed:
    options: Options
    groups: list[GroupView]
    nodes: list[Node] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    daemons: list[DaemonSet] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    csinodes: list[CsiNode] = field(default_factory=list)
    namespaces: list[Namespace] = field(default_factory=list)
    selecting: dict[str, list[Selecting]] = field(default_factory=dict)
    """Kind -> objects whose selectors the default spread constraints take."""
