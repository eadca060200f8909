"""Caches of one process hold one object between them: decoded once, whoever asks first, and never changed under a reader."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec

from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.podparts import ObjectMeta
from jota.client.pods import Pod
from jota.meta.resource import CONFIGMAPS, PODS
from jota.testing.cluster import ApiServer

DECODED: list[bytes] = []


class Counted(msgspec.Struct):
    metadata: ObjectMeta
    data: dict[str, str]

    @classmethod
    def from_json(cls, data: bytes) -> Counted:
        DECODED.append(data)
        return msgspec.json.decode(data, type=cls)


def config(name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"v": value}}


def informer(client: Client, api: ApiServer, resource: Any = CONFIGMAPS, **options: Any) -> Informer[Any]:
    return Informer(client, resource, clock=api.clock, random=Random(1), **options)


async def follow(api: ApiServer, *informers: Informer[Any]) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(i.run()) for i in informers]
    await api.until(lambda: all(i.has_synced for i in informers))
    return tasks


async def caught_up(api: ApiServer, *informers: Informer[Any]) -> None:
    await api.until(lambda: all(i.revision >= api.store.revision for i in informers))


def test_events_and_whole_states_are_decoded_once_for_all() -> None:
    async def main() -> None:
        async with ApiServer() as api:
            DECODED.clear()
            for n in range(20):
                await api.client.create(CONFIGMAPS, config(f"c{n}", "1"))
            first, second = (informer(api.client, api, type=Counted) for _ in range(2))
            tasks = await follow(api, first, second)
            assert len(DECODED) == len(first) == len(second), "the state"
            for n in range(20):
                await api.client.update(CONFIGMAPS, config(f"c{n}", "2"))
                await api.client.update(CONFIGMAPS, config(f"c{n}", "3"))
            await caught_up(api, first, second)
            assert len(DECODED) == len(first) + 40, "its changes"
            late = informer(api.client, api, type=Counted)
            tasks += await follow(api, late)
            assert len(DECODED) == len(first) + 40, "who comes later takes what is there"
            for key, obj in first.items():
                assert obj is second.get(key) is late.get(key)
            for task in tasks:
                task.cancel()

    asyncio.run(main())


def test_a_new_list_keeps_the_objects_that_have_not_changed() -> None:
    async def main() -> None:
        async with ApiServer() as api:
            for name in "ab":
                await api.client.create(CONFIGMAPS, config(name, "1"))
            alone = informer(api.client, api, type=Counted)
            [task] = await follow(api, alone)
            before = dict(alone.items())
            task.cancel()
            await api.client.update(CONFIGMAPS, config("b", "2"))
            await api.store.compact(api.store.revision)
            told: list[Any] = []
            alone.add_handler(lambda old, new: told.append((old, new)))
            told.clear()
            [task] = await follow(api, alone)
            await caught_up(api, alone)
            assert alone.relists == 2
            assert alone.get("default/a") is before["default/a"]
            assert told == [(before["default/b"], alone.get("default/b"))]
            task.cancel()

    asyncio.run(main())


def test_objects_of_two_servers_and_of_two_forms_are_never_mixed_up() -> None:
    """Both servers count revisions alike, and a name is a name."""

    async def main() -> None:
        async with ApiServer() as one, ApiServer() as two:
            for api, value in ((one, "one"), (two, "two")):
                await api.client.create(CONFIGMAPS, config("a", value))
            here, there = informer(one.client, one, type=Counted), informer(two.client, two, type=Counted)
            partial = informer(one.client, one, metadata=True)
            plain = informer(one.client, one)
            tasks = await follow(one, here, partial, plain) + await follow(two, there)
            a, b = here.get("default/a"), there.get("default/a")
            assert a is not None
            assert b is not None
            assert a.metadata.resourceVersion == b.metadata.resourceVersion
            assert (a.data, b.data) == ({"v": "one"}, {"v": "two"})
            assert partial.get("default/a")["kind"] == "PartialObjectMetadata"
            assert plain.get("default/a")["data"] == {"v": "one"}
            for task in tasks:
                task.cancel()

    asyncio.run(main())


def test_what_a_reader_was_given_stays_as_it_was() -> None:
    """Pods share parts, and caches share pods: no later event may show in an object that somebody holds."""

    async def main() -> None:
        async with ApiServer() as api:
            first, second = (informer(api.client, api, PODS, type=Pod) for _ in range(2))
            held: list[tuple[Any, bytes]] = []
            for one in (first, second):
                one.add_handler(lambda old, new: held.extend((o, msgspec.json.encode(o)) for o in (old, new) if o))
            tasks = await follow(api, first, second)
            spec = {"containers": [{"name": "c", "image": "i"}]}
            for n in range(6):
                meta = {"name": f"p{n}", "namespace": "default", "labels": {"app": "x"}}
                await api.client.create(PODS, {"metadata": meta, "spec": spec})
            for n in range(6):
                target = {"kind": "Binding", "metadata": {"name": f"p{n}"}, "target": {"kind": "Node", "name": f"n{n}"}}
                await api.client.create(PODS, target, "default", subresource="binding", name=f"p{n}")
                ready = [{"type": "Ready", "status": "True"}]
                status = {"phase": "Running", "conditions": ready, "podIP": f"10.0.0.{n}"}
                status["containerStatuses"] = [{"name": "c", "restartCount": n % 2, "image": "i", "imageID": ""}]
                await api.client.patch(PODS, f"p{n}", "default", {"status": status}, subresource="status")
                await api.client.patch(PODS, f"p{n}", "default", {"metadata": {"labels": {"app": f"y{n % 2}"}}})
                await api.client.delete(PODS, f"p{n}", "default", grace=0)
            await caught_up(api, first, second)
            assert len(held) > 50
            for obj, was in held:
                assert msgspec.json.encode(obj) == was
            for task in tasks:
                task.cancel()

    asyncio.run(main())
