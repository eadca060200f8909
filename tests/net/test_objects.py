"""Which endpoints of a service are for this node: hints of slices, as kube-proxy reads them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jota.net.objects import EndpointSlice, Place, Served, Service, service_ports

SERVICE = msgspec.convert(
    {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}},
    Service,
)


def near(place: Place, *endpoints: dict[str, Any]) -> str:
    """Last digits of the addresses that are for `place`."""
    whole = [{"addresses": [f"10.0.0.{n}"], **e} for n, e in enumerate(endpoints)]
    body = {"metadata": {"name": "web-1"}, "endpoints": whole, "ports": [{"port": 80}]}
    (port,) = service_ports(SERVICE, [Served(msgspec.convert(body, EndpointSlice))], place)
    return "".join(sorted(e.ip[-1] for e in port.endpoints if e.near))


def for_(zone: str = "", node: str = "", ready: bool = True) -> dict[str, Any]:
    hints = {"forZones": [{"name": zone}] if zone else None, "forNodes": [{"name": node}] if node else None}
    conditions = {"ready": ready, "serving": True, "terminating": not ready}
    return {"hints": hints, "conditions": conditions}


@pytest.mark.parametrize(
    ("endpoints", "wanted"),
    [
        ([for_("x"), for_("y")], "0"),
        ([for_("x", "n1"), for_("x", "n2"), for_("y", "n3")], "0"),
        ([for_("x", "n2"), for_("y", "n3")], "0"),
        ([for_("x"), for_("x", "n1"), for_("y")], "01"),
        ([for_("y"), for_("z")], "01"),
        ([for_("x"), {}, for_("y")], "012"),
        ([for_("x"), {"hints": None}], "01"),
        ([for_("x"), for_("y"), for_("x", ready=False)], "02"),
        ([for_("x", ready=False), for_("y", ready=False)], "01"),
        ([for_("x", ready=False), for_("y")], "01"),
    ],
)
def test_hints_count_when_all_have_some_and_one_is_for_here(endpoints: list[dict[str, Any]], wanted: str) -> None:
    assert near(Place("n1", "x"), *endpoints) == wanted


def test_a_node_without_a_zone_uses_hints_for_nodes_only() -> None:
    assert near(Place("n1", ""), for_("x"), for_("y")) == "01"
    assert near(Place("n1", ""), for_("x", "n1"), for_("y", "n2")) == "0"
    assert near(Place(), for_("x", "n1"), for_("y", "n2")) == "01"


def test_an_endpoint_may_be_for_several_zones() -> None:
    both = {"hints": {"forZones": [{"name": "x"}, {"name": "y"}]}}
    assert near(Place("n1", "x"), both, for_("y")) == "0"
    assert near(Place("n1", "y"), both, for_("y")) == "01"
