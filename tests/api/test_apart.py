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

from jota.api import apart, relabel
from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import User
from jota.kinds.kind import Kind
from jota.kinds.table import KINDS
from jota.meta.resource import DEPLOYMENTS, LEASES, NODES, PODS, REPLICASETS, Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
CONTROLLERS = Resource("", "v1", "replicationcontrollers", "ReplicationController")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
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


def daemon_status(random: Random) -> Object:
    fields = ("currentNumberScheduled", "numberReady", "observedGeneration", "numberAvailable")
    return some(random, **dict.fromkeys(fields, (0, 1, 2)), conditions=lambda: [condition(random, "Progressing")])


def claim_status(random: Random) -> Object:
    amounts: Object = {"storage": ("1Gi", "1024Mi", 5, "-1", "x")}
    return some(
        random,
        phase=("Pending", "Bound", "Lost"),
        accessModes=(["ReadWriteOnce"], []),
        capacity=lambda: some(random, **amounts),
        allocatedResources=lambda: some(random, **amounts),
        conditions=lambda: [condition(random, "Resizing")],
    )


def volume_status(random: Random) -> Object:
    return some(random, phase=("Available", "Bound", "Released"), reason=("", "X"), lastPhaseTransitionTime=TIMES)


def lease_spec(random: Random) -> Object:
    times = ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:10.000000Z")
    return some(random, holderIdentity="ab", renewTime=times, acquireTime=times, leaseDurationSeconds=(10, 40, 0, -1))


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
MAKERS: dict[Resource, Any] = {
    PODS: pod_status,
    NODES: node_status,
    REPLICASETS: replicas_status,
    DEPLOYMENTS: replicas_status,
    STATEFULSETS: replicas_status,
    DAEMONSETS: daemon_status,
    CONTROLLERS: replicas_status,
    LEASES: lease_spec,
    CLAIMS: claim_status,
    VOLUMES: volume_status,
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
    modes, amount = ["ReadWriteOnce"], {"storage": "1Gi"}
    if resource == CLAIMS:
        return {**head, "spec": {"accessModes": modes, "resources": {"requests": amount}}}
    if resource == VOLUMES:
        return {**head, "spec": {"accessModes": modes, "capacity": amount, "hostPath": {"path": "/data"}}}
    spec = {"selector": {"matchLabels": {"a": "b"}} if resource != CONTROLLERS else {"a": "b"}, "template": TEMPLATE}
    return {**head, "spec": spec}


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
    kept = apart.suits, relabel.applies
    apart.suits = relabel.applies = lambda *_: False
    try:
        yield
    finally:
        apart.suits, relabel.applies = kept


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


@contextmanager
def counted(way: Any = apart) -> Iterator[list[bool]]:
    """Of each write that was looked at apart, whether it was made so."""
    kept, made = way.plan, []

    def plan(*args: Any) -> Any:
        found = None
        try:
            found = kept(*args)
        finally:
            made.append(found is not None)
        return found

    way.plan = plan
    try:
        yield made
    finally:
        way.plan = kept


async def play(seed: int, resource: Resource) -> None:
    """Random writes of one object on both servers."""
    random = Random(seed)
    pair = Pair(exact=random.random() < 0.5)
    namespace = "default" if resource.namespaced else ""
    path = resource.path(namespace, "o")
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


@pytest.mark.parametrize("resource", list(MAKERS), ids=lambda r: r.plural)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_short_way_and_the_long_way_end_in_the_same_bytes(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))


def test_every_kind_that_has_such_fields_is_played_above() -> None:
    kinds = [kind for kind in KINDS if kind.apart]
    assert {kind.resource for kind in kinds} == set(MAKERS)
    for kind in kinds:  # what is counted or warned of needs the whole object
        assert set(kind.apart) == {"status"} or not (kind.generation or kind.status)


# -- stories

POD = PODS.path("default", "web")
KUBELET = User("system:node:n1", groups=("system:nodes", "system:masters"))


async def a_pod(api: ApiServer, node: str = "n1") -> Object:
    pod = {
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}]},
    }
    return await api.client.create(PODS, pod, "default")


async def patch_status(
    api: ApiServer, status: Object, user: User = KUBELET, query: str = "", **meta: Any
) -> tuple[int, Object]:
    body = {"metadata": meta, "status": status}
    sent = {"query": "fieldManager=kubelet" + query, "content_type": STRATEGIC}
    response = await api.request("PATCH", POD + "/status", body, user=user, **sent)
    whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(whole)


@story
async def test_a_nodes_report_of_its_pod_is_written_apart(api: ApiServer) -> None:
    made = await a_pod(api)
    ready = {"type": "Ready", "status": "True"}
    with counted() as taken:
        await api.advance(5)
        code, pod = await patch_status(api, {"phase": "Running", "conditions": [ready]}, uid=made["metadata"]["uid"])
    assert (code, taken) == (200, [True])
    assert pod == await api.client.get(PODS, "web", "default")
    assert pod["spec"] == made["spec"]
    assert pod["status"] == {**made["status"], "phase": "Running", "conditions": [ready]}
    creator, kubelet = pod["metadata"]["managedFields"]
    assert creator == made["metadata"]["managedFields"][0]
    assert (kubelet["manager"], kubelet["subresource"], kubelet["time"] > creator["time"]) == (
        "kubelet",
        "status",
        True,
    )
    condition = {".": {}, "f:status": {}, "f:type": {}}
    assert kubelet["fieldsV1"] == {
        "f:status": {"f:conditions": {".": {}, 'k:{"type":"Ready"}': condition}, "f:phase": {}}
    }


@story
async def test_what_is_the_same_again_is_not_written(api: ApiServer) -> None:
    await a_pod(api)
    _, first = await patch_status(api, {"phase": "Running"})
    await api.advance(5)
    code, again = await patch_status(api, {"phase": "Running"})
    assert (code, again) == (200, first)


@story
async def test_leases_and_replica_counts_are_written_apart(api: ApiServer) -> None:
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": "default"}}
    lease = await api.client.create(LEASES, {**head, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    body = {"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    replicas = await api.client.create(REPLICASETS, body, "default")
    with counted() as taken:
        lease = await api.client.update(LEASES, {**lease, "spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}})
        await api.client.patch(LEASES, "n1", "default", {"spec": {"renewTime": "2026-01-01T00:00:20.000000Z"}})
        replicas = await api.client.update(REPLICASETS, {**replicas, "status": {"replicas": 1}}, subresource="status")
    assert taken == [True] * 3
    assert (replicas["status"], replicas["metadata"]["generation"]) == ({"replicas": 1}, 1)
    stored = await api.client.get(LEASES, "n1", "default")
    assert stored["spec"] == {"renewTime": "2026-01-01T00:00:20.000000Z"}
    assert stored["metadata"]["uid"] == lease["metadata"]["uid"]


@story
async def test_labels_still_change_through_status(api: ApiServer) -> None:
    await a_pod(api)
    with counted() as taken:
        code, pod = await patch_status(
            api, {"phase": "Running"}, user=User("admin", groups=("system:masters",)), labels={"new": "label"}
        )
    assert (code, taken, pod["metadata"]["labels"]) == (200, [False], {"a": "b", "new": "label"})


@story
async def test_a_node_writes_no_others_pods(api: ApiServer) -> None:
    await a_pod(api, node="n2")
    code, refusal = await patch_status(api, {"phase": "Running"})
    assert (code, "spec.nodeName set to itself" in refusal["message"]) == (403, True)


@story
async def test_an_old_resource_version_is_a_conflict_and_a_dry_run_stores_nothing(api: ApiServer) -> None:
    made = await a_pod(api)
    assert (await patch_status(api, {"phase": "Running"}, query="&dryRun=All"))[0] == 200
    assert await api.client.get(PODS, "web", "default") == made
    assert (await patch_status(api, {"phase": "Running"}))[0] == 200
    old = made["metadata"]["resourceVersion"]
    assert (await patch_status(api, {"phase": "Failed"}, resourceVersion=old))[0] == 409


@story
async def test_whoever_loses_a_race_looks_again(api: ApiServer) -> None:
    await a_pod(api)
    conditions = [[{"type": name, "status": "True"}] for name in ("Ready", "Initialized", "ContainersReady", "X")]
    answers = await asyncio.gather(*(patch_status(api, {"conditions": sent}) for sent in conditions))
    assert [code for code, _ in answers] == [200] * 4
    pod = await api.client.get(PODS, "web", "default")
    assert sorted(c["type"] for c in pod["status"]["conditions"]) == ["ContainersReady", "Initialized", "Ready", "X"]


class Witness(Plugin):
    """A plugin that wants to see whole objects, as any may that does not say otherwise."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def validate(self, attrs: AdmissionAttributes) -> None:
        if attrs.subresource == "status":
            self.seen += [set(attrs.object or {}), set((attrs.old or {})["metadata"])]


def test_a_plugin_that_may_look_anywhere_sees_whole_objects() -> None:
    async def main() -> None:
        witness = Witness()
        async with ApiServer(plugins=[witness]) as api:
            await a_pod(api)
            with counted() as taken:
                assert (await patch_status(api, {"phase": "Running"}))[0] == 200
            assert taken == []
            assert {"spec", "status", "kind"} <= witness.seen[0]
            assert {"labels", "managedFields"} <= witness.seen[1]

    asyncio.run(main())
