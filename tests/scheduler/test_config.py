"""KubeSchedulerConfiguration files: profiles, strategies and foreign plugins work; what is not supported is refused by name."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.scheduler.test_scheduler import ACCOUNT, add_node, node, pod, where

from jota.meta.resource import PODS, SERVICEACCOUNTS
from jota.scheduler import config
from jota.scheduler.config import BadConfiguration, parse
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Requests, Shape, Spec, shape_of
from jota.scheduler.profile import Settings
from jota.scheduler.scheduler import Scheduler
from jota.scheduler.snapshot import Mask, Node, NodeMeta, NodeSpec, NodeStatus, Snapshot
from jota.scheduler.terms import Group
from jota.testing.cluster import ApiServer

HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def packing(name: str = "packer") -> dict[str, Any]:
    strategy = {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}]}
    return {
        "schedulerName": name,
        "plugins": {"score": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}},
        "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}],
    }


def scheduled(settings: config.Settings, *pods: dict[str, Any]) -> dict[str, str]:
    async def story() -> dict[str, str]:
        async with ApiServer() as api:
            for name in ("a", "b"):
                await add_node(api, node(name))
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            task = asyncio.create_task(
                Scheduler(api.client, clock=api.clock, random=Random(1), settings=settings).run()
            )
            for p in pods:
                await api.client.create(PODS, p, "default")
                await api.advance(1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await where(api)

    return asyncio.run(story())


def test_each_profile_places_its_own_pods_in_its_own_way() -> None:
    settings = parse({**HEAD, "profiles": [{}, packing()]})
    packed = scheduled(settings, *(pod(f"p{n}", schedulerName="packer") for n in range(4)))
    assert len(set(packed.values())) == 1
    spread = scheduled(settings, *(pod(f"p{n}") for n in range(4)))
    assert sorted(spread.values()) == ["a", "a", "b", "b"]
    assert scheduled(settings, pod("p", schedulerName="nobody")) == {"p": ""}


class OnlyB:
    """A plugin of another package."""

    name = "OnlyB"
    static = False

    def __init__(self, args: dict[str, Any]) -> None:
        self._wanted = args["node"]

    def mask(self, nodes: Snapshot, shape: Shape) -> Mask | None:
        return np.array([n == self._wanted for n in nodes.names])

    def tally(self, nodes: Snapshot, shape: Shape, refused: Mask) -> dict[str, int]:
        return {"node(s) are not the chosen one": int(refused.sum())}


def test_a_plugin_of_another_package_is_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("OnlyB", f"{__name__}:OnlyB", config.GROUP)
    monkeypatch.setattr(config, "entry_points", lambda group, name: [point] if name == "OnlyB" else [])
    profile = {
        "plugins": {"filter": {"enabled": [{"name": "OnlyB"}]}},
        "pluginConfig": [{"name": "OnlyB", "args": {"node": "b"}}],
    }
    settings = parse({**HEAD, "profiles": [profile]})
    assert scheduled(settings, pod("p0"), pod("p1")) == {"p0": "b", "p1": "b"}


class Broken:
    name = "Broken"
    failures = 2

    def __init__(self, args: dict[str, Any]) -> None:
        pass

    def score(self, nodes: Snapshot, shape: Shape, feasible: Mask) -> None:
        if Broken.failures:
            Broken.failures -= 1
            raise RuntimeError("a mistake")

    def score_one(self, nodes: Snapshot, shape: Shape, slot: int) -> float | None:
        return None


def test_a_plugin_that_fails_delays_its_pods_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("Broken", f"{__name__}:Broken", config.GROUP)
    monkeypatch.setattr(config, "entry_points", lambda group, name: [point] if name == "Broken" else [])
    settings = parse({**HEAD, "profiles": [{"plugins": {"score": {"enabled": [{"name": "Broken"}]}}}]})
    placed = scheduled(settings, *(pod(f"p{n}") for n in range(8)))
    assert sorted(placed.values()) == ["a"] * 4 + ["b"] * 4


def configured(name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]}


def spreading(constraint: dict[str, Any]) -> dict[str, Any]:
    return configured("PodTopologySpread", {"defaultingType": "List", "defaultConstraints": [constraint]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Other"}, "not a KubeSchedulerConfiguration"),
        (configured("NodeAffinity", {"addedAffinity": {"x": 1}}), "addedAffinity.x: not supported"),
        (configured("NodeAffinity", {"y": 1}), "arguments y are not supported"),
        (
            configured("NodeResourcesBalancedAllocation", {"resources": [{"name": "cpu", "weight": 2}]}),
            "valid weight is 1",
        ),
        (
            configured("NodeResourcesFit", {"scoringStrategy": {"resources": [{"name": "cpu", "weight": 101}]}}),
            "1 to 100",
        ),
        (configured("DefaultPreemption", {"minCandidateNodesPercentage": 101}), "out of range"),
        (configured("DefaultPreemption", {"z": 1}), "arguments z are not supported"),
        (spreading({"topologyKey": "zone", "maxSkew": 1}), "whenUnsatisfiable"),
        (spreading({"topologyKey": "zone", "maxSkew": 0, "whenUnsatisfiable": "ScheduleAnyway"}), "maxSkew above 0"),
        (
            spreading({"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}),
            "must not be given",
        ),
        ({"profiles": [{}, {}]}, "same schedulerName"),
        ({"profiles": [{"plugins": {"filter": {"enabled": [{"name": "Nope"}]}}}]}, "no plugin Nope"),
        ({"profiles": [{"plugins": {"sort": {}}}]}, "plugins.sort: not supported"),
        (
            {"profiles": [{"plugins": {"queueSort": {"enabled": [{"name": "Mine"}]}}}]},
            "plugins.queueSort.enabled: .*Mine",
        ),
        ({"profiles": [{"plugins": {"reserve": {"enabled": [{"name": "Mine"}]}}}]}, "plugins.reserve.enabled: .*Mine"),
        (
            {"profiles": [{"plugins": {"preFilter": {"disabled": [{"name": "NodePorts"}]}}}]},
            "plugins.preFilter.disabled: NodePorts cannot be disabled at one point",
        ),
        ({"profiles": [{"plugins": {"score": {"enable": []}}}]}, "plugins.score.enable: not supported"),
        ({"profiles": [{"plugins": {"score": {"enabled": [{"nam": "x"}]}}}]}, "score.enabled.nam: not supported"),
        ({"profiles": [{"pluginConfig": [{"name": "NodePorts", "arg": {}}]}]}, r"pluginConfig\[0\].arg: not supported"),
        ({"profiles": [{"pluginConfig": [{"name": "NodePorts"}] * 2}]}, "no name twice"),
        ({"profiles": [{"schedulerNam": "x"}]}, r"profiles\[0\].schedulerNam: not supported"),
        ({"profiles": "x"}, "profiles: must be a list of mappings"),
        ({"profiles": [{"plugins": [1]}]}, "wrong type"),
        ({"featureGates": {"X": True}}, "featureGates: not supported"),
        (configured("VolumeBinding", {"bindTimeoutSeconds": 9}), "VolumeBinding.*arguments bindTimeoutSeconds are not"),
        ({"extenders": {}, "healthzBindAddress": ":1"}, "healthzBindAddress: not supported"),
        ({"profiles": [{"plugins": {"multiPoint": {"disabled": [{"name": "DefaultBinder"}]}}}]}, "cannot be disabled"),
        ({"profiles": [{"pluginConfig": [{"name": "NodePorts", "args": {"x": 1}}]}]}, "arguments x are not supported"),
        ({"podInitialBackoffSeconds": 20}, "podMaxBackoffSeconds"),
        ({"podMaxBackoffSeconds": "soon"}, "is not a number"),
    ],
)
def test_what_is_not_supported_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        parse({**HEAD, **change})


def test_what_has_no_effect_is_told(caplog: pytest.LogCaptureFixture) -> None:
    plugins = {"queueSort": {"enabled": [{"name": "PrioritySort"}]}, "bind": {"enabled": [{"name": "DefaultBinder"}]}}
    profile = {"percentageOfNodesToScore": 5, "plugins": plugins}
    fields = {"parallelism": 4, "leaderElection": {"leaderElect": True}, "clientConnection": {}, "profiles": [profile]}
    assert len(parse({**HEAD, **fields}).profiles) == 1
    told = [r.getMessage() for r in caplog.records]
    assert [t.split(" has no effect")[0].rpartition(" ")[2] for t in told] == [
        "parallelism",
        "leaderElection",
        "profiles[0].percentageOfNodesToScore",
    ]


@pytest.mark.parametrize(
    ("kind", "used", "expected"),
    [("LeastAllocated", 0.25, 75.0), ("MostAllocated", 0.25, 25.0), ("RequestedToCapacityRatio", 0.25, 50.0)],
)
def test_resource_strategies(kind: str, used: float, expected: float) -> None:
    shape = [{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 0}]
    strategy = {
        "type": kind,
        "resources": [{"name": "example.com/gpu", "weight": 2}],
        "requestedToCapacityRatio": {"shape": shape},
    }
    args = {"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}
    profile = parse({**HEAD, "profiles": [{"pluginConfig": [args]}]}).profiles[0]
    snapshot = Snapshot()
    snapshot.put_node(Node(NodeMeta("a"), NodeSpec(), NodeStatus({"example.com/gpu": "8", "pods": "9"})))
    wanted = shape_of(Spec(containers=[Container(Requests({"example.com/gpu": str(int(8 * used))}))]))
    fit = next(s for s, _ in profile.scores if s.name == "NodeResourcesFit")
    column = fit.score(snapshot, wanted, snapshot.live)
    assert column is not None
    assert column[0] == fit.score_one(snapshot, wanted, 0) == expected


def _zones(settings: Settings) -> tuple[Cycle, Snapshot]:
    snapshot = Snapshot()
    for name, zone in (("a", "1"), ("b", "2"), ("c", "2")):
        room: dict[str, str | int | float] = {"cpu": "4", "memory": "4Gi", "example.com/gpu": "4", "pods": "9"}
        snapshot.put_node(Node(NodeMeta(name, {"zone": zone}), NodeSpec(), NodeStatus(room)))
    return Cycle(settings.profiles[0], snapshot, 1), snapshot


def test_added_affinity_holds_for_every_pod_of_the_profile() -> None:
    in_two = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["2"]}]}
    named_c = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}
    added = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [in_two]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": named_c}],
    }
    cycle, snapshot = _zones(parse({**HEAD, **configured("NodeAffinity", {"addedAffinity": added})}))
    assert snapshot.names[cycle.place(shape_of(Spec()), 1)[0]] == "c"
    elsewhere = shape_of(Spec(nodeSelector={"zone": "1"}))
    assert cycle.place(elsewhere, 1) == []
    text = cycle.explain(elsewhere)
    assert "1 node(s) didn't match scheduler-enforced node affinity" in text
    assert "2 node(s) didn't match Pod's node affinity/selector" in text


def test_three_resources_are_balanced_by_their_standard_deviation() -> None:
    resources = [{"name": "cpu"}, {"name": "memory"}, {"name": "example.com/gpu"}]
    settings = parse({**HEAD, **configured("NodeResourcesBalancedAllocation", {"resources": resources})})
    _, snapshot = _zones(settings)
    plugin = next(s for s, _ in settings.profiles[0].scores if s.name == "NodeResourcesBalancedAllocation")
    wanted = shape_of(Spec(containers=[Container(Requests({"cpu": "4", "memory": "1Gi", "example.com/gpu": "1"}))]))
    column = plugin.score(snapshot, wanted, snapshot.live)
    # Fractions 1, 1/4, 1/4: mean 1/2, deviation sqrt((1/4 + 1/16 + 1/16) / 3).
    assert column is not None
    assert column[0] == pytest.approx(100 * (1 - (0.375 / 3) ** 0.5))
    assert plugin.score_one(snapshot, wanted, 0) == pytest.approx(column[0])


def test_existing_preferences_may_be_ignored_for_pods_without_any() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    likes_x = shape_of(Spec([Container()], affinity={"podAffinity": preferred}), Group("d", {"app": "y"}))
    for ignore, drawn in ((False, {0}), (True, {1, 2})):
        args = {"ignorePreferredTermsOfExistingPods": ignore}
        cycle, snapshot = _zones(parse({**HEAD, **configured("InterPodAffinity", args)}))
        snapshot.add_pod("a", likes_x)
        assert set(cycle.place(shape_of(Spec([Container()]), Group("d", {"app": "x"})), 1)) <= drawn
