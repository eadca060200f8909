"""Ends: namespaces drain, the garbage collector follows owners, silent nodes lose their pods."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.aio.clock import rfc3339, rfc3339_micro
from jota.client.client import Client
from jota.controllers.controller import ControllerConfig
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, EVENTS, LEASES, NAMESPACES, NODES, PODS, REPLICASETS, SECRETS
from jota.testing.cluster import ApiServer

from .stories import Kubelet, exists, names, running, web

Object = dict[str, Any]


async def make(api: ApiServer, name: str, *owners: Object, block: bool = False, **meta: Any) -> Object:
    """A ConfigMap with the given owners."""
    references = [
        {
            "apiVersion": "v1",
            "kind": o.get("kind", "ConfigMap"),
            "name": o["metadata"]["name"],
            "uid": o["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for o in owners
    ]
    body = {"metadata": {"name": name, "namespace": "ns", "ownerReferences": references, **meta}}
    return await api.client.create(CONFIGMAPS, body)


async def maps(api: ApiServer) -> list[str]:
    return [n for n in await names(api, CONFIGMAPS) if n != "kube-root-ca.crt"]


def test_background_deletion_follows_the_owners() -> None:
    async def story() -> None:
        async with running() as api:
            a = await make(api, "a")
            b = await make(api, "b", a)
            await make(api, "c", b)
            other = await make(api, "other")
            await make(api, "shared", a, other)
            await api.client.delete(CONFIGMAPS, "a", "ns", propagation="Background")
            await api.advance(5)
            assert await maps(api) == ["other", "shared"]
            shared = await api.client.get(CONFIGMAPS, "shared", "ns")
            assert [r["name"] for r in shared["metadata"]["ownerReferences"]] == ["other"]

    asyncio.run(story())


def test_an_object_born_to_a_dead_owner_goes() -> None:
    async def story() -> None:
        async with running() as api:
            a = await make(api, "a")
            await api.client.delete(CONFIGMAPS, "a", "ns")
            await api.advance(1)
            await make(api, "late", a)
            unknown = {"kind": "Mystery", "metadata": {"name": "x", "uid": "u"}}
            await make(api, "kept", unknown)
            await api.advance(60)
            assert await maps(api) == ["kept"], "an owner of a kind that nobody serves is not known to be gone"

    asyncio.run(story())


def test_an_owner_in_another_namespace_is_none_and_that_is_told() -> None:
    async def story() -> None:
        async with running() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "other"}})
            owner = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "other"}})
            uid = owner["metadata"]["uid"]
            await api.advance(1)
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid}
            await api.client.create(
                CONFIGMAPS, {"metadata": {"name": "b", "namespace": "ns", "ownerReferences": [reference]}}
            )
            await api.advance(5)
            assert not await exists(api, CONFIGMAPS, "b", "ns")
            events = (await api.client.list(EVENTS, "ns"))["items"]
            (told,) = [e for e in events if e["reason"] == "OwnerRefInvalidNamespace"]
            named = f"[v1/ConfigMap, namespace: ns, name: a, uid: {uid}]"
            assert told["message"] == f'ownerRef {named} does not exist in namespace "ns"'
            assert told["involvedObject"]["name"] == "b"
            assert told["source"]["component"] == "garbage-collector-controller"

    asyncio.run(story())


def test_foreground_deletion_waits_for_what_blocks_it() -> None:
    async def story() -> None:
        async with running() as api:
            a = await make(api, "a")
            await make(api, "b", a, block=True, finalizers=["example.com/hold"])
            await make(api, "free", a)
            await api.client.delete(CONFIGMAPS, "a", "ns", propagation="Foreground")
            await api.advance(5)
            assert await maps(api) == ["a", "b"]
            await api.client.patch(CONFIGMAPS, "b", "ns", {"metadata": {"finalizers": None}})
            await api.advance(5)
            assert await maps(api) == []

    asyncio.run(story())


def test_orphans_go_free() -> None:
    async def story() -> None:
        async with running() as api:
            a = await make(api, "a")
            await make(api, "b", a)
            await api.client.delete(CONFIGMAPS, "a", "ns", propagation="Orphan")
            await api.advance(5)
            assert await maps(api) == ["b"]
            assert not (await api.client.get(CONFIGMAPS, "b", "ns"))["metadata"].get("ownerReferences")

    asyncio.run(story())


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_circle_of_owners_ends(policy: str) -> None:
    async def story() -> None:
        async with running() as api:
            a = await make(api, "a")
            b = await make(api, "b", a, block=True)
            c = await make(api, "c", b, block=True)
            loop = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "c",
                "uid": c["metadata"]["uid"],
                "blockOwnerDeletion": True,
            }
            await api.client.patch(CONFIGMAPS, "a", "ns", {"metadata": {"ownerReferences": [loop]}})
            await api.advance(1)
            await api.client.delete(CONFIGMAPS, "a", "ns", propagation=policy)
            await api.advance(60)
            assert await maps(api) == []

    asyncio.run(story())


def test_a_deployment_takes_its_sets_and_pods_along() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(3))
            await kubelet.settle()
            await api.client.delete(DEPLOYMENTS, "web", "ns", propagation="Background")
            await kubelet.settle()
            assert await names(api, REPLICASETS) == []
            assert await names(api, PODS) == []

    asyncio.run(story())


def test_a_namespace_drains_pods_first() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(2))
            await api.client.create(SECRETS, {"metadata": {"name": "s", "namespace": "ns"}})
            await kubelet.settle()
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(1)
            namespace = await api.client.get(NAMESPACES, "ns")
            assert namespace["status"]["phase"] == "Terminating"
            conds = {c["type"]: c for c in namespace["status"]["conditions"]}
            assert conds["NamespaceContentRemaining"]["message"].endswith("pods. has 2 resource instances")
            assert len(conds) == 5
            assert await exists(api, SECRETS, "s", "ns"), "nothing but pods goes while pods are there"
            await kubelet.tick()
            await api.advance(5)
            assert not await exists(api, NAMESPACES, "ns")
            for resource in (PODS, DEPLOYMENTS, REPLICASETS, SECRETS, CONFIGMAPS):
                assert await names(api, resource) == []

    asyncio.run(story())


def test_a_finalizer_holds_a_namespace_and_is_named() -> None:
    async def story() -> None:
        async with running() as api:
            await make(api, "held", finalizers=["example.com/hold"])
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(5)
            conds = {c["type"]: c for c in (await api.client.get(NAMESPACES, "ns"))["status"]["conditions"]}
            assert "example.com/hold in 1 resource instances" in conds["NamespaceFinalizersRemaining"]["message"]
            await api.client.patch(CONFIGMAPS, "held", "ns", {"metadata": {"finalizers": None}})
            await api.advance(5)
            assert not await exists(api, NAMESPACES, "ns")

    asyncio.run(story())


# -- nodes


async def node(api: ApiServer, name: str) -> None:
    await api.client.create(NODES, {"metadata": {"name": name}})
    await beat(api, name)


async def beat(api: ApiServer, name: str) -> None:
    """What a kubelet writes: its Lease, and Ready."""
    now = api.clock.now()
    spec = {"holderIdentity": name, "renewTime": rfc3339_micro(now), "leaseDurationSeconds": 40}
    try:
        await api.client.patch(LEASES, name, "kube-node-lease", {"spec": spec})
    except ApiError:
        await api.client.create(LEASES, {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec})
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now),
    }
    await api.client.patch(NODES, name, "", {"status": {"conditions": [ready]}}, subresource="status")


async def live(api: ApiServer, seconds: int, *nodes: str) -> None:
    for _ in range(0, seconds, 10):
        await api.advance(10)
        for name in nodes:
            await beat(api, name)


async def taints(api: ApiServer, name: str) -> set[tuple[str, str]]:
    spec = (await api.client.get(NODES, name)).get("spec", {})
    return {(t["key"].rpartition("/")[2], t["effect"]) for t in spec.get("taints") or ()}


async def ensure_namespace(api: ApiServer, name: str) -> None:
    if not await exists(api, NAMESPACES, name):
        await api.client.create(NAMESPACES, {"metadata": {"name": name}})


def test_a_silent_node_is_tainted_its_pods_go_and_it_comes_back() -> None:
    async def story() -> None:
        async with running() as api:
            await ensure_namespace(api, "kube-node-lease")
            for name in ("n1", "n2"):
                await node(api, name)
            kubelet = Kubelet(api, "n1")
            body = {
                "metadata": {"name": "p", "namespace": "ns"},
                "spec": {
                    "containers": [{"name": "c", "image": "i"}],
                    "tolerations": [
                        {
                            "key": "node.kubernetes.io/unreachable",
                            "operator": "Exists",
                            "effect": "NoExecute",
                            "tolerationSeconds": 100,
                        }
                    ],
                },
            }
            await api.client.create(PODS, body)
            await kubelet.tick()
            await live(api, 60, "n1", "n2")
            assert await taints(api, "n1") == set()
            await live(api, 60, "n2")
            got = await api.client.get(NODES, "n1")
            assert {c["type"]: c["status"] for c in got["status"]["conditions"]}["Ready"] == "Unknown"
            assert await taints(api, "n1") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
            pod = await api.client.get(PODS, "p", "ns")
            assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "False"
            assert "deletionTimestamp" not in pod["metadata"]
            await live(api, 110, "n2")
            pod = await api.client.get(PODS, "p", "ns")
            assert "deletionTimestamp" in pod["metadata"]
            reasons = {c["type"]: c.get("reason") for c in pod["status"]["conditions"]}
            assert reasons["DisruptionTarget"] == "DeletionByTaintManager"
            await live(api, 20, "n1", "n2")
            assert await taints(api, "n1") == set()

    asyncio.run(story())


def test_when_every_node_is_silent_nothing_is_evicted() -> None:
    async def story() -> None:
        async with running() as api:
            await ensure_namespace(api, "kube-node-lease")
            await node(api, "n1")
            await live(api, 20, "n1")
            await api.advance(300)
            assert await taints(api, "n1") == {("unreachable", "NoSchedule")}

    asyncio.run(story())


def test_nodes_get_different_parts_of_the_cluster_cidr() -> None:
    async def story() -> None:
        async with running(config=ControllerConfig(cluster_cidr="10.42.0.0/22", node_mask=24)) as api:
            for n in range(5):
                await api.client.create(NODES, {"metadata": {"name": f"n{n}"}})
            await api.advance(1)
            given = [n.get("spec", {}).get("podCIDR") for n in (await api.client.list(NODES))["items"]]
            assert sorted(filter(None, given)) == [f"10.42.{i}.0/24" for i in range(4)]
            taken = next(
                n["metadata"]["name"] for n in (await api.client.list(NODES))["items"] if "podCIDR" in n.get("spec", {})
            )
            await api.client.delete(NODES, taken)
            await api.advance(60)
            given = [n.get("spec", {}).get("podCIDR") for n in (await api.client.list(NODES))["items"]]
            assert sorted(given) == [f"10.42.{i}.0/24" for i in range(4)]

    asyncio.run(story())


def test_pods_of_a_node_that_is_gone_are_removed() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api, "gone")
            spec = {"containers": [{"name": "c", "image": "i"}]}
            await api.client.create(PODS, {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
            await kubelet.tick()
            await api.advance(30)
            assert await names(api, PODS) == ["p"]
            await api.advance(60)
            assert await names(api, PODS) == []

    asyncio.run(story())


def test_the_client_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with ApiServer() as api:
            client: Client = api.client
            with pytest.raises(ApiError) as error:
                await client.get(PODS, "x", "default")
            assert (error.value.code, error.value.reason, error.value.name) == (404, "NotFound", "x")

    asyncio.run(story())
