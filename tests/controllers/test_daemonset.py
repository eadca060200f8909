"""DaemonSet: tables for the fit, stories on the real API server in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from jota.controllers.daemonset import DaemonSetController
from jota.controllers.daemonset_plan import DAEMONSETS, tolerations
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.history import CONTROLLERREVISIONS, HASH
from jota.controllers.nodefit import Fit, fits, tolerations_of
from jota.meta.resource import NAMESPACES, NODES, PODS
from jota.testing.cluster import ApiServer

from .stories import Kubelet, running, web
from .test_crash_at_every_step import Process

Object = dict[str, Any]


class Kubelets(Kubelet):
    """One for every node: a pod goes where its affinity says."""

    async def start(self, pod: Object) -> None:
        affinity = pod["spec"].get("affinity")
        if affinity:
            terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            self.node = terms[0]["matchFields"][0]["values"][0]
        await super().start(pod)


def told(story: Callable[[ApiServer, Kubelet], Awaitable[None]], nodes: int = 3) -> None:
    async def run() -> None:
        async with running(DaemonSetController, GarbageCollector) as api:
            for n in range(nodes):
                await add(api, f"n{n}")
            await story(api, Kubelets(api))

    asyncio.run(run())


async def add(api: ApiServer, name: str, **spec: Any) -> None:
    await api.client.create(NODES, {"metadata": {"name": name, "labels": {"name": name}}, "spec": spec})
    # A new node is born with the taint not-ready; here it is ready at once.
    await api.client.patch(NODES, name, "", {"spec": {"taints": None}})


def daemon(**spec: Any) -> Object:
    body = web(0, **spec)
    del body["spec"]["replicas"]
    return body


async def on(api: ApiServer) -> dict[str, Object]:
    """Node -> its pod."""
    return {p["spec"]["nodeName"]: p for p in (await api.client.list(PODS, "ns"))["items"] if p["spec"].get("nodeName")}


async def status(api: ApiServer) -> Object:
    return dict((await api.client.get(DAEMONSETS, "web", "ns"))["status"])


async def image(api: ApiServer, text: str) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": text}]
    await api.client.patch(DAEMONSETS, "web", "ns", patch, "json")


TAINTED = {"metadata": {"name": "n", "labels": {"disk": "ssd"}}}


@pytest.mark.parametrize(
    ("spec", "taints", "fit"),
    [
        ({}, [], Fit(True, True)),
        ({"nodeName": "other"}, [], Fit(False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, [], Fit(True, True)),
        ({"nodeSelector": {"disk": "hdd"}}, [], Fit(False, False)),
        ({}, [{"key": "a", "effect": "NoSchedule"}], Fit(False, True)),
        ({}, [{"key": "a", "effect": "NoExecute"}], Fit(False, False)),
        ({}, [{"key": "a", "effect": "PreferNoSchedule"}], Fit(True, True)),
        ({}, [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}], Fit(True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, [{"key": "a", "effect": "NoExecute"}], Fit(True, True)),
    ],
)
def test_where_a_daemon_runs(spec: Object, taints: list[Object], fit: Fit) -> None:
    node = {**TAINTED, "spec": {"taints": taints}}
    assert fits(spec, node, tolerations_of({"tolerations": tolerations(spec)})) == fit


def test_every_node_has_its_daemon_also_a_new_one() -> None:
    """should run and stop simple daemon"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(DAEMONSETS, daemon())
        await kubelet.settle()
        assert sorted(await on(api)) == ["n0", "n1", "n2"]
        await add(api, "n3", unschedulable=True)
        await kubelet.settle()
        assert sorted(await on(api)) == ["n0", "n1", "n2", "n3"]
        now = await status(api)
        assert now["desiredNumberScheduled"] == now["numberReady"] == now["numberAvailable"] == 4
        assert now["numberMisscheduled"] == 0
        pod = (await on(api))["n1"]
        await api.client.delete(PODS, pod["metadata"]["name"], "ns", grace=0)
        await kubelet.settle()
        assert len(await on(api)) == 4

    told(story)


def test_daemons_follow_node_labels() -> None:
    """should run and stop complex daemon (with node affinity)"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        body = daemon()
        body["spec"]["template"]["spec"]["nodeSelector"] = {"color": "blue"}
        await api.client.create(DAEMONSETS, body)
        await kubelet.settle()
        assert not await on(api)
        await api.client.patch(NODES, "n1", "", {"metadata": {"labels": {"color": "blue"}}})
        await kubelet.settle()
        assert list(await on(api)) == ["n1"]
        await api.client.patch(NODES, "n1", "", {"metadata": {"labels": {"color": "green"}}})
        await kubelet.settle()
        assert not await on(api)

    told(story)


def test_a_failed_daemon_is_retried() -> None:
    """should retry creating failed daemon pods"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(DAEMONSETS, daemon())
        await kubelet.settle()
        pod = (await on(api))["n1"]["metadata"]
        await api.client.patch(PODS, pod["name"], "ns", {"status": {"phase": "Failed"}}, subresource="status")
        await kubelet.settle()
        again = (await on(api))["n1"]
        assert again["metadata"]["uid"] != pod["uid"]
        assert again["status"]["phase"] == "Running"

    told(story)


def test_a_rolling_update_takes_one_at_a_time_and_rolls_back_without_restarts() -> None:
    """should update pod when spec was updated; should rollback without unnecessary restarts"""

    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(DAEMONSETS, daemon())
        await kubelet.settle()
        before = {n: p["metadata"]["uid"] for n, p in (await on(api)).items()}
        await image(api, "web:2")
        await api.advance(1)
        going = [p for p in (await on(api)).values() if "deletionTimestamp" in p["metadata"]]
        assert len(going) == 1, "maxUnavailable is one"
        await image(api, "web:1")
        await kubelet.settle()
        after = {n: p["metadata"]["uid"] for n, p in (await on(api)).items()}
        assert sum(before[n] == after[n] for n in before) == 2, "pods of the old revision were never touched"
        await image(api, "web:2")
        await kubelet.settle()
        pods = await on(api)
        assert {p["spec"]["containers"][0]["image"] for p in pods.values()} == {"web:2"}
        assert (await status(api))["updatedNumberScheduled"] == 3
        revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
        for each in revisions:  # clients compare the patch that they make of a template byte for byte
            text = orjson.dumps(each["data"])
            assert text == orjson.dumps(each["data"], option=orjson.OPT_SORT_KEYS)
            assert text.startswith(b'{"spec":{"template":{"$patch":"replace",')
        newest = max(revisions, key=lambda r: r["revision"])
        assert {p["metadata"]["labels"][HASH] for p in pods.values()} == {newest["metadata"]["labels"][HASH]}

    told(story)


def test_a_set_that_comes_again_takes_over_pods_and_revisions_and_restarts_nothing() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(DAEMONSETS, daemon())
        await kubelet.settle()
        await image(api, "web:2")
        await kubelet.settle()
        before = {n: p["metadata"]["uid"] for n, p in (await on(api)).items()}
        await api.client.delete(DAEMONSETS, "web", "ns", propagation="Orphan")
        await kubelet.settle()
        again = daemon()
        again["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
        made = await api.client.create(DAEMONSETS, again)
        await kubelet.settle()
        assert {n: p["metadata"]["uid"] for n, p in (await on(api)).items()} == before
        assert (await status(api))["updatedNumberScheduled"] == 3
        revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
        assert sorted(r["revision"] for r in revisions) == [1, 2]
        assert {r["metadata"]["ownerReferences"][0]["uid"] for r in revisions} == {made["metadata"]["uid"]}

    told(story)


def test_a_surge_brings_the_new_pod_first() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        await api.client.create(DAEMONSETS, daemon(updateStrategy=rolling))
        await kubelet.settle()
        await image(api, "web:2")
        await api.advance(1)
        pods = (await api.client.list(PODS, "ns"))["items"]
        assert len(pods) == 4
        assert not any("deletionTimestamp" in p["metadata"] for p in pods)
        await kubelet.settle()
        pods = (await api.client.list(PODS, "ns"))["items"]
        assert [p["spec"]["containers"][0]["image"] for p in pods] == ["web:2"] * 3

    told(story)


def test_on_delete_waits_for_the_owner() -> None:
    async def story(api: ApiServer, kubelet: Kubelet) -> None:
        await api.client.create(DAEMONSETS, daemon(updateStrategy={"type": "OnDelete"}))
        await kubelet.settle()
        await image(api, "web:2")
        await kubelet.settle()
        assert {p["spec"]["containers"][0]["image"] for p in (await on(api)).values()} == {"web:1"}

    told(story)


async def died(at: int, after: bool) -> tuple[Any, bool]:
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        for n in range(2):
            await add(api, f"n{n}")
        process, kubelet = Process(api, at, after, (DaemonSetController,)), Kubelets(api)
        try:
            await api.client.create(DAEMONSETS, daemon())
            for text in ("web:1", "web:2"):
                await image(api, text)
                await kubelet.settle()
                await process.revive()
                await kubelet.settle()
            images = {n: p["spec"]["containers"][0]["image"] for n, p in (await on(api)).items()}
            revisions = (await api.client.list(CONTROLLERREVISIONS, "ns"))["items"]
            now = {k: v for k, v in (await status(api)).items() if k != "observedGeneration"}
            return (now, images, sorted(r["revision"] for r in revisions)), process.died
        finally:
            await process.end()


@pytest.mark.fault
@pytest.mark.parametrize("after", [False, True])
def test_the_end_is_the_same_wherever_the_process_dies(after: bool) -> None:
    async def tell() -> None:
        wanted, _ = await died(-1, False)
        for at in range(1, 60):
            end, dead = await died(at, after)
            assert end == wanted, f"died at write {at}"
            if not dead:
                break
        assert at > 8

    asyncio.run(tell())
