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
from jota.scheduler.pod import Shape
from jota.scheduler.scheduler import Scheduler
from jota.scheduler.snapshot import Mask, Snapshot
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Other"}, "not a KubeSchedulerConfiguration"),
        ({"extenders": [{}]}, "extenders: not supported"),
        ({"profiles": [{}, {}]}, "same schedulerName"),
        ({"profiles": [{"plugins": {"filter": {"enabled": [{"name": "Nope"}]}}}]}, "no plugin Nope"),
        ({"profiles": [{"plugins": {"queueSort": {}}}]}, "plugins.queueSort: not supported"),
        ({"profiles": [{"plugins": {"multiPoint": {"disabled": [{"name": "DefaultBinder"}]}}}]}, "cannot be disabled"),
        ({"profiles": [{"pluginConfig": [{"name": "NodePorts", "args": {"x": 1}}]}]}, "arguments x are not supported"),
        ({"podInitialBackoffSeconds": 20}, "podMaxBackoffSeconds"),
        ({"podMaxBackoffSeconds": "soon"}, "is not a number"),
    ],
)
def test_what_is_not_supported_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        parse({**HEAD, **change})


@pytest.mark.parametrize(
    ("kind", "used", "expected"),
    [("LeastAllocated", 0.25, 75.0), ("MostAllocated", 0.25, 25.0), ("RequestedToCapacityRatio", 0.25, 50.0)],
)
def test_resource_strategies(kind: str, used: float, expected: float) -> None:
    from jota.scheduler.pod import Container, Requests, Spec, shape_of
    from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus

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
