"""Which plugins run, in which order: upstream's default profile. Other profiles come from configuration (config.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jota.scheduler.framework import Filter, Score
from jota.scheduler.plugins.balanced_allocation import BalancedAllocation
from jota.scheduler.plugins.dynamic_resources import DynamicResources
from jota.scheduler.plugins.image_locality import ImageLocality
from jota.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from jota.scheduler.plugins.node_affinity import NodeAffinity
from jota.scheduler.plugins.node_ports import NodePorts
from jota.scheduler.plugins.node_unschedulable import NodeUnschedulable
from jota.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from jota.scheduler.plugins.resources_fit import ResourceScore, ResourcesFit
from jota.scheduler.plugins.taint_toleration import TaintToleration
from jota.scheduler.plugins.topology_spread import TopologySpread
from jota.scheduler.plugins.volume_binding import VolumeBinding
from jota.scheduler.plugins.volume_restrictions import VolumeRestrictions
from jota.scheduler.plugins.volume_zone import VolumeZone
from jota.scheduler.pod import DEFAULT_SCHEDULER

if TYPE_CHECKING:
    from jota.scheduler.extenderconfig import ExtenderConfig

WEIGHTS = {
    "TaintToleration": 3.0,
    "NodeAffinity": 2.0,
    "PodTopologySpread": 2.0,
    "InterPodAffinity": 2.0,
    "NodeResourcesFit": 1.0,
    "NodeResourcesBalancedAllocation": 1.0,
    "ImageLocality": 1.0,
}
"""Upstream's default weights of scores."""


@dataclass(slots=True, frozen=True)
class Profile:
    """A scheduler name and its plugins. Filters are asked in this order when a refusal is explained."""

    name: str
    filters: tuple[Filter, ...]
    scores: tuple[tuple[Score, float], ...]
    """With their weights."""
    preempts: bool = True
    """Whether DefaultPreemption is enabled."""


def default_profile() -> Profile:
    taints, affinity, spread, pods = TaintToleration(), NodeAffinity(), TopologySpread(), InterPodAffinity()
    scores = (taints, affinity, spread, pods, ResourceScore(), BalancedAllocation(), ImageLocality())
    return Profile(
        DEFAULT_SCHEDULER,
        (
            NodeUnschedulable(),
            taints,
            affinity,
            NodePorts(),
            ResourcesFit(),
            VolumeRestrictions(),
            NodeVolumeLimits(),
            VolumeBinding(),
            VolumeZone(),
            spread,
            pods,
            DynamicResources(),
        ),
        tuple((s, WEIGHTS[s.name]) for s in scores),
    )


@dataclass(slots=True, frozen=True)
class Settings:
    """What a scheduler process runs: its profiles (one per schedulerName), the backoff of refused pods in seconds, extenders in order."""

    profiles: tuple[Profile, ...] = field(default_factory=lambda: (default_profile(),))
    initial_backoff: float = 1.0
    max_backoff: float = 10.0
    extenders: tuple[ExtenderConfig, ...] = ()
