"""KubeSchedulerConfiguration files: the upstream format in, Settings out. What is not supported is refused by name.

Plugins of other packages: an entry point of the group "jota.scheduler.plugins" names a factory that takes the args of the
plugin's pluginConfig (a dict) and returns an object with `name` and the methods of framework.Filter, framework.Score or
both. It is enabled in a profile like any other plugin.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from jota.scheduler import extenderconfig
from jota.scheduler.extenderconfig import BadConfiguration as BadConfiguration
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
from jota.scheduler.profile import WEIGHTS, Profile, Settings

log = logging.getLogger("jota.scheduler")
GROUP = "jota.scheduler.plugins"
_API = "kubescheduler.config.k8s.io/v1"
_PREEMPTION = "DefaultPreemption"
_BUILT_IN = frozenset({"PrioritySort", "DefaultBinder", "SchedulingGates", "GangScheduling", "NodeName"})
"""Always at work here; naming them changes nothing, disabling them is refused."""
_CHOSEN = frozenset({"multiPoint", "filter", "score", "postFilter"})
"""Points where plugins are switched on and off. What a plugin does at others belongs to what it does there."""
_POINTS = _CHOSEN | {
    "preEnqueue",
    "queueSort",
    "preFilter",
    "preScore",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
}
_KNOWN = frozenset({"apiVersion", "kind", "profiles", "extenders", "podInitialBackoffSeconds", "podMaxBackoffSeconds"})
_MEANINGLESS = {
    "parallelism": "all nodes are judged at once, in one thread",
    "percentageOfNodesToScore": "every node is always looked at",
    "leaderElection": "there is one scheduler, in the server's process",
    "clientConnection": "the scheduler is in the server's process",
    "enableProfiling": "there is no profiling endpoint",
    "enableContentionProfiling": "there is no profiling endpoint",
    "delayCacheUntilActive": "there is one scheduler, in the server's process",
}
"""Fields of upstream's that are told to have no effect."""

_AFFINITY = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)

Made = tuple[Filter | None, Score | None]


@dataclass(slots=True)
class _Enabled:
    filters: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    preempts: bool = True


_ORDER = ("NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
          "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources")  # fmt: skip


def parse(config: Mapping[str, Any]) -> Settings:
    """Raises BadConfiguration, for whatever is in the file; fields without meaning here are told in the log."""
    try:
        return _parse(config)
    except BadConfiguration:
        raise
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise BadConfiguration(f"a field has the wrong type: {error}") from error


def _parse(config: Mapping[str, Any]) -> Settings:
    if config.get("kind") != "KubeSchedulerConfiguration" or config.get("apiVersion") != _API:
        raise BadConfiguration(f"this is not a KubeSchedulerConfiguration of {_API}")
    for key, value in config.items():
        if key in _MEANINGLESS:
            if value not in (None, {}):
                log.warning("KubeSchedulerConfiguration: %s has no effect: %s", key, _MEANINGLESS[key])
        elif key not in _KNOWN:
            raise BadConfiguration(f"{key}: not supported")
    extenders = extenderconfig.parse(config.get("extenders") or ())
    unchecked = sorted(name for e in extenders for name in e.unchecked)
    given = config.get("profiles") or [{}]
    if not isinstance(given, list) or not all(isinstance(p, Mapping) for p in given):
        raise BadConfiguration("profiles: must be a list of mappings")
    profiles = tuple(_profile(p, n, unchecked) for n, p in enumerate(given))
    names = [p.name for p in profiles]
    if len(set(names)) != len(names):
        raise BadConfiguration("profiles: two have the same schedulerName")
    first = _number(config.get("podInitialBackoffSeconds", 1), "podInitialBackoffSeconds")
    most = _number(config.get("podMaxBackoffSeconds", 10), "podMaxBackoffSeconds")
    if not 0 < first <= most:
        raise BadConfiguration("podMaxBackoffSeconds: must not be less than podInitialBackoffSeconds, which is above 0")
    return Settings(profiles, first, most, extenders)


def _profile(given: Mapping[str, Any], index: int, unchecked: Sequence[str]) -> Profile:
    """`unchecked`: resources that extenders look after."""
    path = f"profiles[{index}]"
    for key in given:
        if key == "percentageOfNodesToScore":
            log.warning("KubeSchedulerConfiguration: %s.%s has no effect: %s", path, key, _MEANINGLESS[key])
        elif key not in ("schedulerName", "plugins", "pluginConfig"):
            raise BadConfiguration(f"{path}.{key}: not supported")
    args: dict[str, Mapping[str, Any]] = {}
    for n, c in enumerate(given.get("pluginConfig") or ()):
        where = f"{path}.pluginConfig[{n}]"
        _keys(c, ("name", "args"), where)
        if not c.get("name") or c["name"] in args:
            raise BadConfiguration(f"{where}.name: one name for each, and no name twice")
        args[c["name"]] = c.get("args") or {}
    if unchecked:
        fit = args.get("NodeResourcesFit") or {}
        args["NodeResourcesFit"] = {**fit, "ignoredResources": [*(fit.get("ignoredResources") or ()), *unchecked]}
    enabled = _Enabled(list(_ORDER), dict(WEIGHTS))
    for point, change in (given.get("plugins") or {}).items():
        if point not in _POINTS:
            raise BadConfiguration(f"{path}.plugins.{point}: not supported")
        _change(enabled, point, change or {}, f"{path}.plugins.{point}")
    made = {name: _make(name, args, path) for name in dict.fromkeys((*enabled.filters, *enabled.scores))}
    _check_preemption(args.get(_PREEMPTION, {}), path)
    for name in args:
        if name not in made and name not in (*WEIGHTS, *_ORDER, _PREEMPTION, *_BUILT_IN):
            raise BadConfiguration(f"{path}.pluginConfig: {name} is not enabled")
    filters = tuple(f for name in enabled.filters if (f := made[name][0]) is not None)
    scores = tuple((s, w) for name, w in enabled.scores.items() if (s := made[name][1]) is not None)
    return Profile(given.get("schedulerName") or DEFAULT_SCHEDULER, filters, scores, enabled.preempts)


def _change(enabled: _Enabled, point: str, change: Mapping[str, Any], path: str) -> None:
    """Disabled first, then enabled, as upstream merges them."""
    _keys(change, ("enabled", "disabled"), path)
    for entry in change.get("disabled") or ():
        _keys(entry, ("name", "weight"), f"{path}.disabled")
        name = entry.get("name", "")
        if point not in _CHOSEN:
            raise BadConfiguration(f"{path}.disabled: {name} cannot be disabled at one point; disable it at multiPoint")
        if name in _BUILT_IN:
            raise BadConfiguration(f"{path}.disabled: {name} cannot be disabled")
        if point in ("multiPoint", "filter"):
            enabled.filters = [f for f in enabled.filters if name not in ("*", f)]
        if point in ("multiPoint", "score"):
            enabled.scores = {s: w for s, w in enabled.scores.items() if name not in ("*", s)}
        if point in ("multiPoint", "postFilter") and name in ("*", _PREEMPTION):
            enabled.preempts = False
    for entry in change.get("enabled") or ():
        _keys(entry, ("name", "weight"), f"{path}.enabled")
        if point not in _CHOSEN:
            _check_known(entry.get("name", ""), path)
        name, weight = entry.get("name", ""), float(entry.get("weight") or WEIGHTS.get(entry.get("name", ""), 1.0))
        if name == _PREEMPTION:
            enabled.preempts = True
        elif name not in _BUILT_IN:
            if point in ("multiPoint", "filter") and name not in enabled.filters:
                enabled.filters.append(name)
            if point in ("multiPoint", "score"):
                enabled.scores[name] = weight


def _check_known(name: str, path: str) -> None:
    """Naming a plugin where it is at work anyway changes nothing; one that is at work nowhere is refused."""
    if name not in (*_BUILT_IN, *_FACTORIES, _PREEMPTION):
        raise BadConfiguration(
            f"{path}.enabled: plugins of other packages are filters and scores; {name} is no such point's"
        )


def _keys(given: Any, known: Sequence[str], path: str) -> None:
    if not isinstance(given, Mapping):
        raise BadConfiguration(f"{path}: must be a mapping")
    for key in given:
        if key not in known:
            raise BadConfiguration(f"{path}.{key}: not supported")


def _make(name: str, args: Mapping[str, Mapping[str, Any]], path: str) -> Made:
    where = f"{path}.pluginConfig[{name}]"
    factory = _FACTORIES.get(name)
    try:
        if factory is not None:
            return factory(args.get(name, {}))
        found = next(iter(entry_points(group=GROUP, name=name)), None)
        if found is None:
            raise BadConfiguration(
                f"{path}.plugins: there is no plugin {name}, neither here nor as an entry point of {GROUP}"
            )
        made = found.load()(dict(args.get(name, {})))
    except BadConfiguration as error:
        raise (error if str(error).startswith(path) else BadConfiguration(f"{where}: {error}")) from None
    except (TypeError, KeyError, AttributeError) as error:
        raise BadConfiguration(f"{where}: {error}") from error
    is_filter, is_score = isinstance(made, Filter), isinstance(made, Score)
    if not is_filter and not is_score:
        raise BadConfiguration(f"{where}: the plugin is neither a Filter nor a Score")
    return made if is_filter else None, made if is_score else None


def _check_preemption(args: Mapping[str, Any], path: str) -> None:
    """How many candidates to shortlist has no meaning here, as all nodes are judged; but nonsense is nonsense."""
    where = f"{path}.pluginConfig[{_PREEMPTION}]"
    for key, given in args.items():
        if key not in ("apiVersion", "kind", "minCandidateNodesPercentage", "minCandidateNodesAbsolute"):
            raise BadConfiguration(f"{where}: arguments {key} are not supported")
        if key.startswith("min") and not 0 <= _number(given, f"{where}.{key}") <= (100 if "Per" in key else math.inf):
            raise BadConfiguration(f"{where}.{key}: {given} is out of range")


def _node_affinity(args: Mapping[str, Any]) -> Made:
    _only(args, "addedAffinity")
    added = args.get("addedAffinity") or {}
    for key in added:
        if key not in _AFFINITY:
            raise BadConfiguration(f"NodeAffinity: addedAffinity.{key}: not supported")
    plugin = NodeAffinity(added)
    return plugin, plugin


def _balanced(args: Mapping[str, Any]) -> Made:
    _only(args, "resources")
    given = args.get("resources") or [{"name": "cpu"}, {"name": "memory"}]
    if any((r.get("weight") or 1) != 1 for r in given):
        raise BadConfiguration("NodeResourcesBalancedAllocation: resources: the only valid weight is 1")
    return None, BalancedAllocation([r["name"] for r in given])


def _only(args: Mapping[str, Any], *known: str) -> None:
    unknown = [k for k in args if k not in ("apiVersion", "kind", *known)]
    if unknown:
        raise BadConfiguration(f"arguments {', '.join(unknown)} are not supported")


def _fit(args: Mapping[str, Any]) -> Made:
    _only(args, "scoringStrategy", "ignoredResources", "ignoredResourceGroups")
    strategy = args.get("scoringStrategy") or {}
    kind = strategy.get("type", "LeastAllocated")
    if kind not in ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"):
        raise BadConfiguration(f"NodeResourcesFit: {kind} is not a scoring strategy")
    weights = {r["name"]: float(r.get("weight") or 1) for r in strategy.get("resources") or ()}
    if any(not 1 <= w <= 100 for w in weights.values()):
        raise BadConfiguration("NodeResourcesFit: resources: weights go from 1 to 100")
    points = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
    curve = [(float(p.get("utilization", 0)), float(p.get("score", 0))) for p in points]
    if kind == "RequestedToCapacityRatio" and (not curve or sorted({x for x, _ in curve}) != [x for x, _ in curve]):
        raise BadConfiguration("NodeResourcesFit: the shape needs points of rising utilization")
    ignored = frozenset(args.get("ignoredResources") or ()), frozenset(args.get("ignoredResourceGroups") or ())
    return ResourcesFit(*ignored), ResourceScore(kind, weights or None, curve)


def _spread(args: Mapping[str, Any]) -> Made:
    _only(args, "defaultConstraints", "defaultingType")
    kind = args.get("defaultingType", "System")
    given = args.get("defaultConstraints") or ()
    if kind == "System" and given:
        raise BadConfiguration("PodTopologySpread: defaultConstraints need defaultingType List")
    for c in given:
        if c.get("labelSelector") is not None:
            raise BadConfiguration(
                "PodTopologySpread: defaultConstraints: labelSelector: must not be given, it is deduced"
            )
        if not c.get("topologyKey") or int(c.get("maxSkew", 0)) < 1:
            raise BadConfiguration(
                "PodTopologySpread: defaultConstraints: topologyKey and a maxSkew above 0 are needed"
            )
        if c.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
            raise BadConfiguration(
                "PodTopologySpread: defaultConstraints: whenUnsatisfiable: DoNotSchedule or ScheduleAnyway"
            )
        if more := set(c) - {"topologyKey", "maxSkew", "whenUnsatisfiable", "labelSelector"}:
            raise BadConfiguration(f"PodTopologySpread: defaultConstraints: {min(more)}: not supported")
    defaults = [
        (c["topologyKey"], int(c["maxSkew"]), c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule")
        for c in given
    ]
    plugin = TopologySpread(None if kind == "System" else defaults)
    return plugin, plugin


def _pods(args: Mapping[str, Any]) -> Made:
    _only(args, "hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods")
    weight = int(args.get("hardPodAffinityWeight", 1))
    if not 0 <= weight <= 100:
        raise BadConfiguration(f"InterPodAffinity: hardPodAffinityWeight: {weight} is not between 0 and 100")
    plugin = InterPodAffinity(weight, bool(args.get("ignorePreferredTermsOfExistingPods", False)))
    return plugin, plugin


def _plain(
    filter_: Callable[[], Filter] | None, score: Callable[[], Score] | None = None
) -> Callable[[Mapping[str, Any]], Made]:
    """A plugin without arguments of its own."""

    def make(args: Mapping[str, Any]) -> Made:
        _only(args)
        return filter_() if filter_ else None, score() if score else None

    return make


_FACTORIES: dict[str, Callable[[Mapping[str, Any]], Made]] = {
    "NodeUnschedulable": _plain(NodeUnschedulable),
    "TaintToleration": _plain(TaintToleration, TaintToleration),
    "NodeAffinity": _node_affinity,
    "NodePorts": _plain(NodePorts),
    "NodeResourcesFit": _fit,
    "NodeResourcesBalancedAllocation": _balanced,
    "VolumeRestrictions": _plain(VolumeRestrictions),
    "NodeVolumeLimits": _plain(NodeVolumeLimits),
    "VolumeBinding": _plain(VolumeBinding),
    "VolumeZone": _plain(VolumeZone),
    "PodTopologySpread": _spread,
    "InterPodAffinity": _pods,
    "DynamicResources": _plain(DynamicResources),
    "ImageLocality": _plain(None, ImageLocality),
}


def _number(given: Any, path: str) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise BadConfiguration(f"{path}: {given!r} is not a number")
    return float(given)
