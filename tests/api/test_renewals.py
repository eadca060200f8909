"""Renewals of leases: what is spliced into the stored bytes is what the long way would have stored, to the byte.

Two servers get the same requests, one of which always takes the long way (test_apart.py).
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.test_alikepatches import found
from tests.api.test_apart import KUBELET, MERGE, STRATEGIC, Pair

from jota.api.filters.attributes import User
from jota.api.renewals import Renewals
from jota.meta.resource import LEASES
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
ADMIN = User("admin", groups=("system:masters",))
GOOD = [f"2026-01-01T00:00:{second:02}.{micro:06}Z" for second in (0, 1, 59) for micro in (0, 1, 999_999)]
BAD = [
    "2026-02-30T00:00:00.000000Z",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.000000+01:00",
    "2026-01-01 00:00:00.000000Z",
]
ODD = ["2026-01-01T24:00:00.000000Z", "2026-1-01T00:00:00.0000000Z", "20260101T0000000.00000000Z0", "x" * 27, "", "é"]


def lease(random: Random) -> Object:
    spec: Object = {"holderIdentity": random.choice(["a", '"renewTime":"', "b"]), "leaseDurationSeconds": 40}
    if random.random() < 0.9:
        spec["renewTime"] = random.choice(GOOD)
    if random.random() < 0.2:
        spec["acquireTime"] = random.choice(GOOD)
    return {key: spec[key] for key in random.sample(list(spec), len(spec))}


def renewal(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.choice(
            [b"", b"{}", b'{"spec":{"renewTime":null}}', b'{"spec":{"renewTime":"', b'{"spec":{"renewTime":""}}']
        )
    text = orjson.dumps({"spec": {"renewTime": random.choice(GOOD * 8 + BAD + ODD)}})
    if random.random() < 0.1:
        return random.choice([text.replace(b":", b": "), text.replace(b"}}", b',"holderIdentity":"c"}}'), text + b" "])
    return text


async def play(seed: int) -> int:
    """Random renewals of some leases; how many were known from others."""
    random, pair = Random(seed), Pair(exact=True)
    async with pair.short, pair.long:
        for name in "abcd":
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": f"uid-{name}"}
            meta = {"name": name, "ownerReferences": [owner]} if random.random() < 0.8 else {"name": name}
            made = orjson.dumps({"metadata": meta, "spec": lease(random)})
            await pair.both("POST", LEASES.path("default"), made, "fieldManager=set", content_type="application/json")
        with found(Renewals) as answers:
            for _ in range(40):
                if random.random() < 0.3:
                    for api in (pair.short, pair.long):
                        await api.advance(1)
                path = LEASES.path("default", random.choice("abcd"))
                query = "fieldManager=" + random.choice(["kubelet"] * 8 + ["set", "other"])
                more: Object = {"content_type": random.choice([STRATEGIC] * 4 + [MERGE])}
                user = random.choice([ADMIN] * 9 + [KUBELET])
                await pair.both("PATCH", path, renewal(random), query, user=user, **more)
                await pair.both("GET", path, b"", "")
    return sum(answers)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_known_of_others_is_what_the_long_way_makes(seed: int) -> None:
    asyncio.run(play(seed))


def test_the_play_above_has_likes() -> None:
    assert sum(asyncio.run(play(seed)) for seed in range(8)) > 8


async def renew(api: ApiServer, name: str, time: str, **more: Any) -> Object:
    path, body = LEASES.path("default", name), {"spec": {"renewTime": time}}
    answer = await api.request("PATCH", path, body, user=ADMIN, content_type=MERGE, **more)
    assert answer.status == 200
    return orjson.loads(answer.body if isinstance(answer.body, bytes) else b"".join(answer.body))


@story
async def test_who_renews_for_the_first_time_owns_the_time_from_then_on(api: ApiServer) -> None:
    for name in "ab":
        spec = {"holderIdentity": name, "renewTime": GOOD[0]}
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": f"uid-{name}"}
        meta = {"name": name, "ownerReferences": [owner]}  # as kubelets make them
        await api.client.create(LEASES, {"metadata": meta, "spec": spec}, "default")
    await api.advance(5)
    with found(Renewals) as answers:
        for time in GOOD[1:5]:
            for name in "ab":
                made = await renew(api, name, time, query="fieldManager=holder")
                assert made["spec"] == {"holderIdentity": name, "renewTime": time}
                owners = {one["manager"]: one["fieldsV1"] for one in made["metadata"]["managedFields"]}
                assert owners["holder"] == {"f:spec": {"f:renewTime": {}}}
                assert f'k:{{"uid":"uid-{name}"}}' in owners["test"]["f:metadata"]["f:ownerReferences"]
            await api.advance(2)
    # the first one of each changes the owners; the next teaches that the time is all
    assert answers == [False, False, False, True, True, True, True, True]


@story
async def test_a_lease_that_is_going_is_looked_at(api: ApiServer) -> None:
    meta = {"name": "a", "finalizers": ["example.com/held"]}
    await api.client.create(LEASES, {"metadata": meta, "spec": {"renewTime": GOOD[0]}}, "default")
    await api.advance(2)
    for time in GOOD[1:4]:
        await renew(api, "a", time)
        await api.advance(2)
    await api.client.delete(LEASES, "a", "default")
    with found(Renewals) as answers:
        made = await renew(api, "a", GOOD[4])
        assert made["spec"]["renewTime"] == GOOD[4]
    assert answers == []
    await api.client.patch(LEASES, "a", "default", {"metadata": {"finalizers": None}})
    answer = await api.request(
        "PATCH", LEASES.path("default", "a"), {"spec": {"renewTime": GOOD[5]}}, content_type=MERGE
    )
    assert answer.status == 404
