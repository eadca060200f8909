"""Which plugins run, in which order: upstream's default profile as far as it is built."""

from __future__ import annotations

from dataclasses import dataclass

from jota.scheduler.framework import Filter, Score
from jota.scheduler.plugins.balanced_allocation import BalancedAllocation
from jota.scheduler.plugins.node_affinity import NodeAffinity
from jota.scheduler.plugins.node_ports import NodePorts
from jota.scheduler.plugins.node_unschedulable import NodeUnschedulable
from jota.scheduler.plugins.resources_fit import LeastAllocated, ResourcesFit
from jota.scheduler.plugins.taint_toleration import TaintToleration
from jota.scheduler.pod import DEFAULT_SCHEDULER


@dataclass(slots=True, frozen=True)
class Profile:
    """A scheduler name and its plugins. Filters are asked in this order when a refusal is explained."""

    name: str
    filters: tuple[Filter, ...]
    scores: tuple[Score, ...]


def default_profile() -> Profile:
    taints, affinity = TaintToleration(), NodeAffinity()
    return Profile(
        DEFAULT_SCHEDULER,
        (NodeUnschedulable(), taints, affinity, NodePorts(), ResourcesFit()),
        (taints, affinity, LeastAllocated(), BalancedAllocation()),
    )
