"""Upstream's scheduler_perf workloads by name: which objects are made in which order, and the pods/s that upstream's CI demands.

Source: kubernetes test/integration/scheduler_perf, */performance-config.yaml; the sizes are those with a threshold there. A
workload is a list of steps; engine.py carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bench.schedulerperf.templates import ZONE

_LEAST = 2_000.0
"""Pods/s that we demand of every workload."""
_TIMES = 5.0
"""How many times upstream's floor we demand."""


@dataclass(frozen=True, slots=True)
class Nodes:
    count: int
    zones: tuple[str, ...] = ()
    form: Literal["default", "named", "tainted", "extended"] = "default"
    csi_limit: int = 0
    """Volumes per node; 0: no CSINode is made."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    prefix: str
    count: int
    labelled: bool = False
    """With the label that the namespace selectors of the templates want."""


@dataclass(frozen=True, slots=True)
class Pods:
    count: int
    template: str = "pod-default"
    namespace: str = ""
    """"": one of the step's own."""
    measured: bool = False
    wait: bool = True
    """Until all are bound; without: until all are created."""
    volumes: Literal["", "csi", "aws"] = ""
    spread_over: int = 0
    """Namespaces `namespace`-0 .. that get `count` each; 0: the one namespace."""
    finalizer: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the pods of a namespace, while the next steps go on."""

    namespace: str
    per_second: float


@dataclass(frozen=True, slots=True)
class Churn:
    """Make objects while the next steps go on. `recreate`: delete each again, one of a kind at a time."""

    templates: tuple[str, ...]
    interval: float
    recreate: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str


Step = Nodes | Namespaces | Pods | Delete | Churn | Service


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    steps: tuple[Step, ...]
    floor: float | None = None
    """Pods/s; None: upstream has no threshold for it."""
    target: float = 0.0
    why: str = (
        "creation, binding and their events are the API's work in one Python process, on the core that the load generator uses too; "
        "deciding takes tens of microseconds of a pod's time (see the scheduler alone)"
    )

    @property
    def demanded(self) -> float:
        return self.target or max(_LEAST, _TIMES * (self.floor or 0.0))

    @property
    def measured(self) -> int:
        return sum(s.count for s in self.steps if isinstance(s, Pods) and s.measured)

    def scaled(self, share: float) -> Workload:
        """All counts of nodes and pods multiplied."""
        return replace(self, steps=tuple(_scaled(s, share) for s in self.steps))


def _scaled(step: Step, share: float) -> Step:
    if isinstance(step, Pods) and step.spread_over:
        return replace(step, spread_over=max(1, round(step.spread_over * share)))
    if isinstance(step, Pods) or (isinstance(step, Nodes) and step.count > 1):
        return replace(step, count=max(2, round(step.count * share)))
    return step


def _plain(init: int, measured: int, template: str = "pod-default", *, nodes: int = 5_000) -> tuple[Step, ...]:
    return Nodes(nodes), Pods(init, template), Pods(measured, template, measured=True)


def _paired(nodes: Nodes, init: int, measured: int, template: str, then: str = "") -> tuple[Step, ...]:
    """Two namespaces that the affinity terms name."""
    return (
        nodes,
        Namespaces("sched", 2),
        Pods(init, template, "sched-0"),
        Pods(measured, then or template, "sched-1", measured=True),
    )


def _chosen(nodes: Nodes, each: int, measured: int, template: str) -> tuple[Step, ...]:
    """A hundred namespaces that the affinity terms select by label."""
    return (
        nodes,
        Namespaces("init-ns", 100, labelled=True),
        Namespaces("measure-ns", 1, labelled=True),
        Pods(each, template, "init-ns", spread_over=100),
        Pods(measured, template, "measure-ns-0", measured=True),
    )


def _spread(template: str) -> tuple[Step, ...]:
    return Nodes(5_000, _MOONS), Pods(5_000), Pods(5_000, template, measured=True)


def _with_volumes(form: Literal["csi", "aws"], init: int, measured: int, limit: int) -> tuple[Step, ...]:
    return Nodes(5_000, csi_limit=limit), Pods(init, volumes=form), Pods(measured, volumes=form, measured=True)


def _mixed() -> tuple[Step, ...]:
    kinds = (
        "pod-default",
        "pod-with-pod-affinity",
        "pod-with-pod-anti-affinity",
        "pod-with-preferred-pod-affinity",
        "pod-with-preferred-pod-anti-affinity",
    )
    return (
        _ZONED,
        Namespaces("sched", 1),
        *(Pods(2_000, kind, "sched-0") for kind in kinds),
        Pods(5_000, measured=True),
    )


_SIX_WRITES = (
    "each of these pods takes six durable writes within the measured time, as upstream's: its claim, its volume, the status of "
    "both, the pod, its binding"
)
_MOONS = ("moon-1", "moon-2", "moon-3")
_ZONED = Nodes(5_000, ("zone1",))
_BASIC = 6_000.0

WORKLOADS = (
    Workload("SchedulingBasic/5000Nodes_10000Pods", _plain(1_000, 10_000), 680, _BASIC),
    Workload("SchedulingBasic/5000Nodes_50000Pods", _plain(5_000, 50_000), 810, _BASIC),
    Workload("SchedulingBasic/15000Nodes_10000Pods", _plain(1_000, 10_000, nodes=15_000), None),
    Workload(
        "SchedulingDaemonset/15000Nodes",
        (Nodes(1, form="named"), Nodes(15_000), Pods(30_000, "daemonset-pod", measured=True)),
        1_100,
    ),
    Workload(
        "SchedulingNodeAffinity/5000Nodes_10000Pods",
        (_ZONED, Pods(5_000, "pod-with-node-affinity"), Pods(10_000, "pod-with-node-affinity", measured=True)),
        220,
    ),
    Workload("SchedulingPodAffinity/5000Nodes_5000Pods", _paired(_ZONED, 5_000, 5_000, "pod-with-pod-affinity"), 35),
    Workload(
        "SchedulingPodAntiAffinity/5000Nodes_2000Pods",
        _paired(Nodes(5_000), 1_000, 2_000, "pod-with-pod-anti-affinity"),
        60,
    ),
    Workload(
        "SchedulingPodMatchingAntiAffinity/5000Nodes_5000Pods",
        _paired(Nodes(5_000), 1_000, 5_000, "pod-with-pod-anti-affinity", "pod-with-pod-anti-affinity-label"),
        595,
    ),
    Workload(
        "SchedulingPreferredPodAffinity/5000Nodes_5000Pods",
        _paired(Nodes(5_000), 5_000, 5_000, "pod-with-preferred-pod-affinity"),
        90,
    ),
    Workload(
        "SchedulingPreferredPodAntiAffinity/5000Nodes_5000Pods",
        _paired(Nodes(5_000), 5_000, 5_000, "pod-with-preferred-pod-anti-affinity"),
        90,
    ),
    Workload(
        "SchedulingRequiredPodAntiAffinityWithNSSelector/5000Nodes_2000Pods",
        _chosen(Nodes(6_000), 40, 2_000, "pod-anti-affinity-ns-selector"),
        24,
    ),
    Workload(
        "SchedulingPreferredAntiAffinityWithNSSelector/5000Nodes_2000Pods",
        _chosen(Nodes(5_000), 40, 2_000, "pod-preferred-anti-affinity-ns-selector"),
        55,
    ),
    Workload(
        "SchedulingRequiredPodAffinityWithNSSelector/5000Nodes_2000Pods",
        _chosen(_ZONED, 50, 2_000, "pod-affinity-ns-selector"),
        35,
    ),
    Workload(
        "SchedulingPreferredAffinityWithNSSelector/5000Nodes_5000Pods",
        _chosen(Nodes(5_000), 50, 5_000, "pod-preferred-affinity-ns-selector"),
        90,
    ),
    Workload("MixedSchedulingBasePod/5000Nodes_5000Pods", _mixed(), 140),
    Workload("TopologySpreading/5000Nodes_5000Pods", _spread("pod-with-topology-spreading"), 460),
    Workload("PreferredTopologySpreading/5000Nodes_5000Pods", _spread("pod-with-preferred-topology-spreading"), 340),
    Workload(
        "DefaultTopologySpreading/5000Nodes_50000Pods",
        (
            Nodes(5_000, _MOONS),
            Namespaces("service-ns", 1),
            Service("service-ns-0"),
            Pods(5_000),
            Pods(50_000, "pod-with-label", "service-ns-0", measured=True),
        ),
        160,
    ),
    Workload(
        "SchedulingWithNodeInclusionPolicy/5000Nodes",
        (
            Nodes(4_000),
            Nodes(1_000, form="tainted"),
            Pods(4_000, "pod-with-node-inclusion-policy", measured=True),
        ),
        270,
    ),
    Workload(
        "SchedulingWithMixedChurn/5000Nodes_10000Pods",
        (
            Nodes(5_000),
            Churn(("node", "pod-high-priority-large-cpu", "service"), 1.0, recreate=True),
            Pods(10_000, measured=True),
        ),
        710,
    ),
    Workload(
        "PreemptionBasic/1000Nodes",
        (Nodes(1_000), Pods(4_000, "pod-low-priority"), Pods(1_000, "pod-high-priority", measured=True)),
        why="each of these pods takes nine durable writes (its creation, its nomination, a condition and the deletion of each of "
        "three victims, its binding)",
    ),
    Workload(
        "PreemptionAsync/5000Nodes",
        (
            Nodes(5_000),
            Pods(20_000, "pod-low-priority"),
            Churn(("pod-high-priority",), 0.2),
            Pods(5_000, measured=True),
        ),
        570,
    ),
    Workload(
        "Unschedulable/5kNodes/100Init/10kPods",
        (Nodes(5_000), Pods(100), Churn(("pod-high-priority-large-cpu",), 0.2), Pods(10_000, measured=True)),
        590,
    ),
    Workload(
        "Unschedulable/5kNodes/20kInit/10kPods",
        (Nodes(5_000), Pods(20_000), Churn(("pod-high-priority-large-cpu",), 0.2), Pods(10_000, measured=True)),
        600,
    ),
    Workload(
        "SchedulingWhileGated/1Node_10000GatedPods",
        (
            Nodes(1, form="named"),
            Pods(10_000, "gated-pod", wait=False),
            Pods(20_000, "light-pod", "default"),
            Delete("default", 50),
            Pods(20_000, "light-pod", measured=True),
        ),
        910,
    ),
    Workload(
        "SchedulingGatedPodsWithPodAffinityImpactForThroughput/1Node_10000GatedPods",
        (
            Nodes(1, form="named"),
            Pods(10_000, "gated-pod-with-pod-affinity", wait=False),
            Pods(20_000, "pod-with-label", measured=True),
        ),
        110,
    ),
    Workload(
        "SchedulingDeletedPodsWithFinalizers/5000Node_5000DeletingPods",
        (
            Nodes(5_000),
            Pods(5_000, "light-pod", "default", wait=False, finalizer=True),
            Delete("default", 100),
            Pods(5_000, "light-pod", measured=True),
        ),
        830,
    ),
    Workload("SchedulingSecrets/5000Nodes_10000Pods", _plain(1_000, 10_000, "pod-with-secret-volume"), 790),
    Workload("SchedulingInTreePVs/5000Nodes_2000Pods", _with_volumes("aws", 1_000, 2_000, 0), 290, why=_SIX_WRITES),
    Workload(
        "SchedulingMigratedInTreePVs/5000Nodes_5000Pods", _with_volumes("aws", 5_000, 5_000, 39), 100, why=_SIX_WRITES
    ),
    Workload("SchedulingCSIPVs/5000Nodes_5000Pods", _with_volumes("csi", 5_000, 5_000, 39), 100, why=_SIX_WRITES),
    Workload(
        "SchedulingWithExtendedResource/5000pods_5000nodes",
        (Nodes(5_000, form="extended"), Pods(5_000, "pod-with-extended-resource", measured=True)),
        180,
    ),
)

__all__ = ["WORKLOADS", "ZONE", "Churn", "Delete", "Namespaces", "Nodes", "Pods", "Service", "Step", "Workload"]
