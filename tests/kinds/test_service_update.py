"""Updates of services: what was handed out is kept when a client leaves it out, and dropped when the type needs it no more."""

from __future__ import annotations

from typing import Any

from kinds_build import changed, kind, service, shown

SERVICES = kind("services")


def allocated(**spec: Any) -> dict[str, Any]:
    out = service(**{"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"], **spec})
    for i, port in enumerate(out["spec"]["ports"]):
        if out["spec"]["type"] in ("NodePort", "LoadBalancer"):
            port["nodePort"] = 30000 + i
    return out


def update(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    SERVICES.prepare_update(new, old)
    assert shown(SERVICES.validate(new) + SERVICES.validate_update(new, old)) == []
    return new["spec"]


def test_a_put_without_addresses_keeps_them() -> None:
    spec = update(service(type="NodePort"), allocated(type="NodePort"))
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.96.0.7", ["10.96.0.7"])
    assert spec["ports"][0]["nodePort"] == 30000


def test_node_ports_follow_protocol_and_port() -> None:
    old = allocated(type="NodePort", ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}])
    spec = update(service(type="NodePort", ports=[{"name": "b", "port": 2}, {"name": "c", "port": 3}]), old)
    assert [p.get("nodePort") for p in spec["ports"]] == [30001, None]


def test_back_to_cluster_ip_drops_node_ports() -> None:
    old = allocated(type="LoadBalancer")
    new = changed(old, "spec.type", "ClusterIP")
    spec = update(new, old)
    assert "nodePort" not in spec["ports"][0]
    for field in ("allocateLoadBalancerNodePorts", "externalTrafficPolicy"):
        assert field not in spec


def test_to_external_name_drops_addresses() -> None:
    old = allocated()
    new = changed(changed(old, "spec.type", "ExternalName"), "spec.externalName", "db.example.com")
    spec = update(new, old)
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"):
        assert field not in spec


def test_the_address_is_fixed() -> None:
    old = allocated()
    new = changed(old, "spec.clusterIP", "10.96.0.8")
    SERVICES.prepare_update(new, old)
    assert shown(SERVICES.validate_update(new, old)) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set'
    ]


def test_selectable_fields() -> None:
    assert SERVICES.selectable["spec.clusterIP"](allocated()) == "10.96.0.7"
    assert SERVICES.selectable["spec.type"](allocated()) == "ClusterIP"
