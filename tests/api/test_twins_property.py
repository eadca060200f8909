"""Objects that differ in names alone take over the outcome of an earlier one: what comes of it is what the long way would have made.

Two servers get the same requests, one of which always takes the long way; their answers must be equal.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.filters.attributes import COMPONENT, User
from jota.api.ownnames import OwnNames
from jota.kinds.table import KINDS
from jota.meta.resource import PODS, Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
ATTACHMENTS = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", False)
CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
JANE = User("jane", groups=("system:masters", "system:authenticated"))
NAMES = (
    "a",
    "b",
    "data-0",
    "data-1",
    "web-0",
    "x" * 63,
    "x" * 64,
    "dots.are-legal",
    "0",
    "3f2a-9",
    "A",
    "é",
    'q"',
    "",
    "a\\b",
)
GIVEN, MODES, AMOUNT = "default", ["ReadWriteOnce"], {"storage": "1Gi"}


def pod(random: Random, name: str, other: str) -> Object:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]
    if random.random() < 0.3:
        volumes.append({"name": "w", "persistentVolumeClaim": {"claimName": other}})
    spec: Object = {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}
    return {**spec, "hostname": other} if random.random() < 0.5 else spec


def claim(random: Random, name: str, other: str) -> Object:
    spec: Object = {"accessModes": MODES, "resources": {"requests": AMOUNT}}
    if random.random() < 0.6:
        spec["volumeName"] = name
    if random.random() < 0.3:
        spec["storageClassName"] = random.choice(["", "fast"])
    if random.random() < 0.2:
        spec["dataSource"] = {"kind": "PersistentVolumeClaim", "name": other, "volumeName": name}
    return spec


def volume(random: Random, name: str, other: str) -> Object:
    spec: Object = {"accessModes": MODES, "capacity": {"storage": random.choice(["1Gi", "1024Mi"])}}
    reference = {
        "kind": "PersistentVolumeClaim",
        "namespace": random.choice([GIVEN, "b", "B"]),
        "name": name,
        "uid": other,
        "resourceVersion": "7",
    }
    source = random.choice(
        [
            {"csi": {"driver": "d", "volumeHandle": other, "nodeStageSecretRef": {"name": other, "namespace": "n"}}},
            {"awsElasticBlockStore": {"volumeID": name}},
            {"rbd": {"monitors": ["m"], "image": "i", "secretRef": {"name": other}}},
        ]
    )
    parts = [("claimRef", reference), *source.items()]
    random.shuffle(parts)
    return {**spec, **dict(parts)}


def attachment(random: Random, name: str, other: str) -> Object:
    return {"attacher": "d", "nodeName": other, "source": {"persistentVolumeName": name}}


MAKERS = {PODS: pod, CLAIMS: claim, VOLUMES: volume, ATTACHMENTS: attachment}


def sent(random: Random, resource: Resource) -> bytes:
    name, other = random.choice(NAMES[:5]), random.choice(NAMES[:5])
    if random.random() < 0.2:
        name, other = random.choice(NAMES), random.choice(NAMES)
    own = f"o{random.randrange(10**6)}" if random.random() < 0.7 else name
    meta: Object = {"name": own} if random.random() < 0.7 else {"generateName": "o-"}
    if random.random() < 0.3:
        meta["labels"] = {"name": random.choice("ab"), "claimName": random.choice("ab"), "volumeName": "x"}
    if random.random() < 0.1:
        meta |= random.choice(
            [{"uid": "u"}, {"resourceVersion": "5"}, {"namespace": "elsewhere"}, {"finalizers": ["a/b"]}]
        )
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    spec = {"spec": MAKERS[resource](random, name, other)}
    obj = {**obj, **spec} if random.random() < 0.7 else {**spec, **obj}
    body = orjson.dumps(obj, option=orjson.OPT_INDENT_2 if random.random() < 0.1 else 0)
    if random.random() < 0.1:
        body = body[:-1] + random.choice([b',"unknown":1}', b',"spec":{}}', b"," + orjson.dumps(spec)[1:]])
    return body


class Pair:
    def __init__(self) -> None:
        self.short, self.long = ApiServer(seed=1), ApiServer(seed=1)

    async def both(self, method: str, path: str, body: bytes, **more: Any) -> int:
        self.long.api.engine.twins.find = lambda *_: None  # type: ignore[method-assign]
        a, b = [await api.request(method, path, body, **more) for api in (self.short, self.long)]
        assert (a.status, a.headers) == (b.status, b.headers), (body, a.body, b.body)
        assert orjson.loads(a.body) == orjson.loads(b.body), body
        return a.status

    async def world(self, random: Random) -> None:
        """Something changes that admission looks at."""
        default = {"storageclass.kubernetes.io/is-default-class": "true"}
        fast = {"metadata": {"name": "fast", "annotations": default}, "provisioner": "p"}
        limit = {"type": "PersistentVolumeClaim", "min": {"storage": random.choice(["1Gi", "2Gi"])}}
        ranges = {"metadata": {"name": "r"}, "spec": {"limits": [limit]}}
        quota = {"metadata": {"name": "q"}, "spec": {"hard": {"persistentvolumeclaims": "5"}}}
        resource, obj = random.choice([(CLASSES, fast), (LIMIT_RANGES, ranges), (QUOTAS, quota)])
        path = resource.path(GIVEN if resource.namespaced else "")
        if random.random() < 0.5:
            await self.both("POST", path, orjson.dumps(obj), content_type="application/json")
        else:
            await self.both("DELETE", f"{path}/{obj['metadata']['name']}", b"")


async def play(seed: int, resource: Resource) -> int:
    """How many took over an earlier outcome."""
    random, pair, taken = Random(seed), Pair(), 0
    path = resource.path(GIVEN if resource.namespaced else "")
    async with pair.short, pair.long:
        create = pair.short.api.engine.create_twin

        async def counted(*args: Any) -> Any:
            nonlocal taken
            taken += 1
            return await create(*args)

        pair.short.api.engine.create_twin = counted  # type: ignore[method-assign]
        for _ in range(6):
            moment = random.randrange(10**6)
            if random.random() < 0.3:
                await pair.world(random)
            if random.random() < 0.3:
                for api in (pair.short, pair.long):
                    await api.advance(3)
            user = random.choice([COMPONENT, COMPONENT, JANE])
            for _ in range(random.randrange(3, 9)):  # alike in all but names, as a rule
                alike = Random(moment if random.random() < 0.85 else random.random())
                body = sent(alike, resource)
                for old, new in ((b'"a"', b'"c%d"'), (b'"b"', b'"d%d"'), (b'"data-0"', b'"e%d"'), (b'"o', b'"n%d')):
                    if random.random() < 0.8:
                        body = body.replace(old, new % random.randrange(9))
                await pair.both("POST", path, body, user=user, content_type="application/json")
    return taken


@pytest.mark.parametrize("resource", list(MAKERS), ids=lambda r: r.plural)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_taken_over_is_what_the_long_way_makes(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))


@pytest.mark.parametrize("resource", list(MAKERS), ids=lambda r: r.plural)
def test_these_requests_do_take_over(resource: Resource) -> None:
    assert sum(asyncio.run(play(seed, resource)) for seed in range(12)) > 20


def test_every_kind_with_names_of_its_own_is_played_above() -> None:
    assert {kind.resource for kind in KINDS if kind.own_names is not None} == set(MAKERS)


@given(st.dictionaries(st.sampled_from(["name", "uid", "volumeHandle", "x"]), st.text(max_size=5)))
def test_what_is_cut_out_is_filled_in_again(spec: dict[str, str]) -> None:
    own = OwnNames({"name": "label", "uid": "text", "volumeHandle": "text"})
    data = orjson.dumps({"spec": spec, "more": [spec, {"name": "a"}]})
    without, names = own.cut(data)
    assert own.fill(without, names) == data
    assert b'"name":"a"' not in without


@story
async def test_provisioned_volumes_are_made_as_one(api: ApiServer) -> None:
    """As the external provisioner writes them: each says which claim it is for, and which disk it is."""
    for n in range(4):
        uid = f"{n}f2a-9c1b"
        holder = {
            "kind": "PersistentVolumeClaim",
            "namespace": ("a", "b")[n % 2],
            "name": f"data-{n}",
            "uid": uid,
            "resourceVersion": f"{n}7",
        }
        csi = {"driver": "ebs.csi.aws.com", "volumeHandle": f"vol-0{n}", "volumeAttributes": {"a": "b"}}
        spec = {"accessModes": MODES, "capacity": AMOUNT, "claimRef": holder, "csi": csi, "storageClassName": "gp3"}
        made = await api.client.create(VOLUMES, {"metadata": {"name": f"pvc-{uid}"}, "spec": spec})
        assert made["spec"] == {**spec, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}
        assert (made["metadata"]["name"], made["status"]) == (f"pvc-{uid}", {"phase": "Pending"})
        assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        assert await api.client.get(VOLUMES, f"pvc-{uid}") == made
        assert len(api.api.engine.twins._kept) == int(n > 0)


@story
async def test_a_new_default_class_counts_for_the_next_claim(api: ApiServer) -> None:
    spec = {"accessModes": MODES, "resources": {"requests": AMOUNT}}

    async def chosen(name: str) -> str:
        made = await api.client.create(CLAIMS, {"metadata": {"name": name}, "spec": spec}, GIVEN)
        return str(made["spec"].get("storageClassName"))

    (usual,) = {await chosen(f"a{n}") for n in range(3)}
    await api.advance(5)
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    await api.client.create(CLASSES, {"metadata": {"name": "fast", "annotations": annotations}, "provisioner": "p"})
    assert [await chosen(f"b{n}") for n in range(3)] == ["fast"] * 3
    await api.client.delete(CLASSES, "fast")
    assert [await chosen(f"c{n}") for n in range(3)] == [usual] * 3
