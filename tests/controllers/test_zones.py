"""How fast pods leave silent nodes: zone by zone, and not at all when everything is silent."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.controllers.zones import SETTLE, Zones, zone_of
from jota.meta.resource import NODES
from jota.testing.cluster import ApiServer

from .stories import running
from .test_story_lifecycle import ensure_namespace, live, node, taints


def zones(**shape: str) -> Zones:
    """Zones by name, a node for each letter: + healthy, - not."""
    made = Zones(rate=10.0, secondary_rate=0.1)
    for zone, nodes in shape.items():
        for n, state in enumerate(nodes):
            made.put(f"{zone}{n}", zone, state == "+", -SETTLE)
    return made


@pytest.mark.parametrize(
    ("nodes", "state"),
    [
        ("+++", "normal"),
        ("-++", "normal"),
        ("--+", "normal"),  # two are few, whatever their share
        ("---+++", "normal"),
        ("----++", "partial"),
        ("---", "full"),
        ("-", "full"),
    ],
)
def test_states(nodes: str, state: str) -> None:
    assert zones(a=nodes, b="+").state("a") == state


def test_a_healthy_zone_evicts_at_its_rate() -> None:
    made = zones(a="--++", b="+")
    assert made.ask("a0", 100.0) == 0
    assert made.ask("a1", 100.0) == pytest.approx(0.1)
    assert made.ask("a1", 100.1) == 0


def test_nobody_is_judged_before_the_others_are_looked_at() -> None:
    made = zones(a="+++", b="+")
    made.put("a0", "a", False, 50.0)
    assert made.ask("a0", 51.0) == pytest.approx(SETTLE - 1)
    made.put("a0", "a", False, 52.0)
    assert made.ask("a0", 50.0 + SETTLE) == 0


def test_a_partly_silent_zone_waits_or_is_slow() -> None:
    assert zones(a="----++", b="+").ask("a0", 0.0) == math.inf
    large = zones(a="-" * 40 + "+" * 20, b="+")
    assert large.ask("a0", 0.0) == 0
    assert large.ask("a1", 0.0) == pytest.approx(10.0)


def test_a_silent_zone_is_left_unless_all_are() -> None:
    assert zones(a="--", b="+").ask("a0", 0.0) == 0
    assert zones(a="--", b="-").ask("a0", 0.0) == math.inf
    assert zones(a="--").ask("a0", 0.0) == math.inf


def test_nodes_move_and_go() -> None:
    made = zones(a="-+", b="+")
    made.put("a0", "b", False, 0.0)
    assert (made.state("a"), made.state("b")) == ("normal", "normal")
    made.drop("a0")
    made.drop("a0")
    assert made.healthy("a0")
    assert zone_of({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}) == "r/z"
    assert zone_of(None) == "/"


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["x", "y", ""]), st.booleans()), min_size=1, max_size=40
)


@given(STEPS)
def test_the_counts_are_those_of_a_fresh_count(steps: list[tuple[str, str, bool]]) -> None:
    made = Zones(1.0, 1.0)
    now: dict[str, tuple[str, bool]] = {}
    for name, zone, healthy in steps:
        if zone:
            made.put(name, zone, healthy, 0.0)
            now[name] = zone, healthy
        else:
            made.drop(name)
            now.pop(name, None)
    for zone in ("x", "y"):
        healths = [healthy for where, healthy in now.values() if where == zone]
        fresh = Zones(1.0, 1.0)
        for n, healthy in enumerate(healths):
            fresh.put(str(n), zone, healthy, 0.0)
        assert made.state(zone) == fresh.state(zone)
    assert all(made.healthy(name) == healthy for name, (_, healthy) in now.items())


def test_pods_stay_where_most_of_a_zone_fell_silent_at_once() -> None:
    async def zoned(api: ApiServer, name: str, zone: str) -> None:
        await node(api, name)
        await api.client.patch(NODES, name, "", {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}})

    async def story() -> None:
        async with running() as api:
            await ensure_namespace(api, "kube-node-lease")
            many = [f"m{n}" for n in range(5)]
            for name in many:
                await zoned(api, name, "much")
            for name in ("l1", "l2"):
                await zoned(api, name, "little")
            await live(api, 30, *many, "l1", "l2")
            await live(api, 80, "m0", "l1")  # four of five here, one of two there
            assert await taints(api, "m1") == {("unreachable", "NoSchedule")}
            assert await taints(api, "l2") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
            await live(api, 60, "m0", "m1", "m2", "l1")  # the zone recovers: what is still silent is really gone
            assert await taints(api, "m1") == set()
            assert await taints(api, "m3") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}

    asyncio.run(story())
