"""kill -9 of the agent at every step: a new agent on the same runtime finishes the work, without a restart or a duplicate."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jota.meta.resource import PODS
from jota.node import verdicts
from jota.node.config import EvictionThresholds
from jota.node.machine import Machine, Memory
from jota.node.model import Verdict
from jota.runtime.protocol import RuntimeFault

from .world import World, container, pod

TURNS = [*range(0, 60, 2), *range(60, 240, 9)]
"""Turns of the event loop after which the agent dies: close together where a pod is being made."""


def story_pod(**fields: Any) -> dict[str, Any]:
    init = container("i", "init:1")
    mounts = [{"name": "v", "mountPath": "/v"}]
    main = container("c", "app:1", volumeMounts=mounts)
    return pod("web", main, container("d", "app:2"), initContainers=[init], volumes=[{"name": "v"}], **fields)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ends_init(w: World) -> None:
    if w.runtime.is_running("i"):
        w.runtime.exit("i", 0)


@pytest.mark.parametrize("count", TURNS)
def test_the_agent_dies_while_a_pod_starts(tmp_path: Path, count: int) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(story_pod())
            for _ in range(count):
                await asyncio.sleep(0)
                ends_init(w)
            await w.kill()
            await w.boot()

            async def running() -> bool:
                ends_init(w)
                return (await w.status()).get("phase") == "Running"

            await w.until(running)
            await w.settle()
            assert [w.runtime.attempts(n) for n in "icd"] == [[0], [0], [0]]
            assert [b.state for b in w.runtime.boxes.values()] == ["ready"]
            assert len([j for j in w.runtime.journal if j.startswith("start_container")]) == 3
            assert [s["restartCount"] for s in (await w.status())["containerStatuses"]] == [0, 0]
            assert len(w.network.held) == 1

    asyncio.run(story())


@pytest.mark.parametrize("count", range(0, 120, 3))
def test_the_agent_dies_while_a_pod_ends(tmp_path: Path, count: int) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(
                pod("web", container("c", volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[{"name": "v"}])
            )
            await w.until_phase("Running")
            await w.api.client.delete(PODS, "web", "default")
            await turns(count)
            await w.kill()
            await w.boot()
            await w.until_gone()
            await w.until(lambda: not (w.runtime.boxes or w.runtime.made or w.network.held or w.agent.workers))
            assert not list((tmp_path / "data" / "pods").iterdir())

    asyncio.run(story())


def test_a_running_pod_is_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod("web", container(readinessProbe={"exec": {"command": ["ok"]}, "periodSeconds": 5})))
            await w.until_phase("Running")
            await w.until(lambda: w.runtime.execs)
            await w.settle()
            before = await w.status()
            calls = list(w.runtime.journal)
            assert before["containerStatuses"][0]["ready"] is True
            await w.kill()
            await w.advance(60)
            await w.boot()
            await w.advance(30)
            assert w.runtime.journal == calls
            assert await w.status() == before

    asyncio.run(story())


def test_a_pod_that_was_deleted_while_the_agent_was_away_is_removed(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.create(pod("other"))
            await w.until_phase("Running")
            await w.until_phase("Running", "other")
            await w.kill()
            await w.api.client.delete(PODS, "web", "default", grace=0)
            await w.boot()
            await w.until(lambda: len(w.runtime.made) == 1)
            await w.settle()
            assert len(w.network.held) == 1
            assert (await w.status("other"))["containerStatuses"][0]["restartCount"] == 0

    asyncio.run(story())


def test_the_machine_reboots(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            await w.kill()
            w.runtime.lose_sandboxes()
            w.network.held.clear()
            await w.boot()
            await w.until(lambda: w.runtime.is_running("c"))
            await w.settle()
            status = (await w.status())["containerStatuses"][0]
            assert status["restartCount"] == 1
            assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"

    asyncio.run(story())


SETUP = ["run_sandbox", "create_container", "start_container"]


@pytest.mark.parametrize("step", SETUP)
@pytest.mark.parametrize("error", [RuntimeFault("Broken", "no"), OSError(28, "No space left"), KeyError("surprise")])
def test_a_step_of_set_up_fails_once(tmp_path: Path, step: str, error: Exception) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            w.runtime.faults[step] = [error]
            await w.create(story_pod())

            async def running() -> bool:
                ends_init(w)
                return (await w.status()).get("phase") == "Running"

            await w.until(running)
            await w.until(lambda: len(w.runtime.boxes) == 1)
            assert w.runtime.is_running("c")

    asyncio.run(story())


def test_the_network_fails_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            w.network.faults = [OSError(12, "no memory")]
            await w.create(pod())
            status = await w.until_phase("Running")
            assert status["podIP"]
            assert await w.events("FailedCreatePodSandBox")
            await w.until(lambda: len(w.runtime.boxes) == 1)

    asyncio.run(story())


@pytest.mark.parametrize("step", ["stop_container", "stop_sandbox", "remove_container", "remove_sandbox"])
def test_a_step_of_tear_down_fails(tmp_path: Path, step: str) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            w.runtime.faults[step] = [RuntimeFault("Broken", "no"), OSError(5, "I/O")]
            await w.api.client.delete(PODS, "web", "default")
            await w.until_gone()
            await w.until(lambda: not (w.runtime.boxes or w.runtime.made or w.network.held))

    asyncio.run(story())


class Starving(Machine):
    """A machine that is short of memory for as long as it is told to be."""

    short = False

    def memory(self) -> Memory:
        return Memory(8 << 30, (1 << 20) if self.short else (4 << 30))


@pytest.mark.parametrize("count", range(0, 60, 2))
def test_the_agent_dies_while_it_evicts(tmp_path: Path, count: int) -> None:
    """The shortage is over when the next agent looks; what was decided stays decided."""

    async def story() -> None:
        w = World(tmp_path)
        w.config = replace(w.config, eviction=EvictionThresholds(disk_available=0.0, inodes_free=0.0))
        w.machine = Starving(w.config.data_dir)
        async with w:
            w.runtime.stops["c"] = lambda c: None
            made = await w.create(pod("web", terminationGracePeriodSeconds=300))
            await w.until_phase("Running")
            w.machine.short = True
            worker = w.agent.workers[made["metadata"]["uid"]]
            decided = asyncio.Event()
            wake = worker.wake

            def tell() -> None:
                wake()
                if worker.facts.verdict is not None:
                    decided.set()

            worker.wake = tell  # type: ignore[method-assign]
            began = asyncio.ensure_future(w.advance(3 * w.config.status_interval))
            await decided.wait()
            began.cancel()
            await turns(count)
            w.machine.short = False
            await w.kill()
            await w.boot()
            status = await w.until_phase("Failed", within=10)
            assert status["reason"] == "Evicted"
            condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
            assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
            assert condition["message"] == status["message"]
            assert w.runtime.attempts("c") == [0]
            await w.api.client.delete(PODS, "web", "default")
            await w.until_gone()
            await w.until(lambda: not (w.runtime.boxes or w.runtime.made or w.agent.workers))
            assert not list((tmp_path / "data" / "pods").iterdir())

    asyncio.run(story())


def test_a_damaged_verdict_is_none(tmp_path: Path) -> None:
    directory = str(tmp_path / "pod")
    assert verdicts.remembered(directory) is None
    verdict = Verdict("Evicted", "low", grace=1.0, disrupts=True)
    verdicts.remember(directory, verdict)
    assert verdicts.remembered(directory) == verdict
    (tmp_path / "pod" / verdicts.FILE).write_bytes(b'{"reason": "Evi')
    assert verdicts.remembered(directory) is None


def test_the_runtime_does_not_answer_for_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            w.runtime.faults["containers"] = [RuntimeFault("Down", "supervisor is away"), OSError(111, "refused")]
            await w.create(pod())
            await w.until_phase("Running", within=10)
            w.runtime.faults["containers"] = [RuntimeFault("Down", "x")] * 3
            await w.kill()
            await w.boot()
            await w.advance(5)
            assert w.runtime.attempts("c") == [0]
            w.runtime.images.pull = _explode  # an error that nobody foresaw stays with the pod that met it
            await w.create(pod("other", container(image="new:1")))
            await w.advance(2)
            state = (await w.status("other"))["containerStatuses"][0]["state"]["waiting"]
            assert "ZeroDivisionError" in state["message"]
            assert (await w.status())["phase"] == "Running"

    asyncio.run(story())


async def _explode(reference: str, *, auth: Any = None) -> Any:
    raise ZeroDivisionError(reference)
