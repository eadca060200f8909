"""Topology hints: tables and properties of the planner, and services on the real API server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.controllers import topologyhints
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.topologyhints import Announcements, Draft, near, proportional, ratios, shares_of
from jota.meta.resource import ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES
from jota.testing.cluster import ApiServer

from .stories import Kubelet, running
from .test_endpointslice import HTTP, Held, pod, service

Object = dict[str, Any]
AUTO = {"service.kubernetes.io/topology-mode": "Auto"}


def node(name: str, zone: str = "", cpu: str = "4", ready: bool = True, **labels: str) -> Object:
    labels |= {"topology.kubernetes.io/zone": zone} if zone else {}
    status: Object = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    status["allocatable"] = {"cpu": cpu} if cpu else {}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def endpoint(n: int, zone: str = "", ready: bool = True) -> Object:
    out: Object = {"targetRef": {"uid": f"u{n}"}, "conditions": {"ready": ready}, "nodeName": f"n{n}"}
    return {**out, "zone": zone} if zone else out


def hinted(drafts: list[Draft]) -> Counter[str]:
    hints = [e["hints"] for d in drafts for e in d.endpoints if "hints" in e]
    return Counter(h["forZones"][0]["name"] for h in hints)


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([node("a", "x", "2"), node("b", "y", "6")], {"x": 0.25, "y": 0.75}),
        ([node("a", "x", "500m"), node("b", "x", "500m"), node("c", "y", "1")], {"x": 0.5, "y": 0.5}),
        ([node("a", "x"), node("b", "x")], None),
        ([node("a", "x"), node("b")], None),
        ([node("a", "x"), node("b", "y", "")], None),
        ([node("a", "x"), node("b", "y", "lots")], None),
        ([node("a", "x"), node("b", "y", ready=False)], None),
        ([], None),
    ],
)
def test_zones_are_weighed_by_the_cpu_of_ready_nodes(nodes: list[Object], wanted: dict[str, float] | None) -> None:
    assert ratios(nodes) == wanted


def test_control_planes_do_not_count() -> None:
    master = node("m", "z", **{"node-role.kubernetes.io/control-plane": ""})
    assert ratios([node("a", "x"), node("b", "y"), master]) == {"x": 0.5, "y": 0.5}


@pytest.mark.parametrize(
    ("distribution", "wanted"),
    [
        ("", None),
        ("Nonsense", None),
        ("PreferClose", {"forZones": [{"name": "x"}]}),
        ("PreferSameZone", {"forZones": [{"name": "x"}]}),
        ("PreferSameNode", {"forZones": [{"name": "x"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_traffic_distribution_hints_an_endpoint_for_where_it_is(distribution: str, wanted: Object | None) -> None:
    endpoints = [endpoint(1, "x"), endpoint(2, "x", ready=False), endpoint(3)]
    near(distribution, [Draft(endpoints)])
    assert endpoints[0].get("hints") == wanted
    assert "hints" not in endpoints[1]
    assert endpoints[2].get("hints") == ({"forNodes": [{"name": "n3"}]} if distribution == "PreferSameNode" else None)


@pytest.mark.parametrize(
    ("zones", "spread", "problem"),
    [
        ("xxxy", None, topologyhints.NO_NODES),
        ("x", {"x": 0.5, "y": 0.5}, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
        ("xxx-", {"x": 0.5, "y": 0.5}, topologyhints.NO_ZONE),
        ("xyz", {"x": 0.34, "y": 0.33, "z": 0.33}, ""),
        (
            "xyz",
            {"x": 0.5, "y": 0.25, "z": 0.25},
            f"{topologyhints.OVERLOADED} (3 endpoints, 3 zones)",
        ),
    ],
)
def test_hints_are_refused_when_they_would_overload_someone(
    zones: str, spread: dict[str, float] | None, problem: str
) -> None:
    draft = Draft([endpoint(n, z.strip("-")) for n, z in enumerate(zones)])
    assert proportional([draft], spread) == problem
    assert bool(hinted([draft])) == (problem == "")


def test_a_zone_with_too_many_gives_some_away() -> None:
    draft = Draft([endpoint(n, z) for n, z in enumerate("xxxxxy")])
    assert proportional([draft], {"x": 0.5, "y": 0.5}) == ""
    assert hinted([draft]) == {"x": 3, "y": 3}


def test_a_slice_that_stands_keeps_its_hints_as_long_as_they_are_fair() -> None:
    def standing(zones: str) -> Draft:
        hints = {f"u{n}": {"forZones": [{"name": z}]} for n, z in enumerate(zones)}
        return Draft([endpoint(n, "x") for n in range(len(zones))], dict(hints))

    fair, unfair = standing("xyxy"), standing("xxxx")
    assert proportional([fair], {"x": 0.5, "y": 0.5}) == proportional([unfair], {"x": 0.5, "y": 0.5}) == ""
    assert [e["hints"]["forZones"][0]["name"] for e in fair.endpoints] == list("xyxy")
    assert hinted([unfair]) == {"x": 2, "y": 2}
    by_node = Draft([endpoint(0, "x"), endpoint(1, "y")], {"u0": {"forNodes": [{"name": "n0"}]}, "u1": None})
    assert proportional([by_node], {"x": 0.5, "y": 0.5}) == ""
    assert [e["hints"] for e in by_node.endpoints] == [{"forZones": [{"name": z}]} for z in "xy"]


@given(
    st.lists(st.sampled_from("xyz"), min_size=1, max_size=60),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.lists(st.integers(1, 20), max_size=5),
)
def test_every_endpoint_has_one_hint_and_every_zone_about_its_share(
    zones: list[str], cpu: list[int], cuts: list[int]
) -> None:
    spread = dict(zip("xyz", (c / sum(cpu) for c in cpu), strict=True))
    endpoints, drafts = [endpoint(n, z) for n, z in enumerate(zones)], []
    for cut in cuts:
        drafts.append(Draft(endpoints[:cut]))
        endpoints = endpoints[cut:]
    drafts.append(Draft(endpoints))
    problem = proportional(drafts, spread)
    got = hinted(drafts)
    if problem:
        assert not got
        return
    assert got.total() == len(zones)
    shares, _ = shares_of(len(zones), spread)
    # As upstream: a zone may get none when no other has half an endpoint to spare; its proxies then ignore the hints.
    assert all(got[zone] > 0 for zone in spread) or all(got[z] - s.desired < 0.5 for z, s in shares.items())
    assert all(abs(got[z] - s.desired) < 1.5 for z, s in shares.items())
    again = [Draft([{k: v for k, v in e.items() if k != "hints"} for e in d.endpoints]) for d in drafts]
    for new, old in zip(again, drafts, strict=True):
        new.standing = {e["targetRef"]["uid"]: e["hints"] for e in old.endpoints}
    assert proportional(again, spread) == ""
    moved = sum(
        a["hints"] != b["hints"]
        for x, y in zip(again, drafts, strict=True)
        for a, b in zip(x.endpoints, y.endpoints, strict=True)
    )
    assert moved == 0 or any(got[z] > s.most for z, s in shares.items())


def test_what_changed_is_said_once() -> None:
    told = Announcements()
    assert told.news("k", {}) == []
    assert [e[1:] for e in told.news("k", {"IPv4": "Too few"})] == [
        ("TopologyAwareHintsDisabled", "Too few, addressType: IPv4")
    ]
    assert told.news("k", {"IPv4": "Too few"}) == []
    assert [e[1:] for e in told.news("k", {"IPv4": ""})] == [
        ("TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled, addressType: IPv4")
    ]
    assert told.news("k", {"IPv4": "", "IPv6": ""}) == []
    assert len(told.news("k", {})) == 2
    assert told.news("k", {}) == []


def test_hints_come_and_go_with_the_field() -> None:
    held = Held()
    pods = [pod(f"p{n}", ip=f"10.0.0.{n + 1}", ready=5, ports=HTTP, node=f"n{n}") for n in range(3)]
    zones = {"n0": "x", "n1": "y", "n2": "y"}
    held.apply(service(trafficDistribution="PreferClose"), pods, zones)
    assert [e["hints"]["forZones"][0]["name"] for e in held.slices[0]["endpoints"]] == ["x", "y", "y"]
    assert held.apply(service(trafficDistribution="PreferClose"), pods, zones) == 0
    assert held.apply(service(), pods, zones) == 1
    assert not any("hints" in e for e in held.slices[0]["endpoints"])


async def pods_in(api: ApiServer, *nodes: str) -> None:
    kubelet = Kubelet(api)
    for n, name in enumerate(nodes):
        spec = {"nodeName": name, "containers": [{"name": "c", "image": "x", "ports": HTTP}]}
        await api.client.create(
            PODS, {"metadata": {"name": f"p{n}", "namespace": "ns", "labels": {"app": "web"}}, "spec": spec}
        )
    await kubelet.settle()


async def zones_of(api: ApiServer) -> list[str]:
    (one,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
    return sorted(z["name"] for e in one["endpoints"] for z in (e.get("hints") or {}).get("forZones") or ())


def test_auto_follows_nodes_pods_and_the_annotation() -> None:
    async def story() -> None:
        async with running(EndpointSliceController) as api:
            for name, zone in (("a", "x"), ("b", "y")):
                await api.client.create(NODES, node(name, zone))
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
            spec["trafficDistribution"] = "PreferSameNode"
            await api.client.create(
                SERVICES, {"metadata": {"name": "web", "namespace": "ns", "annotations": AUTO}, "spec": spec}
            )
            await pods_in(api, "a", "a", "a", "b")
            assert await zones_of(api) == ["x", "x", "y", "y"]
            status = {"conditions": [{"type": "Ready", "status": "False"}]}
            await api.client.patch(NODES, "b", "", {"status": status}, subresource="status")
            await api.advance(1)
            assert await zones_of(api) == []
            await api.client.patch(SERVICES, "web", "ns", {"metadata": {"annotations": None}})
            await api.advance(1)
            (one,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            assert [e["hints"]["forNodes"] for e in one["endpoints"]].count([{"name": "a"}]) == 3
            said = [(e["type"], e["reason"], e["message"]) for e in (await api.client.list(EVENTS, "ns"))["items"]]
            enabled = "Topology Aware Hints has been enabled, addressType: IPv4"
            assert ("Normal", "TopologyAwareHintsEnabled", enabled) in said
            assert ("Warning", "TopologyAwareHintsDisabled", f"{topologyhints.NO_NODES}, addressType: IPv4") in said

    asyncio.run(story())
