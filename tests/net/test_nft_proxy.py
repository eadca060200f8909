"""Services in the kernel: what clients in pods, on nodes and outside see."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from jota.net import sys
from jota.net.links import RoutedPodNetwork, remove_node_parts
from jota.net.nft_proxy import NftServiceProxy
from jota.net.protocol import Endpoint, ServicePort, ServiceProxy

pytestmark = pytest.mark.kernel

VIP, DNS = "10.96.0.9", "10.96.0.10"


class World:
    """One node with pods a, b, c that serve TCP 8080, UDP 53, and a client outside."""

    def __init__(self, lab, tmp_path) -> None:
        self.lab = lab
        self.node = lab.node()
        self.outside = lab.outside(self.node)
        self.pods = {name: lab.namespace(name) for name in "abc"}
        for name, pod in self.pods.items():
            lab.serve(pod, 8080, name)
            lab.serve(pod, 53, name, udp=True)
        self.address: dict[str, str] = {}

        def network() -> RoutedPodNetwork:
            return RoutedPodNetwork(
                instance="jtest", node="n1", pod_cidr="10.244.1.0/24", cluster_cidr="10.244.0.0/16",
                service_cidr="10.96.0.0/16", state_dir=str(tmp_path), node_ip="10.99.0.1", local_addresses=[DNS],
            )  # fmt: skip

        self.network = network

        async def start() -> None:
            net = network()
            await net.start()
            for name, pod in self.pods.items():
                self.address[name] = await net.attach(name, pod)
            await net.close()

        lab.run(self.node, start)

    def endpoints(self, names: str, port: int = 8080, **changes: object) -> tuple[Endpoint, ...]:
        made = [Endpoint(self.address[name], port, True, "n1") for name in names]
        return tuple(dataclasses.replace(e, **changes) for e in made)  # type: ignore[arg-type]

    def service(self, names: str = "abc", **changes: object) -> ServicePort:
        base = ServicePort("default", "web", "", "TCP", VIP, 80, endpoints=self.endpoints(names))
        return dataclasses.replace(base, **changes)  # type: ignore[arg-type]

    def apply(self, *states: list[ServicePort]) -> None:
        """Each state in turn, by one proxy that is then gone (as after a kill -9: nothing is cleaned up)."""

        async def story(proxy: ServiceProxy) -> None:
            for ports in states:
                await proxy.apply(ports)

        self.with_proxy(story)

    def route(self, cidrs: list[str]) -> None:
        """Added ranges, by an agent that is then gone."""

        async def body() -> None:
            net = self.network()
            await net.start()
            await net.route_services(cidrs)
            await net.close()

        self.lab.run(self.node, body)

    def with_proxy(self, story: Callable[[NftServiceProxy], Awaitable[None]]) -> None:
        async def body() -> None:
            proxy = NftServiceProxy(
                instance="jtest", node="n1", service_cidr="10.96.0.0/16", pod_cidrs=["10.244.0.0/16"]
            )
            await story(proxy)
            await proxy.close()

        self.lab.run(self.node, body)

    def answers(self, source: str, address: str = VIP, port: int = 80, times: int = 40) -> set[str]:
        return {self.lab.ask(source, address, port).split()[0] for _ in range(times)}


@pytest.fixture
def world(lab, tmp_path) -> World:
    return World(lab, tmp_path)


def test_a_cluster_ip_spreads_from_a_pod_and_from_the_node_and_keeps_the_client(world) -> None:
    world.apply([world.service()])
    assert world.answers(world.node) == {"a", "b", "c"}
    assert world.answers(world.pods["a"]) == {"a", "b", "c"}
    world.apply([world.service("b")])
    assert world.lab.ask(world.pods["a"], VIP, 80) == f"b {world.address['a']}"
    assert world.lab.ask(world.node, VIP, 80) == "b 10.99.0.1"


def test_a_pod_reaches_itself_through_its_service(world) -> None:
    world.apply([world.service("a")])
    assert world.lab.ask(world.pods["a"], VIP, 80) == "a 10.99.0.1"


def test_a_client_outside_the_cluster_can_use_a_cluster_ip_it_routes_here(world) -> None:
    world.apply([world.service("a")])
    assert world.lab.ask(world.outside, VIP, 80) == f"a {'10.99.0.1'}"


def test_addresses_of_an_added_range_are_served_and_refused_as_those_of_the_first(world) -> None:
    vip, unused, dns = "198.18.5.9", "198.18.5.10", "10.96.0.99"
    port = world.service("a", cluster_ip=vip)
    world.apply([port, world.service("b", name="first")])
    world.route(["198.18.5.0/24"])
    for source, sees in (
        (world.pods["b"], world.address["b"]),
        (world.node, "10.99.0.1"),
        (world.outside, "10.99.0.1"),
    ):
        assert world.lab.ask(source, vip, 80) == f"a {sees}"
        assert world.answers(source, times=3) == {"b"}  # the first range goes on
        for refused, number in ((unused, 80), (vip, 81), (dns, 80)):
            with pytest.raises(ConnectionRefusedError):
                world.lab.ask(source, refused, number)
    assert world.lab.ask(world.pods["a"], vip, 80) == "a 10.99.0.1"  # itself
    world.apply([world.service("", cluster_ip=vip)])
    for source in (world.pods["b"], world.node, world.outside):
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, vip, 80)


def test_an_added_range_never_takes_the_nodes_own_routes(world) -> None:
    def routes() -> set[tuple[str, int]]:
        with sys.Netlink() as door:
            return {(r.destination, r.priority) for r in door.routes() if r.table == 254}

    before = sys.in_namespace(world.node, routes)
    world.apply([world.service("a")])
    world.route(["0.0.0.0/0", "10.99.0.0/24", "10.0.0.0/8", "203.0.113.0/24"])
    assert before < sys.in_namespace(world.node, routes)
    for source in (world.pods["b"], world.node, world.outside):
        assert world.answers(source, times=3) == {"a"}
    assert world.lab.ask(world.pods["b"], world.address["a"], 8080).startswith("a ")
    world.route([])
    assert sys.in_namespace(world.node, routes) == before


def test_changes_are_followed(world) -> None:
    world.apply([world.service("a")], [world.service("ab")], [world.service("c")])
    assert world.answers(world.node, times=10) == {"c"}
    world.apply([])
    with pytest.raises(ConnectionRefusedError):
        world.lab.ask(world.node, VIP, 80)


def test_no_endpoints_refuse_at_once(world) -> None:
    world.apply([world.service("", node_port=30080, external_ips=("198.51.100.7",))])
    for source in (world.node, world.pods["a"], world.outside):
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, VIP, 80)
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, "198.51.100.7", 80)
    for source, address in ((world.node, "10.99.0.1"), (world.pods["a"], "10.99.0.1"), (world.outside, "203.0.113.1")):
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, address, 30080)
    world.apply([dataclasses.replace(world.service(""), protocol="UDP")])
    with pytest.raises(ConnectionRefusedError):
        world.lab.ask_udp(world.pods["a"], VIP, 80)


def test_an_unused_service_address_is_refused_too(world) -> None:
    world.apply([world.service()])
    for source in (world.node, world.pods["a"]):
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, "10.96.200.200", 80)
        with pytest.raises(ConnectionRefusedError):
            world.lab.ask(source, VIP, 81)


def test_a_service_address_that_the_node_answers_itself_yields_to_endpoints_only(world) -> None:
    def dns(names: str) -> list[ServicePort]:
        return [world.service("", cluster_ip=DNS, protocol="UDP", port=53, endpoints=world.endpoints(names, 53))]

    world.lab.serve(world.node, 53, "own", udp=True, address=DNS)
    world.apply(dns(""))
    for source in (world.node, world.pods["a"]):
        assert world.lab.ask_udp(source, DNS, 53).split()[0] == "own"
    world.apply(dns("b"))
    for source in (world.node, world.pods["a"]):
        assert world.lab.ask_udp(source, DNS, 53).split()[0] == "b"


def test_node_ports_and_external_addresses(world) -> None:
    world.apply([world.service(node_port=30080, external_ips=("198.51.100.7",))])
    assert world.answers(world.outside, "203.0.113.1", 30080) == {"a", "b", "c"}
    assert world.answers(world.node, "10.99.0.1", 30080) == {"a", "b", "c"}
    assert world.answers(world.pods["a"], "10.99.0.1", 30080) == {"a", "b", "c"}
    assert world.answers(world.outside, "198.51.100.7", 80) == {"a", "b", "c"}
    assert world.answers(world.pods["b"], "198.51.100.7", 80) == {"a", "b", "c"}
    assert "10.99.0.1" in world.lab.ask(world.outside, "203.0.113.1", 30080)


def test_external_traffic_policy_local_keeps_the_client_and_drops_without_a_local_pod(world) -> None:
    local = world.service("ab", node_port=30080, local_only=True)
    world.apply([local])
    assert world.answers(world.outside, "203.0.113.1", 30080) == {"a", "b"}
    assert "203.0.113.9" in world.lab.ask(world.outside, "203.0.113.1", 30080)
    assert world.address["c"] in world.lab.ask(world.pods["c"], "10.99.0.1", 30080)
    elsewhere = dataclasses.replace(local, endpoints=world.endpoints("ab", node="n2"))
    world.apply([elsewhere])
    with pytest.raises(TimeoutError):
        world.lab.ask(world.outside, "203.0.113.1", 30080)
    assert world.answers(world.pods["c"], "10.99.0.1", 30080) == {"a", "b"}
    assert world.answers(world.node, "10.99.0.1", 30080) == {"a", "b"}
    assert world.answers(world.node) == {"a", "b"}


def test_affinity_holds_per_client_and_survives_other_endpoints_and_agents(world) -> None:
    def sticky(names: str) -> list[ServicePort]:
        return [world.service(names, affinity_seconds=100, node_port=30080)]

    world.apply(sticky("abc"))
    mine = world.answers(world.node)
    assert len(mine) == 1
    assert len(world.answers(world.outside, "203.0.113.1", 30080)) == 1
    (kept,) = mine
    others = "abc".replace(kept, "")
    for names in (kept + others[0], kept, "abc"):
        world.apply(sticky(names))
        assert world.answers(world.node, times=10) == mine
    world.apply(sticky(others))
    moved = world.answers(world.node, times=10)
    assert len(moved) == 1
    assert moved <= set(others)
    world.apply(sticky("abc"))
    assert world.answers(world.node, times=10) == moved


def test_affinity_ends_after_its_time(world) -> None:
    world.apply([world.service(affinity_seconds=1)])
    seen: set[str] = set()
    for _ in range(20):
        seen |= world.answers(world.node, times=1)
        if len(seen) > 1:
            break
        sys.in_namespace(world.node, lambda: sys.Nft().run("flush map ip jota-jtest.services affinity"))
    assert len(seen) > 1
    text = sys.in_namespace(world.node, lambda: sys.Nft().run("list map ip jota-jtest.services affinity"))
    assert "timeout 1s" in text


def test_affinity_leaves_no_packet_mark_behind(world) -> None:
    world.apply([world.service(affinity_seconds=100)])
    count = "add chain ip probe c { type filter hook output priority 1 ; }\nadd rule ip probe c meta l4proto tcp meta mark != 0 counter"
    sys.in_namespace(world.node, lambda: sys.Nft().run(f"add table ip probe\n{count}"))
    assert len(world.answers(world.node, times=5)) == 1
    assert "packets 0" in sys.in_namespace(world.node, lambda: sys.Nft().run("list table ip probe"))


def test_connections_live_through_a_killed_proxy_and_its_successor(world) -> None:
    world.apply([world.service()])
    connections = [world.lab.connect(world.pods["a"], VIP, 80) for _ in range(5)]
    assert all(c.recv(100) for c in connections)
    world.apply([world.service()])
    world.apply([world.service("ab")], [world.service("abc")])
    for connection in connections:
        connection.sendall(b"still")
        assert connection.recv(100) == b"still"
        connection.close()


def test_a_packet_that_tracking_cannot_place_does_not_leave_a_pod(world) -> None:
    world.apply([world.service()])
    sniffer = sys.in_namespace(
        world.pods["b"], lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    )
    sniffer.settimeout(0.3)

    def send(flags: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.sendto(_segment(world.address["a"], world.address["b"], flags), (world.address["b"], 0))

    with sniffer:
        sys.in_namespace(world.pods["a"], lambda: send(0x02))
        assert sniffer.recv(100)[33] == 0x02
        sys.in_namespace(world.pods["a"], lambda: send(0x3F))
        with pytest.raises(TimeoutError):
            while True:
                assert sniffer.recv(100)[33] != 0x3F


def _segment(source: str, target: str, flags: int) -> bytes:
    """A bare TCP segment with a correct checksum."""
    body = struct.pack("!HHIIBBHHH", 1234, 9, 1, 0, 5 << 4, flags, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(body))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
    total = (total >> 16) + (total & 0xFFFF)
    return body[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[18:]


def test_a_busy_udp_client_is_moved_off_a_dead_endpoint(world) -> None:
    def dns(names: str) -> list[ServicePort]:
        return [world.service("", protocol="UDP", port=53, node_port=30053, endpoints=world.endpoints(names, 53))]

    def ask() -> list[str]:
        pod = world.lab.ask_udp(world.pods["c"], VIP, 53, 40000)
        out = world.lab.ask_udp(world.outside, "203.0.113.1", 30053, 40000)
        return [pod.split()[0], out.split()[0]]

    world.apply(dns("a"))
    assert ask() == ["a", "a"]
    world.apply(dns("b"))
    assert ask() == ["b", "b"]
    world.apply(dns("b"), dns("a"))
    assert ask() == ["a", "a"]


def test_a_table_that_someone_deleted_is_written_again(world) -> None:
    async def story(proxy: NftServiceProxy) -> None:
        await proxy.apply([world.service("a")])
        assert await proxy.check()
        sys.Nft().run("delete table ip jota-jtest.services")
        await proxy.apply([world.service("ab")])
        assert await proxy.check()
        sys.Nft().run("flush ruleset")
        assert not await proxy.check()
        await proxy.apply([world.service("ab")])

    world.with_proxy(story)
    assert world.answers(world.node) == {"a", "b"}


def test_an_older_table_is_replaced_whole(world) -> None:
    old = "table ip jota-jtest.services {\n map services { type ipv4_addr : verdict; }\n chain stale { }\n}"
    sys.in_namespace(world.node, lambda: sys.Nft().run(old))
    world.apply([world.service()])
    assert "stale" not in sys.in_namespace(world.node, lambda: sys.Nft().run("list ruleset"))
    assert world.answers(world.node) == {"a", "b", "c"}


def test_shutdown_leaves_nothing(world) -> None:
    async def story(proxy: NftServiceProxy) -> None:
        await proxy.apply([world.service()])
        await proxy.shutdown()

    world.with_proxy(story)
    names = sys.in_namespace(world.node, lambda: sys.Nft().tables())
    assert names == ["jota-jtest"]
    sys.in_namespace(world.node, lambda: remove_node_parts("jtest"))
    assert sys.in_namespace(world.node, lambda: sys.Nft().tables()) == []


def test_sctp_is_translated(world) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        pytest.skip("this kernel has no SCTP")
    port = world.service("a", protocol="SCTP")
    world.apply([port])

    def serve() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        server.bind(("0.0.0.0", 8080))
        server.listen()
        return server

    def call() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as client:
            client.settimeout(3)
            client.connect((VIP, 80))

    with sys.in_namespace(world.pods["a"], serve):
        sys.in_namespace(world.node, call)


def test_half_closed_connections_are_kept_for_an_hour(world) -> None:
    knob = "net/netfilter/nf_conntrack_tcp_timeout_close_wait"
    read = lambda: sys.in_namespace(world.node, lambda: sys.read_sysctl(knob))  # noqa: E731
    world.apply([])
    assert read() == "3600"
    sys.in_namespace(world.node, lambda: sys.ensure_sysctl(knob, "7200"))
    world.apply([])
    assert read() == "7200"  # someone is more patient still
