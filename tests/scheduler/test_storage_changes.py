"""Claims and volumes whose writers say what they changed are not decoded anew; what is made of them is what the bytes say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from jota.client.reader import Reader
from jota.meta.resource import Resource
from jota.meta.watchevent import WatchEvent
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
