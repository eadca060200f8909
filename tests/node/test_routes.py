"""Routes to other nodes: the plan as tables, the loop in a namespace."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.autoscaler.world import Node as AutoscaledNode
from jota.client.informers import Informers
from jota.meta.resource import NODES, SERVICE_CIDRS
from jota.net import names, netlink, sys
from jota.net.routes import plan, plan_ranges
from jota.node.hollow.nodeset import HollowNode
from jota.node.routes import NodeRoute, run_routes, wanted_host_routes, wanted_routes
from jota.node.serviceranges import ServiceRange, ranges, run_service_ranges
from jota.testing.cluster import ApiServer, story


def node(name: str, cidr: str | None, *addresses: tuple[str, str]) -> dict[str, Any]:
    status = {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}
    return {"metadata": {"name": name}, "spec": {"podCIDR": cidr} if cidr else {}, "status": status}


def test_other_nodes_with_range_and_address_are_wanted() -> None:
    nodes = [
        node("own", "10.244.0.0/24", ("InternalIP", "10.99.0.1")),
        node("good", "10.244.1.0/24", ("Hostname", "good"), ("InternalIP", "fd00::1"), ("InternalIP", "10.99.0.2")),
        node("new", None, ("InternalIP", "10.99.0.3")),
        node("silent", "10.244.3.0/24"),
        node("six", "fd00:1::/64", ("InternalIP", "10.99.0.4")),
    ]
    assert wanted_routes(msgspec.convert(nodes, list[NodeRoute]), "own") == {"10.244.1.0/24": "10.99.0.2"}


def test_a_host_reaches_services_by_way_of_a_ready_node() -> None:
    nodes = [node(name, f"10.244.{n}.0/24", ("InternalIP", f"10.99.0.{n}")) for n, name in enumerate("cab")]
    pods = {"10.244.0.0/24": "10.99.0.0", "10.244.1.0/24": "10.99.0.1", "10.244.2.0/24": "10.99.0.2"}

    def wanted() -> dict[str, str]:
        return wanted_host_routes(msgspec.convert(nodes, list[NodeRoute]), ["10.96.0.0/16"])

    assert wanted() == {**pods, "10.96.0.0/16": "10.99.0.1"}
    nodes[2]["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert wanted() == {**pods, "10.96.0.0/16": "10.99.0.2"}
    two = wanted_host_routes(msgspec.convert(nodes, list[NodeRoute]), ["10.96.0.0/16", "198.18.0.0/24"])
    assert two == {**pods, "10.96.0.0/16": "10.99.0.2", "198.18.0.0/24": "10.99.0.2"}
    assert wanted_host_routes([], ["10.96.0.0/16"]) == {}


def route(destination: str, gateway: str, protocol: int = netlink.PROTOCOL, priority: int = 7) -> netlink.Route:
    return netlink.Route(destination, 2, gateway, protocol, priority, 254, 0)


def test_the_plan_touches_only_what_is_ours_and_different() -> None:
    standing = [
        route("10.1.0.0/24", "10.99.0.2"),
        route("10.2.0.0/24", "10.99.0.3"),
        route("10.3.0.0/24", "10.99.0.4"),
        route("10.4.0.0/24", "10.99.0.5", protocol=3),
        route("10.5.0.0/24", "10.99.0.5", priority=8),
    ]
    wanted = {"10.1.0.0/24": "10.99.0.2", "10.2.0.0/24": "10.99.0.9", "10.6.0.0/24": "10.99.0.6"}
    assert [r.what for r in plan(wanted, standing, 7)] == [
        "delete route 10.3.0.0/24",
        "route 10.2.0.0/24 via 10.99.0.9",
        "route 10.6.0.0/24 via 10.99.0.6",
    ]
    assert plan({"10.1.0.0/24": "10.99.0.2"}, standing[:1], 7) == []


def test_added_ranges_lead_over_the_service_link_and_leave_others_alone() -> None:
    standing = [
        netlink.Route("198.18.1.0/24", 5, "", netlink.PROTOCOL, 9, 254, 253),
        netlink.Route("198.18.2.0/24", 5, "", netlink.PROTOCOL, 9, 254, 253),
        netlink.Route("198.18.3.0/24", 6, "", netlink.PROTOCOL, 9, 254, 253),  # another link's
        netlink.Route("10.96.0.0/16", 5, "", netlink.PROTOCOL, 0, 254, 253),  # the first range
    ]
    wanted = ["198.18.2.0/24", "198.18.4.0/24", "198.18.4.0/24"]
    told = [r.what for r in plan_ranges(wanted, standing, 5, 9)]
    assert told == ["delete route 198.18.1.0/24", "route 198.18.4.0/24 dev 5"]


def test_ranges_of_ipv4_beside_the_first_are_routed() -> None:
    def cidr(name: str, *cidrs: str) -> ServiceRange:
        return msgspec.convert({"metadata": {"name": name}, "spec": {"cidrs": cidrs}}, ServiceRange)

    objects = [
        cidr("kubernetes", "10.96.0.0/16"),
        cidr("b", "198.18.0.0/24", "2001:db8::/64"),
        cidr("c", "198.18.0.0/24"),
    ]
    assert ranges(objects, "10.96.0.0/16") == ["198.18.0.0/24"]
    assert ranges([msgspec.convert({"metadata": {"name": "x"}}, ServiceRange)], "10.96.0.0/16") == []


def test_service_ranges_are_followed_and_failures_tried_again() -> None:
    async def run() -> None:
        clock = SystemClock()
        seen: asyncio.Queue[list[str]] = asyncio.Queue()
        faults = [sys.NetworkFault(19, "no link")]

        async def route(cidrs: list[str]) -> int:
            if faults and cidrs:
                raise faults.pop()
            seen.put_nowait(cidrs)
            return len(cidrs)

        async with ApiServer(clock=clock) as api, asyncio.TaskGroup() as group:
            informers = Informers(api.client, clock)
            tasks = [
                group.create_task(informers.run()),
                group.create_task(run_service_ranges(informers, route, service_cidr="10.96.0.0/12", clock=clock)),
            ]
            async with asyncio.timeout(20):
                assert await seen.get() == []
                body = {"metadata": {"name": "more"}, "spec": {"cidrs": ["198.18.0.0/24"]}}
                await api.client.create(SERVICE_CIDRS, body)
                assert await seen.get() == ["198.18.0.0/24"]  # the second attempt
                await api.client.delete(SERVICE_CIDRS, "more")
                assert await seen.get() == []
            for task in tasks:
                task.cancel()

    asyncio.run(run())


@pytest.mark.kernel
def test_routes_follow_the_nodes() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = "/run/netns/jota-test-routes"
    os.makedirs("/run/netns", exist_ok=True)
    sys.make_namespace(path)
    try:
        sys.in_namespace(path, lambda: asyncio.run(_follow()))
    finally:
        sys.remove_namespace(path)


def _ours() -> dict[str, str]:
    with sys.Netlink() as door:
        mark = names.route_priority("jtest")
        return {r.destination: r.gateway for r in door.routes() if r.priority == mark}


async def _follow() -> None:
    with sys.Netlink() as door:
        door.run([netlink.simple_link("up0", "bridge")])
        link = door.link("up0")
        assert link is not None
        door.run([netlink.add_address(link.index, "10.99.0.1", 24), netlink.link_up(link.index)])
    clock = SystemClock()
    async with ApiServer(clock=clock) as api, asyncio.TaskGroup() as group:
        informers = Informers(api.client, clock)
        tasks = [
            group.create_task(informers.run()),
            group.create_task(run_routes(informers, instance="jtest", node_name="own", clock=clock)),
        ]

        async def become(expected: dict[str, str]) -> None:
            async with asyncio.timeout(10):
                while _ours() != expected:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        async def create(name: str, cidr: str, address: str) -> None:
            made = node(name, cidr, ("InternalIP", address))
            await api.client.create(NODES, made)
            await api.client.patch(NODES, name, "", {"status": made["status"]}, subresource="status")

        await create("own", "10.244.0.0/24", "10.99.0.1")
        await create("far", "10.244.9.0/24", "192.0.2.1")  # no link leads there: must not keep the others from theirs
        await create("two", "10.244.2.0/24", "10.99.0.2")
        await become({"10.244.2.0/24": "10.99.0.2"})
        await api.client.patch(
            NODES, "two", "", {"status": {"addresses": [{"type": "InternalIP", "address": "10.99.0.3"}]}},
            subresource="status",
        )  # fmt: skip
        await become({"10.244.2.0/24": "10.99.0.3"})
        await api.client.delete(NODES, "two")
        await become({})
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("read", [NodeRoute, AutoscaledNode, HollowNode])
def test_whatever_the_api_takes_of_a_node_can_be_read(read: type) -> None:
    """One node's strange report must not hide all nodes from all others."""

    @story
    async def run(api: ApiServer) -> None:
        await api.client.create(NODES, {"metadata": {"name": "n"}})
        strange = [None, {}, {"type": None, "status": "True", "address": None}]
        status = {"status": {"conditions": strange, "addresses": strange}}
        await api.client.patch(NODES, "n", "", status, subresource="status")
        answer = await api.client.raw("GET", NODES.path(name="n"))
        assert len(orjson.loads(answer.body)["status"]["conditions"]) == 3
        assert msgspec.json.decode(answer.body, type=read).metadata.name == "n"

    run()
