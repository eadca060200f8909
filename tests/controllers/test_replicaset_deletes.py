"""A pod that a set could not delete is not taken for deleted; many go in one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.controllers.controller import ControllerConfig
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.table import run_controllers
from jota.meta.resource import EVENTS, NAMESPACES, PODS, REPLICASETS
from jota.testing.cluster import ApiServer, story
from jota.testing.faults import Faults

from .builders import CA_PEM
from .stories import names


@asynccontextmanager
async def a_set(api: ApiServer, replicas: int) -> AsyncIterator[Faults]:
    """Of so many pods, with its controller behind faults."""
    await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
    faults, stop = Faults(api.api.handle, api.clock), asyncio.Event()
    client, config = Client(InProcess(faults.handle, COMPONENT)), ControllerConfig(ca_pem=CA_PEM)
    work = run_controllers(client, api.clock, config, stop, random=Random(1), controllers=(ReplicaSetController,))
    task = asyncio.ensure_future(work)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await api.client.create(REPLICASETS, {"metadata": {"name": "set"}, "spec": spec}, "ns")
    await api.advance(5)
    assert len(await names(api, PODS)) == replicas
    yield faults
    stop.set()
    await task


async def scale(api: ApiServer, replicas: int) -> None:
    await api.client.patch(REPLICASETS, "set", "ns", {"spec": {"replicas": replicas}})


@pytest.mark.parametrize("pods", [1, 3])
def test_a_delete_that_lost_its_races_is_made_again(pods: int) -> None:
    """The server answers 409 when others write the pod all the time; that is no word about who the pod is."""

    @story
    async def told(api: ApiServer) -> None:
        async with a_set(api, pods) as faults:
            faults.refuse("/pods/", 409, times=2)
            await scale(api, 0)
            await api.advance(5)
            assert await names(api, PODS) == []

    told()


@story
async def test_many_pods_go_in_one_request_and_each_is_told(api: ApiServer) -> None:
    async with a_set(api, 100) as faults:
        held, *_ = await names(api, PODS)
        await api.client.patch(PODS, held, "ns", {"metadata": {"finalizers": ["example.com/f"]}})
        before = faults.requests
        await scale(api, 0)
        await api.advance(1)
        assert await names(api, PODS) == [held]
        told = [e for e in (await api.client.list(EVENTS, "ns"))["items"] if e["reason"] == "SuccessfulDelete"]
        assert sum(e["count"] for e in told) <= 25 + 1, "a burst is cut off"
        assert faults.requests - before <= len(told) + 5, "the deletion, statuses, and events"


@story
async def test_a_pod_that_went_meanwhile_keeps_nobody_else(api: ApiServer) -> None:
    async with a_set(api, 5) as faults:
        gone, *_ = await names(api, PODS)
        faults.stall("/pods")  # the controller does not see it go
        await api.client.delete(PODS, gone, "ns", grace=0)
        await scale(api, 0)
        await api.advance(1)
        assert await names(api, PODS) == []
        faults.resume("/pods")
        await api.advance(5)
        assert (await api.client.get(REPLICASETS, "set", "ns"))["status"]["replicas"] == 0


@story
async def test_an_answer_that_is_lost_is_made_up_for(api: ApiServer) -> None:
    async with a_set(api, 5) as faults:
        faults.lose("/pods/")
        await scale(api, 2)
        await api.advance(10)
        assert len(await names(api, PODS)) == 2
