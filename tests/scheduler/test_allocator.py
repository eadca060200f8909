"""Devices for claims: tables of what is given and why not, and the search against brute force."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.scheduler.allocator import Grant
from jota.scheduler.devices import Devices
from jota.scheduler.deviceview import Claim, DeviceClass, Slice
from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus, Snapshot

from .dra import claim, device, device_class, request, slice_

Object = dict[str, Any]


def of(obj: Object, type: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(obj), type=type)


def world(slices: list[Object], classes: list[Object], claims: list[Object], nodes: str = "a b") -> Snapshot:
    snapshot = Snapshot()
    for name in nodes.split():
        snapshot.put_node(Node(NodeMeta(name, {"zone": name}), NodeSpec(), NodeStatus({"cpu": "1", "pods": "9"})))
    for s in slices:
        snapshot.devices.put_slice(s["metadata"]["name"], of(s, Slice))
    for c in classes:
        snapshot.devices.put_class(c["metadata"]["name"], of(c, DeviceClass))
    for c in claims:
        snapshot.devices.put_claim(of(c, Claim))
    return snapshot


def given_on(snapshot: Snapshot, node: str, *claims: str) -> dict[str, list[str]] | str:
    """Claim -> "request:device" of each result."""
    keys = tuple(("default", c) for c in claims)
    found = snapshot.devices.grants(snapshot, keys, snapshot.slots[node])
    if isinstance(found, str):
        return found
    return {key[1]: [f"{r['request']}:{r['device']}" for r in results(grant)] for key, grant in found.items()}


def results(grant: Grant) -> list[Object]:
    return list(grant.body["devices"]["results"])


FOUR = slice_(
    "a",
    device("g0", numa=0, model="A", memory="8Gi"),
    device("g1", numa=1, model="A", memory="16Gi"),
    device("g2", numa=1, model="B", memory="32Gi", more={"taints": [{"key": "sick", "effect": "NoSchedule"}]}),
    device("g3", numa=1, model="B", memory="32Gi"),
)
GPU = device_class("gpu", 'device.driver == "gpu.example.com"')
ONE = {"name": "one", "deviceClassName": "gpu"}
NUMA = {"matchAttribute": "gpu.example.com/numa"}
ATTRIBUTES = 'device.attributes["gpu.example.com"]'


@pytest.mark.parametrize(
    ("requests", "more", "expected"),
    [
        ([request()], {}, ["r:g0"]),
        ([request(count=3)], {}, ["r:g0", "r:g1", "r:g3"]),
        ([request("r", "gpu", f'{ATTRIBUTES}.model == "B"')], {}, ["r:g3"]),
        ([request("r", "gpu", 'device.capacity["gpu.example.com"].memory.isGreaterThan(quantity("8Gi"))')], {}, ["r:g1"]),
        ([request(capacity={"requests": {"memory": "20Gi"}})], {}, ["r:g3"]),
        ([request("r", "gpu", f'{ATTRIBUTES}.model == "B"', tolerations=[{"operator": "Exists"}])], {}, ["r:g2"]),
        ([request(count=2)], {"constraints": [NUMA]}, ["r:g1", "r:g3"]),
        ([request("x"), request("y")], {"constraints": [{**NUMA, "requests": ["y"]}]}, ["x:g0", "y:g1"]),
        ([request(count=2)], {"constraints": [{"distinctAttribute": "gpu.example.com/model"}]}, ["r:g0", "r:g3"]),
        (
            [request("r", "gpu", f"{ATTRIBUTES}.numa == 0", allocationMode="All")],
            {},
            ["r:g0"],
        ),
        (
            [{"name": "r", "firstAvailable": [{"name": "big", "deviceClassName": "gpu", "count": 9}, ONE]}],
            {},
            ["r/one:g0"],
        ),
        ([], {}, []),
    ],
)  # fmt: skip
def test_what_is_given(requests: list[Object], more: Object, expected: list[str]) -> None:
    made = claim("c", **more)
    made["spec"]["devices"]["requests"] = requests
    assert given_on(world([FOUR], [GPU], [made]), "a", "c") == {"c": expected}


@pytest.mark.parametrize(
    ("requests", "more", "text"),
    [
        ([request(count=4)], {}, '4 device(s) of class gpu wanted, 3 of 4 free (1 tainted)'),
        ([request("r", "gpu", "device.driver == 'other'")], {}, "no device of class gpu matches"),
        ([request(allocationMode="All")], {}, "all 4 device(s) of class gpu wanted, 3 of 4 free (1 tainted)"),
        ([request(count=3)], {"constraints": [NUMA]}, "no set of free devices meets all requests and constraints"),
        ([request("r", "gpu", f"{ATTRIBUTES}.nothing == 1")], {}, "failed for device gpu.example.com/g0: no such key: nothing"),
        ([request("r", "gpu", "1 +")], {}, "compilation failed"),
        ([request("r", "gpu", "'text'")], {}, "must evaluate to bool"),
    ],
)  # fmt: skip
def test_why_nothing_is_given(requests: list[Object], more: Object, text: str) -> None:
    found = given_on(world([FOUR], [GPU], [claim("c", *requests, **more)]), "a", "c")
    assert isinstance(found, str)
    assert text in found


def test_a_domain_that_a_device_lacks_reads_as_empty() -> None:
    guarded = request("r", "gpu", 'has(device.attributes["other.example.com"].x) || device.driver == "gpu.example.com"')
    assert given_on(world([FOUR], [GPU], [claim("c", guarded)]), "a", "c") == {"c": ["r:g0"]}


def test_claims_of_one_pod_share_no_device_but_admin_access_takes_none() -> None:
    admin = claim("admin", request("all", allocationMode="All", adminAccess=True, tolerations=[{"operator": "Exists"}]))
    snapshot = world([FOUR], [GPU], [claim("c1"), claim("c2"), admin])
    found = given_on(snapshot, "a", "c1", "admin", "c2")
    assert found == {"c1": ["r:g0"], "admin": ["all:g0", "all:g1", "all:g2", "all:g3"], "c2": ["r:g1"]}


def test_taken_devices_are_not_given_again_until_they_are_free() -> None:
    snapshot = world([FOUR], [GPU], [claim("c1", request(count=2)), claim("c2", request(count=2))])
    devices, key = snapshot.devices, (("default", "c2"),)
    first = devices.grants(snapshot, (("default", "c1"),), 0)
    assert isinstance(first, dict)
    assert devices.verdicts(snapshot, key)[0] == ""
    devices.assume(("default", "c1"), first["default", "c1"])
    assert "2 device(s) of class gpu wanted, 1 of 4 free" in devices.verdicts(snapshot, key)[0]
    written = {**claim("c1", request(count=2)), "status": {"allocation": first["default", "c1"].body}}
    devices.put_claim(of(written, Claim))
    assert not devices.assumed
    assert devices.verdicts(snapshot, key)[0] != ""
    devices.put_claim(of(claim("c1", request(count=2)), Claim))
    assert devices.verdicts(snapshot, key)[0] == ""


def test_where_an_allocation_can_be_used() -> None:
    zone = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}
    shared = slice_("", device("net"), driver="net.example.com", nodeSelector=zone)
    everywhere = slice_("", device("lic"), driver="lic.example.com", pool="licences")
    classes = [device_class(n, f'device.driver == "{n}.example.com"') for n in ("gpu", "net", "lic")]
    claims = [claim(n, request("r", n)) for n in ("gpu", "net", "lic")]
    snapshot = world([FOUR, shared, everywhere], classes, claims)

    def selector(name: str, slot: int) -> Any:
        found = snapshot.devices.grants(snapshot, (("default", name),), slot)
        assert isinstance(found, dict), found
        return found["default", name].body.get("nodeSelector")

    here = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    assert selector("gpu", 0) == {"nodeSelectorTerms": [{"matchFields": [here]}]}
    assert selector("net", 1) == zone
    assert selector("lic", 1) is None
    assert [bool(v) for v in snapshot.devices.verdicts(snapshot, (("default", "gpu"),))] == [False, True]
    assert [bool(v) for v in snapshot.devices.verdicts(snapshot, (("default", "net"),))] == [True, False]
    snapshot.put_node(Node(NodeMeta("a", {"zone": "b"}), NodeSpec(), NodeStatus({"cpu": "1", "pods": "9"})))
    assert [bool(v) for v in snapshot.devices.verdicts(snapshot, (("default", "net"),))] == [False, False]


@pytest.mark.parametrize(
    "feature",
    [
        {"allowMultipleAllocations": True},
        {"bindingConditions": ["ready"]},
        {"nodeAllocatableResources": {"cpu": {}}},
    ],
)
def test_devices_with_features_beyond_us_are_never_given_and_named(feature: Object) -> None:
    found = given_on(world([slice_("a", device("d", more=feature))], [GPU], [claim("c")]), "a", "c")
    assert isinstance(found, str)
    assert f"0 of 1 free ({next(iter(feature))}: not supported)" in found


def test_parts_of_one_card_draw_on_its_memory() -> None:
    def part(name: str, memory: str) -> Object:
        taken = [{"counterSet": "card", "counters": {"memory": {"value": memory}}}]
        return device(name, size=memory, more={"consumesCounters": taken})

    shared = [{"name": "card", "counters": {"memory": {"value": "40Gi"}}}]
    counters = slice_("a", name="counters", pool="a", slices=2, sharedCounters=shared)
    parts = slice_("a", part("whole", "40Gi"), part("half", "20Gi"), part("fifth", "8Gi"), name="parts", slices=2)
    small = request("r", "gpu", f'{ATTRIBUTES}.size != "40Gi"')
    claims = [
        claim("all"),
        claim("two", request("r", "gpu", f'{ATTRIBUTES}.size != "40Gi"', count=2)),
        claim("one", small),
    ]
    snapshot = world([counters, parts], [GPU], claims)
    assert given_on(snapshot, "a", "all") == {"all": ["r:whole"]}
    assert given_on(snapshot, "a", "two", "all") == "no set of free devices meets all requests of the claims"
    grants = snapshot.devices.grants(snapshot, (("default", "one"),), 0)
    assert isinstance(grants, dict)
    snapshot.devices.assume(("default", "one"), grants["default", "one"])
    assert "1 device(s) of class gpu wanted" not in str(given_on(snapshot, "a", "all"))
    assert given_on(snapshot, "a", "all") == {"all": ["r:fifth"]}, "the whole card is gone, a part is left"
    whole = claim("whole", request("r", "gpu", f'{ATTRIBUTES}.size == "40Gi"'))
    snapshot.devices.put_claim(of(whole, Claim))
    assert "0 of 1 free (their pool's counters are used up)" in str(given_on(snapshot, "a", "whole"))
    snapshot.devices.unassume(("default", "one"))
    assert given_on(snapshot, "a", "whole") == {"whole": ["r:whole"]}


def test_only_the_newest_whole_generation_of_a_pool_counts() -> None:
    old = slice_("a", device("old"), generation=1)
    new = slice_("a", device("new"), generation=2, slices=2, name="new-1")
    rest = slice_("a", device("rest"), generation=2, slices=2, name="new-2")
    snapshot = world([old], [GPU], [claim("c")])
    assert given_on(snapshot, "a", "c") == {"c": ["r:old"]}
    snapshot.devices.put_slice("new-1", of(new, Slice))
    assert "no device" in str(given_on(snapshot, "a", "c"))
    snapshot.devices.put_slice("new-2", of(rest, Slice))
    assert given_on(snapshot, "a", "c") == {"c": ["r:new"]}


def test_configuration_of_class_and_claim_goes_with_the_allocation() -> None:
    opaque = {"opaque": {"driver": "gpu.example.com", "parameters": {"mode": "fast"}}}
    cls = device_class("gpu", config=[opaque])
    config = [{**opaque, "requests": ["r"]}, {**opaque, "requests": ["elsewhere"]}]
    snapshot = world(
        [FOUR], [cls], [claim("c", request(tolerations=[{"key": "sick", "operator": "Exists"}]), config=config)]
    )
    found = snapshot.devices.grants(snapshot, (("default", "c"),), 0)
    assert isinstance(found, dict)
    body = found["default", "c"].body["devices"]
    assert [c["source"] for c in body["config"]] == ["FromClass", "FromClaim"]
    assert body["results"][0]["tolerations"] == [{"key": "sick", "operator": "Exists"}]


def test_a_puzzle_without_an_answer_ends() -> None:
    many = slice_("a", *(device(f"d{n}", odd=f"v{n}") for n in range(64)))
    wish = claim("c", request(count=20), constraints=[{"matchAttribute": "gpu.example.com/odd"}])
    half = claim("h", request(count=16), request("s", count=16), constraints=[{"matchAttribute": "gpu.example.com/no"}])
    snapshot = world([many], [GPU], [wish, half])
    assert isinstance(given_on(snapshot, "a", "c"), str)
    assert isinstance(given_on(snapshot, "a", "h"), str)


# --- against brute force ---------------------------------------------------------------------------------------------

attributes = st.fixed_dictionaries({"numa": st.integers(0, 2), "model": st.sampled_from("AB")})
wishes = st.builds(
    lambda model, count, every: (model, 0 if every else count),
    st.sampled_from(["", "A", "B"]),
    st.integers(1, 3),
    st.integers(0, 4).map(lambda n: n == 0),
)


def brute(devices: list[Object], held: set[int], wanted: list[list[tuple[str, int]]], match: list[bool]) -> bool:
    """Whether any choice of devices meets every request of every claim."""
    options = []
    for requests in wanted:
        for model, count in requests:
            meant = [n for n, d in enumerate(devices) if model in ("", d["model"])]
            options.append(
                [tuple(meant)] if count == 0 and meant else list(combinations(meant, count)) if count else []
            )
    for choice in product(*options):
        flat = [n for c in choice for n in c]
        if len(flat) != len(set(flat)) or held & set(flat):
            continue
        at, fine = 0, True
        for requests, same in zip(wanted, match, strict=True):
            mine = [n for c in choice[at : at + len(requests)] for n in c]
            at += len(requests)
            fine = fine and (not same or len({devices[n]["numa"] for n in mine}) <= 1)
        if fine:
            return True
    return False


@given(
    st.lists(attributes, max_size=6),
    st.sets(st.integers(0, 5), max_size=3),
    st.lists(st.tuples(st.lists(wishes, min_size=1, max_size=2), st.booleans()), min_size=1, max_size=2),
)
@settings(max_examples=200, deadline=None)
def test_devices_are_found_exactly_when_there_is_a_way(
    devices: list[Object], held: set[int], claims: list[tuple[list[tuple[str, int]], bool]]
) -> None:
    held = {n for n in held if n < len(devices)}
    made = []
    for n, (requests, same) in enumerate(claims):
        parts = [
            request(
                f"r{i}",
                "gpu",
                *([f'{ATTRIBUTES}.model == "{model}"'] if model else []),
                **({"count": count} if count else {"allocationMode": "All"}),
            )
            for i, (model, count) in enumerate(requests)
        ]
        made.append(claim(f"c{n}", *parts, constraints=[NUMA] if same else None))
    taken = claim("taken")
    bodies = [{"driver": "gpu.example.com", "pool": "a", "device": f"g{n}", "request": "r"} for n in held]
    taken["status"] = {"allocation": {"devices": {"results": bodies}}}
    offered = slice_("a", *(device(f"g{n}", **d) for n, d in enumerate(devices)))
    snapshot = world([offered], [GPU], [*made, taken], nodes="a")
    names = [c["metadata"]["name"] for c in made]
    found = given_on(snapshot, "a", *names)
    expected = brute(devices, held, [r for r, _ in claims], [s for _, s in claims])
    assert isinstance(found, dict) == expected, found
    if isinstance(found, dict):
        given_devices = [r.partition(":")[2] for rs in found.values() for r in rs]
        assert len(given_devices) == len(set(given_devices))
        assert not {f"g{n}" for n in held} & set(given_devices)
        for name, (_, same) in zip(names, claims, strict=True):
            numas = {devices[int(r.partition(":g")[2])]["numa"] for r in found[name]}
            assert not same or len(numas) <= 1
    verdict = snapshot.devices.verdicts(snapshot, tuple(("default", n) for n in names))[0]
    assert (verdict == "") == expected


def test_an_older_version_of_a_claim_does_not_undo_our_own_write() -> None:
    devices = Devices()
    newer = of({"metadata": {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "9"}}, Claim)
    older = of({"metadata": {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "8"}}, Claim)
    assert devices.put_claim(newer)
    assert not devices.put_claim(older)
    assert devices.claims["default", "c"] is newer
