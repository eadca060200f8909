"""ServiceCIDRs that come and go, and IPAddresses that somebody changed: tables for the decisions, stories for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jota.controllers.ipaddressrepair import IPAddressRepairController, Step, plan_address, plan_service
from jota.controllers.servicecidr import FINALIZER, ServiceCIDRController, held
from jota.kinds.networking.ipaddress import FAMILY, MANAGED_BY, of_service
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from jota.testing.cluster import ApiServer

from .stories import exists, running

Object = dict[str, Any]


def cidr(name: str, *cidrs: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


# -- may a range go?


@pytest.mark.parametrize(
    ("others", "addresses", "holds"),
    [
        ([], [], ""),
        ([], ["10.2.0.1", "2001:db8::9"], ""),
        ([], ["10.2.0.1", "10.1.0.9"], "10.1.0.9"),
        ([("twin", "10.1.0.0/24")], ["10.1.0.9"], ""),
        ([("wide", "10.0.0.0/8")], ["10.1.0.9"], ""),
        ([("narrow", "10.1.0.0/28")], ["10.1.0.9"], ""),
        ([("narrow", "10.1.0.0/28")], ["10.1.0.9", "10.1.0.99"], "10.1.0.99"),
        ([("narrow", "10.1.0.0/28")], ["10.1.0.15"], "10.1.0.15"),  # its broadcast address: not in it
        ([("six", "2001:db8::/64")], ["10.1.0.9"], "10.1.0.9"),
    ],
)
def test_a_range_is_held_by_addresses_that_no_other_has(
    others: list[tuple[str, str]], addresses: list[str], holds: str
) -> None:
    going = cidr("going", "10.1.0.0/24")
    assert held(going, [going, *(cidr(*other) for other in others)], addresses) == holds


def test_of_two_families_both_must_be_covered() -> None:
    going = cidr("going", "10.1.0.0/24", "2001:db8::/64")
    four, six = cidr("four", "10.0.0.0/8"), cidr("six", "2001:db8::/64")
    used = ["10.1.0.9", "2001:db8::9"]
    assert held(going, [going, four], used) == "2001:db8::9"
    assert held(going, [going, four, six], used) == ""


def ready(obj: Object) -> tuple[str, str, str]:
    (found,) = (c for c in obj["status"]["conditions"] if c["type"] == "Ready")
    return found["status"], found["reason"], found["message"]


READY = ("True", "", "Kubernetes Service CIDR is ready")
USED = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)


def with_both(test: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with running(ServiceCIDRController, IPAddressRepairController) as api:
                await test(api)

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


async def service(api: ApiServer, name: str, address: str = "") -> str:
    spec = {"ports": [{"port": 1}]} | ({"clusterIP": address} if address else {})
    made = await api.client.create(SERVICES, {"metadata": {"name": name}, "spec": spec}, "ns")
    return str(made["spec"]["clusterIP"])


async def told(api: ApiServer) -> list[tuple[str, str, str]]:
    """Events: about whom, why, what."""
    items = (await api.client.list(EVENTS))["items"]
    return sorted((e["involvedObject"]["name"], e["reason"], e["message"]) for e in items)


@with_both
async def test_every_range_gets_a_finalizer_and_is_ready(api: ApiServer) -> None:
    await api.client.create(SERVICE_CIDRS, cidr("more", "10.1.0.0/24"))
    await api.settle()
    for name in ("kubernetes", "more"):
        found = await api.client.get(SERVICE_CIDRS, name)
        assert found["metadata"]["finalizers"] == [FINALIZER]
        assert ready(found) == READY
    before = api.store.revision
    await api.advance(700)
    assert api.store.revision == before  # nothing is written twice


@with_both
async def test_an_unused_range_goes_after_its_grace(api: ApiServer) -> None:
    await api.client.create(SERVICE_CIDRS, cidr("more", "10.1.0.0/24"))
    await api.settle()
    await api.client.delete(SERVICE_CIDRS, "more")
    await api.advance(9)
    assert ready(await api.client.get(SERVICE_CIDRS, "more")) == READY
    await api.advance(2)
    assert not await exists(api, SERVICE_CIDRS, "more")


@with_both
async def test_a_used_range_stays_until_the_service_is_gone(api: ApiServer) -> None:
    await api.client.create(SERVICE_CIDRS, cidr("more", "10.1.0.0/24"))
    await api.settle()
    await service(api, "s", "10.1.0.9")
    await api.client.delete(SERVICE_CIDRS, "more")
    await api.advance(30)
    assert ready(await api.client.get(SERVICE_CIDRS, "more")) == USED
    with pytest.raises(ApiError, match="does not match the current range"):
        await service(api, "t", "10.1.0.10")
    await api.client.delete(SERVICES, "s", "ns")
    await api.settle()
    assert not await exists(api, SERVICE_CIDRS, "more")


@with_both
async def test_a_used_range_goes_when_another_takes_its_addresses(api: ApiServer) -> None:
    await api.client.create(SERVICE_CIDRS, cidr("more", "10.1.0.0/24"))
    await api.settle()
    await service(api, "s", "10.1.0.9")
    await api.client.delete(SERVICE_CIDRS, "more")
    await api.advance(30)
    await api.client.create(SERVICE_CIDRS, cidr("wider", "10.0.0.0/8"))
    await api.settle()
    assert not await exists(api, SERVICE_CIDRS, "more")
    assert (await api.client.get(SERVICES, "s", "ns"))["spec"]["clusterIP"] == "10.1.0.9"


@with_both
async def test_of_two_that_cover_each_other_one_stays(api: ApiServer) -> None:
    for name in ("a", "b"):
        await api.client.create(SERVICE_CIDRS, cidr(name, "10.1.0.0/24"))
    await api.settle()
    await service(api, "s", "10.1.0.9")
    for name in ("a", "b"):
        await api.client.delete(SERVICE_CIDRS, name)
    await api.advance(60)
    left = [c for c in (await api.client.list(SERVICE_CIDRS))["items"] if c["metadata"]["name"] != "kubernetes"]
    assert [ready(c) for c in left] == [USED]


@with_both
async def test_addresses_of_others_hold_nothing(api: ApiServer) -> None:
    await api.client.create(SERVICE_CIDRS, cidr("more", "10.1.0.0/24"))
    parent = {"group": "x.example.com", "resource": "things", "name": "t"}
    await api.client.create(IP_ADDRESSES, {"metadata": {"name": "10.1.0.9"}, "spec": {"parentRef": parent}})
    await api.settle()
    await api.client.delete(SERVICE_CIDRS, "more")
    await api.advance(11)
    assert not await exists(api, SERVICE_CIDRS, "more")


# -- Services and IPAddresses that disagree

RANGE = [cidr("kubernetes", "10.1.0.0/24")]
BORN = "2026-01-01T00:00:00Z"
NOW = 1767225600.0
"""BORN, in seconds."""


def svc(name: str = "s", address: str = "10.1.0.9", **spec: Any) -> Object:
    meta = {"name": name, "namespace": "ns", "creationTimestamp": BORN}
    return {"metadata": meta, "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], **spec}}


def held_by(name: str, address: str = "10.1.0.9", born: str = BORN) -> Object:
    made = of_service(address, "ns", name)
    made["metadata"] |= {"creationTimestamp": born}
    return made


def unlabelled(obj: Object, label: str) -> Object:
    del obj["metadata"]["labels"][label]
    return obj


def foreign(address: str = "10.1.0.9") -> Object:
    made = held_by("g", address)
    made["spec"]["parentRef"] = {"group": "x.example.com", "resource": "things", "name": "g"}
    return made


WRONG = "the ClusterIP [IPv4]: 10.1.0.9 for Service ns/s has a wrong reference; repairing"


@pytest.mark.parametrize(
    ("service", "address", "others", "steps"),
    [
        (svc(), held_by("s"), [], []),
        (svc(address="None"), None, [], []),
        (svc(type="ExternalName"), None, [], []),
        (
            svc(),
            None,
            [],
            [
                Step(
                    "10.1.0.9", "ClusterIPNotAllocated", "Cluster IP [IPv4]: 10.1.0.9 is not allocated; repairing", True
                )
            ],
        ),
        (
            svc(address="10.7.0.1"),
            None,
            [],
            [
                Step(
                    "10.7.0.1",
                    "ClusterIPOutOfRange",
                    "Cluster IP [IPv4]: 10.7.0.1 is not within any configured Service CIDR; please recreate service",
                )
            ],
        ),
        (svc(), foreign(), [], [Step("10.1.0.9", "ClusterIPNotAllocated", WRONG, True, True)]),
        (svc(), held_by("gone"), [], [Step("10.1.0.9", "ClusterIPNotAllocated", WRONG, True, True)]),
        (svc(), held_by("other"), [svc("other", "10.1.0.8")], []),
        (
            svc(),
            unlabelled(held_by("other"), MANAGED_BY),
            [svc("other", "10.1.0.8")],
            [Step("10.1.0.9", create=True, delete=True)],
        ),
        (
            svc(),
            held_by("other"),
            [svc("other")],
            [
                Step(
                    "10.1.0.9",
                    "ClusterIPAlreadyAllocated",
                    "Cluster IP [IPv4]:10.1.0.9 was assigned to multiple services; please recreate service",
                )
            ],
        ),
        (svc(), unlabelled(held_by("s"), FAMILY), [], [Step("10.1.0.9", create=True, delete=True)]),
        (svc(), unlabelled(held_by("s"), MANAGED_BY), [], [Step("10.1.0.9", create=True, delete=True)]),
    ],
)
def test_what_a_service_lacks(service: Object, address: Object | None, others: list[Object], steps: list[Step]) -> None:
    known = {address["metadata"]["name"]: address} if address else {}
    services = {f"ns/{s['metadata']['name']}": s for s in others}
    assert plan_service(service, RANGE, known, services) == steps


LEAK = "IPAddress: 10.1.0.9 for Service ns/s appears to have leaked: cleaning up"
ASTRAY = "IPAddress: 10.1.0.9 for Service ns/s has a wrong reference; cleaning up"
SHOWN = "&ParentReference{Group:x.example.com,Resource:things,Namespace:,Name:g,}"
LATER = "2026-01-01T00:00:01Z"


@pytest.mark.parametrize(
    ("address", "service", "age", "reason", "message", "again"),
    [
        (held_by("s"), svc(), 999, "", "", None),
        (unlabelled(held_by("s"), MANAGED_BY), None, 999, "", "", None),
        (held_by("s"), None, 60, "", "", 1.0),
        (held_by("s"), None, 61, "IPAddressNotAllocated", LEAK, None),
        (held_by("s"), svc(address="10.1.0.8"), 0, "IPAddressWrongReference", ASTRAY, None),
        (held_by("s", born=LATER), svc(address="10.1.0.8"), 3, "", "", 3.0),
        (held_by("s", born=LATER), svc(address="10.1.0.8"), 6, "IPAddressWrongReference", ASTRAY, None),
        (held_by("s"), svc(type="ExternalName"), 20, "", "", 40.0),
        (held_by("s"), svc(type="ExternalName"), 60, "IPAddressWrongReference", ASTRAY, None),
        (
            foreign(),
            None,
            0,
            "IPAddressNotAllocated",
            f"IPAddress 10.1.0.9 appears to have been modified, not referencing a Service {SHOWN}: cleaning up",
            None,
        ),
    ],
)
def test_what_becomes_of_an_address(
    address: Object, service: Object | None, age: float, reason: str, message: str, again: float | None
) -> None:
    step, later = plan_address(address, service, NOW + age)
    assert later == again
    assert step == (Step("10.1.0.9", reason, message, delete=True) if reason else None)


@with_both
async def test_the_way_of_every_service_is_no_repair(api: ApiServer) -> None:
    for i in range(5):
        await service(api, f"s{i}")
    await api.client.patch(SERVICES, "s1", "ns", {"spec": {"type": "ExternalName", "externalName": "a.b"}})
    await api.client.delete(SERVICES, "s2", "ns")
    await api.settle()
    await api.advance(700)
    assert await told(api) == []
    assert len((await api.client.list(IP_ADDRESSES))["items"]) == 4  # s0, s3, s4, kubernetes


@with_both
async def test_a_missing_address_is_made_again(api: ApiServer) -> None:
    address = await service(api, "s")
    await api.client.delete(IP_ADDRESSES, address)
    await api.settle()
    again = await api.client.get(IP_ADDRESSES, address)
    wanted = of_service(address, "ns", "s")
    assert again["spec"] == wanted["spec"]
    assert again["metadata"]["labels"] == wanted["metadata"]["labels"]
    text = f"Cluster IP [IPv4]: {address} is not allocated; repairing"
    assert await told(api) == [("s", "ClusterIPNotAllocated", text)]


@with_both
async def test_lost_labels_come_back(api: ApiServer) -> None:
    address = await service(api, "s")
    await api.client.patch(IP_ADDRESSES, address, "", {"metadata": {"labels": {MANAGED_BY: "me"}}})
    await api.settle()
    assert (await api.client.get(IP_ADDRESSES, address))["metadata"]["labels"][MANAGED_BY] == "ipallocator.k8s.io"


@with_both
async def test_an_orphan_goes_and_frees_its_address(api: ApiServer) -> None:
    await api.client.create(IP_ADDRESSES, of_service("10.96.0.9", "ns", "gone"))
    await api.advance(59)
    with pytest.raises(ApiError, match="provided IP is already allocated"):
        await service(api, "s", "10.96.0.9")
    await api.advance(5)
    assert not await exists(api, IP_ADDRESSES, "10.96.0.9")
    text = "IPAddress: 10.96.0.9 for Service ns/gone appears to have leaked: cleaning up"
    assert await told(api) == [("10.96.0.9", "IPAddressNotAllocated", text)]
    await service(api, "s", "10.96.0.9")


@with_both
async def test_an_address_too_many_goes(api: ApiServer) -> None:
    address = await service(api, "s")
    await api.client.create(IP_ADDRESSES, of_service("10.96.0.9", "ns", "s"))
    await api.advance(10)
    names = [i["metadata"]["name"] for i in (await api.client.list(IP_ADDRESSES))["items"]]
    assert sorted(names) == sorted(["10.96.0.1", address])
    assert [reason for _, reason, _ in await told(api)] == ["IPAddressWrongReference"]


@with_both
async def test_somebody_elses_claim_to_a_services_address_is_put_right(api: ApiServer) -> None:
    address = await service(api, "s")
    await api.client.delete(IP_ADDRESSES, address)
    parent = {"group": "x.example.com", "resource": "things", "name": "t"}
    claim = {"metadata": {"name": address}, "spec": {"parentRef": parent}}
    if (await api.request("POST", IP_ADDRESSES.path(), claim)).status != 201:
        pytest.fail("the repair was faster than the story")
    await api.advance(5)
    assert (await api.client.get(IP_ADDRESSES, address))["spec"]["parentRef"]["name"] == "s"


@with_both
async def test_addresses_of_others_are_left_alone(api: ApiServer) -> None:
    parent = {"resource": "services", "namespace": "ns", "name": "nobody"}
    await api.client.create(IP_ADDRESSES, {"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": parent}})
    await api.advance(700)
    assert await exists(api, IP_ADDRESSES, "10.96.0.9")
    assert await told(api) == []
