"""Random unrest: pods and nodes come, change and go, requests fail, answers are lost, watches break. Then peace: everything
that fits has a node, a scheduler that is begun anew finds nothing left to do, and the accounts are true.

A failing run is repeated with its seed: `pytest tests/scheduler/test_unrest.py -k "[seed]"`, or `JOTA_UNREST=first:last` for many.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from tests.scheduler import test_scheduler
from tests.scheduler.test_gang import SERVED, group, member
from tests.scheduler.test_preemption import PRIORITIES
from tests.scheduler.test_scheduler import ACCOUNT, node, pod, where

from jota.api.config import ApiConfig
from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODGROUPS, PODS, SERVICEACCOUNTS
from jota.scheduler import scheduler as engine
from jota.scheduler.scheduler import Scheduler
from jota.store.protocol import Store
from jota.testing.cluster import ApiServer
from jota.testing.faults import Faults

Object = dict[str, Any]
FIRST, LAST = (int(n) for n in os.environ.get("JOTA_UNREST", "0:12").split(":"))
STEPS = 60
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
APPS = ("red", "blue")


def near(app: str, key: str, kind: str) -> Object:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def spread(app: str) -> Object:
    selector = {"matchLabels": {"app": app}}
    rule = {"topologyKey": ZONE, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return {"topologySpreadConstraints": [rule]}


class Unrest:
    def __init__(self, api: ApiServer, faults: Faults, random: Random) -> None:
        self.api, self.faults, self.random = api, faults, random
        self.serial = 0
        self.steps: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (10, self.pods_come), (5, self.a_pod_goes), (3, self.a_pod_changes), (3, self.a_pod_is_done),
            (4, self.a_gate_opens), (2, self.a_gang_comes), (4, self.a_node_comes), (2, self.a_node_goes),
            (4, self.a_node_changes), (5, self.kubelets_work), (12, self.requests_fail), (6, self.watches_break),
        ]  # fmt: skip

    async def step(self) -> None:
        (_, act) = self.random.choices(self.steps, [weight for weight, _ in self.steps])[0]
        try:
            await act()
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        await self.api.advance(self.random.choice((0, 0, 0, 0.01, 0.5, 3, 12)))

    async def some(self, **wanted: bool) -> Object | None:
        """A pod, if there is any: `bound`, `gated` or not, as is wanted."""
        found = [
            p
            for p in (await self.api.client.list(PODS, "default"))["items"]
            if wanted.get("bound", bool(p["spec"].get("nodeName"))) == bool(p["spec"].get("nodeName"))
            and wanted.get("gated", bool(p["spec"].get("schedulingGates"))) == bool(p["spec"].get("schedulingGates"))
        ]
        return self.random.choice(found) if found else None

    def name(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}-{self.serial}"

    # -- pods

    async def pods_come(self) -> None:
        random, app = self.random, self.random.choice(APPS)
        spec: Object = random.choice(
            (
                {}, {}, {}, spread(app), near(app, ZONE, "podAffinity"), near(app, HOST, "podAntiAffinity"),
                {"priorityClassName": "high"}, {"schedulingGates": [{"name": "wait"}]}, {"nodeSelector": {"disk": "ssd"}},
            )
        )  # fmt: skip
        cpu = random.choice(("100m", "400m", "700m", "900m", "3"))
        made = [pod(self.name("pod"), cpu, **spec) for _ in range(random.choice((1, 2, 4, 8)))]
        for one in made:
            one["metadata"]["labels"] = {"app": app}
        await asyncio.gather(*(self.api.client.create(PODS, one, "default") for one in made))

    async def a_pod_goes(self) -> None:
        if one := await self.some():
            name, grace = one["metadata"]["name"], self.random.choice((0, 0, 30))
            await self.api.client.delete(PODS, name, "default", grace=grace)
            if not grace and self.random.random() < 0.3:  # a namesake
                await self.api.client.create(PODS, pod(name, "400m"), "default")

    async def a_pod_changes(self) -> None:
        if one := await self.some():
            labels = {"app": self.random.choice(APPS), "now": self.name("label")}
            await self.api.client.patch(PODS, one["metadata"]["name"], "default", {"metadata": {"labels": labels}})

    async def a_pod_is_done(self) -> None:
        if one := await self.some(bound=True):
            status = {"status": {"phase": self.random.choice(("Succeeded", "Failed"))}}
            await self.api.client.patch(PODS, one["metadata"]["name"], "default", status, subresource="status")

    async def a_gate_opens(self) -> None:
        if one := await self.some(gated=True):
            await self.api.client.patch(PODS, one["metadata"]["name"], "default", {"spec": {"schedulingGates": []}})

    async def a_gang_comes(self) -> None:
        name, size = self.name("gang"), self.random.choice((2, 3))
        await self.api.client.create(PODGROUPS, group(name, size), "default")
        for n in range(size + self.random.choice((-1, 0, 0, 1))):
            await self.api.client.create(PODS, member(f"{name}-{n}", name, "400m"), "default")

    async def kubelets_work(self) -> None:
        for one in (await self.api.client.list(PODS, "default"))["items"]:
            if "deletionTimestamp" in one["metadata"]:
                await self.api.client.delete(PODS, one["metadata"]["name"], "default", grace=0)

    # -- nodes

    async def a_node_comes(self) -> None:
        name = self.random.choice([f"node-{n}" for n in range(8)])  # often under the name of one that went
        await add_node(self.api, name, self.random)

    async def a_node_goes(self) -> None:
        if nodes := (await self.api.client.list(NODES))["items"]:
            name = self.random.choice(nodes)["metadata"]["name"]
            await self.api.client.delete(NODES, name)
            if self.random.random() < 0.5:  # the garbage collector of pods
                for one in (await self.api.client.list(PODS, "default", fields=f"spec.nodeName={name}"))["items"]:
                    await self.api.client.delete(PODS, one["metadata"]["name"], "default", grace=0)

    async def a_node_changes(self) -> None:
        if nodes := (await self.api.client.list(NODES))["items"]:
            name = self.random.choice(nodes)["metadata"]["name"]
            change: Object = self.random.choice(
                (
                    {"spec": {"unschedulable": True}},
                    {"spec": {"unschedulable": None}},
                    {"spec": {"unschedulable": None, "taints": None}},
                    {"spec": {"taints": [{"key": "away", "effect": "NoSchedule"}]}},
                    {"metadata": {"labels": {"disk": self.random.choice(("ssd", None))}}},
                    {"metadata": {"labels": {ZONE: self.random.choice(("x", "y"))}}},
                )
            )
            await self.api.client.patch(NODES, name, "", change)

    # -- faults

    async def requests_fail(self) -> None:
        part = self.random.choice(
            ("/binding", "/binding", "/binding", "/status", "/pods/", "/pods", "/nodes", "/events")
        )
        times = self.random.choice((1, 1, 3))
        match self.random.choice(("refuse", "lose", "delay")):
            case "refuse":
                self.faults.refuse(part, self.random.choice((404, 409, 429, 500, 503)), times=times)
            case "lose":
                self.faults.lose(part, self.random.choice((0, 0.5, 5)), times=times)
            case _:
                self.faults.delay(part, self.random.choice((0.1, 2, 20)), times=times)

    async def watches_break(self) -> None:
        part = self.random.choice(("/pods", "/pods", "/nodes", "/podgroups", "/namespaces", ""))
        faults = self.faults
        self.random.choice((faults.end, faults.drop, faults.expire, faults.stall, faults.stall, faults.resume))(part)

    async def peace(self) -> None:
        """All faults end. Less than the five minutes after which everything is tried again anyway."""
        self.faults.heal()
        for _ in range(8):
            await self.kubelets_work()
            await self.api.advance(15)


async def add_node(api: ApiServer, name: str, random: Random) -> None:
    one = node(name, random.choice(("1", "2", "4", "8")))
    one["metadata"]["labels"] = {HOST: name, ZONE: random.choice(("x", "y")), "disk": random.choice(("ssd", "hdd"))}
    await test_scheduler.add_node(api, one)


def check_accounts(scheduler: Scheduler, pods: list[Object]) -> None:
    """Every pod with a node is counted there, and nothing else is but the room that is kept."""
    bound = {
        p["metadata"]["uid"]: p["spec"]["nodeName"]
        for p in pods
        if p["spec"].get("nodeName") and p.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    }
    assert {uid: placed.node for uid, placed in scheduler._accounts.placed.items()} == bound
    assert not scheduler._accounts.assumed
    wanted: Counter[str] = Counter()
    for placed in (*scheduler._accounts.placed.values(), *scheduler._nominations.values()):
        wanted[placed.node] += int(placed.shape.requests.get("cpu", 0))
    nodes = scheduler._nodes
    used = {name: int(nodes.used("cpu")[slot]) for name, slot in nodes.slots.items()}
    assert used == {name: wanted[name] for name in nodes.slots}
    assert scheduler._places.free == engine._BINDS_IN_FLIGHT, "a place was not given back"


async def play(seed: int, store: Store | None = None) -> None:
    random = Random(seed)
    async with ApiServer(config=ApiConfig(runtime_config=SERVED), seed=seed, store=store) as api:
        await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
        high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}}
        await api.client.create(PRIORITIES, {**high, "value": 9})
        for n in range(5):
            await add_node(api, f"node-{n}", random)
        faults = Faults(api.api.handle, api.clock)
        first = Scheduler(Client(InProcess(faults.handle, COMPONENT)), clock=api.clock, random=Random(seed))
        unrest = Unrest(api, faults, random)
        async with running(first):
            await api.advance(1)
            for _ in range(STEPS):
                await unrest.step()
            await unrest.peace()
            check_accounts(first, (await api.client.list(PODS))["items"])
            before = await where(api)
        async with running(Scheduler(api.client, clock=api.clock, random=Random(seed + 1))):
            for _ in range(3):
                await api.advance(10)
                await unrest.kubelets_work()
            after = await where(api)
        assert after == before, "a new scheduler knew better"


@asynccontextmanager
async def running(scheduler: Scheduler) -> AsyncIterator[None]:
    task = asyncio.ensure_future(scheduler.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_after_the_unrest_nothing_is_left_to_do(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr(engine, "_GROUP", 3)
        monkeypatch.setattr(engine, "_BINDS_IN_FLIGHT", 3)
    asyncio.run(play(seed))
