"""Random unrest: Deployments come, change and go, pods fail, requests are refused, answers are lost, watches break. Then peace:
there is what was asked for and nothing else, without the slow timer that looks at everything again.

A failing run is repeated with its seed: `pytest tests/controllers/test_unrest.py -k "[seed]"`, or `JOTA_UNREST=first:last` for many.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from random import Random
from typing import Any

import pytest

from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.controllers.controller import Controller, ControllerConfig
from jota.controllers.deployment import DeploymentController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.table import run_controllers
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, ENDPOINTSLICES, NAMESPACES, PODS, REPLICASETS, SERVICES
from jota.testing.cluster import ApiServer
from jota.testing.faults import Faults
from jota.wire.message import Request, Response

from .builders import CA_PEM
from .stories import Kubelet

Object = dict[str, Any]
FIRST, LAST = (int(n) for n in os.environ.get("JOTA_UNREST", "0:8").split(":"))
STEPS = 50
REQUEST_SECONDS = 0.02
NAMES = ("red", "green", "blue")


def deployment(name: str, replicas: int, image: str) -> Object:
    container = {"name": "c", "image": image}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}


class Unrest:
    def __init__(self, api: ApiServer, faults: Faults, random: Random) -> None:
        self.api, self.faults, self.random, self.kubelet = api, faults, random, Kubelet(api)
        self.steps = (
            [self.deploy] * 4 + [self.change] * 4 + [self.delete] + [self.a_pod_goes] * 3 + [self.a_pod_fails] * 2
            + [self.a_pod_is_let_go] + [self.work] * 4 + [self.requests_fail] * 6 + [self.watches_break] * 4
        )  # fmt: skip

    async def step(self) -> None:
        try:
            await self.random.choice(self.steps)()
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        await self.api.advance(self.random.choice((0, 0, 0.01, 0.5, 3, 12)))

    async def deploy(self) -> None:
        await self.api.client.create(DEPLOYMENTS, deployment(self.random.choice(NAMES), self.random.randrange(5), "a"))

    async def change(self) -> None:
        one = await self.api.client.get(DEPLOYMENTS, self.random.choice(NAMES), "ns")
        if self.random.random() < 0.5:
            one["spec"]["replicas"] = self.random.randrange(5)
        else:
            one["spec"]["template"]["spec"]["containers"][0]["image"] = self.random.choice("abc")
        await self.api.client.update(DEPLOYMENTS, one)

    async def delete(self) -> None:
        await self.api.client.delete(DEPLOYMENTS, self.random.choice(NAMES), "ns", propagation="Background")

    async def pod(self) -> Object:
        pods = (await self.api.client.list(PODS, "ns"))["items"]
        if not pods:
            raise ApiError(404, "NotFound", "no pod")
        one: Object = self.random.choice(pods)
        return one

    async def a_pod_goes(self) -> None:
        grace = self.random.choice((0, 30))
        await self.api.client.delete(PODS, (await self.pod())["metadata"]["name"], "ns", grace=grace)

    async def a_pod_fails(self) -> None:
        status = {"status": {"phase": "Failed"}}
        await self.api.client.patch(PODS, (await self.pod())["metadata"]["name"], "ns", status, subresource="status")

    async def a_pod_is_let_go(self) -> None:
        labels = {"metadata": {"labels": {"app": "nobody"}}}
        await self.api.client.patch(PODS, (await self.pod())["metadata"]["name"], "ns", labels)

    async def work(self) -> None:
        await self.kubelet.tick()

    async def requests_fail(self) -> None:
        part = self.random.choice(("/pods", "/pods/", "/replicasets", "/deployments", "/status", "/endpointslices", ""))
        times = self.random.choice((1, 1, 3, 8))
        match self.random.choice(("refuse", "lose", "lose", "delay")):
            case "refuse":
                self.faults.refuse(part, self.random.choice((409, 429, 500, 503)), times=times)
            case "lose":
                self.faults.lose(part, self.random.choice((0, 0.5, 5)), times=times)
            case _:
                self.faults.delay(part, self.random.choice((0.1, 2, 20)), times=times)

    async def watches_break(self) -> None:
        faults = self.faults
        act = self.random.choice((faults.end, faults.drop, faults.expire, faults.stall, faults.stall, faults.resume))
        act(self.random.choice(("/pods", "/replicasets", "/deployments", "/endpointslices", "")))

    async def peace(self) -> None:
        self.faults.heal()
        for _ in range(20):
            await self.kubelet.tick()
            await self.api.advance(10)


async def check(api: ApiServer) -> None:
    deployments = {d["metadata"]["name"]: d for d in (await api.client.list(DEPLOYMENTS, "ns"))["items"]}
    sets = {s["metadata"]["uid"]: s for s in (await api.client.list(REPLICASETS, "ns"))["items"]}
    pods = (await api.client.list(PODS, "ns"))["items"]
    owners = {s["metadata"]["ownerReferences"][0]["name"] for s in sets.values()}
    assert owners <= set(deployments), "sets of nobody"
    running: Counter[tuple[str, str]] = Counter()
    for one in pods:
        if references := one["metadata"].get("ownerReferences"):
            assert references[0]["uid"] in sets, "a pod of nobody"
            if one["status"]["phase"] == "Running":
                image = one["spec"]["containers"][0]["image"]
                running[sets[references[0]["uid"]]["metadata"]["ownerReferences"][0]["name"], image] += 1
    wanted = {
        (name, d["spec"]["template"]["spec"]["containers"][0]["image"]): d["spec"]["replicas"]
        for name, d in deployments.items()
        if d["spec"]["replicas"]
    }
    assert running == wanted
    for name, one in deployments.items():
        status = one["status"]
        assert status["observedGeneration"] == one["metadata"]["generation"], name
        assert status.get("readyReplicas", 0) == status.get("replicas", 0) == one["spec"]["replicas"], name
    slices = (await api.client.list(ENDPOINTSLICES, "ns", labels="kubernetes.io/service-name=red"))["items"]
    addresses = sorted(a for s in slices for e in s["endpoints"] or () for a in e["addresses"])
    red = [p for p in pods if p["metadata"]["labels"]["app"] == "red" and p["status"]["phase"] == "Running"]
    assert addresses == sorted(p["status"]["podIP"] for p in red)


async def play(seed: int) -> None:
    random = Random(seed)
    async with ApiServer(seed=seed) as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        service = {"selector": {"app": "red"}, "ports": [{"port": 80}]}
        await api.client.create(SERVICES, {"metadata": {"name": "red", "namespace": "ns"}, "spec": service})

        async def handle(request: Request) -> Response:
            # Nothing takes no time: a controller that sees a Deployment which is no more makes sets for it, the collector
            # removes them, and so on until it sees better, as upstream.
            await api.clock.sleep(REQUEST_SECONDS)
            return await api.api.handle(request)

        faults, stop = Faults(handle, api.clock), asyncio.Event()
        client = Client(InProcess(faults.handle, COMPONENT))
        chosen = (DeploymentController, ReplicaSetController, GarbageCollector, EndpointSliceController)
        config = ControllerConfig(ca_pem=CA_PEM)
        work = run_controllers(client, api.clock, config, stop, random=Random(seed), controllers=chosen)
        task = asyncio.ensure_future(work)
        await api.advance(1)
        unrest = Unrest(api, faults, random)
        for _ in range(STEPS):
            await unrest.step()
        await unrest.peace()
        assert not task.done()
        stop.set()
        await task
        await check(api)


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_after_the_unrest_there_is_what_was_asked_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Controller, "resync", 1e9)
    asyncio.run(play(seed))
