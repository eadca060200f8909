"""Claims and volumes whose writers say what they changed are not decoded anew; what is made of them is what the bytes say."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import pytest

from jota.api import object as at_rest
from jota.client.informer import Informer
from jota.client.pods import Pod
from jota.client.reader import Reader
from jota.meta.resource import PODS, Resource
from jota.meta.watchevent import WatchEvent
from jota.scheduler.pod import Shapes
from jota.scheduler.resources import CLAIMS, VOLUMES
from jota.scheduler.storage import Claim, Volume
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
CLAIM: Object = {
    "metadata": {"annotations": {"a": "b"}, "finalizers": ["kubernetes.io/pvc-protection"]},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "x"},
}
VOLUME: Object = {
    "metadata": {"labels": {"zone": "a"}, "finalizers": ["kubernetes.io/pv-protection"]},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "csi": {"driver": "d", "volumeHandle": "v"},
        "claimRef": {"namespace": "default", "name": "one"},
    },
}


async def life(api: ApiServer, resource: Resource, one: Object, spec: Object) -> None:
    """Made, written to in every way, and gone once its finalizer is."""
    client, where = api.client, "default" if resource.namespaced else ""
    for name in ("one", "two", "three"):
        made = await client.create(resource, {**one, "metadata": {**one["metadata"], "name": name}}, where)
        for phase in ("Bound", "Lost" if resource is CLAIMS else "Released", "Bound"):
            made = await client.update(resource, {**made, "status": {"phase": phase}}, "status")
        await client.patch(resource, name, where, {"status": {"phase": "Pending"}}, subresource="status")
        await client.patch(resource, name, where, {"metadata": {"labels": {"new": name}}})
        await client.patch(resource, name, where, {"spec": spec})
        await client.patch(resource, name, where, {"status": {"phase": "Bound"}}, subresource="status")
        await client.delete(resource, name, where)
        await client.patch(resource, name, where, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(
    ("resource", "type_", "one", "spec"),
    [(CLAIMS, Claim, CLAIM, {"volumeName": "v"}), (VOLUMES, Volume, VOLUME, {"storageClassName": "y"})],
    ids=["claims", "volumes"],
)
def test_what_is_made_of_a_change_is_what_the_bytes_say(
    resource: Resource, type_: type[Any], one: Object, spec: Object
) -> None:
    decode = msgspec.json.Decoder(type_).decode
    seen: list[str] = []
    spared = 0

    async def follow(api: ApiServer) -> None:
        nonlocal spared
        reader, held = Reader(type_), dict[str, Any]()
        async for batch in api.client.watch_batches(resource, bookmarks=False):
            for event in batch:
                spared += _spares(event, held.get(event.key))
                key, obj, _, version = reader.read(event, held.get(event.key))
                assert obj == decode(event.body)
                assert (key, version) == (event.key, str(event.revision))
                held[key] = obj
                seen.append(event.type)

    async def story() -> None:
        async with ApiServer() as api:
            task = asyncio.create_task(follow(api))
            await api.settle()
            await life(api, resource, one, spec)
            await api.settle()
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert [seen.count(kind) for kind in ("ADDED", "DELETED")] == [3, 3]
    assert spared >= 15, "the statuses"


def _spares(event: WatchEvent, held: Any) -> bool:
    """Whether the event need not be decoded by who holds the state before it."""
    change = event.change
    return change is not None and held is not None and change.since == held.metadata.resourceVersion


def test_pods_with_claims_of_their_own_have_shapes_that_differ_in_these_alone() -> None:
    """However they were read: as what another one is under other names, or from their bytes."""

    def template(number: int) -> Object:
        claim = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{number}"}}
        spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "tmp", "emptyDir": {}}, claim]}
        return {"metadata": {"generateName": "db-"}, "spec": {**spec, "hostname": f"db-{number}"}}

    async def story() -> None:
        async with ApiServer() as api:
            pods = Informer(api.client, PODS, type=Pod, clock=api.clock, random=Random(1))
            task = asyncio.create_task(pods.run())
            await api.settle()
            for number in range(6):
                await api.client.create(PODS, template(number), "default")
            await api.settle()
            shapes, found = Shapes(), list(pods.list())
            seen = [shapes.of(pod) for pod in found]
            assert len({id(pod.spec.containers) for pod in found}) < len(found), "some of them are made of others"
            assert [shape.volumes.claims for shape in seen] == [(f"data-{number}",) for number in range(6)]
            assert [pod.spec.hostname for pod in found] == [f"db-{number}" for number in range(6)]
            assert len({id(shape) for shape in seen}) == 6
            assert len({id(shape.kin) for shape in seen}) == len({id(shape.own) for shape in seen}) == 1
            for pod, shape in zip(found, seen, strict=True):
                entry = api.store.get(f"/core/pods/{pod.key}")
                assert entry is not None
                again = Pod.from_parts(*at_rest.parts(entry.value or b""), pod.metadata.resourceVersion)
                assert again == pod
                assert shapes.of(again) is shapes.of(pod) is shape
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_a_name_that_only_looks_like_that_of_a_claim_is_not_taken_for_one() -> None:
    """What sets these pods apart is the value of a label that is called as claims' names are, and a claim is not."""

    async def story() -> None:
        async with ApiServer() as api:
            pods = Informer(api.client, PODS, type=Pod, clock=api.clock, random=Random(1))
            task = asyncio.create_task(pods.run())
            await api.settle()
            for number in range(4):
                claim = {"name": "data", "persistentVolumeClaim": {"claimName": "not.a.label"}}
                spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [claim]}
                selector = {"nodeSelector": {"claimName": f"x{number}"}}
                await api.client.create(
                    PODS, {"metadata": {"generateName": "p-"}, "spec": {**spec, **selector}}, "default"
                )
            await api.settle()
            assert len(api.api.engine.twins._kept) == 1
            found = [(pod.claims, pod.spec.nodeSelector) for pod in pods.list()]
            assert found == [(["default/not.a.label"], {"claimName": f"x{number}"}) for number in range(4)]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
