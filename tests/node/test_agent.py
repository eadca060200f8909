"""Stories of the agent: a bound pod runs, changes, ends; the agent dies and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from jota.meta.resource import LEASES, NODES, PODS

from .world import World, container, pod


def test_a_bound_pod_runs_and_goes_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            status = await w.until_phase("Running")
            assert status["podIP"] == "10.42.0.1"
            assert status["hostIP"] == "10.0.0.1"
            assert status["containerStatuses"][0]["ready"] is True
            assert status["containerStatuses"][0]["containerID"].startswith("jota://")
            conditions = {c["type"]: c["status"] for c in status["conditions"]}
            assert conditions == {
                "PodReadyToStartContainers": "True",
                "Initialized": "True",
                "Ready": "True",
                "ContainersReady": "True",
                "PodScheduled": "True",
            }
            await w.api.client.delete(PODS, "web", "default")
            await w.until_gone()
            await w.until(lambda: not w.agent.workers)
            assert w.runtime.made == {}
            assert w.runtime.boxes == {}
            assert w.network.held == {}
            assert not list((tmp_path / "data" / "pods").iterdir())
            reasons = [await w.events(r) for r in ("Pulled", "Created", "Started", "Killing")]
            assert all(len(r) == 1 for r in reasons), reasons

    asyncio.run(story())


def test_the_node_is_registered_and_alive(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, labels={"zone": "a"}) as w:
            node = await w.api.client.get(NODES, "n1")
            assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
            assert node["metadata"]["labels"]["zone"] == "a"
            assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
            ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
            assert ready["status"] == "True"
            await w.settle()
            before = (await w.api.client.get(LEASES, "n1", "kube-node-lease"))["spec"]["renewTime"]
            await w.advance(11)
            assert (await w.api.client.get(LEASES, "n1", "kube-node-lease"))["spec"]["renewTime"] > before

    asyncio.run(story())


def test_two_containers_start_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod("web", container("a"), container("b", "app:2")))
            await w.until_phase("Running")
            starts = [line for line in w.runtime.journal if line.startswith("start_container")]
            assert starts == ["start_container a/0", "start_container b/0"]

    asyncio.run(story())
