"""The pod network in the kernel: reachability, host ports, recovery, leaving nothing behind."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from jota.net import names, netlink, sys
from jota.net.ipam import Exhausted
from jota.net.links import RoutedPodNetwork, cleanup, host_port_commands, remove_node_parts
from jota.net.protocol import HostPort, PodNetwork

pytestmark = pytest.mark.kernel


def network(tmp_path: Path, **changes: str) -> RoutedPodNetwork:
    parts = {
        "instance": "jtest",
        "node": "n1",
        "pod_cidr": "10.244.1.0/24",
        "cluster_cidr": "10.244.0.0/16",
        "service_cidr": "10.96.0.0/16",
        "state_dir": str(tmp_path),
        "node_ip": "10.99.0.1",
    }
    made = RoutedPodNetwork(**{**parts, **changes})  # type: ignore[arg-type]
    _: PodNetwork = made
    return made


def test_pods_reach_each_other_and_the_host_with_their_own_address(lab, tmp_path) -> None:
    node, one, two = lab.node(), lab.namespace("one"), lab.namespace("two")
    lab.serve(one, 80, "one")
    lab.serve(node, 81, "host")

    async def story() -> tuple[str, str]:
        net = network(tmp_path)
        await net.start()
        first, second = await net.attach("u1", one), await net.attach("u2", two)
        assert await net.attach("u1", one) == first
        assert net.addresses() == {"u1": first, "u2": second}
        await net.close()
        return first, second

    first, second = lab.run(node, story)
    assert lab.ask(two, first, 80) == f"one {second}"
    assert lab.ask(node, first, 80) == "one 10.99.0.1"
    assert lab.ask(two, "10.99.0.1", 81) == f"host {second}"
    assert lab.ask(one, first, 80) == f"one {first}"


def test_what_leaves_the_cluster_gets_the_nodes_address(lab, tmp_path) -> None:
    node, pod = lab.node(), lab.namespace("pod")
    outside = lab.outside(node)
    lab.serve(outside, 80, "outside")

    async def story() -> None:
        net = network(tmp_path)
        await net.start()
        await net.attach("u1", pod)
        await net.close()

    lab.run(node, story)
    assert lab.ask(pod, "203.0.113.9", 80) == "outside 203.0.113.1"


def test_host_ports_on_every_address_loopback_included_and_on_one(lab, tmp_path) -> None:
    node, pod, other = lab.node(), lab.namespace("pod"), lab.namespace("other")
    outside = lab.outside(node)
    lab.serve(pod, 80, "pod")
    lab.serve(pod, 53, "dns", udp=True)
    ports = [
        HostPort("TCP", "", 8080, 80),
        HostPort("UDP", "0.0.0.0", 5353, 53),
        HostPort("TCP", "10.99.0.1", 8081, 80),
        HostPort("TCP", "127.0.0.1", 8082, 80),
    ]

    async def attach() -> None:
        net = network(tmp_path)
        await net.start()
        await net.attach("u1", pod, ports)
        await net.attach("u2", other)
        await net.close()

    lab.run(node, attach)
    assert lab.ask(outside, "203.0.113.1", 8080) == "pod 203.0.113.9"
    assert lab.ask(node, "127.0.0.1", 8080).startswith("pod 10.99.0.1")
    assert lab.ask(node, "10.99.0.1", 8080).startswith("pod ")
    assert lab.ask(other, "10.99.0.1", 8080).startswith("pod 10.244.1.2")
    assert lab.ask(pod, "10.99.0.1", 8080).startswith("pod ")
    assert lab.ask_udp(outside, "203.0.113.1", 5353) == "dns 203.0.113.9"
    assert lab.ask(node, "10.99.0.1", 8081).startswith("pod ")
    assert lab.ask(node, "127.0.0.1", 8082).startswith("pod ")
    with pytest.raises(ConnectionRefusedError):
        lab.ask(outside, "203.0.113.1", 8081)

    async def detach() -> None:
        net = network(tmp_path)
        await net.start()
        await net.detach("u1")
        await net.detach("u1")
        assert list(net.addresses()) == ["u2"]
        await net.close()

    lab.run(node, detach)
    with pytest.raises(ConnectionRefusedError):
        lab.ask(node, "127.0.0.1", 8080)
    ruleset = sys.in_namespace(node, lambda: sys.Nft().run("list ruleset"))
    assert "8080" not in ruleset
    assert "8081" not in ruleset


def test_a_new_agent_knows_the_pods_even_without_its_file(lab, tmp_path) -> None:
    node, pod, fresh = lab.node(), lab.namespace("pod"), lab.namespace("fresh")
    lab.serve(pod, 80, "pod")

    async def before() -> str:
        net = network(tmp_path)
        await net.start()
        address = await net.attach("u1", pod)
        await net.close()
        return address

    address = lab.run(node, before)
    (tmp_path / "network.json").unlink()
    connection = lab.connect(node, address, 80)
    assert connection.recv(100)

    async def after() -> str:
        net = network(tmp_path)
        await net.start()
        assert net.addresses() == {"u1": address}
        assert await net.attach("u1", pod) == address
        other = await net.attach("u2", fresh)
        await net.close()
        return other

    assert lab.run(node, after) != address
    connection.sendall(b"still there")
    assert connection.recv(100) == b"still there"
    connection.close()


def test_a_new_sandbox_of_a_pod_keeps_the_address(lab, tmp_path) -> None:
    node, old, new = lab.node(), lab.namespace("old"), lab.namespace("new")
    lab.serve(new, 80, "new")

    async def story() -> str:
        net = network(tmp_path)
        await net.start()
        address = await net.attach("u1", old)
        assert await net.attach("u1", new) == address
        await net.close()
        return address

    assert lab.ask(node, lab.run(node, story), 80) == "new 10.99.0.1"


def test_an_attach_that_was_cut_short_is_done_again(lab, tmp_path) -> None:
    node, pod = lab.node(), lab.namespace("pod")
    lab.serve(pod, 80, "pod")
    name = names.pod_link("jtest", "u1", sys.namespace_id(pod))

    def half() -> None:
        handle = sys.open_namespace(pod)
        with sys.Netlink() as route:
            route.run([netlink.veth(name, "eth0", peer_namespace=handle)])

    sys.in_namespace(node, half)

    async def story() -> str:
        net = network(tmp_path)
        await net.start()
        assert net.addresses() == {}
        address = await net.attach("u1", pod)
        await net.close()
        return address

    assert lab.ask(node, lab.run(node, story), 80) == "pod 10.99.0.1"


def test_an_attach_that_fails_at_any_step_can_be_repeated(lab, tmp_path, monkeypatch) -> None:
    node = lab.node()
    steps = 0
    honest = sys.Netlink.run

    for failing in range(20):
        pod = lab.namespace(f"pod{failing}")
        lab.serve(pod, 80, "pod")
        calls = 0

        def run(self, requests, failing=failing):
            nonlocal calls
            calls += 1
            if calls == failing + 1:
                raise sys.NetworkFault(errno.EIO, "injected")
            honest(self, requests)

        async def story(uid=f"u{failing}", pod=pod) -> tuple[bool, str]:
            net = network(tmp_path)
            await net.start()
            failed = False
            monkeypatch.setattr(sys.Netlink, "run", run)
            try:
                await net.attach(uid, pod)
            except sys.NetworkFault:
                failed = True
                assert uid not in net.addresses()
            finally:
                monkeypatch.setattr(sys.Netlink, "run", honest)
            address = await net.attach(uid, pod)
            await net.close()
            return failed, address

        failed, address = lab.run(node, story)
        assert lab.ask(node, address, 80) == "pod 10.99.0.1"
        if not failed:
            break
        steps += 1
    assert steps == 3


def test_an_attach_that_fails_late_leaves_no_host_port_behind(lab, tmp_path, monkeypatch) -> None:
    """Its address is free again: the next pod that gets it must not get the other one's traffic, too."""
    node, pod, other = lab.node(), lab.namespace("pod"), lab.namespace("other")
    lab.serve(other, 80, "other")
    honest = sys.ensure_sysctl

    async def story() -> None:
        net = network(tmp_path)
        await net.start()

        def vanished(name: str, value: str) -> bool:
            if name.endswith("route_localnet"):
                raise FileNotFoundError(errno.ENOENT, "the link is gone", name)
            return honest(name, value)

        monkeypatch.setattr(sys, "ensure_sysctl", vanished)
        with pytest.raises(FileNotFoundError):
            await net.attach("u1", pod, [HostPort("TCP", "", 8080, 80)])
        monkeypatch.setattr(sys, "ensure_sysctl", honest)
        assert net.addresses() == {}
        await net.attach("u2", other, [HostPort("TCP", "", 8080, 80)])
        await net.detach("u2")
        await net.close()

    lab.run(node, story)
    assert "8080" not in sys.in_namespace(node, lambda: sys.Nft().run("list ruleset"))


def test_a_namespace_that_is_not_there_is_an_error_and_costs_no_address(lab, tmp_path) -> None:
    node = lab.node()

    async def story() -> None:
        net = network(tmp_path, pod_cidr="10.244.1.0/30")
        await net.start()
        for number in range(5):
            with pytest.raises(sys.NetworkFault, match="missing"):
                await net.attach(f"u{number}", "/run/netns/missing")
        assert net.addresses() == {}
        await net.close()

    lab.run(node, story)


def test_a_full_cidr_is_an_error(lab, tmp_path) -> None:
    node = lab.node()
    pods = [lab.namespace(str(n)) for n in range(3)]

    async def story() -> None:
        net = network(tmp_path, pod_cidr="10.244.1.0/30")
        await net.start()
        await net.attach("u0", pods[0])
        await net.attach("u1", pods[1])
        with pytest.raises(Exhausted):
            await net.attach("u2", pods[2])
        await net.close()

    lab.run(node, story)


def test_two_instances_share_a_host_and_one_leaves_nothing(lab, tmp_path) -> None:
    node, one, two = lab.node(), lab.namespace("one"), lab.namespace("two")
    lab.serve(one, 80, "one")
    lab.serve(two, 80, "two")

    async def story() -> tuple[str, str]:
        first = network(tmp_path / "a", local_addresses=["10.96.0.10"])  # type: ignore[arg-type]
        second = network(
            tmp_path / "b", instance="jtest-b", pod_cidr="10.245.0.0/24", cluster_cidr="10.245.0.0/16",
            service_cidr="10.97.0.0/16",
        )  # fmt: skip
        await first.start()
        await second.start()
        addresses = await first.attach("u", one), await second.attach("u", two)
        await first.shutdown()
        await second.close()
        return addresses

    first, second = lab.run(node, story)
    assert lab.ask(node, second, 80) == "two 10.99.0.1"

    def look() -> str:
        commands = "ip -o link; ip route; ip addr; nft list tables"
        return subprocess.run(commands, shell=True, capture_output=True, text=True, check=True).stdout

    seen = sys.in_namespace(node, look)
    assert "jota-jtest-b" in seen
    assert "jota-jtest\n" not in seen
    assert names.link_prefix("jtest") not in seen
    assert "10.96." not in seen
    assert first not in seen
    assert sys.in_namespace(node, lambda: remove_node_parts("jtest-b"))
    seen = sys.in_namespace(node, look)
    assert "jtest" not in seen
    assert names.link_prefix("jtest-b") not in seen
    assert sys.in_namespace(node, lambda: cleanup("jtest-b")) == []


def test_host_port_commands_are_symmetric() -> None:
    ports = [HostPort("SCTP", "", 1, 2)]
    add = host_port_commands("add", "x", "10.0.0.1", ports)
    assert add.splitlines() == [
        "add element ip jota-x hairpin { 10.0.0.1 . 10.0.0.1 }",
        "add element ip jota-x hostports { sctp . 1 : 10.0.0.1 . 2 }",
    ]
    assert host_port_commands("delete", "x", "10.0.0.1", ports) == add.replace("add element", "delete element")
    assert host_port_commands("add", "x", "10.0.0.1", []) == ""
