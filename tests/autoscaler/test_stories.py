"""The autoscaler on the real API server with simulated nodes: it makes them, drains them, tells, and survives its own death."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.controllers.test_crash_at_every_step import Dying

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NODES, PODS, Resource
from jota.node.hollow.fleet import configure

from .stories import QUICK, Story, telling

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


def told(*words: str, **more: Any) -> Callable[[Callable[[Story], Awaitable[None]]], Callable[[], None]]:
    def decorate(tale: Callable[[Story], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                async with telling(*words, **more) as story:
                    await tale(story)

            asyncio.run(main())

        run.__name__, run.__doc__, run.__module__ = tale.__name__, tale.__doc__, tale.__module__
        return run

    return decorate


@told("hollow:0..5")
async def test_nodes_come_with_the_load_and_go_with_it(story: Story) -> None:
    await story.deploy(9)
    await story.until(lambda: _equals(story.running, 9), 30)
    assert await story.nodes() == ["hollow-0", "hollow-1", "hollow-2"]
    assert "pod triggered scale-up: [{hollow 0->2 (max: 5)}]" in await story.told("TriggeredScaleUp", "Pod")
    assert await story.told("ScaledUpGroup", "ConfigMap") == [
        "Scale-up: setting group hollow size to 2 instead of 0 (max: 5)"
    ]
    labels = (await story.api.client.get(NODES, "hollow-2"))["metadata"]["labels"]
    assert labels["jota.dev/node-group"] == "hollow"
    await story.scale(2)
    await story.until(lambda: _equals(story.nodes, ["hollow-0"]), 600)
    assert await story.running() == 2
    assert "marked the node as toBeDeleted/unschedulable" in await story.told("ScaleDown", "Node")
    assert "node removed by cluster autoscaler" in await story.told("ScaleDown", "Node")
    await story.api.advance(300)
    assert await story.nodes() == ["hollow-0"], "and that is all"


@told("hollow:0..5")
async def test_pods_are_moved_off_a_node_that_is_not_needed(story: Story) -> None:
    await story.deploy(3, "10", "big")
    await story.deploy(2, "6", "small")
    await story.until(lambda: _equals(story.running, 5), 30)
    assert len(await story.nodes()) == 2
    await story.scale(1, "big")
    await story.until(lambda: _equals(story.nodes, ["hollow-0"]), 600)
    await story.until(lambda: _equals(story.running, 3), 30)
    assert set(await story.told("ScaleDown", "Pod")) <= {"deleting pod for node scale down"}


async def _equals(look: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    return bool(await look() == wanted)


@told("hollow:0..5", base=2)
async def test_a_budget_is_kept_while_a_node_is_drained(story: Story) -> None:
    """Never fewer than three of four pods are ready, in every second of the drain."""
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}}
    await configure(story.api.client, {"start_seconds": "5"})
    await story.api.client.create(BUDGETS, budget, "ns")
    await story.deploy(2, "31", "wall")
    await story.until(lambda: _equals(story.running, 2), 60)
    await story.deploy(4, "3")
    await story.until(lambda: _equals(story.running, 6), 60)
    assert await story.nodes() == ["hollow-0", "hollow-1", "hollow-2"]
    await story.scale(0, "wall")
    least = 4
    for _ in range(400):
        await story.api.advance(1)
        ready = [p for p in await story.pods() if p["metadata"]["labels"]["app"] == "web" and _ready(p)]
        least = min(least, len(ready))
        if await story.nodes() == ["hollow-0", "hollow-1"] and len(ready) == 4:
            break
    assert await story.nodes() == ["hollow-0", "hollow-1"]
    assert least == 3, "one went at a time, and more than one had to go"


def _ready(pod: Any) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


@told("hollow:0..5")
async def test_the_status_is_upstreams(story: Story) -> None:
    await story.api.advance(12)
    status = await story.status()
    assert status["autoscalerStatus"] == "Running"
    assert status["clusterWide"]["health"]["status"] == "Healthy"
    (group,) = status["nodeGroups"]
    assert (group["name"], group["health"]["minSize"], group["health"]["maxSize"]) == ("hollow", 0, 5)
    assert group["scaleUp"]["status"] == "NoActivity"
    assert group["scaleDown"]["status"] == "NoCandidates"
    before = (await story.api.client.get(CONFIGMAPS, "cluster-autoscaler-status", "kube-system"))["metadata"][
        "resourceVersion"
    ]
    await story.api.advance(40)
    after = (await story.api.client.get(CONFIGMAPS, "cluster-autoscaler-status", "kube-system"))["metadata"][
        "resourceVersion"
    ]
    assert before == after, "an idle cluster is not written to in every pass"
    await story.deploy(6)
    await story.until(lambda: _equals(story.running, 6), 60)
    await story.api.advance(70)
    (group,) = (await story.status())["nodeGroups"]
    assert group["health"]["nodeCounts"]["registered"]["ready"] == 1
    await story.scale(0)
    await story.api.advance(50)
    (group,) = (await story.status())["nodeGroups"]
    assert (group["scaleDown"]["status"], group["scaleDown"]["candidates"]) == ("CandidatesPresent", 1)


@told("hollow:0..1")
async def test_what_cannot_be_helped_is_told_and_bounds_change_live(story: Story) -> None:
    await story.deploy(9)
    await story.until(lambda: _equals(story.running, 6), 60)
    assert "pod didn't trigger scale-up: 1 max node group size reached" in await story.told("NotTriggerScaleUp", "Pod")
    await story.api.advance(60)
    assert len(await story.nodes()) == 2
    story.words = ("hollow:0..2", *QUICK)
    await story.until(lambda: _equals(story.running, 9), 60)
    story.words = ("hollow:nonsense",)
    await story.api.advance(60)
    assert len(await story.nodes()) == 3, "settings that make no sense leave things as they were"


@told("exec:0..3,name=bare,command=x,cpu=64,memory=512Gi", "hollow:0..3")
async def test_a_provider_that_fails_is_left_alone_and_others_help(story: Story) -> None:
    story.scripted.fault = "no machines today"
    await story.deploy(6, "11")  # one bare machine would waste less than two simulated ones
    await story.until(lambda: _equals(story.running, 6), 120)
    assert story.scripted.calls == [("create", "bare-0")]
    assert await story.told("FailedToScaleUpGroup", "ConfigMap") == [
        "Scale-up failed for group bare: no machines today"
    ]
    bare = next(g for g in (await story.status())["nodeGroups"] if g["name"] == "bare")
    assert bare["scaleUp"]["status"] == "Backoff"
    assert bare["scaleUp"]["backoffInfo"] == {
        "errorCode": "QUOTA_EXCEEDED",
        "errorMessage": "bare-0: no machines today",
    }


@told("hollow:0..2")
async def test_a_mistake_in_one_pass_ends_nothing(story: Story) -> None:
    honest, failures = story.autoscaler.observer.look, iter(range(2))

    async def look(*seen: Any) -> Any:
        if next(failures, None) is not None:
            raise KeyError("a pod that nobody thought of")
        return await honest(*seen)

    story.autoscaler.observer.look = look  # type: ignore[method-assign]
    await story.deploy(9)
    await story.until(lambda: _equals(story.running, 9), 120)
    assert next(failures, None) is None


@told("exec:0..3,name=bare,command=x,cpu=64,memory=512Gi", "hollow:0..3")
async def test_a_provider_that_hangs_delays_nobody(story: Story) -> None:
    story.scripted.silent = True
    await story.deploy(6, "11")
    await story.until(lambda: _equals(story.running, 6), 60)
    bare = next(g for g in (await story.status())["nodeGroups"] if g["name"] == "bare")
    assert bare["health"]["status"] == "Unhealthy"
    assert bare["health"]["message"] == "its provider has not answered for 10 s"
    story.words = ()
    await story.api.advance(30)
    await story.ended()


@told("exec:0..3,name=bare,command=x,cpu=64,memory=512Gi", "maxNodeProvisionTime=2m", base=0)
async def test_machines_that_never_register_are_removed(story: Story) -> None:
    await story.deploy(1)
    await story.until(lambda: _true(story.scripted.made == ["bare-0"]), 30)
    await story.api.advance(100)
    assert story.scripted.made == ["bare-0"]
    await story.until(lambda: _true(story.scripted.made == []), 60)
    assert await story.told("ScaleUpTimedOut") == ["Nodes added to group bare failed to register within 120s"]
    assert await story.told("DeleteUnregistered") == ["Removed unregistered node bare-0"]
    await story.until(lambda: _true(story.scripted.made == ["bare-0"]), 400)


async def _true(value: bool) -> bool:
    return value


@told("hollow:1..5", base=0)
async def test_the_minimum_is_made_at_once_and_kept(story: Story) -> None:
    await story.until(lambda: _equals(story.nodes, ["hollow-0"]), 30)
    await story.api.advance(600)
    assert await story.nodes() == ["hollow-0"]
    await story.api.client.delete(NODES, "hollow-0")
    await story.until(lambda: _equals(story.nodes, ["hollow-0"]), 60)


@told("hollow:0..60")
async def test_many_nodes_at_once_while_an_operator_changes_the_fleet(story: Story) -> None:
    await story.deploy(100, "20")

    async def meddle(n: int) -> None:
        for _ in range(5):
            try:
                await configure(story.api.client, {"jitter": f"0.{n}"})
                return
            except ApiError as error:
                assert error.code == 409

    for n in range(1, 9):
        await asyncio.gather(meddle(n), story.api.advance(0.5))
    await story.until(lambda: _equals(story.running, 61), 120)
    assert len(await story.nodes()) == 61
    assert await story.told("FailedToScaleUpGroup") == []
    fleet = await story.api.client.get(CONFIGMAPS, "hollow-nodes", "kube-system")
    assert fleet["data"]["jitter"] == "0.8", "the operator's word is kept"


@told("hollow:0..5")
async def test_a_pod_that_slipped_onto_the_node_is_not_lost(story: Story) -> None:
    """Bound past the scheduler while the drain goes on: the node is given back."""
    await story.deploy(6)
    await story.until(lambda: _equals(story.running, 6), 60)
    await story.scale(3)
    target = next(n for n in await story.nodes() if n != "hollow-0")
    await story.until(lambda: _marked(story, target), 400)
    bare = {"metadata": {"name": "slip"}, "spec": {"nodeName": target, "containers": [{"name": "c", "image": "x"}]}}
    await story.api.client.create(PODS, bare, "ns")
    await story.api.advance(120)
    assert target in await story.nodes(), "a bare pod is on it now"
    node = await story.api.client.get(NODES, target)
    assert not node["spec"].get("unschedulable"), "and so it was given back"
    assert not node["spec"].get("taints")
    (group,) = (await story.status())["nodeGroups"]
    assert group["scaleDown"]["unremovable"] == [f"{target}: NotReplicated ns/slip"]
    assert any("NotReplicated ns/slip" in m for m in await story.told("ScaleDownFailed", "Node"))


class Late:
    """A transport that binds a pod to a node in the moment in which the autoscaler asks what is on it."""

    several = True

    def __init__(self, inner: Any) -> None:
        self.inner, self.armed = inner, False

    async def request(self, method: str, path: str, query: str = "", *args: Any, **kwargs: Any) -> Any:
        if self.armed and method == "GET" and "spec.nodeName" in query:
            self.armed = False
            node = query.partition("spec.nodeName%3D")[2].partition("&")[0]
            bare = {
                "metadata": {"name": "late"},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]},
            }
            await Client(self.inner).create(PODS, bare, "ns")
        return await self.inner.request(method, path, query, *args, **kwargs)

    def watch(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.watch(*args, **kwargs)

    async def close(self) -> None:
        await self.inner.close()


def test_a_pod_that_comes_in_the_last_moment_keeps_its_node() -> None:
    async def tell() -> None:
        transports: list[Late] = []

        def late(client: Client) -> Client:
            transports.append(Late(client.transport))
            return Client(transports[-1])

        async with telling("hollow:0..5", *HASTY, client=late) as story:
            await story.deploy(6)
            await story.until(lambda: _equals(story.running, 6), 60)
            transports[-1].armed = True
            await story.scale(0)
            await story.until(lambda: _true(not transports[-1].armed), 200)
            await story.api.advance(60)
            late_pod = await story.api.client.get(PODS, "late", "ns")
            assert late_pod["status"]["phase"] == "Running"
            assert late_pod["spec"]["nodeName"] == "hollow-1"
            assert "hollow-1" in await story.nodes()
            assert not await _marked(story, "hollow-1")

    asyncio.run(tell())


async def _marked(story: Story, name: str) -> bool:
    node = await story.api.client.get(NODES, name)
    return any(t["key"] == "ToBeDeletedByClusterAutoscaler" for t in node["spec"].get("taints") or ())


@told("hollow:0..5")
async def test_switched_off_it_gives_back_what_it_was_draining(story: Story) -> None:
    await story.deploy(6)
    await story.until(lambda: _equals(story.running, 6), 60)
    await configure(story.api.client, {"stop_seconds": "600"})
    await story.scale(3)
    target = "hollow-1"
    await story.until(lambda: _marked(story, target), 400)
    story.words = ()
    for _ in range(10):
        await story.api.advance(5)
    await story.ended()
    assert not await _marked(story, target)
    assert not (await story.api.client.get(NODES, target))["spec"].get("unschedulable")


HASTY = ("scaleDownUnneededTime=20s", "scaleDownDelayAfterAdd=0")


async def ended(at: int, after: bool) -> tuple[Any, bool]:
    """The end of a story in which the autoscaler dies at its n-th write: up by load, down without."""
    transports: list[Dying] = []

    def mortal(client: Client) -> Client:
        transports.append(Dying(client.transport, at if not transports else -1, after))
        return Client(transports[-1])

    async with telling("hollow:0..5", *HASTY, client=mortal) as story:

        async def live(seconds: float) -> None:
            for _ in range(int(seconds / 5)):
                await story.api.advance(5)
                if transports[-1].dead:
                    await story.kill()
                    story.start()

        await story.deploy(3, "10", "big")
        await story.deploy(2, "6", "small")
        await live(40)
        up = len(await story.nodes()), await story.running()
        await story.scale(1, "big")
        await live(150)
        left = [(await story.api.client.get(NODES, n))["spec"] for n in await story.nodes()]
        spotless = not any(s.get("unschedulable") or s.get("taints") for s in left)
        return (up, await story.nodes(), await story.running(), spotless), transports[0].dead


@pytest.mark.fault
@pytest.mark.parametrize("after", [False, True])
def test_the_end_is_the_same_wherever_the_autoscaler_dies(after: bool) -> None:
    async def tell() -> None:
        wanted = ((2, 5), ["hollow-0"], 3, True)
        for at in range(1, 60):
            end, died = await ended(at, after)
            assert end == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
            if not died:
                break
        assert at > 6

    asyncio.run(tell())
