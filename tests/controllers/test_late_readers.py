"""Whom a pod concerns is asked once for all pods that are akin: services, budgets and quotas that come later, or change, hear of
what happens to pods that are there already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jota.controllers.controller import Context, Controller
from jota.controllers.endpoints import EndpointsController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.poddisruptionbudget import BUDGETS, PodDisruptionBudgetController
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.resourcequota import ResourceQuotaController
from jota.kinds.core.quota import QUOTAS
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, PODS, REPLICASETS, SERVICES
from jota.testing.cluster import ApiServer

from .stories import Kubelet, names, running, web

Object = dict[str, Any]


@asynccontextmanager
async def four_pods(controller: Callable[[Context], Controller]) -> AsyncIterator[tuple[ApiServer, list[str]]]:
    """Ready, and known to the controller, whom they do not concern."""
    async with running(ReplicaSetController, controller) as api:
        await api.client.create(REPLICASETS, web(4))
        await Kubelet(api).settle()
        pods = await names(api, PODS)
        await unready(api, pods[0])
        yield api, pods


async def unready(api: ApiServer, name: str) -> None:
    status = {"conditions": [{"type": "Ready", "status": "False"}]}
    await api.client.patch(PODS, name, "ns", {"status": status}, subresource="status")
    await api.advance(2)


def service(app: str) -> Object:
    return {"metadata": {"name": "web"}, "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}}


async def in_slices(api: ApiServer) -> int:
    slices = (await api.client.list(ENDPOINTSLICES, "ns"))["items"]
    return sum(e["conditions"]["ready"] for one in slices for e in one["endpoints"] or ())


async def in_endpoints(api: ApiServer) -> int:
    subsets = (await api.client.get(ENDPOINTS, "web", "ns")).get("subsets") or ()
    return sum(len(s.get("addresses") or ()) for s in subsets)


@pytest.mark.parametrize(
    ("controller", "ready"), [(EndpointSliceController, in_slices), (EndpointsController, in_endpoints)]
)
def test_a_service_that_comes_to_select_pods_follows_them(
    controller: type[Controller], ready: Callable[[ApiServer], Awaitable[int]]
) -> None:
    async def story() -> None:
        async with four_pods(controller) as (api, pods):
            await api.client.create(SERVICES, service("other"), "ns")
            await unready(api, pods[1])
            assert await ready(api) == 0
            await api.client.patch(SERVICES, "web", "ns", service("web"))
            await api.advance(2)
            assert await ready(api) == 2
            await unready(api, pods[2])
            assert await ready(api) == 1

    asyncio.run(story())


def test_a_budget_that_comes_to_select_pods_follows_them() -> None:
    def budget(app: str) -> Object:
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
        return {"metadata": {"name": "web"}, "spec": spec}

    async def healthy(api: ApiServer) -> int:
        return (await api.client.get(BUDGETS, "web", "ns"))["status"]["currentHealthy"]  # type: ignore[no-any-return]

    async def story() -> None:
        async with four_pods(PodDisruptionBudgetController) as (api, pods):
            await api.client.create(BUDGETS, budget("other"), "ns")
            await unready(api, pods[1])
            assert await healthy(api) == 0
            await api.client.patch(BUDGETS, "web", "ns", budget("web"))
            await api.advance(2)
            assert await healthy(api) == 2
            await unready(api, pods[2])
            assert await healthy(api) == 1

    asyncio.run(story())


def test_a_quota_that_comes_late_follows_the_pods_that_were_there() -> None:
    async def used(api: ApiServer) -> str:
        return (await api.client.get(QUOTAS, "q", "ns"))["status"]["used"]["pods"]  # type: ignore[no-any-return]

    async def ended(api: ApiServer, pod: str) -> None:
        await api.client.patch(PODS, pod, "ns", {"status": {"phase": "Failed"}}, subresource="status")
        await api.advance(2)

    async def story() -> None:
        async with four_pods(ResourceQuotaController) as (api, pods):
            await api.client.delete(REPLICASETS, "web", "ns", propagation="Orphan")  # nobody replaces them
            await ended(api, pods[0])
            await api.client.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}}, "ns")
            await api.advance(2)
            assert await used(api) == "3"
            await ended(api, pods[1])
            assert await used(api) == "2"

    asyncio.run(story())
