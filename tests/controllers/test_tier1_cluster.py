"""Tier 1 of the conformance capabilities, rows ctl/garbage-collector, ctl/namespace, ctl/resourcequota and
net/endpoint-controllers: each test is named after its row and quotes the conformance tests that it stands for.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.controllers.replicaset import REPLICATIONCONTROLLERS
from jota.controllers.resourcequota import CRDS
from jota.controllers.statefulset_pods import PVCS
from jota.kinds.core.quota import QUOTAS
from jota.meta.errors import ApiError
from jota.meta.resource import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICES,
    Resource,
)
from jota.testing.cluster import ApiServer

from .stories import Kubelet, exists, names, running, web

Object = dict[str, Any]


def rc(name: str, replicas: int) -> Object:
    body = web(replicas)
    body["metadata"]["name"] = name
    body["spec"]["selector"] = {"app": name}
    body["spec"]["template"]["metadata"]["labels"] = {"app": name}
    return body


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_ctl_garbage_collector_hundred_pods(policy: str) -> None:
    """should delete pods created by rc when not orphaning; should keep the rc around until all its pods are deleted if the
    deleteOptions says so"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICATIONCONTROLLERS, rc("simpletest.rc", 100))
            await kubelet.settle()
            assert len(await names(api, PODS)) == 100
            await api.client.delete(REPLICATIONCONTROLLERS, "simpletest.rc", "ns", propagation=policy)
            await api.advance(1)
            if policy == "Foreground":  # pods still end: their owner waits for them
                found = await api.client.get(REPLICATIONCONTROLLERS, "simpletest.rc", "ns")
                assert found["metadata"]["finalizers"] == ["foregroundDeletion"]
            await kubelet.settle()
            await api.advance(5)
            assert not await names(api, PODS)
            assert not await names(api, REPLICATIONCONTROLLERS)

    asyncio.run(story())


@pytest.mark.parametrize("policy", ["Orphan", ""])
def test_ctl_garbage_collector_orphans(policy: str) -> None:
    """should orphan pods created by rc if delete options say so; should orphan pods created by rc if
    deleteOptions.OrphanDependents is nil; should orphan RS created by deployment when deleteOptions.propagationPolicy is
    Orphan"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICATIONCONTROLLERS, rc("simple", 10))
            await api.client.create(DEPLOYMENTS, web(2))
            await kubelet.settle()
            await api.client.delete(REPLICATIONCONTROLLERS, "simple", "ns", propagation=policy)
            await api.client.delete(DEPLOYMENTS, "web", "ns", propagation="Orphan")
            await kubelet.settle()
            await api.advance(40)
            pods = (await api.client.list(PODS, "ns", "app=simple"))["items"]
            assert len(pods) == 10
            assert not any(p["metadata"].get("ownerReferences") for p in pods)
            (one,) = (await api.client.list(REPLICASETS, "ns"))["items"]
            assert not one["metadata"].get("ownerReferences")
            assert len(await names(api, PODS, labels="app=web")) == 2

    asyncio.run(story())


def test_ctl_garbage_collector_two_owners() -> None:
    """should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICATIONCONTROLLERS, rc("going", 10))
            stays = await api.client.create(REPLICATIONCONTROLLERS, rc("stays", 0))
            await kubelet.settle()
            second = {
                "apiVersion": "v1",
                "kind": "ReplicationController",
                "name": "stays",
                "uid": stays["metadata"]["uid"],
            }
            for pod in (await api.client.list(PODS, "ns"))["items"][:5]:
                references = [*pod["metadata"]["ownerReferences"], second]
                patch = {"metadata": {"ownerReferences": references}}
                await api.client.patch(PODS, pod["metadata"]["name"], "ns", patch)
            await api.client.delete(REPLICATIONCONTROLLERS, "going", "ns", propagation="Foreground")
            await kubelet.settle()
            await api.advance(10)
            assert await names(api, REPLICATIONCONTROLLERS) == ["stays"]
            left = (await api.client.list(PODS, "ns"))["items"]
            assert len(left) == 5
            assert [[r["name"] for r in p["metadata"]["ownerReferences"]] for p in left] == [["stays"]] * 5

    asyncio.run(story())


def test_ctl_namespace() -> None:
    """should ensure that all pods and services are removed when a namespace is removed; apply changes to a namespace status;
    apply a finalizer; patch; ordered deletion"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            got = await api.client.get(NAMESPACES, "ns")
            assert (got["spec"]["finalizers"], got["status"]["phase"]) == (["kubernetes"], "Active")
            condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"}
            change = {"status": {"conditions": [condition]}}
            patched = await api.client.patch(NAMESPACES, "ns", "", change, subresource="status")
            patched["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
            written = await api.client.update(NAMESPACES, patched, "status")
            assert [c["type"] for c in written["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
            written["spec"]["finalizers"].append("e2e.example.com/fakeFinalizer")
            reply = await api.request("PUT", "/api/v1/namespaces/ns/finalize", written, content_type="application/json")
            assert reply.status == 200
            assert len((await api.client.get(NAMESPACES, "ns"))["spec"]["finalizers"]) == 2
            await api.client.create(
                SERVICES, {"metadata": {"name": "s", "namespace": "ns"}, "spec": {"ports": [{"port": 1}]}}
            )
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "ns"}})
            await api.client.create(
                PODS, {"metadata": {"name": "p", "namespace": "ns"}, "spec": web()["spec"]["template"]["spec"]}
            )
            await kubelet.tick()
            await api.client.delete(NAMESPACES, "ns")
            await api.advance(10)
            got = await api.client.get(NAMESPACES, "ns")
            assert got["status"]["phase"] == "Terminating"
            assert await exists(api, CONFIGMAPS, "c", "ns"), "pods go first"
            with pytest.raises(ApiError) as refused:
                await api.client.create(CONFIGMAPS, {"metadata": {"name": "late", "namespace": "ns"}})
            assert [c.reason for c in refused.value.causes] == ["NamespaceTerminating"]
            await kubelet.settle()
            await api.advance(30)
            assert not await exists(api, CONFIGMAPS, "c", "ns")
            assert not await exists(api, SERVICES, "s", "ns")
            got = await api.client.get(NAMESPACES, "ns")
            assert got["spec"]["finalizers"] == ["e2e.example.com/fakeFinalizer"]
            told = {c["type"]: c["status"] for c in got["status"]["conditions"]}
            for name in ("DiscoveryFailure", "GroupVersionParsingFailure", "ContentFailure"):
                assert told[f"NamespaceDeletion{name}"] == "False"
            assert told["NamespaceContentRemaining"] == told["NamespaceFinalizersRemaining"] == "False"
            got["spec"]["finalizers"] = []
            await api.request("PUT", "/api/v1/namespaces/ns/finalize", got, content_type="application/json")
            await api.advance(5)
            assert not await exists(api, NAMESPACES, "ns")

    asyncio.run(story())


async def quota(api: ApiServer, name: str, hard: Object, **spec: Any) -> None:
    await api.client.create(QUOTAS, {"metadata": {"name": name, "namespace": "ns"}, "spec": {"hard": hard, **spec}})
    await api.advance(5)


async def used(api: ApiServer, name: str = "q") -> Object:
    await api.advance(8)
    status = (await api.client.get(QUOTAS, name, "ns"))["status"]
    out: Object = status["used"]
    return out


def pod(name: str, requests: Object | None = None, limits: Object | None = None, **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": requests or {}, "limits": limits or {}}}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": [container], **spec}}


def made(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


def test_ctl_resourcequota_life_of_every_kind() -> None:
    """should create a ResourceQuota and capture the life of a service, secret, configMap, replication controller, replica
    set, persistent volume claim, and of the quota itself"""

    async def story() -> None:
        async with running() as api:
            hard = {"services": "5", "services.nodeports": "1", "services.loadbalancers": "1", "secrets": "9"}
            hard |= {"configmaps": "9", "replicationcontrollers": "5", "resourcequotas": "1"}
            hard |= {"persistentvolumeclaims": "5", "requests.storage": "10Gi", "count/replicasets.apps": "5"}
            await quota(api, "q", hard)
            before = await used(api)
            assert before["resourcequotas"] == "1"
            assert before["services"] == before["secrets"] == "0"
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            ports = [{"port": 80}]
            await api.client.create(SERVICES, made("plain", spec={"ports": ports}))
            await api.client.create(SERVICES, made("node", spec={"ports": ports, "type": "NodePort"}))
            with pytest.raises(ApiError) as refused:
                await api.client.create(SERVICES, made("node2", spec={"ports": ports, "type": "NodePort"}))
            assert refused.value.code == 403
            assert "exceeded quota: q" in refused.value.message
            await api.client.create(SECRETS, made("s"))
            await api.client.create(CONFIGMAPS, made("c"))
            await api.client.create(REPLICATIONCONTROLLERS, rc("r", 0))
            await api.client.create(REPLICASETS, web(0))
            await api.client.create(PVCS, made("v", spec=claim))
            after = await used(api)
            grown = {k: int(after[k]) - int(before[k]) for k in hard if k != "requests.storage"}
            assert grown == {
                k: {"services": 2, "services.loadbalancers": 0, "resourcequotas": 0}.get(k, 1) for k in grown
            }
            assert after["requests.storage"] == "1Gi"
            for resource, name in ((SERVICES, "plain"), (SERVICES, "node"), (SECRETS, "s"), (CONFIGMAPS, "c")):
                await api.client.delete(resource, name, "ns")
            for resource, name in ((REPLICATIONCONTROLLERS, "r"), (REPLICASETS, "web"), (PVCS, "v")):
                await api.client.delete(resource, name, "ns")
            assert await used(api) == before

    asyncio.run(story())


def test_ctl_resourcequota_life_of_a_custom_resource() -> None:
    """should create a ResourceQuota and capture the life of a custom resource"""

    async def story() -> None:
        async with running() as api:
            for number, scope in ((1, "Namespaced"), (2, "Cluster")):
                names = {"plural": f"foos{number}", "kind": f"Foo{number}"}
                open_ = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
                versions = [{"name": "v1", "served": True, "storage": True, "schema": open_}]
                spec = {"group": "example.com", "names": names, "scope": scope, "versions": versions}
                await api.client.create(CRDS, {"metadata": {"name": f"foos{number}.example.com"}, "spec": spec})
            foos = Resource("example.com", "v1", "foos1", "Foo1")
            await api.until(lambda: ("example.com", "v1", "foos1") in api.api.served)
            counted = "count/foos1.example.com"
            await quota(api, "q", {counted: "1", "count/foos2.example.com": "1", "count/nothing.example.com": "1"})
            assert set((await used(api)).values()) == {"0"}
            await api.client.create(foos, made("a"))
            assert (await used(api))[counted] == "1"
            with pytest.raises(ApiError, match=f"exceeded quota: q, requested: {counted}=1, used: {counted}=1"):
                await api.client.create(foos, made("b"))
            await api.client.delete(foos, "a", "ns")
            assert (await used(api))[counted] == "0"
            await api.client.create(foos, made("b"))

    asyncio.run(story())


def test_ctl_resourcequota_life_of_a_pod() -> None:
    """should create a ResourceQuota and capture the life of a pod: requests, limits, ephemeral storage, an extended resource"""

    async def story() -> None:
        async with running() as api:
            hard = {"pods": "2", "cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"}
            hard |= {"ephemeral-storage": "50Gi", "requests.example.com/dongle": "3"}
            await quota(api, "q", hard)
            requests = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"}
            limits = {"cpu": "1", "memory": "512Mi", "example.com/dongle": "2"}
            await api.client.create(PODS, pod("one", requests, limits))
            got = await used(api)
            assert got == {
                "pods": "1",
                "cpu": "500m",
                "requests.memory": "252Mi",
                "limits.cpu": "1",
                "limits.memory": "512Mi",
                "ephemeral-storage": "30Gi",
                "requests.example.com/dongle": "2",
            }
            for change in ({"cpu": "600m"}, {"ephemeral-storage": "21Gi"}, {"example.com/dongle": "2"}):
                small = {"cpu": "1m", "memory": "1Mi", "ephemeral-storage": "1Mi", "example.com/dongle": "1", **change}
                top = {"cpu": "1", "memory": "1Mi", "example.com/dongle": small["example.com/dongle"]}
                with pytest.raises(ApiError, match="exceeded quota: q"):
                    await api.client.create(PODS, pod("two", small, top))
            await api.client.delete(PODS, "one", "ns", grace=0)
            assert set((await used(api)).values()) == {"0"}

    asyncio.run(story())


def test_ctl_resourcequota_scopes() -> None:
    """should verify ResourceQuota with terminating scopes; with best effort scope"""

    async def story() -> None:
        async with running() as api:
            for scope in ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort"):
                await quota(api, scope.lower(), {"pods": "5"}, scopes=[scope])
            await api.client.create(PODS, pod("plain"))
            await api.client.create(PODS, pod("ends", {"cpu": "1"}, {"cpu": "1"}, activeDeadlineSeconds=3600))
            counts = {
                s: (await used(api, s))["pods"]
                for s in ("terminating", "notterminating", "besteffort", "notbesteffort")
            }
            assert set(counts.values()) == {"1"}
            await api.client.delete(PODS, "plain", "ns", grace=0)
            counts = {s: (await used(api, s))["pods"] for s in counts}
            assert counts == {"terminating": "1", "notterminating": "0", "besteffort": "0", "notbesteffort": "1"}

    asyncio.run(story())


def test_ctl_resourcequota_update_delete_and_status() -> None:
    """should be able to update and delete ResourceQuota; should apply changes to a resourcequota status; manage the lifecycle"""

    async def story() -> None:
        async with running() as api:
            await quota(api, "q", {"pods": "5"})
            got = await api.client.get(QUOTAS, "q", "ns")
            got["spec"]["hard"]["pods"] = "7"
            await api.client.update(QUOTAS, got)
            await api.advance(5)
            assert (await api.client.get(QUOTAS, "q", "ns"))["status"]["hard"] == {"pods": "7"}
            change = {"status": {"hard": {"pods": "99"}, "used": {"pods": "98"}}}
            patched = await api.client.patch(QUOTAS, "q", "ns", change, subresource="status")
            assert (patched["spec"]["hard"], patched["status"]["hard"]) == ({"pods": "7"}, {"pods": "99"})
            await api.advance(5)
            status = (await api.client.get(QUOTAS, "q", "ns"))["status"]
            assert status == {"hard": {"pods": "7"}, "used": {"pods": "0"}}, "the controller has the last word"
            await api.client.delete(QUOTAS, "q", "ns")
            assert not await exists(api, QUOTAS, "q", "ns")

    asyncio.run(story())


def test_net_endpoint_controllers() -> None:
    """should have Endpoints and EndpointSlices pointing to the pods of a service, and none left when it is gone"""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            ports = [{"name": "http", "port": 80, "targetPort": 8080}]
            await api.client.create(SERVICES, made("web", spec={"ports": ports, "selector": {"app": "web"}}))
            await api.settle()
            (empty,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            assert not empty.get("ports")
            assert not empty.get("endpoints")
            await api.client.create(REPLICASETS, web(2))
            await kubelet.settle()
            (one,) = (await api.client.list(ENDPOINTSLICES, "ns", "kubernetes.io/service-name=web"))["items"]
            assert (
                one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
            )
            (owner,) = one["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"], owner["controller"]) == ("Service", "web", True)
            pods = {p["metadata"]["name"]: p for p in (await api.client.list(PODS, "ns"))["items"]}
            for endpoint in one["endpoints"]:
                target = endpoint["targetRef"]
                found = pods.pop(target["name"])
                assert (target["kind"], target["namespace"], target["uid"]) == ("Pod", "ns", found["metadata"]["uid"])
                assert endpoint["addresses"] == [found["status"]["podIP"]]
            assert not pods
            (subset,) = (await api.client.get(ENDPOINTS, "web", "ns"))["subsets"]
            assert len(subset["addresses"]) == 2
            await api.client.delete(SERVICES, "web", "ns")
            await api.advance(10)
            assert not await exists(api, ENDPOINTS, "web", "ns")
            assert not await names(api, ENDPOINTSLICES)

    asyncio.run(story())


def test_net_service_latency() -> None:
    """A hundred services find their endpoints; every one is counted, and none waits for another."""

    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICASETS, web(1))
            await kubelet.settle()
            ports = [{"port": 80}]
            for n in range(100):
                await api.client.create(
                    SERVICES, made(f"latency-{n}", spec={"ports": ports, "selector": {"app": "web"}})
                )
            await api.advance(1)
            found = (await api.client.list(ENDPOINTS, "ns"))["items"]
            assert len(found) == 100
            assert all(len(e["subsets"][0]["addresses"]) == 1 for e in found)
            slices = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            assert [len(s["endpoints"]) for s in slices] == [1] * 100

    asyncio.run(story())
