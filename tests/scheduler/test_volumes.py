"""Pods follow their volumes; claims that wait for a consumer get a volume or a node before the pod is bound."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scheduler.test_scheduler import cluster, node, pod, where

from jota.meta.resource import NODES, PODS, Resource
from jota.scheduler.resources import CLAIMS, CLASSES, VOLUMES
from jota.scheduler.storage import Claim, Storage, Volume
from jota.testing.cluster import ApiServer

SELECTED = "volume.kubernetes.io/selected-node"


def on(node_name: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node_name]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def volume(name: str, node_name: str, size: str = "1Gi") -> dict[str, Any]:
    spec = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "disks",
        "nodeAffinity": on(node_name),
        "local": {"path": "/x"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def claim(name: str, storage_class: str) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def mounting(name: str, claim_name: str) -> dict[str, Any]:
    return pod(name, volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": claim_name}}])


def hosts(*names: str) -> list[dict[str, Any]]:
    made = [node(n) for n in names]
    for n in made:
        n["metadata"]["labels"] = {"kubernetes.io/hostname": n["metadata"]["name"]}
    return made


async def classes(api: ApiServer) -> None:
    for name, provisioner in (("disks", "kubernetes.io/no-provisioner"), ("made", "example.com/p")):
        wanted = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        await api.client.create(CLASSES, wanted)


async def offer(api: ApiServer, wanted: dict[str, Any]) -> None:
    """A volume that is free, as the volume controller marks it."""
    made = await api.client.create(VOLUMES, wanted)
    made["status"] = {"phase": "Available"}
    await api.client.update(VOLUMES, made, subresource="status")


async def bound(api: ApiServer, name: str, volume_name: str) -> None:
    """What the volume controller does."""
    found = await api.client.get(CLAIMS, name, "default")
    found["spec"]["volumeName"] = volume_name
    found = await api.client.update(CLAIMS, found)
    found["status"] = {"phase": "Bound"}
    await api.client.update(CLAIMS, found, subresource="status")


async def waits_for_a_volume(api: ApiServer) -> None:
    """Pod p is decided, and its claim's volume must be made."""
    await classes(api)
    await api.client.create(CLAIMS, claim("data", "made"), "default")
    await api.client.create(PODS, mounting("p", "data"), "default")
    await api.advance(2)


def test_a_waiting_claim_takes_the_volume_of_the_only_node_that_has_one() -> None:
    async def story() -> None:
        async with cluster(*hosts("a", "b", "c")) as api:
            await classes(api)
            await offer(api, volume("v", "b"))
            await api.client.create(CLAIMS, claim("data", "disks"), "default")
            await api.client.create(PODS, mounting("p", "data"), "default")
            await api.advance(2)
            holder = (await api.client.get(VOLUMES, "v"))["spec"]["claimRef"]
            assert (holder["namespace"], holder["name"]) == ("default", "data")
            assert (await where(api))["p"] == "", "the pod waits until its volume is bound"
            await bound(api, "data", "v")
            await api.advance(2)
            assert (await where(api))["p"] == "b"

    asyncio.run(story())


def test_a_claim_whose_volume_must_be_made_is_told_the_node() -> None:
    async def story() -> None:
        async with cluster(*hosts("a")) as api:
            await waits_for_a_volume(api)
            found = await api.client.get(CLAIMS, "data", "default")
            assert found["metadata"]["annotations"][SELECTED] == "a"
            made = volume("v", "a")
            made["spec"]["storageClassName"] = "made"
            await api.client.create(VOLUMES, made)
            await bound(api, "data", "v")
            await api.advance(2)
            assert (await where(api))["p"] == "a"

    asyncio.run(story())


def test_a_provisioner_that_cannot_sends_the_pod_elsewhere() -> None:
    async def story() -> None:
        async with cluster(*hosts("a", "b")) as api:
            await waits_for_a_volume(api)
            await api.client.patch(CLAIMS, "data", "default", {"metadata": {"annotations": {SELECTED: None}}})
            await api.advance(15)
            found = await api.client.get(CLAIMS, "data", "default")
            assert found["metadata"]["annotations"][SELECTED] in ("a", "b"), "it was not tried again"

    asyncio.run(story())


def test_a_pod_does_not_wait_for_volumes_on_a_node_that_is_gone() -> None:
    async def story() -> None:
        async with cluster(*hosts("a")) as api:
            await waits_for_a_volume(api)
            await api.client.delete(NODES, "a")
            await api.client.create(NODES, hosts("b")[0])
            await api.advance(5)
            found = await api.client.get(PODS, "p", "default")
            told = [c for c in found["status"]["conditions"] if c["type"] == "PodScheduled"]
            assert [(c["status"], c["reason"]) for c in told] == [("False", "Unschedulable")]
            await api.client.patch(CLAIMS, "data", "default", {"metadata": {"annotations": {SELECTED: None}}})
            await api.advance(15)
            found = await api.client.get(CLAIMS, "data", "default")
            assert found["metadata"]["annotations"][SELECTED] == "b"

    asyncio.run(story())


def test_a_missing_claim_is_told_and_the_pod_goes_on_when_it_comes() -> None:
    async def story() -> None:
        async with cluster(*hosts("a", "b")) as api:
            await classes(api)
            await offer(api, volume("v", "a"))
            await api.client.create(PODS, mounting("p", "data"), "default")
            await api.advance(2)
            found = await api.client.get(PODS, "p", "default")
            message = next(c["message"] for c in found["status"]["conditions"] if c["type"] == "PodScheduled")
            assert message.startswith('0/2 nodes are available: persistentvolumeclaim "data" not found. preemption: ')
            await api.client.create(CLAIMS, claim("data", "disks"), "default")
            await api.advance(15)
            assert (await api.client.get(VOLUMES, "v"))["spec"]["claimRef"]["name"] == "data"

    asyncio.run(story())


def test_a_bound_claim_ties_the_pod_to_its_volume_and_two_pods_share_it() -> None:
    async def story() -> None:
        async with cluster(*hosts("a", "b")) as api:
            await classes(api)
            await offer(api, volume("v", "b"))
            await api.client.create(CLAIMS, claim("data", "disks"), "default")
            await bound(api, "data", "v")
            for n in range(2):
                await api.client.create(PODS, mounting(f"p{n}", "data"), "default")
            await api.advance(3)
            assert set((await where(api)).values()) == {"b"}

    asyncio.run(story())


def test_pods_that_are_not_decided_within_a_turn_are_decided_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is tied to a node by a volume of its own: no decision serves two."""
    monkeypatch.setattr("jota.scheduler.scheduler._TURN", -1.0)

    async def story() -> None:
        async with cluster(*hosts("a", "b")) as api:
            await classes(api)
            names = {f"data-{n}": "ab"[n % 2] for n in range(6)}
            for name, node in names.items():
                await offer(api, volume(f"v-{name}", node))
                await api.client.create(CLAIMS, claim(name, "disks"), "default")
                await bound(api, name, f"v-{name}")
            await api.advance(1)
            await asyncio.gather(*(api.client.create(PODS, mounting(n, n), "default") for n in names))
            await api.advance(1)
            assert await where(api) == names

    asyncio.run(story())


def test_pods_with_bound_claims_are_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with cluster(*hosts("a", "b")) as api:
            await classes(api)
            names = [f"data-{n}" for n in range(3)]
            for name in [*names, "late"]:
                await offer(api, volume(f"v-{name}", "b"))
                await api.client.create(CLAIMS, claim(name, "disks"), "default")
            for name in names:
                await bound(api, name, f"v-{name}")
            await api.advance(1)
            together, each = [], api.client.create_each

            async def several(resource: Resource, objs: Any, namespace: str) -> Any:
                together.append([o["metadata"]["name"] for o in objs])
                return await each(resource, objs, namespace)

            monkeypatch.setattr(api.client, "create_each", several)
            await asyncio.gather(*(api.client.create(PODS, mounting(n, n), "default") for n in [*names, "late"]))
            await api.advance(1)
            assert max(map(len, together)) > 1
            assert sorted(n for group in together for n in group) == names
            placed = await where(api)
            assert {n: placed[n] for n in names} == dict.fromkeys(names, "b")
            assert placed["late"] == ""  # its volume is to be bound first
            await bound(api, "late", "v-late")
            await api.advance(3)
            assert (await where(api))["late"] == "b"

    asyncio.run(story())


@given(st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.integers(0, 2), st.integers(0, 5)), max_size=25))
def test_volumes_are_offered_to_the_claims_that_may_take_them(steps: list[tuple[str, int, int]]) -> None:
    storage = Storage()
    claims = [msgspec.convert(c, Claim) for c in (asking("a", "u1"), asking("b", "u2"))]
    forms: list[dict[str, Any]] = [
        {"status": {"phase": "Available"}},
        {"status": {"phase": "Bound"}, "holder": ("a", "u1")},
        {"status": {"phase": "Bound"}, "holder": ("a", "other")},
        {"status": {}, "holder": ("b", "")},
        {"status": {"phase": "Released"}},
        {"status": {"phase": "Available"}, "deleting": True},
    ]
    takers = [["a", "b"], ["a"], [], ["b"], [], []]
    now: dict[str, int] = {}
    for verb, n, form in steps:
        name = f"v{n}"
        if verb == "put":
            storage.volumes[name] = msgspec.convert(offered(name, **forms[form]), Volume)
            now[name] = form
        else:
            assert (storage.volumes.pop(name, None) is None) == (name not in now)
            now.pop(name, None)
        for claim in claims:
            expected = sorted(v for v, f in now.items() if claim.metadata.name in takers[f])
            assert [v.metadata.name for v in storage.candidates(claim)] == expected


def asking(name: str, uid: str) -> dict[str, Any]:
    made = claim(name, "disks")
    made["metadata"] |= {"namespace": "default", "uid": uid}
    return made


def offered(name: str, status: dict[str, Any], holder: tuple[str, str] | None = None, deleting: bool = False) -> Any:
    made = volume(name, "n0") | {"status": status}
    if holder is not None:
        made["spec"]["claimRef"] = {"namespace": "default", "name": holder[0], "uid": holder[1]}
    if deleting:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made
