"""The door to the kernel: errors that say what was tried and why it failed; nftables with and without the library."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.net import conntrack, netlink, sys


@pytest.mark.kernel
def test_a_refused_request_names_itself_and_the_kernels_reason(lab) -> None:
    def story() -> None:
        with sys.Netlink() as route:
            with pytest.raises(sys.NetworkFault) as caught:
                route.run([netlink.replace_route("10.0.0.0/8", gateway="192.0.2.1")])
            assert caught.value.errno == errno.ENETUNREACH
            assert "route 10.0.0.0/8 via 192.0.2.1" in str(caught.value)
            assert "gateway" in str(caught.value)  # the kernel's extended acknowledgement
            assert route.link("none") is None
            assert [link.name for link in route.links()][:1] == ["lo"]

    sys.in_namespace(lab.namespace("x"), story)


@pytest.mark.kernel
def test_a_batch_goes_on_after_a_failure_and_tolerated_errors_are_fine(lab) -> None:
    def story() -> None:
        with sys.Netlink() as route:
            route.run([netlink.delete_link(999, errno.ENODEV)])
            batch = [netlink.delete_link(999), netlink.simple_link("made", "bridge")]
            with pytest.raises(sys.NetworkFault, match="delete link 999"):
                route.run(batch)
            made = route.link("made")
            assert made is not None
            route.run([netlink.link_up(made.index, alias="x" * 300)])
            assert [(link.alias, link.up) for link in route.links() if link.name == "made"] == [("x" * 255, True)]

    sys.in_namespace(lab.namespace("x"), story)


@pytest.mark.kernel
def test_work_in_a_namespace_leaves_the_thread_where_it_was(lab) -> None:
    path = lab.namespace("x")
    before = os.readlink("/proc/thread-self/ns/net")

    def inside() -> tuple[str, int]:
        return os.readlink("/proc/thread-self/ns/net"), threading.get_ident()

    name, thread = sys.in_namespace(path, inside)
    assert name == f"net:[{sys.namespace_id(path)}]"
    assert thread != threading.get_ident() or name != before
    assert os.readlink("/proc/thread-self/ns/net") == before
    with pytest.raises(ZeroDivisionError):
        sys.in_namespace(path, lambda: 1 // 0)


@pytest.mark.kernel
def test_a_namespace_is_made_once_and_removed_twice(lab) -> None:
    path = lab.namespace("x")
    with pytest.raises(sys.NetworkFault) as caught:
        sys.make_namespace(path)
    assert caught.value.errno == errno.EEXIST
    sys.remove_namespace(path)
    sys.remove_namespace(path)
    with pytest.raises(sys.NetworkFault, match=path):
        sys.in_namespace(path, lambda: None)


@pytest.mark.kernel
def test_sysctls_are_set_only_when_they_differ(lab) -> None:
    def story() -> None:
        assert sys.read_sysctl("net/ipv4/none") == ""
        assert sys.ensure_sysctl("net/ipv4/conf/lo/route_localnet", "1")
        assert not sys.ensure_sysctl("net/ipv4/conf/lo/route_localnet", "1")
        assert sys.read_sysctl("net/ipv4/conf/lo/route_localnet") == "1"
        with pytest.raises(sys.NetworkFault, match=r"sysctl -w net\.ipv4\.none=1"):
            sys.ensure_sysctl("net/ipv4/none", "1")

    sys.in_namespace(lab.namespace("x"), story)


@pytest.mark.kernel
@pytest.mark.parametrize("library", [True, False])
def test_nftables_with_and_without_the_library(lab, monkeypatch: pytest.MonkeyPatch, library: bool) -> None:
    if not library:
        monkeypatch.setattr(sys, "_load_library", lambda: None)

    def story() -> None:
        nft = sys.Nft()
        nft.run("table ip jota-x.y { }\ntable ip6 other { }\nadd chain ip jota-x.y c")
        assert nft.tables() == ["jota-x.y"]
        assert [e["chain"]["name"] for e in nft.read("list chains") if "chain" in e] == ["c"]
        assert "chain c" in nft.run("list table ip jota-x.y")
        with pytest.raises(sys.NftError, match="chain ip none c"):
            nft.run("add chain ip jota-x.y d\nadd chain ip none c")
        assert "chain d" not in nft.run("list table ip jota-x.y"), "a transaction is whole or not at all"
        nft.close()

    sys.in_namespace(lab.namespace("x"), story)


def test_without_library_and_program_the_advice_is_clear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "_load_library", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sys.NftError, match="apt install nftables"):
        sys.Nft().run("list tables")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_readers_loop_or_raise(data: bytes) -> None:
    netlink.attributes(data)
    list(netlink.messages(data))
    conntrack.read_flow(data)


@pytest.mark.parametrize(
    ("answerer", "targets", "stale"),
    [
        (("10.244.0.5", 53), {("10.244.0.5", 53)}, False),
        (("10.244.0.5", 53), {("10.244.0.6", 53)}, True),
        (("10.244.0.5", 53), set(), True),
        (("10.96.0.9", 53), set(), False),
        (("10.96.0.9", 53), {("10.244.0.6", 53)}, True),
    ],
)
def test_which_udp_flows_are_stale(answerer, targets, stale) -> None:
    flow = conntrack.Flow(("10.96.0.9", 53), answerer, b"")
    assert conntrack.is_stale(flow, {("udp", "10.96.0.9", 53): frozenset(targets)}) is stale
    assert conntrack.is_stale(flow, {("udp", "", 53): frozenset(targets)}) is stale
    assert not conntrack.is_stale(flow, {("udp", "10.96.0.1", 53): frozenset(targets)})
