"""The planner of endpoint slices: exact content, small changes, bounded slices; and the older Endpoints beside it."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jota.controllers.endpoints import Offered, subsets_of
from jota.controllers.endpointslice_plan import LIMIT, MANAGED_BY, plan

from .builders import pod

Object = dict[str, Any]


def service(**spec: Any) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    meta = {"name": "web", "namespace": "ns", "uid": "svc", "labels": {"team": "a"}}
    return {"metadata": meta, "spec": {"selector": {"app": "web"}, "ports": ports, "ipFamilies": ["IPv4"], **spec}}


HTTP = [{"name": "http", "containerPort": 8080}]


class Held:
    """The slices as the API would hold them."""

    def __init__(self) -> None:
        self.slices: list[Object] = []
        self.serial = 0

    def apply(self, svc: Object, pods: list[Any], zones: dict[str, str] | None = None) -> int:
        """Plan and carry out; the number of writes."""
        decided = plan(svc, pods, lambda node: (zones or {}).get(node, ""), self.slices)
        for one in decided.create:
            self.serial += 1
            self.slices.append({**one, "metadata": {**one["metadata"], "name": f"web-{self.serial:03}"}})
        for one in decided.update:
            self.slices = [one if s["metadata"]["name"] == one["metadata"]["name"] else s for s in self.slices]
        self.slices = [s for s in self.slices if s not in decided.delete]
        return len(decided.create) + len(decided.update) + len(decided.delete)

    def addresses(self) -> list[str]:
        return sorted(e["addresses"][0] for s in self.slices for e in s["endpoints"])


def test_an_endpoint_says_where_it_is_and_how_it_is() -> None:
    held = Held()
    pods = [
        pod("a", ip="10.0.0.1", ready=5, ports=HTTP),
        pod("b", ip="10.0.0.2", ready=False, ports=HTTP),
        pod("c", ip="10.0.0.3", ready=5, ports=HTTP, terminating=True),
        pod("d", ip="10.0.0.4", ready=5, ports=HTTP, phase="Succeeded"),
        pod("e", ready=5, ports=HTTP),
    ]
    held.apply(service(), pods, {"n1": "z1"})
    (one,) = held.slices
    assert one["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]
    assert [tuple(e["conditions"].values()) for e in one["endpoints"]] == [
        (True, True, False),
        (False, False, False),
        (False, True, True),
    ]
    assert one["endpoints"][0]["zone"] == "z1"
    assert one["endpoints"][0]["targetRef"]["uid"] == "uid-a"
    assert one["metadata"]["labels"]["team"] == "a"
    assert one["metadata"]["labels"][MANAGED_BY] == "endpointslice-controller.k8s.io"


def test_not_ready_addresses_may_be_published() -> None:
    held = Held()
    held.apply(service(publishNotReadyAddresses=True), [pod("b", ip="10.0.0.2", ready=False, ports=HTTP)])
    assert held.slices[0]["endpoints"][0]["conditions"]["ready"] is True


def test_no_pods_make_one_empty_slice_and_it_is_filled_later() -> None:
    held = Held()
    held.apply(service(), [])
    assert [s["endpoints"] for s in held.slices] == [[]]
    assert held.apply(service(), []) == 0
    held.apply(service(), [pod("a", ip="10.0.0.1", ready=5, ports=HTTP)])
    assert [len(s["endpoints"]) for s in held.slices] == [1]


def test_a_name_that_means_two_ports_makes_two_slices() -> None:
    held = Held()
    other = [{"name": "http", "containerPort": 9090}]
    held.apply(service(), [pod("a", ip="10.0.0.1", ports=HTTP), pod("b", ip="10.0.0.2", ports=other)])
    assert sorted(s["ports"][0]["port"] for s in held.slices) == [8080, 9090]


def test_two_families_have_their_own_slices() -> None:
    held = Held()
    both = pod("a", ip="10.0.0.1", ports=HTTP)
    both.status.podIPs = [*(both.status.podIPs or []), type((both.status.podIPs or [])[0])("fd00::1")]
    held.apply(service(ipFamilies=["IPv4", "IPv6"]), [both])
    assert {s["addressType"]: s["endpoints"][0]["addresses"] for s in held.slices} == {
        "IPv4": ["10.0.0.1"],
        "IPv6": ["fd00::1"],
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 350), min_size=1, max_size=5), st.integers(0, 2**32))
def test_slices_always_hold_exactly_the_pods(sizes: list[int], seed: int) -> None:
    held, random = Held(), Random(seed)
    everybody = [pod(f"p{n}", ip=f"10.0.{n // 250}.{n % 250}", ready=5, ports=HTTP) for n in range(350)]
    for size in sizes:
        pods = random.sample(everybody, size)
        held.apply(service(), pods)
        assert held.addresses() == sorted(p.ips[0] for p in pods)
        assert all(len(s["endpoints"]) <= LIMIT for s in held.slices)
        assert held.apply(service(), pods) == 0, "a second look must find nothing to do"


def test_one_pod_changes_one_slice() -> None:
    held = Held()
    pods = [pod(f"p{n}", ip=f"10.0.{n // 250}.{n % 250}", ready=5, ports=HTTP) for n in range(300)]
    held.apply(service(), pods)
    assert len(held.slices) == 3
    assert held.apply(service(), pods[1:]) == 1


def chosen_of(pods: list[Any], held: Collection[str] = ()) -> tuple[list[Object], bool]:
    """(subsets, whether others are left out)."""
    names, cut = Offered(service(), pods).choose(held)
    return subsets_of(service(), [p for p in pods if p.metadata.name in names]), cut


def test_endpoints_split_ready_and_not_ready() -> None:
    pods = [
        pod("a", ip="10.0.0.10", ready=5, ports=HTTP),
        pod("b", ip="10.0.0.2", ready=5, ports=HTTP),
        pod("c", ip="10.0.0.3", ready=False, ports=HTTP),
        pod("d", ip="10.0.0.4", ready=5, ports=HTTP, terminating=True),
    ]
    (subset,), cut = chosen_of(pods)
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.2", "10.0.0.10"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.3"]
    assert not cut
    many = [pod(f"p{n}", ip=f"10.{n // 62500}.{n // 250 % 250}.{n % 250}", ready=5, ports=HTTP) for n in range(1100)]
    (subset,), cut = chosen_of(many)
    assert cut
    assert len(subset["addresses"]) == 1000
