"""Several nodes on one "host" (itself a namespace here): nodes, pods and services reach each other, the host and beyond."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jota.net import names, sys
from jota.net.links import RoutedPodNetwork, cleanup
from jota.net.nft_proxy import NftServiceProxy
from jota.net.nodes import (
    NodeNamespace,
    host_address,
    host_routes,
    make_node_namespace,
    networks_in_use,
    node_address,
    remove_node_namespace,
)
from jota.net.protocol import Endpoint, ServicePort
from jota.net.routes import sync_routes

SUBNET, PODS, SERVICES = "10.89.77.0/24", "10.244.0.0/16", "10.96.0.0/16"
VIP = "10.96.0.9"


def test_addresses_of_nodes() -> None:
    assert host_address(SUBNET) == "10.89.77.1"
    assert [node_address(SUBNET, n) for n in (0, 252)] == ["10.89.77.2", "10.89.77.254"]
    for index in (-1, 253):
        with pytest.raises(ValueError, match="no address"):
            node_address(SUBNET, index)


def test_names_are_short_and_do_not_mix_instances_up() -> None:
    assert len(names.pod_link("x" * 60, "uid", 2**32)) == 15
    assert len(names.uplink("dev", 10_000)) <= 15
    assert names.link_prefix("a") != names.link_prefix("b")
    assert names.owns_pin("a", "jota-a-12")
    assert not names.owns_pin("a", "jota-a-b-12")
    assert names.owns_table("a", "jota-a.services")
    assert not names.owns_table("a", "jota-a-b")
    for bad in ("", "-a", "a.b", "a b", "a/b", "x" * 64):
        with pytest.raises(ValueError, match="instance name"):
            names.check_instance(bad)


class Cluster:
    """Two nodes and a pod on each, on a host that is a namespace of the laboratory."""

    def __init__(self, lab, tmp_path: Path, instance: str) -> None:
        self.lab, self.instance = lab, instance
        self.host = lab.namespace("host")
        self.made: list[NodeNamespace] = [sys.in_namespace(self.host, lambda n=n: self.make(n)) for n in range(2)]
        self.pods = [lab.namespace(f"pod{n}") for n in range(2)]
        self.address = [lab.run(node.path, lambda n=n: self.attach(n, tmp_path)) for n, node in enumerate(self.made)]
        gateways = {f"10.244.{n}.0/24": node.ip for n, node in enumerate(self.made)}
        for node in self.made:
            others = {cidr: ip for cidr, ip in gateways.items() if ip != node.ip}
            assert sys.in_namespace(node.path, lambda o=others: sync_routes(instance, o)) == 1
            assert sys.in_namespace(node.path, lambda o=others: sync_routes(instance, o)) == 0
        routes = {**gateways, SERVICES: self.made[0].ip}
        assert sys.in_namespace(self.host, lambda: host_routes(instance, routes)) == 3

    def make(self, index: int) -> NodeNamespace:
        return make_node_namespace(self.instance, index, subnet=SUBNET, cluster_cidrs=(PODS, SERVICES))

    async def attach(self, index: int, tmp_path: Path) -> str:
        node = self.made[index]
        net = RoutedPodNetwork(
            instance=self.instance, node=f"n{index}", pod_cidr=f"10.244.{index}.0/24", cluster_cidr=PODS,
            service_cidr=SERVICES, state_dir=str(tmp_path / str(index)), node_ip=node.ip,
        )  # fmt: skip
        await net.start()
        address = await net.attach("u", self.pods[index])
        await net.close()
        return address

    def apply(self, **changes: object) -> None:
        endpoints = tuple(Endpoint(a, 8080, True, f"n{n}") for n, a in enumerate(self.address))
        port = ServicePort("default", "web", "", "TCP", VIP, 80, 30080, endpoints=endpoints, **changes)  # type: ignore[arg-type]

        async def story(index: int) -> None:
            proxy = NftServiceProxy(
                instance=self.instance, node=f"n{index}", service_cidr=SERVICES, pod_cidrs=[PODS]
            )  # fmt: skip
            await proxy.apply([port])
            await proxy.close()

        for n, node in enumerate(self.made):
            self.lab.run(node.path, lambda n=n: story(n))


@pytest.fixture
def cluster(lab, tmp_path):
    instance = names._short(lab.instance, 8)
    try:
        yield Cluster(lab, tmp_path, f"jt{instance}")
    finally:
        cleanup(f"jt{instance}")


@pytest.mark.kernel
def test_everything_reaches_everything(cluster) -> None:
    lab, (one, two) = cluster.lab, cluster.made
    for n, pod in enumerate(cluster.pods):
        lab.serve(pod, 8080, f"pod{n}")
        lab.serve(cluster.made[n].path, 81, f"node{n}")
    lab.serve(cluster.host, 6443, "server")
    first, second = cluster.address
    assert lab.ask(cluster.pods[0], second, 8080) == f"pod1 {first}"
    assert lab.ask(cluster.pods[1], first, 8080) == f"pod0 {second}"
    assert lab.ask(one.path, second, 8080) == f"pod1 {one.ip}"
    assert lab.ask(one.path, two.ip, 81) == f"node1 {one.ip}"
    assert lab.ask(cluster.host, first, 8080) == f"pod0 {one.gateway}"
    assert lab.ask(cluster.host, two.ip, 81) == f"node1 {one.gateway}"
    assert lab.ask(two.path, two.gateway, 6443) == f"server {two.ip}"
    assert lab.ask(cluster.pods[1], two.gateway, 6443) == f"server {two.ip}"


@pytest.mark.kernel
def test_services_answer_on_every_node_in_every_pod_and_on_the_host(cluster) -> None:
    lab = cluster.lab
    for n, pod in enumerate(cluster.pods):
        lab.serve(pod, 8080, f"pod{n}")
    cluster.apply()
    for source in (*cluster.pods, *(node.path for node in cluster.made), cluster.host):
        assert {lab.ask(source, VIP, 80).split()[0] for _ in range(20)} == {"pod0", "pod1"}
    for node in cluster.made:
        assert {lab.ask(cluster.host, node.ip, 30080).split()[0] for _ in range(20)} == {"pod0", "pod1"}
    cluster.apply(local_only=True)
    for n, node in enumerate(cluster.made):
        assert {lab.ask(cluster.host, node.ip, 30080) for _ in range(5)} == {f"pod{n} {node.gateway}"}
    cluster.apply(internal_local_only=True)
    for n, pod in enumerate(cluster.pods):
        assert {lab.ask(pod, VIP, 80).split()[0] for _ in range(5)} == {f"pod{n}"}


@pytest.mark.kernel
def test_pods_get_out_through_the_node_and_the_host(cluster) -> None:
    outside = cluster.lab.outside(cluster.host)
    cluster.lab.serve(outside, 80, "outside")
    assert cluster.lab.ask(cluster.pods[0], "203.0.113.9", 80) == "outside 203.0.113.1"
    assert cluster.lab.ask(cluster.made[1].path, "203.0.113.9", 80) == "outside 203.0.113.1"


@pytest.mark.kernel
def test_making_a_node_again_changes_nothing_and_a_half_made_one_is_made_anew(cluster) -> None:
    host, lab = cluster.host, cluster.lab
    inode = sys.namespace_id(cluster.made[1].path)
    assert sys.in_namespace(host, lambda: cluster.make(1)) == cluster.made[1]
    assert sys.namespace_id(cluster.made[1].path) == inode
    sys.in_namespace(
        host, lambda: subprocess.run(f"ip link set {cluster.made[1].link} alias x", shell=True, check=True)
    )
    assert sys.in_namespace(host, lambda: cluster.make(1)) == cluster.made[1]
    assert sys.namespace_id(cluster.made[1].path) != inode
    lab.serve(cluster.made[1].path, 81, "new")
    assert lab.ask(host, cluster.made[1].ip, 81) == f"new {cluster.made[1].gateway}"


@pytest.mark.kernel
def test_cleanup_leaves_nothing(cluster) -> None:
    host = cluster.host
    seen = sys.in_namespace(host, _look)
    assert cluster.instance in seen
    assert SUBNET in sys.in_namespace(host, networks_in_use)
    sys.in_namespace(host, lambda: remove_node_namespace(cluster.instance, 1))
    sys.in_namespace(host, lambda: remove_node_namespace(cluster.instance, 1))
    removed = sys.in_namespace(host, lambda: cleanup(cluster.instance))
    assert cluster.made[0].path in removed
    seen = sys.in_namespace(host, _look)
    assert cluster.instance not in seen
    assert names.link_prefix(cluster.instance) not in seen
    assert "10.89." not in seen
    assert "10.244." not in seen
    assert sys.in_namespace(host, lambda: cleanup(cluster.instance)) == []


def _look() -> str:
    commands = "ip -o link; ip route; nft list ruleset; ls /run/netns; cat /proc/mounts"
    return subprocess.run(commands, shell=True, capture_output=True, text=True, check=True).stdout
