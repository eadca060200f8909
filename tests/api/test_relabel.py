"""Writes of metadata alone are made on the bytes at rest; what comes of them is what the long way would have made, to the byte.

Two servers get the same requests, one of which never takes the short way (as in test_apart.py).
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.test_apart import (
    CLAIMS,
    DAEMONSETS,
    MAKERS,
    MERGE,
    STATEFULSETS,
    STRATEGIC,
    VOLUMES,
    Pair,
    a_pod,
    counted,
    first,
    some,
)

from jota.api import relabel
from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import User
from jota.kinds.core.pod.validate import MIRROR
from jota.kinds.kind import Kind
from jota.kinds.table import KINDS, by_resource
from jota.meta.errors import forbidden
from jota.meta.resource import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICEACCOUNTS,
    Resource,
)
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
JSON = "application/json-patch+json"
RESOURCES = (
    PODS,
    NODES,
    CONFIGMAPS,
    SERVICEACCOUNTS,
    VOLUMES,
    CLAIMS,
    DEPLOYMENTS,
    REPLICASETS,
    STATEFULSETS,
    DAEMONSETS,
    LEASES,
    ENDPOINTSLICES,
)
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}


# -- random requests


def made(random: Random, resource: Resource) -> Object:
    """An object that may give rise to warnings, and be owned by nobody."""
    meta = {"name": "o", **some(random, labels=[{"a": "b", "managedFields": "x"}], finalizers=[["example.com/f"]])}
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if resource == CONFIGMAPS:
        return {**head, **some(random, data=[{"k": "v"}], immutable=[True])}
    if resource == SERVICEACCOUNTS:
        return {**head, **some(random, automountServiceAccountToken=[False])}
    if resource == ENDPOINTSLICES:
        return {**head, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}
    obj = first(random, resource)
    spec = obj.get("spec", {})
    odd = {"beta.kubernetes.io/os": "linux"}
    if resource == PODS:
        spec |= some(random, nodeSelector=[odd], nodeName=["n1"])
    elif "template" in spec and random.random() < 0.5:
        spec["template"] = {**spec["template"], "spec": {**spec["template"]["spec"], "nodeSelector": odd}}
    if random.random() < 0.1:
        obj["metadata"]["managedFields"] = [{}]
    if random.random() < 0.1:
        obj["metadata"]["annotations"] = {MIRROR: "x"}
    return obj


def pairs(random: Random, gone: Any) -> Object:
    values = ("b", "c", "", "not valid!", 1, True, gone)
    keys = ("a", "x", "example.com/y", "managedFields", "seccomp.security.alpha.kubernetes.io/pod", MIRROR)
    out = {key: random.choice(values[:3] if random.random() < 0.8 else values) for key in keys if random.random() < 0.3}
    return out if random.random() < 0.95 else {"-bad key": "v"}


def changes(random: Random, now: Object) -> Object:
    """What is laid over metadata by a patch of either kind."""
    have = now.get("metadata") or {}
    fields = some(
        random,
        labels=lambda: random.choice([pairs(random, None), None, {}]),
        annotations=lambda: random.choice([pairs(random, None), None, {}]),
    )
    if random.random() < 0.3:
        fields["finalizers"] = random.choice([None, [], ["example.com/f"], ["example.com/g", "example.com/f"], ["bad"]])
    if random.random() < 0.3:
        fields["ownerReferences"] = random.choice(
            [None, [], [OWNER], [{**OWNER, "controller": True}, {**OWNER, "uid": "v"}], [{**OWNER, "odd": 1}], [{}]]
        )
    if random.random() < 0.3:
        fields |= some(
            random,
            uid=[have.get("uid", "u"), "other"],
            resourceVersion=[have.get("resourceVersion"), "1", "", "x"],
            name=["o", "o", "p"],
            namespace=["default", "other", ""],
            generateName=["o-", ""],
            generation=[7],
            odd=[1],
            deletionTimestamp=["2026-01-01T00:00:00Z", None],
            managedFields=[[], [{}], [{"manager": ""}], [{"manager": "m", "operation": "Update"}]],
        )
    if random.random() < 0.1:
        order = {"$setElementOrder/finalizers": ["example.com/g"], "$retainKeys": ["labels"], "$patch": "replace"}
        fields[key] = order[key] if (key := random.choice(list(order))) else None
    return fields


def steps(random: Random, now: Object) -> list[Object]:
    """A JSON patch."""
    have = now.get("metadata") or {}
    every: list[Object] = [
        {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}},
        {"op": "add", "path": "/metadata/labels/z", "value": random.choice(["1", "2", 3])},
        {"op": "remove", "path": "/metadata/labels/a"},
        {"op": "replace", "path": "/metadata/annotations", "value": pairs(random, None)},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/h"]},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/i"},
        {"op": "remove", "path": "/metadata/finalizers"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": random.choice([have.get("resourceVersion"), "1"])},
        {"op": "test", "path": "/metadata/uid", "value": have.get("uid")},
        {"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"},
        {"op": "copy", "from": "/metadata/managedFields/0/manager", "path": "/metadata/labels/m"},
        {"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/b"},
        {"op": "remove", "path": "/metadata/managedFields"},
        {"op": "add", "path": "/spec/odd", "value": 1},
        {"op": "nonsense", "path": "/metadata/labels"},
    ]
    return random.choices(every, k=random.randrange(4))


def request(random: Random, resource: Resource, now: Object, replace: bool) -> tuple[str, Any, str, str]:
    """(method, body, content type, query)."""
    query = f"fieldManager={random.choice(['kubectl', 'set', 'ctl'])}"
    query += random.choice(["", "", "", "", "&fieldValidation=Strict", "&dryRun=All", "&fieldValidation=Odd"])
    if replace:
        laid = {key: value for key, value in changes(random, now).items() if value is not None}
        new = {**now, "metadata": {**now["metadata"], **laid}}
        if random.random() < 0.2:
            new["metadata"].pop("managedFields", None)
        if random.random() < 0.2:
            new["status"] = {"phase": "Odd"}
        if random.random() < 0.1:
            new.pop("spec", None)
        return "PUT", new, "application/json", query
    if random.random() < 0.3:
        return "PATCH", steps(random, now), JSON, query
    patch = {"metadata": changes(random, now), **some(random, kind=[resource.kind], apiVersion=[resource.api_version])}
    if random.random() < 0.05:
        patch |= random.choice([{"kind": "Other"}, {"spec": {}}, {"odd": 1}, {"metadata": None}])
    return "PATCH", patch, random.choice([MERGE, STRATEGIC]), query


async def play(seed: int, resource: Resource) -> None:
    """Random writes of one object on both servers; PUTs where the order of fields is not looked at."""
    random = Random(seed)
    pair = Pair(exact=random.random() < 0.7)
    namespace = "default" if resource.namespaced else ""
    path = resource.path(namespace, "o")
    async with pair.short, pair.long:
        json = "application/json"
        if random.random() < 0.2:
            level = orjson.dumps({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}})
            await pair.both("PATCH", NAMESPACES.path("", "default"), level, "fieldManager=x", content_type=MERGE)
        body = orjson.dumps(made(random, resource))
        await pair.both("POST", resource.path(namespace), body, "fieldManager=set", content_type=json)
        for _ in range(12):
            if random.random() < 0.3:
                for api in (pair.short, pair.long):
                    await api.advance(5)
            got = await pair.both("GET", path, b"", "")
            if got["kind"] == "Status":
                break
            if random.random() < 0.2 and resource in MAKERS:
                sub, field = ("", "spec") if resource == LEASES else ("/status", "status")
                sent = orjson.dumps({field: MAKERS[resource](random)})
                await pair.both("PATCH", path + sub, sent, "fieldManager=kubelet", content_type=STRATEGIC)
                continue
            method, wanted, media, query = request(random, resource, got, replace=not pair.exact)
            await pair.both(method, path, orjson.dumps(wanted), query, content_type=media)
            if random.random() < 0.05:
                await pair.both("DELETE", path, b'{"gracePeriodSeconds":30}', "", content_type=json)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.plural)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_short_way_and_the_long_way_end_in_the_same_bytes(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))


def test_every_kind_that_is_relabelled_so_is_played_above() -> None:
    assert {kind.resource for kind in KINDS if kind.relabelled_from is not None} == set(RESOURCES)


class Told(dict[str, Any]):
    """Metadata that knows what was looked at in it."""

    def __init__(self, value: Object) -> None:
        super().__init__(value)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: r.plural)
def test_the_rules_that_are_passed_over_look_at_no_metadata_and_find_nothing_more_to_do(resource: Resource) -> None:
    kind = by_resource(resource.group, resource.version, resource.plural)
    assert kind is not None
    fixed = {"name", "namespace", "uid", "creationTimestamp", "generation"}
    if resource == PODS:
        fixed.add(
            "annotations"
        )  # a pod is a mirror for all its life (core/pod/update.py), and nothing else is asked for
    for seed in range(30):
        obj = made(Random(seed), resource)
        kind.default(obj)
        kind.prepare_create(obj)
        kind.default(obj)
        told = Told(obj["metadata"])
        new = {**orjson.loads(orjson.dumps(obj)), "metadata": told}
        kind.default(new)
        kind.prepare_update(new, obj)
        kind.validate(new)
        assert told.asked <= fixed
        assert {**new, "metadata": 0} == {**obj, "metadata": 0}


# -- stories

POD = PODS.path("default", "web")


async def label(api: ApiServer, body: Any, media: str = MERGE, **more: Any) -> tuple[int, Object, list[str]]:
    response = await api.request("PATCH", POD, body, query="fieldManager=kubectl", content_type=media, **more)
    whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(whole), [value for key, value in response.headers if key == "Warning"]


@story
async def test_labels_annotations_finalizers_and_owners_are_written_alone(api: ApiServer) -> None:
    made = await a_pod(api)
    steps: list[tuple[Any, str]] = [
        ({"metadata": {"labels": {"x": "y"}}}, MERGE),
        ({"metadata": {"annotations": {"k": "v"}, "finalizers": ["example.com/f"]}}, STRATEGIC),
        ([{"op": "add", "path": "/metadata/ownerReferences", "value": [OWNER]}], JSON),
        ([{"op": "remove", "path": "/metadata/labels/a"}], JSON),
    ]
    with counted(relabel) as taken:
        for body, media in steps:
            assert (await label(api, body, media))[0] == 200
        pod = await api.client.get(PODS, "web", "default")
        pod["metadata"]["annotations"]["by"] = "put"
        pod = await api.client.update(PODS, pod)
    assert taken == [True] * 5
    assert pod == await api.client.get(PODS, "web", "default")
    assert (pod["spec"], pod["status"]) == (made["spec"], made["status"])
    meta = pod["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"x": "y"}, {"k": "v", "by": "put"})
    assert (meta["finalizers"], meta["ownerReferences"], meta["generation"]) == (["example.com/f"], [OWNER], 1)
    owned = {entry["manager"]: entry["fieldsV1"]["f:metadata"] for entry in meta["managedFields"]}
    assert owned["kubectl"] == {
        "f:annotations": {".": {}, "f:k": {}},
        "f:finalizers": {".": {}, 'v:"example.com/f"': {}},
        "f:labels": {"f:x": {}},
        "f:ownerReferences": {".": {}, 'k:{"uid":"u"}': {}},
    }


@story
async def test_a_label_that_is_there_already_is_not_written_again(api: ApiServer) -> None:
    made = await a_pod(api)
    with counted(relabel) as taken:
        code, pod, _ = await label(api, {"metadata": {"labels": {"a": "b"}}})
    assert (code, taken, pod) == (200, [True], made)


@story
async def test_a_pod_whose_last_finalizer_goes_is_gone(api: ApiServer) -> None:
    await a_pod(api, node="")
    assert (await label(api, {"metadata": {"finalizers": ["example.com/f"]}}))[0] == 200
    await api.client.delete(PODS, "web", "default")
    with counted(relabel) as taken:
        assert (await label(api, {"metadata": {"labels": {"still": "here"}}}))[0] == 200
        assert (await label(api, {"metadata": {"finalizers": None}}))[0] == 200
    assert taken == [True, False]
    assert (await api.request("GET", POD)).status == 404


@story
async def test_warnings_are_told_each_time(api: ApiServer) -> None:
    await a_pod(api)
    key = "seccomp.security.alpha.kubernetes.io/pod"
    _, _, first = await label(api, {"metadata": {"annotations": {key: "x"}}})
    with counted(relabel) as taken:
        _, _, again = await label(api, {"metadata": {"labels": {"x": "y"}}})
    assert taken == [True]
    assert again == first
    assert "non-functional in v1.27+" in first[0]


@story
async def test_a_namespaces_security_level_is_asked_about_annotations(api: ApiServer) -> None:
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}}
    await api.client.patch(NAMESPACES, "default", "", level)
    await a_pod(api)
    with counted(relabel) as taken:
        _, _, quiet = await label(api, {"metadata": {"labels": {"x": "y"}}})
        _, _, told = await label(api, {"metadata": {"annotations": {"x": "y"}}})
    assert (taken, quiet) == ([True, False], [])
    assert "would violate PodSecurity" in told[0]


@story
async def test_a_node_may_not_label_its_pods(api: ApiServer) -> None:
    await a_pod(api)
    node = User("system:node:n1", groups=("system:nodes", "system:masters"))
    code, refusal, _ = await label(api, {"metadata": {"labels": {"x": "y"}}}, user=node)
    assert (code, "unexpected pod subresource" in refusal["message"]) == (403, True)


@story
async def test_whoever_loses_a_race_looks_again(api: ApiServer) -> None:
    await a_pod(api)
    answers = await asyncio.gather(*(label(api, {"metadata": {"labels": {f"n{i}": "x"}}}) for i in range(4)))
    assert [code for code, _, _ in answers] == [200] * 4
    pod = await api.client.get(PODS, "web", "default")
    assert sorted(pod["metadata"]["labels"]) == ["a", "n0", "n1", "n2", "n3"]


class Guard(Plugin):
    """A plugin that minds, as any does that does not say otherwise."""

    def handles(self, kind: Kind) -> bool:
        return kind.resource == PODS

    def validate(self, attrs: AdmissionAttributes) -> None:
        obj = attrs.object or {}
        if attrs.operation == "UPDATE" and obj["spec"]["containers"] and obj["metadata"]["labels"].get("x"):
            raise forbidden("pods", attrs.name, "no x")


def test_a_plugin_that_may_look_anywhere_sees_whole_objects() -> None:
    async def main() -> None:
        async with ApiServer(plugins=[Guard()]) as api:
            await a_pod(api)
            assert (await label(api, {"metadata": {"labels": {"x": "y"}}}))[0] == 403
            assert (await label(api, {"metadata": {"labels": {"z": "y"}}}))[0] == 200

    asyncio.run(main())
