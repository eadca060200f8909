"""Deployments, ReplicaSets and services on the real API server."""

from __future__ import annotations

import asyncio

from jota.meta.resource import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    PODS,
    REPLICASETS,
    SERVICEACCOUNTS,
    SERVICES,
)

from .builders import CA_PEM
from .stories import Kubelet, names, running, web


def test_a_deployment_starts_rolls_and_rolls_back() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(3))
            await kubelet.settle()
            first = await names(api, PODS)
            assert len(first) == 3
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            assert got["status"]["availableReplicas"] == got["status"]["updatedReplicas"] == 3
            assert got["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
            await api.client.patch(
                DEPLOYMENTS,
                "web",
                "ns",
                [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:2"}],
                "json",
            )
            await kubelet.settle()
            second = await names(api, PODS)
            assert len(second) == 3
            assert not set(first) & set(second)
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            reasons = {c["type"]: c["reason"] for c in got["status"]["conditions"]}
            assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
            assert got["status"]["observedGeneration"] == got["metadata"]["generation"]
            assert len(await names(api, REPLICASETS)) == 2
            messages = [e["message"] for e in (await api.client.list(EVENTS, "ns"))["items"]]
            assert any(m.startswith("Scaled up replica set web-") and m.endswith("from 0 to 3") for m in messages)

    asyncio.run(story())


def test_a_deleted_pod_is_replaced_and_orphans_are_adopted_and_released() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            body = web(2)
            orphan = {
                "metadata": {"name": "orphan", "namespace": "ns", "labels": {"app": "web"}},
                "spec": body["spec"]["template"]["spec"],
            }
            await api.client.create(PODS, orphan)
            await api.client.create(REPLICASETS, body)
            await kubelet.settle()
            pods = await names(api, PODS)
            assert len(pods) == 2
            assert "orphan" in pods
            other = next(p for p in pods if p != "orphan")
            await api.client.delete(PODS, other, "ns", grace=0)
            await api.client.patch(PODS, "orphan", "ns", {"metadata": {"labels": {"app": "other"}}})
            await kubelet.settle()
            assert len(await names(api, PODS, labels="app=web")) == 2
            released = await api.client.get(PODS, "orphan", "ns")
            assert not released["metadata"].get("ownerReferences")

    asyncio.run(story())


def test_a_service_gets_endpoints_and_slices_that_follow_its_pods() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            service = {
                "metadata": {"name": "web", "namespace": "ns"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
            }
            await api.client.create(SERVICES, service)
            await api.settle()
            (empty,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            assert not empty.get("endpoints")
            await api.client.create(REPLICASETS, web(3))
            await kubelet.settle()
            (full,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            assert full["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
            assert [p["port"] for p in full["ports"]] == [8080]
            assert all(e["conditions"]["ready"] for e in full["endpoints"])
            assert len(full["endpoints"]) == 3
            addresses = sorted(e["addresses"][0] for e in full["endpoints"])
            got = await api.client.get(ENDPOINTS, "web", "ns")
            assert sorted(a["ip"] for a in got["subsets"][0]["addresses"]) == addresses
            await api.client.delete(PODS, full["endpoints"][0]["targetRef"]["name"], "ns")
            await api.settle()
            (fading,) = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
            states = [tuple(e["conditions"].values()) for e in fading["endpoints"]]
            assert (False, True, True) in states, "a terminating pod keeps serving"

    asyncio.run(story())


def test_every_namespace_has_its_account_and_root_certificate() -> None:
    async def story() -> None:
        async with running() as api:
            await api.advance(1)
            assert await names(api, SERVICEACCOUNTS) == ["default"]
            await api.client.delete(SERVICEACCOUNTS, "default", "ns")
            await api.client.patch(CONFIGMAPS, "kube-root-ca.crt", "ns", {"data": {"ca.crt": "forged", "more": "x"}})
            await api.advance(1)
            assert await names(api, SERVICEACCOUNTS) == ["default"]
            assert (await api.client.get(CONFIGMAPS, "kube-root-ca.crt", "ns"))["data"] == {"ca.crt": CA_PEM}

    asyncio.run(story())
