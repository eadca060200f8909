"""Service addresses over all ServiceCIDRs: what a range gives as tables, then the API with two of them, and IPAddresses that
are there exactly as long as the Services whose addresses they are."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jota.api.admission.service_ranges import Ranges, candidates, offset
from jota.api.config import ApiConfig
from jota.kinds.networking.servicecidr import contains
from jota.kinds.table import KINDS
from jota.meta.errors import ApiError
from jota.meta.resource import IP_ADDRESSES, SERVICE_CIDRS, SERVICES, Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
SMALL = ApiConfig(service_cidr="10.0.0.0/29")


async def service(api: ApiServer, name: str, **spec: Any) -> str:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
    return str((await api.client.create(SERVICES, body, "default"))["spec"].get("clusterIP"))


async def cidr(api: ApiServer, name: str, *cidrs: str) -> Object:
    return await api.client.create(SERVICE_CIDRS, {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}})


async def owners(api: ApiServer) -> dict[str, str]:
    """Address -> who the IPAddress says has it."""
    items = (await api.client.list(IP_ADDRESSES))["items"]
    parents = {i["metadata"]["name"]: i["spec"]["parentRef"] for i in items}
    return {address: f"{p.get('namespace', '')}/{p['name']}" for address, p in parents.items()}


def with_server(config: ApiConfig = SMALL) -> Callable[[Callable[[ApiServer], Awaitable[None]]], Callable[[], None]]:
    def decorate(test: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                async with ApiServer(config=config) as api:
                    await test(api)

            asyncio.run(main())

        run.__name__ = test.__name__
        return run

    return decorate


# -- one range


@pytest.mark.parametrize(
    ("network", "kept"),
    [
        ("10.0.0.0/29", 0),
        ("10.0.0.0/28", 0),
        ("10.0.0.0/27", 16),
        ("10.0.0.0/24", 16),
        ("10.0.0.0/23", 32),
        ("10.0.0.0/20", 256),
        ("10.96.0.0/12", 256),
        ("2001:db8::/64", 256),
    ],
)
def test_the_lower_part_is_as_large_as_upstreams(network: str, kept: int) -> None:
    assert offset(ipaddress.ip_network(network)) == kept


@pytest.mark.parametrize("network", ["10.0.0.0/31", "10.0.0.0/30", "10.0.0.0/28", "10.0.0.0/27", "10.1.0.0/24"])
def test_a_range_gives_every_address_that_it_contains_and_the_upper_part_first(network: str) -> None:
    net = ipaddress.ip_network(network)
    given = list(dict.fromkeys(candidates(net, Random(1))))
    assert sorted(given) == sorted(str(a) for a in net if contains(net, str(a)))
    low = {str(net[i]) for i in range(1, 1 + offset(net))}
    upper = len(given) - len(low & set(given))
    assert not low & set(given[:upper])


def test_a_wide_range_is_not_written_out() -> None:
    assert len(list(islice(candidates(ipaddress.ip_network("2001:db8::/64"), Random(1)), 1000))) == 1000


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.0", False),
        ("10.0.0.1", True),
        ("10.0.0.6", True),
        ("10.0.0.7", False),
        ("10.0.0.8", False),
        ("nobody", False),
        ("2001:db8::1", False),
    ],
)
def test_network_and_broadcast_addresses_belong_to_no_range(address: str, inside: bool) -> None:
    assert contains(ipaddress.ip_network("10.0.0.0/29"), address) is inside


def test_ranges_follow_the_objects() -> None:
    def made(name: str, *cidrs: str, ready: str = "", going: bool = False) -> Object:
        conditions = [{"type": "Ready", "status": ready}] if ready else []
        meta = {"name": name} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {})
        return {"metadata": meta, "spec": {"cidrs": list(cidrs)}, "status": {"conditions": conditions}}

    ranges = Ranges(4)
    a = made("a", "10.1.0.0/30", "2001:db8::/64")
    ranges.change(a, None)
    ranges.change(default := made("kubernetes", "10.9.0.0/30", ready="True"), None)
    assert list(dict.fromkeys(ranges.candidates(Random(1)))) in (
        ["10.9.0.1", "10.9.0.2", "10.1.0.1", "10.1.0.2"],
        ["10.9.0.2", "10.9.0.1", "10.1.0.2", "10.1.0.1"],
        ["10.9.0.1", "10.9.0.2", "10.1.0.2", "10.1.0.1"],
        ["10.9.0.2", "10.9.0.1", "10.1.0.1", "10.1.0.2"],
    )
    assert not ranges.has("2001:db8::1")
    ranges.change(made("kubernetes", "10.9.0.0/30", ready="False"), default)
    assert [ranges.has(x) for x in ("10.9.0.1", "10.1.0.1")] == [False, True]
    ranges.change(twin := made("twin", "10.1.0.0/30"), None)
    ranges.change(made("a", "10.1.0.0/30", going=True), a)
    assert ranges.has("10.1.0.1")  # by the other of the same range
    ranges.change(None, twin)
    assert list(ranges.candidates(Random(1))) == []


# -- the API


@with_server()
async def test_the_range_of_the_start_is_an_object_that_is_ready(api: ApiServer) -> None:
    found = await api.client.get(SERVICE_CIDRS, "kubernetes")
    assert found["spec"] == {"cidrs": ["10.0.0.0/29"]}
    (condition,) = found["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert condition["message"] == "Kubernetes default Service CIDR is ready"
    assert await owners(api) == {"10.0.0.1": "default/kubernetes"}
    await api.client.delete(SERVICE_CIDRS, "kubernetes")
    await api.settle()
    again = await api.client.get(SERVICE_CIDRS, "kubernetes")
    assert again["metadata"]["uid"] != found["metadata"]["uid"]
    assert again["status"]["conditions"][0]["status"] == "True"


@with_server()
async def test_a_second_range_takes_over_when_the_first_is_full(api: ApiServer) -> None:
    for i in range(5):
        await service(api, f"s{i}")
    with pytest.raises(ApiError, match='failed to allocate a serviceIP for Service "more": range is full') as full:
        await service(api, "more")
    assert full.value.code == 500
    await cidr(api, "more", "10.7.0.0/30")
    assert {await service(api, "t0"), await service(api, "t1")} == {"10.7.0.1", "10.7.0.2"}
    with pytest.raises(ApiError, match="range is full"):
        await service(api, "t2")


@with_server()
async def test_a_fixed_address_may_be_of_any_ready_range(api: ApiServer) -> None:
    with pytest.raises(ApiError) as refused:
        await service(api, "s", clusterIP="10.7.0.9")
    words = "failed to allocate IP 10.7.0.9: the provided network does not match the current range"
    assert (refused.value.code, words in refused.value.message) == (422, True)
    await cidr(api, "more", "10.7.0.0/24")
    assert await service(api, "s", clusterIP="10.7.0.9") == "10.7.0.9"
    with pytest.raises(ApiError, match=r"failed to allocate IP 10.7.0.9: provided IP is already allocated"):
        await service(api, "t", clusterIP="10.7.0.9")
    for edge in ("10.7.0.0", "10.7.0.255"):
        with pytest.raises(ApiError, match="does not match the current range"):
            await service(api, "t", clusterIP=edge)
    down = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": ""}]}}
    stamp = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    down["status"]["conditions"][0] |= stamp
    await api.client.patch(SERVICE_CIDRS, "more", "", down, subresource="status")
    with pytest.raises(ApiError, match="does not match the current range"):
        await service(api, "t", clusterIP="10.7.0.10")
    changed = await api.client.patch(SERVICES, "s", "default", {"spec": {"selector": {"a": "b"}}})
    assert changed["spec"]["clusterIP"] == "10.7.0.9"  # who has an address may be changed all the same


@with_server()
async def test_a_range_that_is_being_deleted_gives_nothing_more(api: ApiServer) -> None:
    body = {"metadata": {"name": "more", "finalizers": ["example.com/hold"]}, "spec": {"cidrs": ["10.7.0.0/24"]}}
    await api.client.create(SERVICE_CIDRS, body)
    await service(api, "s", clusterIP="10.7.0.9")
    await api.client.delete(SERVICE_CIDRS, "more")
    with pytest.raises(ApiError, match="does not match the current range"):
        await service(api, "t", clusterIP="10.7.0.10")


@with_server()
async def test_addresses_come_and_go_with_their_services(api: ApiServer) -> None:
    address = await service(api, "s")
    found = await api.client.get(IP_ADDRESSES, address)
    family, manager = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
    assert found["metadata"]["labels"] == {family: "IPv4", manager: "ipallocator.k8s.io"}
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "s"}
    assert found["spec"] == {"parentRef": parent}
    assert found["metadata"]["uid"]
    assert found["metadata"]["creationTimestamp"]
    made = (await api.client.get(SERVICES, "s", "default"))["metadata"]["resourceVersion"]
    assert int(found["metadata"]["resourceVersion"]) == int(made) + 1  # the same commit
    await service(api, "headless", clusterIP="None")
    await service(api, "away", type="ExternalName", externalName="a.b")
    assert await owners(api) == {"10.0.0.1": "default/kubernetes", address: "default/s"}
    out = {"spec": {"type": "ExternalName", "externalName": "x.y"}}
    await api.client.patch(SERVICES, "s", "default", out)
    assert await owners(api) == {"10.0.0.1": "default/kubernetes"}
    back = {"spec": {"type": "ClusterIP", "externalName": None}}
    again = (await api.client.patch(SERVICES, "s", "default", back))["spec"]["clusterIP"]
    assert await owners(api) == {"10.0.0.1": "default/kubernetes", again: "default/s"}
    await api.client.delete(SERVICES, "s", "default")
    assert await owners(api) == {"10.0.0.1": "default/kubernetes"}


@with_server()
async def test_the_last_finalizer_takes_the_address_along(api: ApiServer) -> None:
    body = {"metadata": {"name": "s", "finalizers": ["a.b/c"]}, "spec": {"ports": [{"port": 1}]}}
    address = (await api.client.create(SERVICES, body, "default"))["spec"]["clusterIP"]
    await api.client.delete(SERVICES, "s", "default")
    assert (await owners(api))[address] == "default/s"
    await api.client.patch(SERVICES, "s", "default", {"metadata": {"finalizers": None}})
    assert address not in await owners(api)
    for name in ("a", "b"):
        await service(api, name)
    await api.client.delete_collection(SERVICES, "default")
    assert await owners(api) == {}


@with_server()
async def test_what_is_refused_leaves_no_address_behind(api: ApiServer) -> None:
    await service(api, "s")
    before = await owners(api)
    for _ in range(9):  # more often than there are addresses: none may stay reserved
        with pytest.raises(ApiError, match="already exists"):
            await service(api, "s")
    body = {"metadata": {"name": "dry"}, "spec": {"ports": [{"port": 1}]}}
    assert (await api.request("POST", "/api/v1/namespaces/default/services?dryRun=All", body)).status == 201
    assert await owners(api) == before
    assert len({await service(api, f"t{i}") for i in range(4)}) == 4


@with_server()
async def test_a_refused_address_costs_no_quota(api: ApiServer) -> None:
    await service(api, "s", clusterIP="10.0.0.3")
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"services": "3"}}}
    await api.client.create(Resource("", "v1", "resourcequotas", "ResourceQuota"), quota, "default")
    for i in range(3):
        with pytest.raises(ApiError, match="provided IP is already allocated"):
            await service(api, f"t{i}", clusterIP="10.0.0.3")
    await service(api, "u")
    with pytest.raises(ApiError, match="exceeded quota"):
        await service(api, "v")


@with_server()
async def test_an_address_that_something_else_has_is_not_handed_out(api: ApiServer) -> None:
    parent = {"group": "gateways.example.com", "resource": "gateways", "namespace": "a", "name": "g"}
    for last in (2, 3, 4, 5):
        taken = {"metadata": {"name": f"10.0.0.{last}"}, "spec": {"parentRef": parent}}
        await api.client.create(IP_ADDRESSES, taken)
    with pytest.raises(ApiError, match="provided IP is already allocated"):
        await service(api, "s", clusterIP="10.0.0.3")
    assert await service(api, "s") == "10.0.0.6"
    with pytest.raises(ApiError, match="range is full"):
        await service(api, "t")
    await api.client.delete(IP_ADDRESSES, "10.0.0.3")
    assert await service(api, "t") == "10.0.0.3"


@with_server()
async def test_a_service_whose_ipaddress_someone_took_may_still_be_changed(api: ApiServer) -> None:
    address = await service(api, "s")
    await api.client.delete(IP_ADDRESSES, address)
    parent = {"group": "x.example.com", "resource": "things", "name": "g"}
    await api.client.create(IP_ADDRESSES, {"metadata": {"name": address}, "spec": {"parentRef": parent}})
    await api.client.patch(SERVICES, "s", "default", {"spec": {"selector": {"a": "b"}}})
    await api.client.delete(SERVICES, "s", "default")
    assert (await owners(api))[address] == "/g"  # theirs


@with_server()
async def test_two_at_once_never_get_the_same_address(api: ApiServer) -> None:
    async def wish(name: str, address: str) -> str | int:
        try:
            return await service(api, name, **({"clusterIP": address} if address else {}))
        except ApiError as e:
            return e.code

    async def name(address: str) -> int:
        parent = {"group": "x.example.com", "resource": "things", "name": "g"}
        body = {"metadata": {"name": address}, "spec": {"parentRef": parent}}
        return (await api.request("POST", IP_ADDRESSES.path(), body)).status

    fixed = await asyncio.gather(wish("a", "10.0.0.3"), wish("b", "10.0.0.3"), name("10.0.0.3"))
    assert fixed == ["10.0.0.3", 422, 409]
    first = await asyncio.gather(name("10.0.0.4"), wish("c", "10.0.0.4"))
    assert first == [201, 422]
    got = await asyncio.gather(*(wish(f"d{i}", "") for i in range(5)))
    assert sorted(map(str, got)) == ["10.0.0.2", "10.0.0.5", "10.0.0.6", "500", "500"]
    both = await asyncio.gather(wish("e", "10.0.0.9"), wish("e", "10.0.0.9"))
    assert both == [422, 422]
    await api.client.delete(SERVICES, "a", "default")
    same = await asyncio.gather(wish("a", "10.0.0.3"), wish("a", "10.0.0.3"))
    assert same == ["10.0.0.3", 409]
    assert (await owners(api))["10.0.0.3"] == "default/a"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["new", "go", "out", "in", "range", "unrange"]), st.integers(0, 5)), max_size=30)
)
@example([("new", 0)] * 10 + [("go", 0), ("new", 0)])  # made again while its deletion is on its way
def test_ipaddresses_are_what_services_have(steps: list[tuple[str, int]]) -> None:
    """Property: after whatever was done, at once or one after the other, each address of a Service has its IPAddress, and
    there are no others."""

    async def one(api: ApiServer, step: str, n: int) -> None:
        client = api.client
        try:
            if step == "new":
                await service(api, f"s{n}")
            elif step == "go":
                await client.delete(SERVICES, f"s{n}", "default")
            elif step == "range":
                await cidr(api, f"r{n}", f"10.{n}.0.0/30")
            elif step == "unrange":
                await client.delete(SERVICE_CIDRS, f"r{n}")
            else:
                type = "ExternalName" if step == "out" else "ClusterIP"
                await client.patch(SERVICES, f"s{n}", "default", {"spec": {"type": type, "externalName": "x.y"}})
        except ApiError as e:
            assert e.code in (404, 409, 500), e

    async def main() -> None:
        async with ApiServer(config=SMALL) as api:
            for at in range(0, len(steps), 5):
                await asyncio.gather(*(one(api, *step) for step in steps[at : at + 5]))
            items = (await api.client.list(SERVICES))["items"]
            held = [(ip, f"default/{s['metadata']['name']}") for s in items for ip in s["spec"].get("clusterIPs", ())]
            assert len(held) == len(dict(held))
            assert await owners(api) == dict(held)

    asyncio.run(main())


def test_without_servicecidrs_the_range_of_the_start_is_used() -> None:
    async def main() -> None:
        kinds = [k for k in KINDS if k.resource not in (SERVICE_CIDRS, IP_ADDRESSES)]
        async with ApiServer(config=SMALL, kinds=kinds) as api:
            assert {await service(api, f"s{i}") for i in range(5)} == {f"10.0.0.{i}" for i in range(2, 7)}
            await api.client.delete(SERVICES, "s0", "default")
            assert await service(api, "t")

    asyncio.run(main())


# -- the kinds' rules


@story
async def test_rules_of_servicecidrs(api: ApiServer) -> None:
    for cidrs, words in (
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (["10.1.0.0/24"] * 3, "may only hold up to 2 values"),
        (["10.1.0.0"], "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        (["10.1.0.0/33"], "must be a valid CIDR value"),
        (["10.1.0.1/24"], "must not have bits set beyond the prefix length"),
        (["2001:DB8::/64"], 'must be in canonical form ("2001:db8::/64")'),
        (["::ffff:10.0.0.0/120"], "must not have an IPv4-mapped IPv6 address"),
        (["10.1.0.0/24", "10.2.0.0/24"], "may specify no more than one IP for each IP family"),
    ):
        with pytest.raises(ApiError) as refused:
            await cidr(api, "bad", *cidrs)
        assert words in refused.value.message
    await cidr(api, "one", "10.1.0.0/24")
    for patch, code in (
        (["10.2.0.0/24"], 422),
        ([], 422),
        (["10.1.0.0/24", "10.2.0.0/24"], 422),
        (["10.1.0.0/24", "2001:db8::/64"], 0),
        (["10.1.0.0/24"], 422),
    ):
        if code:
            with pytest.raises(ApiError) as refused:
                await api.client.patch(SERVICE_CIDRS, "one", "", {"spec": {"cidrs": patch}})
            assert refused.value.code == code, patch
        else:
            await api.client.patch(SERVICE_CIDRS, "one", "", {"spec": {"cidrs": patch}})
