"""Schedules that cannot be, and schedulers that race: the possible is done, once, and the impossible is told why."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest
from tests.scheduler.test_scheduler import ACCOUNT, add_node, cluster, node, pod, where

from jota.client.client import Client
from jota.client.transport import Reply
from jota.meta.resource import PODS, SERVICEACCOUNTS
from jota.scheduler.scheduler import Scheduler
from jota.testing.cluster import ApiServer

Object = dict[str, Any]
SPREAD = {"topologyKey": "no/such", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}


def requires(*expressions: Object) -> Object:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


IMPOSSIBLE: dict[str, Object] = {
    "huge": pod("huge", cpu="1000000000"),
    "elsewhere": pod("elsewhere", nodeSelector={"no": "such"}),
    "torn": pod(
        "torn",
        **requires({"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}),
    ),
    "lonely": pod(
        "lonely",
        affinity={
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": {"no": "body"}}, "topologyKey": "kubernetes.io/hostname"}
                ]
            }
        },
    ),
    "unspread": pod("unspread", topologySpreadConstraints=[{**SPREAD, "labelSelector": {}}]),
    "homeless": pod("homeless", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "none"}}]),
}


def test_pods_that_fit_nowhere_hold_nobody_up_and_say_why() -> None:
    async def story() -> None:
        async with cluster(node("a"), node("b")) as api:
            for body in IMPOSSIBLE.values():
                await api.client.create(PODS, body, "default")
            await api.advance(1)
            for n in range(10):
                await api.client.create(PODS, pod(f"p{n}"), "default")
            await api.advance(2)
            placed = await where(api)
            assert {n for n, at in placed.items() if not at} == set(IMPOSSIBLE)
            for name in IMPOSSIBLE:
                found = await api.client.get(PODS, name, "default")
                (told,) = [c for c in found["status"]["conditions"] if c["type"] == "PodScheduled"]
                assert (told["status"], told["reason"]) == ("False", "Unschedulable"), name
                assert told["message"], name

    asyncio.run(story())


class Counting:
    """A transport that notes which bindings were granted."""

    several = True

    def __init__(self, inner: Any, granted: Counter[str]) -> None:
        self.inner, self.granted = inner, granted

    async def request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Reply:
        # Other schedulers run between a decision and its write.
        await asyncio.sleep(0)
        reply: Reply = await self.inner.request(method, path, *args, **kwargs)
        if path.endswith("/binding") and reply.status < 300:
            self.granted[path.rsplit("/", 2)[-2]] += 1
        if path.endswith("/bindings"):
            for sent, answer in zip(orjson.loads(args[1]), orjson.loads(reply.body), strict=True):
                self.granted[sent["metadata"]["name"]] += answer is not None
        return reply

    def watch(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.watch(*args, **kwargs)

    async def close(self) -> None:
        await self.inner.close()


@pytest.mark.parametrize("seed", range(4))
def test_three_schedulers_race_for_pods_while_nodes_and_pods_come_and_go(seed: int) -> None:
    """No pod is bound twice, and all are bound. (Rivals may overfill a node together: its kubelet refuses then.)"""

    async def story() -> None:
        random, granted = Random(seed), Counter[str]()
        async with ApiServer(seed=seed) as api:
            await api.client.create(SERVICEACCOUNTS, ACCOUNT, "default")
            rivals = [
                asyncio.create_task(Scheduler(client, clock=api.clock, random=Random(n)).run())
                for n, client in enumerate(Client(Counting(api.client.transport, granted)) for _ in range(3))
            ]
            for n in range(4):
                await add_node(api, node(f"n{n}", cpu="2"))
            for n in range(60):
                await api.client.create(PODS, pod(f"p{n}", cpu=random.choice(["100m", "200m", "300m"])), "default")
                if random.random() < 0.2:
                    await api.advance(0.1)
                if n == 30:
                    await add_node(api, node("late", cpu="16"))
            await api.advance(30)
            for name in random.sample(sorted(await where(api)), 15):
                await api.client.delete(PODS, name, "default", grace=0)
            await api.advance(60)
            for rival in rivals:
                rival.cancel()
            await asyncio.gather(*rivals, return_exceptions=True)
            placed = await where(api)
            assert len(placed) == 45
            assert "" not in placed.values()
            assert len(granted) == 60
            assert set(granted.values()) == {1}

    asyncio.run(story())
