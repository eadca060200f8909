"""Services compiled to map elements: tables of cases, and diff(old, new) applied to a model equals a full load."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.net import services
from jota.net.protocol import Endpoint, ServicePort
from jota.net.services import LOCAL, MARK, Compiler, Desired, chain_commands, commands, compile, load

HERE = Endpoint("10.244.0.5", 8080, True, "n1")
THERE = Endpoint("10.244.1.3", 8080, True, "n2")
LEAVING = Endpoint("10.244.0.9", 8080, False, "n1")
WEB = ServicePort("default", "web", "http", "TCP", "10.96.0.9", 80, endpoints=(HERE, THERE))


def maps(*ports: ServicePort, node: str = "n1") -> dict[str, dict[str, str]]:
    return {name: elements for name, elements in compile(ports, node).maps.items() if elements}


def test_a_cluster_ip_spreads_over_all_endpoints() -> None:
    assert maps(WEB) == {
        "services": {"tcp . 10.96.0.9 . 80": "goto v-c-2"},
        "endpoints": {
            "tcp . 10.96.0.9 . 80 . 0x4a6f0000": "10.244.0.5 . 8080",
            "tcp . 10.96.0.9 . 80 . 0x4a6f0001": "10.244.1.3 . 8080",
        },
        "hairpin": {"10.244.0.5 . 10.244.0.5": ""},
    }


def test_order_and_repetition_of_endpoints_do_not_matter() -> None:
    shuffled = dataclasses.replace(WEB, endpoints=(THERE, HERE, THERE))
    assert compile([WEB], "n1") == compile([shuffled], "n1")


@pytest.mark.parametrize(
    ("endpoints", "chosen"),
    [
        ((HERE, LEAVING), ["10.244.0.5 . 8080"]),
        ((LEAVING,), ["10.244.0.9 . 8080"]),
        ((THERE, LEAVING), ["10.244.1.3 . 8080"]),
        ((Endpoint("fd00::1", 80), HERE), ["10.244.0.5 . 8080"]),
    ],
)
def test_terminating_endpoints_serve_only_when_no_other_does(endpoints, chosen) -> None:
    assert list(maps(dataclasses.replace(WEB, endpoints=endpoints))["endpoints"].values()) == chosen


def test_without_endpoints_everything_is_refused() -> None:
    port = dataclasses.replace(WEB, endpoints=(), node_port=30080, external_ips=("198.51.100.7",))
    assert maps(port) == {
        "refuse": {"tcp . 10.96.0.9 . 80": "goto reject-it", "tcp . 198.51.100.7 . 80": "goto reject-it"},
        "refuse-ports": {"tcp . 30080": "goto reject-it"},
    }


def test_node_ports_and_external_addresses_are_masqueraded() -> None:
    found = maps(dataclasses.replace(WEB, node_port=30080, external_ips=("198.51.100.7",)))
    assert found["node-ports"] == {"tcp . 30080": "goto p-m-2"}
    assert found["services"]["tcp . 198.51.100.7 . 80"] == "goto v-m-2"
    assert found["port-endpoints"]["tcp . 30080 . 0x4a6f0001"] == "10.244.1.3 . 8080"


def test_external_traffic_policy_local_has_two_views() -> None:
    port = dataclasses.replace(WEB, node_port=30080, local_only=True)
    found = maps(port)
    assert found["node-ports"] == {"tcp . 30080": "goto p-l-1"}
    assert found["node-ports-inside"] == {"tcp . 30080": "goto p-c-2"}
    assert found["port-endpoints"] == {
        "tcp . 30080 . 0x4a6f8000": "10.244.0.5 . 8080",
        "tcp . 30080 . 0x4a6f0000": "10.244.0.5 . 8080",
        "tcp . 30080 . 0x4a6f0001": "10.244.1.3 . 8080",
    }
    elsewhere = maps(port, node="n3")
    assert elsewhere["refuse-ports"] == {"tcp . 30080": "drop"}
    assert elsewhere["node-ports-inside"] == {"tcp . 30080": "goto p-c-2"}
    assert "node-ports" not in elsewhere


def test_internal_traffic_policy_local_drops_where_no_endpoint_is() -> None:
    port = dataclasses.replace(WEB, internal_local_only=True)
    assert maps(port)["services"] == {"tcp . 10.96.0.9 . 80": "goto v-c-1"}
    assert maps(port, node="n3") == {"refuse": {"tcp . 10.96.0.9 . 80": "drop"}}


def test_hints_narrow_the_cluster_view_and_never_the_local_one() -> None:
    far = dataclasses.replace(HERE, near=False)
    assert list(maps(dataclasses.replace(WEB, endpoints=(far, THERE)))["endpoints"].values()) == ["10.244.1.3 . 8080"]
    port = dataclasses.replace(WEB, node_port=30080, local_only=True, endpoints=(far, THERE))
    assert maps(port)["port-endpoints"] == {
        "tcp . 30080 . 0x4a6f8000": "10.244.0.5 . 8080",
        "tcp . 30080 . 0x4a6f0000": "10.244.1.3 . 8080",
    }
    inside = dataclasses.replace(WEB, internal_local_only=True, endpoints=(far, THERE))
    assert list(maps(inside)["endpoints"].values()) == ["10.244.0.5 . 8080"]


def test_an_affinity_id_does_not_depend_on_other_endpoints() -> None:
    port = dataclasses.replace(WEB, affinity_seconds=10)
    both, one = maps(port), maps(dataclasses.replace(port, endpoints=(THERE,)))
    assert both["services"] == {"tcp . 10.96.0.9 . 80": "goto v-c-2-t10"}
    assert "endpoints" not in both
    assert one["sticky"].items() <= both["sticky"].items()
    assert len(both["sticky"]) == len(set(both["ids"].values())) == 2


def test_many_endpoints_never_share_an_affinity_id() -> None:
    endpoints = tuple(Endpoint(f"10.244.{n // 250}.{n % 250}", 80) for n in range(3000))
    found = maps(dataclasses.replace(WEB, affinity_seconds=10, endpoints=endpoints))
    assert len(set(found["ids"].values())) == 3000


def test_of_two_claims_to_an_address_the_first_by_name_wins() -> None:
    thief = dataclasses.replace(WEB, name="zz", cluster_ip="", external_ips=("10.96.0.9",), endpoints=(THERE,))
    assert maps(thief, WEB)["services"] == {"tcp . 10.96.0.9 . 80": "goto v-c-2"}


def test_udp_flows_are_named_with_their_targets() -> None:
    dns = ServicePort("default", "dns", "", "UDP", "10.96.0.8", 53, 30053, endpoints=(HERE,))
    compiler = Compiler("n1")
    here, there = frozenset({("10.244.0.5", 8080)}), frozenset({("10.244.1.3", 8080)})
    frontends = ("udp", "10.96.0.8", 53), ("udp", "", 30053)
    assert compiler.update([dns, WEB]).flows == dict.fromkeys(frontends, here)
    assert compiler.update([dataclasses.replace(dns, endpoints=(THERE,)), WEB]).flows == dict.fromkeys(frontends, there)
    assert compiler.update([dataclasses.replace(dns, endpoints=(THERE,))]).flows == {}
    assert compiler.desired.flows == dict.fromkeys(frontends, there)
    assert compiler.update([]).flows == dict.fromkeys(frontends, frozenset())
    assert compiler.desired.flows == {}


def test_chains_are_made_once() -> None:
    compiler = Compiler("n1")
    assert commands(compiler.update([WEB]), "t").count("add chain ip t v-c-2") == 1
    assert commands(compiler.update([WEB]), "t") == ""
    assert "chain" in commands(compiler.update([dataclasses.replace(WEB, endpoints=(HERE,))]), "t")
    assert "chain" not in commands(compiler.update([WEB]), "t")
    assert "0x4000" in "\n".join(chain_commands("t", "p-m-3"))
    assert f"offset {MARK + LOCAL}" in "\n".join(chain_commands("t", "p-l-3"))


def test_a_changed_endpoint_is_a_small_change() -> None:
    compiler = Compiler("n1")
    compiler.update([WEB])
    moved = dataclasses.replace(WEB, endpoints=(HERE, dataclasses.replace(THERE, ip="10.244.1.4")))
    key = "tcp . 10.96.0.9 . 80 . 0x4a6f0001"
    assert commands(compiler.update([moved]), "t").splitlines() == [
        f"delete element ip t endpoints {{ {key} : 10.244.1.3 . 8080 }}",
        f"add element ip t endpoints {{ {key} : 10.244.1.4 . 8080 }}",
    ]


# --- changes against a model of nft maps

addresses = st.integers(1, 6).map(lambda n: f"10.244.0.{n}")
endpoints = st.builds(Endpoint, addresses, st.sampled_from([80, 81]), st.booleans(), st.sampled_from(["n1", "n2", ""]))
ports = st.builds(
    ServicePort,
    namespace=st.just("default"),
    name=st.sampled_from("abcdef"),
    port_name=st.sampled_from(["", "x"]),
    protocol=st.sampled_from(["TCP", "UDP", "SCTP"]),
    cluster_ip=st.sampled_from(["10.96.0.1", "10.96.0.2", "None", ""]),
    port=st.sampled_from([53, 80]),
    node_port=st.sampled_from([0, 30001, 30002]),
    external_ips=st.sampled_from([(), ("198.51.100.1",), ("fd00::1", "10.96.0.1"), ("10.96.0.2",) * 2]),
    affinity_seconds=st.sampled_from([0, 0, 10]),
    local_only=st.booleans(),
    internal_local_only=st.booleans(),
    endpoints=st.lists(endpoints, max_size=5).map(tuple),
)
lists = st.lists(ports, max_size=6)


def run(commands: str, state: dict[str, dict[str, str]], chains: set[str]) -> None:
    """What nft does with element commands: adding over another value or deleting what is absent is an error."""
    for line in commands.splitlines():
        verb, what, _, table, name, rest = [*line.split(" ", 5), ""][:6]
        assert table == "t"
        if what == "chain":
            chains.add(name)
        if what != "element":
            continue
        for item in rest.removeprefix("{ ").removesuffix(" }").split(", "):
            key, _, value = item.partition(" : ")
            if verb == "add":
                assert state[name].setdefault(key, value) == value
                assert not value.startswith("goto v-") or value.removeprefix("goto ") in chains
            else:
                assert state[name].pop(key) == value


def in_any_order(maps: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The maps without which endpoint has which index of those of a frontend: what counts is that each has one."""
    out: dict[str, Any] = dict(maps)
    for name in ("endpoints", "port-endpoints", "ids", "port-ids"):
        groups: dict[str, tuple[list[str], list[str]]] = {}
        for key, value in maps[name].items():
            frontend, _, index = key.rpartition(" . ")
            indexes, values = groups.setdefault(frontend, ([], []))
            indexes.append(index)
            values.append(value)
        out[name] = {frontend: (sorted(i), sorted(v)) for frontend, (i, v) in groups.items()}
    return out


@given(st.lists(lists, min_size=1, max_size=5))
def test_changes_lead_to_the_same_maps_as_a_full_load(steps: list[list[ServicePort]]) -> None:
    state: dict[str, dict[str, str]] = {name: {} for name in services.MAPS}
    chains: set[str] = set()
    compiler = Compiler("n1")
    for found in steps:
        run(commands(compiler.update(found), "t"), state, chains)
    fresh = compile(steps[-1], "n1")
    assert compiler.desired.maps == state
    assert in_any_order(state) == in_any_order(fresh.maps)
    assert compiler.desired.flows == fresh.flows
    assert chains == compiler.desired.chains >= fresh.chains
    assert commands(compiler.update(list(steps[-1])), "t") == ""
    loaded: dict[str, dict[str, str]] = {name: {} for name in services.MAPS}
    run(load(compiler.desired, "t"), loaded, set())
    assert loaded == state


@given(st.lists(st.lists(endpoints, max_size=12), min_size=2, max_size=8), st.booleans(), st.booleans())
def test_endpoints_that_stay_keep_their_index(steps: list[list[Endpoint]], local: bool, external: bool) -> None:
    state: dict[str, dict[str, str]] = {name: {} for name in services.MAPS}
    chains: set[str] = set()
    compiler = Compiler("n1")
    before: set[str] = set()
    for found in steps:
        port = dataclasses.replace(
            WEB, endpoints=tuple(found), local_only=local, external_ips=("198.51.100.1",) if external else ()
        )
        change = compiler.update([port])
        run(commands(change, "t"), state, chains)
        assert compiler.desired.maps == state
        assert in_any_order(state) == in_any_order(compile([port], "n1").maps)
        now = {v for k, v in state["endpoints"].items() if k.startswith("tcp . 10.96.0.9 .")}
        moved = [k for k in change.come.maps["endpoints"] if k.startswith("tcp . 10.96.0.9 .")]
        assert len(moved) <= max(len(now - before), len(before - now)), "no other endpoint moves"
        before = now


def test_one_of_ten_thousand_is_a_small_change() -> None:
    many = tuple(Endpoint(f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}", 80, True, f"n{n}") for n in range(10_000))
    compiler = Compiler("n1")
    compiler.update([dataclasses.replace(WEB, endpoints=many)])
    change = compiler.update([dataclasses.replace(WEB, endpoints=many[:5000] + many[5001:])])
    assert sum(len(m) for d in (change.come, change.gone) for m in d.maps.values()) == 5
    assert len(commands(change, "t").splitlines()) < 10


@given(lists.map(lambda found: compile(found, "n1")))
def test_every_frontend_leads_somewhere_and_every_index_exists(state: Desired) -> None:
    for entry, kind in (
        ("services", ""),
        ("services-inside", ""),
        ("node-ports", "port-"),
        ("node-ports-inside", "port-"),
    ):
        for key, verdict in state.maps[entry].items():
            _, view, count, *affinity = verdict.removeprefix("goto ").split("-")
            start = MARK + (LOCAL if view == "l" else 0)
            source = state.maps[kind + ("ids" if affinity else "endpoints")]
            for index in range(start, start + int(count)):
                target = source[f"{key} . {index:#x}"]
                if affinity:
                    assert f"{key} . {target}" in state.maps[kind + "sticky"]
            refuse = state.maps["refuse-ports" if kind else "refuse"]
            assert entry.endswith("-inside") or key not in refuse
