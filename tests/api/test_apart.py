"""Writes of one field are made on the bytes at rest; what comes of them is what the long way would have made, to the byte.

Two servers get the same requests, one of which never takes the short way; their answers and their stores must be equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api import apart
from jota.meta.resource import DEPLOYMENTS, LEASES, NODES, PODS, REPLICASETS, Resource
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
WRITERS = ("kubelet", "set", "scheduler")
TIMES = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:07Z", "2027-05-05T05:05:05Z")


# -- random objects and requests


def some(random: Random, **choices: Any) -> Object:
    """A random part of what there is; callables make their value."""
    out = {}
    for key, choice in choices.items():
        if random.random() < 0.6:
            out[key] = choice() if callable(choice) else random.choice(choice)
    return out


def condition(random: Random, type: str) -> Object:
    return {"type": type, **some(random, status=("True", "False"), reason=("A", "B", ""), lastTransitionTime=TIMES)}


def conditions(random: Random) -> list[Object]:
    names = random.sample(["Ready", "Initialized", "PodScheduled", "é"], random.randrange(4))
    return [condition(random, name) for name in names]


def container(random: Random, name: str) -> Object:
    ended = {"terminated": {"exitCode": random.randrange(2), "finishedAt": random.choice(TIMES)}}
    states: tuple[Object, ...] = (
        {"running": {"startedAt": random.choice(TIMES)}},
        ended,
        {"waiting": {"reason": "X"}},
        {},
    )
    required = {"image": "i", "imageID": "", "ready": random.random() < 0.5, "restartCount": random.randrange(2)}
    return {"name": name, **required, **some(random, state=states, lastState=states, started=(True, False))}


def pod_status(random: Random) -> Object:
    addresses = [{"ip": ip} for ip in random.sample(["10.0.0.1", "10.0.0.2", "fd00::1"], random.randrange(3))]
    return some(
        random,
        phase=("Pending", "Running", "Failed"),
        conditions=lambda: conditions(random),
        hostIP=("10.1.1.1", "10.1.1.2"),
        podIPs=lambda: addresses,
        podIP=("10.0.0.1", "10.0.0.2"),
        startTime=TIMES,
        qosClass=("BestEffort", "Guaranteed"),
        containerStatuses=lambda: [container(random, n) for n in random.sample(["a", "b"], random.randrange(3))],
        observedGeneration=(1, 2),
        reason=("", "Evicted"),
        resourceClaimStatuses=lambda: [{"name": n} for n in random.sample("xyz", random.randrange(3))],
    )


def node_status(random: Random) -> Object:
    amounts = {"cpu": ("4", "4000m", 2), "memory": ("1Gi", "1024Mi"), "pods": ("110", 5)}
    return some(
        random,
        conditions=lambda: conditions(random),
        addresses=lambda: [{"type": t, "address": "10.0.0.1"} for t in random.sample(["InternalIP", "Hostname"], 1)],
        capacity=lambda: some(random, **amounts),
        allocatable=lambda: some(random, **amounts),
        images=lambda: [{"names": ["i"], "sizeBytes": random.randrange(3)}],
        daemonEndpoints=[{"kubeletEndpoint": {"Port": 10250}}],
    )


def replicas_status(random: Random) -> Object:
    counts = (0, 1, 2, 3, -1)
    return some(
        random,
        replicas=counts,
        readyReplicas=counts,
        availableReplicas=counts,
        observedGeneration=(1, 2),
        conditions=lambda: [condition(random, "Progressing")],
    )


def lease_spec(random: Random) -> Object:
    times = ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:10.000000Z")
    return some(random, holderIdentity="ab", renewTime=times, acquireTime=times, leaseDurationSeconds=(10, 40, 0, -1))


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
MAKERS: dict[Resource, Any] = {
    PODS: pod_status,
    NODES: node_status,
    REPLICASETS: replicas_status,
    DEPLOYMENTS: replicas_status,
    LEASES: lease_spec,
}


def first(random: Random, resource: Resource) -> Object:
    meta = {"name": "o", **some(random, labels=[{"a": "b", "managedFields": "x"}], finalizers=[["example.com/f"]])}
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if resource == PODS:
        containers = [{"name": n, "image": "i"} for n in "ab"]
        return {
            **head,
            "spec": {"containers": containers, "restartPolicy": random.choice(("Always", "Never", "OnFailure"))},
        }
    if resource == NODES:
        return {**head, "status": node_status(random)}
    if resource == LEASES:
        return {**head, "spec": lease_spec(random)}
    return {**head, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}


def broken(random: Random, value: Object) -> Object:
    """Now and then something that must be refused, warned of, or removed."""
    kind = random.randrange(12)
    key = random.choice(list(value)) if value else "phase"
    if kind == 0:
        return {**value, "unknown": 1}
    if kind == 1:
        return {**value, key: random.choice([1.5, {"a": 1}, ["x"], True, "not-a-time"])}
    if kind == 2:
        return {**value, key: None}
    if kind == 3:
        return {**value, "$setElementOrder/conditions": [{"type": "Ready"}]}
    if kind == 4:
        return {**value, "conditions": [{"type": "Ready", "$patch": "delete"}]}
    return value


def request(
    random: Random, resource: Resource, now: Object, stored: Object | None
) -> tuple[str, bytes, dict[str, str], str]:
    """(method, body, headers, query) of a patch or, of a `stored` object, a PUT."""
    field = "spec" if resource == LEASES else "status"
    value = MAKERS[resource](random)
    manager = random.choice(WRITERS)
    query = f"fieldManager={manager}" + random.choice(["", "", "", "", "&fieldValidation=Strict", "&dryRun=All"])
    meta: Object = {}
    have = now.get("metadata") or {}
    if random.random() < 0.5:
        meta = some(
            random, uid=[have.get("uid", "u"), "other"], name=["o"], resourceVersion=[have.get("resourceVersion"), "1"]
        )
    if stored and random.random() < 0.4:
        new = {**stored, field: value}
        if random.random() < 0.2:
            new["metadata"] = {**have, "labels": {"new": "label"}}
        elif random.random() < 0.2:
            new["metadata"] = {k: v for k, v in have.items() if k != "managedFields"}
        elif random.random() < 0.1:
            new["metadata"] = {**have, "managedFields": [{}]}
        return "PUT", orjson.dumps(new), {"content_type": "application/json"}, query
    patch: Object = {**({"metadata": meta} if meta else {}), field: broken(random, value)}
    if random.random() < 0.1:
        patch = {**patch, "metadata": {**meta, "annotations": {"k": random.choice("vw")}}}
    media = random.choice([MERGE, STRATEGIC, STRATEGIC])
    return "PATCH", orjson.dumps(patch), {"content_type": media}, query


# -- two servers


@contextmanager
def the_long_way() -> Iterator[None]:
    kept = apart.applies
    apart.applies = lambda *_: False
    try:
        yield
    finally:
        apart.applies = kept


class Pair:
    """`exact`: byte for byte. After a PUT the long way keeps the client's order of fields, the short way the old one."""

    def __init__(self, exact: bool) -> None:
        self.short, self.long, self.exact = ApiServer(seed=1), ApiServer(seed=1), exact

    async def both(self, method: str, path: str, body: bytes, query: str, **more: Any) -> Object:
        a = await self.short.request(method, path, body, query=query, **more)
        with the_long_way():
            b = await self.long.request(method, path, body, query=query, **more)
        whole = [r.body if isinstance(r.body, bytes) else b"".join(r.body) for r in (a, b)]
        assert (a.status, a.headers) == (b.status, b.headers), (body, whole)
        if self.exact:
            assert whole[0] == whole[1], body
        assert orjson.loads(whole[0]) == orjson.loads(whole[1]), body
        return orjson.loads(whole[0])


async def play(seed: int, resource: Resource) -> int:
    """Random writes of one object on both servers; how many took the short way."""
    random = Random(seed)
    pair = Pair(exact=random.random() < 0.5)
    namespace = "default" if resource.namespaced else ""
    path = resource.path(namespace, "o")
    taken = 0
    real = apart.plan

    def counted(*args: Any) -> Any:
        nonlocal taken
        found = real(*args)
        taken += found is not None
        return found

    apart.plan = counted
    try:
        async with pair.short, pair.long:
            body = orjson.dumps(first(random, resource))
            json = "application/json"
            await pair.both("POST", resource.path(namespace), body, "fieldManager=set", content_type=json)
            sub = "" if resource == LEASES else "/status"
            for _ in range(12):
                if random.random() < 0.3:
                    for api in (pair.short, pair.long):
                        await api.advance(5)
                got = await pair.both("GET", path, b"", "")
                stored = got if got["kind"] == resource.kind and not pair.exact else None
                method, sent, headers, query = request(random, resource, got, stored)
                await pair.both(method, path + sub, sent, query, **headers)
                if random.random() < 0.05:
                    await pair.both("DELETE", path, b'{"gracePeriodSeconds":30}', "", content_type=json)
    finally:
        apart.plan = real
    return taken


@pytest.mark.parametrize("resource", list(MAKERS), ids=lambda r: r.plural)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_short_way_and_the_long_way_end_in_the_same_bytes(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))
