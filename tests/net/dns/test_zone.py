"""What the zone says: the Kubernetes DNS specification as a table, and incremental changes as a property."""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.net.dns import packet
from jota.net.dns.packet import AAAA, CNAME, NOERROR, NXDOMAIN, PTR, SOA, SRV, TXT, A, decode_name, encode_name
from jota.net.dns.zone import Record, Zone
from jota.net.objects import EndpointSlice, Service


def service(name: str, ip: str = "10.96.0.9", **spec: Any) -> Service:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    whole = {"clusterIP": ip, "ports": ports, **spec}
    return msgspec.convert({"metadata": {"name": name, "namespace": "shop"}, "spec": whole}, Service)


def slice_of(name: str, *endpoints: dict[str, Any]) -> EndpointSlice:
    meta = {"name": f"{name}-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": name}}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return msgspec.convert({"metadata": meta, "endpoints": list(endpoints), "ports": ports}, EndpointSlice)


def endpoint(address: str, hostname: str | None = None, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "hostname": hostname, "conditions": conditions or None}


def zone() -> Zone:
    made = Zone("cluster.local", address="10.96.0.10")
    made.set_namespace("shop", True)
    made.set_service(service("web"), [])
    made.set_service(
        service("db", "None"),
        [
            slice_of(
                "db",
                endpoint("10.244.0.7", "db-0"),
                endpoint("10.244.0.8"),
                endpoint("10.244.0.9", "db-2", ready=False),
            )
        ],
    )
    made.set_service(service("empty", "None"), [])
    made.set_service(service("mail", "", type="ExternalName", externalName="Mail.Example.com."), [])
    made.set_service(service("alias", "", type="ExternalName", externalName="web.shop.svc.cluster.local"), [])
    made.set_service(service("loop", "", type="ExternalName", externalName="loop.shop.svc.cluster.local"), [])
    return made


def show(kind: int, data: bytes) -> str:
    if kind == A:
        return socket.inet_ntoa(data)
    if kind == SRV:
        return f"{struct.unpack('!HHH', data[:6])} {decode_name(data[6:])}"
    if kind == TXT:
        return data[1:].decode()
    return decode_name(data)


def ask(made: Zone, name: str, kind: int = A) -> tuple[int, list[str]] | None:
    answer = made.lookup(encode_name(name), kind)
    if answer is None:
        return None
    shown = []
    for raw in answer.records:
        offset = 2 if raw.startswith(packet.QUESTION_POINTER) else packet._name_end(raw, 0)
        found, _, _, size = struct.unpack_from("!HHIH", raw, offset)
        shown.append(show(found, raw[offset + 10 : offset + 10 + size]))
    assert bool(answer.authority) == (not shown)
    return answer.code, sorted(shown)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.shop.svc.cluster.local", A, ["10.96.0.9"]),
        ("web.shop.svc.cluster.local", AAAA, []),
        ("_http._tcp.web.shop.svc.cluster.local", SRV, ["(0, 100, 80) web.shop.svc.cluster.local"]),
        ("_dns._udp.web.shop.svc.cluster.local", SRV, ["(0, 100, 53) web.shop.svc.cluster.local"]),
        ("_dns._tcp.web.shop.svc.cluster.local", SRV, None),
        ("_tcp.web.shop.svc.cluster.local", SRV, []),
        ("9.0.96.10.in-addr.arpa", PTR, ["web.shop.svc.cluster.local"]),
        ("db.shop.svc.cluster.local", A, ["10.244.0.7", "10.244.0.8"]),
        ("db-0.db.shop.svc.cluster.local", A, ["10.244.0.7"]),
        ("10-244-0-8.db.shop.svc.cluster.local", A, ["10.244.0.8"]),
        ("db-2.db.shop.svc.cluster.local", A, None),
        ("7.0.244.10.in-addr.arpa", PTR, ["db-0.db.shop.svc.cluster.local"]),
        (
            "_http._tcp.db.shop.svc.cluster.local",
            SRV,
            [
                "(0, 100, 8080) 10-244-0-8.db.shop.svc.cluster.local",
                "(0, 100, 8080) db-0.db.shop.svc.cluster.local",
            ],
        ),
        ("empty.shop.svc.cluster.local", A, []),
        ("mail.shop.svc.cluster.local", CNAME, ["mail.example.com"]),
        ("mail.shop.svc.cluster.local", A, ["mail.example.com"]),
        ("alias.shop.svc.cluster.local", A, ["10.96.0.9", "web.shop.svc.cluster.local"]),
        ("10-244-0-7.shop.pod.cluster.local", A, ["10.244.0.7"]),
        ("10-244-0-7.shop.pod.cluster.local", AAAA, []),
        ("10-244-0-7.nowhere.pod.cluster.local", A, None),
        ("10-244-0.shop.pod.cluster.local", A, None),
        ("x.10-244-0-7.shop.pod.cluster.local", A, None),
        ("shop.svc.cluster.local", A, []),
        ("nowhere.svc.cluster.local", A, None),
        ("svc.cluster.local", A, []),
        ("cluster.local", packet.NS, ["ns.dns.cluster.local"]),
        ("ns.dns.cluster.local", A, ["10.96.0.10"]),
        ("dns-version.cluster.local", TXT, ["1.1.0"]),
        ("nope.shop.svc.cluster.local", A, None),
        ("web.shop.svc.cluster.local.shop.svc.cluster.local", A, None),
        ("example.com.shop.svc.cluster.local", A, None),
    ],
)
def test_names_of_the_cluster(name: str, kind: int, expected: list[str] | None) -> None:
    """None: NXDOMAIN; []: the name exists, without such records."""
    assert ask(zone(), name, kind) == ((NXDOMAIN, []) if expected is None else (NOERROR, expected))


@pytest.mark.parametrize(
    "name", ["example.com", "notcluster.local", "local", "8.8.8.8.in-addr.arpa", "10.in-addr.arpa", ""]
)
def test_other_names_are_not_ours(name: str) -> None:
    assert ask(zone(), name) is None


def test_the_apex_has_a_soa_whose_serial_grows() -> None:
    made = zone()

    def serial() -> int:
        answer = made.lookup(made.apex, SOA)
        assert answer is not None
        return int(struct.unpack("!I", answer.records[0][-20:-16])[0])

    before = serial()
    made.set_service(service("web"), [])
    assert serial() == before
    made.set_service(service("web", "10.96.0.8"), [])
    assert serial() > before


def test_an_external_name_outside_is_to_be_chased_and_a_loop_is_an_error() -> None:
    made = zone()
    answer = made.lookup(encode_name("mail.shop.svc.cluster.local"), A)
    assert answer is not None
    assert answer.chase == encode_name("mail.example.com")
    loop = made.lookup(encode_name("loop.shop.svc.cluster.local"), A)
    assert loop is not None
    assert loop.code == packet.SERVFAIL


def test_an_external_name_that_becomes_a_cluster_ip_changes_at_once() -> None:
    made = zone()
    made.set_service(service("mail"), [])
    assert ask(made, "mail.shop.svc.cluster.local") == (NOERROR, ["10.96.0.9"])
    assert ask(made, "9.0.96.10.in-addr.arpa", PTR) == (
        NOERROR,
        ["mail.shop.svc.cluster.local", "web.shop.svc.cluster.local"],
    )
    made.remove_service("shop/mail")
    made.remove_service("shop/mail")
    assert ask(made, "mail.shop.svc.cluster.local") == (NXDOMAIN, [])
    assert ask(made, "9.0.96.10.in-addr.arpa", PTR) == (NOERROR, ["web.shop.svc.cluster.local"])


def test_services_come_with_glue_for_srv() -> None:
    answer = zone().lookup(encode_name("_http._tcp.db.shop.svc.cluster.local"), SRV)
    assert answer is not None
    assert len(answer.additional) == 2


names = st.sampled_from(["a.x", "b.x", "c.b.x", "x", "cluster.local", "a.cluster.local"]).map(encode_name)
records = st.builds(Record, names, st.sampled_from([A, SRV, 0]), st.sampled_from([b"", bytes(4), bytes(8)]))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(records, max_size=5)), max_size=12))
def test_changes_leave_no_trace_but_the_last_state(steps: list[tuple[str, list[Record]]]) -> None:
    changed, fresh = Zone("cluster.local"), Zone("cluster.local")
    last = dict(steps)
    for owner, found in steps:
        changed.set_records(owner, found)
    for owner, found in last.items():
        fresh.set_records(owner, found)
    assert changed._names == fresh._names
    assert changed._below == fresh._below


some_endpoints = st.lists(
    st.builds(
        lambda n, host, ready: endpoint(f"10.244.0.{n}", host, ready=ready),
        st.integers(1, 5),
        st.sampled_from([None, None, "db-0", "db-1"]),
        st.booleans(),
    ),
    max_size=4,
)
slice_steps = st.lists(st.tuples(st.sampled_from("abc"), st.none() | some_endpoints), max_size=12)


@given(slice_steps, st.booleans())
def test_slices_that_change_one_by_one_leave_what_all_of_them_say(steps: list[tuple[str, Any]], gone: bool) -> None:
    changed, fresh, held = Zone("cluster.local"), Zone("cluster.local"), dict[str, EndpointSlice]()
    headless = service("db", "None")
    changed.set_service(headless, [])
    for name, endpoints in steps:
        if endpoints is None:
            held.pop(name, None)
            changed.remove_slice("shop/db", name)
        else:
            held[name] = slice_of("db", *endpoints)
            held[name].metadata.name = name
            changed.set_slice(headless, held[name])
    fresh.set_service(headless, held.values())
    assert changed._names == fresh._names
    assert changed._below == fresh._below
    after = service("db", "10.96.0.7")
    for made in (changed, fresh):
        made.set_service(after, held.values())
        if gone:
            made.remove_service("shop/db")
    with_an_address = Zone("cluster.local")
    if not gone:
        with_an_address.set_service(after, [])
    assert changed._names == fresh._names == with_an_address._names


@given(st.binary(max_size=80), st.integers(0, 260))
def test_no_name_makes_lookup_raise(name: bytes, kind: int) -> None:
    query = packet.parse(b"\0\0\1\0\0\1\0\0\0\0\0\0" + name + b"\0" + struct.pack("!HH", kind, 1))
    if isinstance(query, packet.Query):
        zone().lookup(query.name, query.kind)
        zone().lookup(query.name[:-1] + encode_name("pod.cluster.local"), query.kind)
