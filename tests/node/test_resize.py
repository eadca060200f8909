"""In-place resize on a node: what fits is done and told, what does not waits its turn, and no crash forgets what was allocated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jota.meta.resource import PODS
from jota.node.machine import Machine
from jota.runtime.protocol import Resources, RuntimeFault, Stats

from .world import World, container, pod

Object = dict[str, Any]
MI = 1 << 20


def sized(cpu: str, memory: str = "", limit: str = "") -> Object:
    requests = {"cpu": cpu, **({"memory": memory} if memory else {})}
    return {"requests": requests, **({"limits": {"memory": limit}} if limit else {})}


async def resize(w: World, resources: Object, name: str = "web", of: str = "c", key: str = "containers") -> Object:
    patch = {"spec": {key: [{"name": of, "resources": resources}]}}
    done: Object = await w.api.client.patch(PODS, name, "default", patch, type="strategic", subresource="resize")
    return done


async def conditions(w: World, name: str = "web") -> dict[str, Object]:
    found = (await w.status(name)).get("conditions") or []
    return {c["type"].removeprefix("PodResize"): c for c in found if c["type"].startswith("PodResize")}


async def shown(w: World, name: str = "web", n: int = 0) -> tuple[Object, Object]:
    """What the first container is shown to be allocated, and to have."""
    status = (await w.status(name))["containerStatuses"][n]
    return status["allocatedResources"], status["resources"]


class OneCpu(Machine):
    """A node of one cpu."""

    def capacity(self, max_pods: int) -> dict[str, str]:
        return {**super().capacity(max_pods), "cpu": "1", "memory": "64Gi"}


def play(tmp_path: Path, story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        w = World(tmp_path)
        w.machine = OneCpu(w.config.data_dir)
        async with w:
            await story(w)

    asyncio.run(run())


def test_the_status_never_shows_the_new_without_saying_so(tmp_path: Path) -> None:
    """Whoever sees the generation observed sees a condition, or that everything is done."""

    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("100m"))))
        await w.until_phase("Running")
        w.runtime.faults["update_resources"] = [RuntimeFault("UpdateContainerError", "not yet")]
        await resize(w, sized("200m"))
        await w.settle()
        status = await w.status()
        assert status["observedGeneration"] == 2
        assert await shown(w) == ({"cpu": "200m"}, sized("100m"))
        found = await conditions(w)
        assert (found["InProgress"]["observedGeneration"], found["InProgress"]["status"]) == (2, "True")
        await w.advance(2)
        assert await shown(w) == ({"cpu": "200m"}, sized("200m"))
        assert await conditions(w) == {}
        assert (await w.events("ResizeCompleted")) == (
            [
                'Pod resize completed: {"containers":[{"name":"c","resources":{"requests":{"cpu":"200m"}}}],"generation":2}'
            ]
        )

    play(tmp_path, story)


def test_what_does_not_fit_waits_until_something_goes(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("300m"))))
        await w.create(pod("big", container("b", resources=sized("500m"))))
        await w.until_phase("Running")
        await w.until_phase("Running", "big")
        await resize(w, sized("600m"))
        await w.settle()
        pending = (await conditions(w))["Pending"]
        assert (pending["reason"], pending["observedGeneration"]) == ("Deferred", 2)
        assert pending["message"] == (
            "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"
        )
        assert await shown(w) == ({"cpu": "300m"}, sized("300m"))
        await w.advance(200)
        (event,) = await w.events("ResizeDeferred")
        assert event.startswith('Pod resize OutOfcpu: {"containers":[{"name":"c",')
        assert "update_resources c" not in w.runtime.journal
        await w.api.client.delete(PODS, "big", "default")
        await w.until_gone("big")
        await w.settle()
        assert await shown(w) == ({"cpu": "600m"}, sized("600m"))
        assert await conditions(w) == {}

    play(tmp_path, story)


def test_a_resize_that_waits_can_be_taken_back(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("300m"))))
        await w.until_phase("Running")
        await resize(w, sized("1100m"))
        await w.settle()
        assert set(await conditions(w)) == {"Pending"}
        await resize(w, sized("300m"))
        await w.settle()
        assert await conditions(w) == {}
        assert (await w.status())["observedGeneration"] == 3
        assert await w.events("ResizeStarted") == []

    play(tmp_path, story)


def test_a_pod_that_shrinks_makes_room_for_the_first_in_line(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("700m"))))
        for name, priority in (("low", 1), ("high", 9)):
            await w.create(pod(name, container(resources=sized("100m")), priority=priority))
            await w.until_phase("Running", name)
        for name in ("low", "high"):
            await resize(w, sized("500m"), name)
        await w.settle()
        assert set(await conditions(w, "low")) == set(await conditions(w, "high")) == {"Pending"}
        await resize(w, sized("300m"))
        await w.until(lambda: sum(line == "update_resources c" for line in w.runtime.journal) == 2)
        await w.settle()
        assert (await shown(w, "high"))[1] == sized("500m")
        assert (await shown(w, "low"))[1] == sized("100m")
        assert (await conditions(w, "low"))["Pending"]["reason"] == "Deferred"

    play(tmp_path, story)


def test_a_pod_that_is_being_shrunk_still_holds_what_it_has(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("800m"))))
        await w.until_phase("Running")
        w.runtime.faults["update_resources"] = [RuntimeFault("UpdateContainerError", "no") for _ in range(3)]
        await resize(w, sized("100m"))
        await w.settle()
        await w.create(pod("new", container(resources=sized("500m"))))
        assert (await w.until_phase("Failed", "new"))["reason"] == "OutOfcpu"

    play(tmp_path, story)


def test_the_place_of_a_pod_that_the_api_has_forgotten_is_free(tmp_path: Path) -> None:
    """Deleted by force: its containers still end, but whoever was scheduled in its place is let in."""

    async def story(w: World) -> None:
        w.runtime.stops["c"] = lambda c: None
        await w.create(pod("web", container(resources=sized("900m")), terminationGracePeriodSeconds=30))
        await w.until_phase("Running")
        await w.create(pod("small", container("s", resources=sized("50m"))))
        await w.until_phase("Running", "small")
        await resize(w, sized("500m"), "small", "s")
        await w.settle()
        assert (await conditions(w, "small"))["Pending"]["reason"] == "Deferred"
        await w.api.client.delete(PODS, "web", "default", grace=0)
        await w.settle()
        assert w.runtime.is_running("c")
        assert (await shown(w, "small"))[1] == sized("500m")
        await w.create(pod("next", container("n", resources=sized("500m"))))
        await w.until_phase("Running", "next")

    play(tmp_path, story)


def test_what_the_downward_api_and_restarts_show_is_what_is_allocated(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        field = {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}
        env = [{"name": "CPU", "valueFrom": field}]
        await w.create(pod("web", container(resources=sized("300m"), env=env)))
        await w.until_phase("Running")
        await resize(w, sized("2"))
        await w.settle()
        w.runtime.exit("c", 1)
        await w.until(lambda: w.runtime.is_running("c"))
        again = w.runtime.specs[w.runtime.running("c").id]
        assert (dict(again.env)["CPU"], again.resources.cpu_shares) == ("300", 307)

    play(tmp_path, story)


@pytest.mark.parametrize("moved", ["cpu", "memory"])
def test_a_policy_asks_for_a_restart_of_what_it_names(tmp_path: Path, moved: str) -> None:
    async def story(w: World) -> None:
        policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
        await w.create(pod("web", container(resources=sized("100m", "64Mi"), resizePolicy=policy)))
        await w.until_phase("Running")
        wanted = sized("200m", "64Mi") if moved == "cpu" else sized("100m", "128Mi")
        await resize(w, wanted)
        await w.until(lambda: w.runtime.attempts("c") == ([0] if moved == "cpu" else [0, 1]))
        await w.advance(1)
        assert (await shown(w)) == (wanted["requests"], wanted)
        assert await conditions(w) == {}
        killed = await w.events("Killing")
        assert killed == ([] if moved == "cpu" else ["Container c resize requires restart"])

    play(tmp_path, story)


def test_the_pod_is_widened_before_its_containers_and_drawn_in_after_them(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        both = [container(n, resources=sized("100m", "64Mi", "64Mi")) for n in ("a", "b")]
        await w.create(pod("web", *both))
        await w.until_phase("Running")
        seen: list[tuple[str, Resources]] = []
        real_c, real_s = w.runtime.update_resources, w.runtime.update_sandbox

        async def one(cid: str, resources: Resources, labels: Any = None) -> None:
            seen.append((w.runtime.made[cid].name, resources))
            await real_c(cid, resources, labels)

        async def whole(sid: str, resources: Resources, labels: Any = None) -> None:
            seen.append(("pod", resources))
            await real_s(sid, resources, labels)

        w.runtime.update_resources, w.runtime.update_sandbox = one, whole  # type: ignore[method-assign]
        w.runtime.stats = stats_of(w, 8 * MI)  # type: ignore[method-assign]
        patch = {"spec": {"containers": [
            {"name": "a", "resources": sized("100m", "64Mi", "256Mi")},
            {"name": "b", "resources": sized("100m", "16Mi", "16Mi")},
        ]}}  # fmt: skip
        await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="resize")
        await w.settle()
        steps = [(name, r.memory_limit) for name, r in seen]
        assert steps == [("pod", 272 * MI), ("a", 256 * MI), ("b", 16 * MI), ("pod", 272 * MI)]
        seen.clear()
        await resize(w, sized("100m", "32Mi", "32Mi"), of="a")
        await w.settle()
        assert [(name, r.memory_limit) for name, r in seen] == [("a", 32 * MI), ("pod", 48 * MI)]

    play(tmp_path, story)


def stats_of(w: World, usage: int) -> Callable[[], Coroutine[Any, Any, list[Stats]]]:
    async def stats() -> list[Stats]:
        running = [c for c in w.runtime.made.values() if c.state == "running"]
        return [Stats(c.id, w.clock.now(), 0, usage, usage) for c in running]

    return stats


def test_a_memory_limit_below_what_is_used_is_refused_until_it_is_not(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("100m", "64Mi", "64Mi"))))
        await w.until_phase("Running")
        w.runtime.stats = stats_of(w, 40 * MI)  # type: ignore[method-assign]
        await resize(w, sized("100m", "32Mi", "32Mi"))
        await w.settle()
        found = (await conditions(w))["InProgress"]
        below = f"({32 * MI}) below current usage ({40 * MI})"
        assert (found["reason"], found["message"]) == (
            "Error",
            f"cannot decrease memory limits: [attempting to set pod memory limit {below}, "
            f'attempting to set container "c" memory limit {below}]',
        )
        await w.advance(30)
        assert len(await w.events("ResizeError")) == 1
        assert await shown(w) == ({"cpu": "100m", "memory": "32Mi"}, sized("100m", "64Mi", "64Mi"))
        assert "update_resources c" not in w.runtime.journal
        w.runtime.stats = stats_of(w, 20 * MI)  # type: ignore[method-assign]
        await w.advance(70)
        assert await shown(w) == ({"cpu": "100m", "memory": "32Mi"}, sized("100m", "32Mi", "32Mi"))
        assert await conditions(w) == {}

    play(tmp_path, story)


def test_init_containers_and_sidecars_are_resized_as_they_run(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        side = container("s", "init:1", restartPolicy="Always", resources=sized("100m"))
        init = container("i", "init:1", resources=sized("100m"))
        await w.create(pod("web", container(resources=sized("100m")), initContainers=[side, init]))
        await w.until(lambda: w.runtime.is_running("i"))
        for name in ("s", "i"):
            await resize(w, sized("200m"), of=name, key="initContainers")
        await w.settle()
        statuses = (await w.status())["initContainerStatuses"]
        assert [s["resources"] for s in statuses] == [sized("200m"), sized("200m")]
        assert [s["restartCount"] for s in statuses] == [0, 0]
        assert await conditions(w) == {}

    play(tmp_path, story)


def test_a_pod_with_resources_of_its_own(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        own = {"requests": {"cpu": "400m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
        await w.create(pod("web", container(), resources=own))
        await w.until_phase("Running")
        first = w.runtime.specs[w.runtime.running("c").id].resources
        assert (first.cpu_quota, first.memory_limit) == (50_000, 64 * MI)
        assert (await w.status())["resources"] == own
        more = {"requests": {"cpu": "600m", "memory": "64Mi"}, "limits": {"cpu": "700m", "memory": "128Mi"}}
        patch = {"spec": {"resources": more}}
        await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="resize")
        await w.settle()
        (box,) = w.runtime.boxes.values()
        assert (box.spec.resources.cpu_quota, box.spec.resources.memory_limit) == (70_000, 128 * MI)
        status = await w.status()
        assert (status["resources"], status["allocatedResources"]) == (more, more["requests"])
        assert w.runtime.attempts("c") == [0]
        assert w.runtime.specs[w.runtime.running("c").id].resources.memory_limit == 128 * MI

    play(tmp_path, story)


# -- crashes


def test_a_new_agent_knows_what_was_allocated(tmp_path: Path) -> None:
    """The spec asks for more than fits; whoever comes after still runs, shows and counts what was allocated."""

    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("300m"))))
        await w.create(pod("big", container("b", resources=sized("500m"))))
        await w.until_phase("Running", "big")
        await resize(w, sized("350m"))
        await w.settle()
        await resize(w, sized("900m"))
        await w.settle()
        before = (await conditions(w))["Pending"]
        await w.kill()
        await w.boot()
        await w.settle()
        assert await shown(w) == ({"cpu": "350m"}, sized("350m"))
        assert (await conditions(w))["Pending"] == before
        assert len(await w.events("ResizeDeferred")) == 1
        w.runtime.exit("c", 1)
        await w.until(lambda: w.runtime.is_running("c"))
        assert w.runtime.specs[w.runtime.running("c").id].resources.cpu_shares == 358
        await w.api.client.delete(PODS, "big", "default")
        await w.until_gone("big")
        await w.settle()
        assert await shown(w) == ({"cpu": "900m"}, sized("900m"))

    play(tmp_path, story)


def test_a_resize_asked_for_while_no_agent_ran_is_admitted_first(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.create(pod("web", container(resources=sized("300m"))))
        await w.until_phase("Running")
        await w.kill()
        await resize(w, sized("1500m"))
        await w.boot()
        await w.settle()
        assert (await conditions(w))["Pending"]["reason"] == "Deferred"
        assert await shown(w) == ({"cpu": "300m"}, sized("300m"))
        await resize(w, sized("400m"))
        await w.settle()
        assert await shown(w) == ({"cpu": "400m"}, sized("400m"))

    play(tmp_path, story)


@pytest.mark.parametrize("count", range(0, 40, 2))
def test_the_agent_dies_while_a_pod_is_resized(tmp_path: Path, count: int) -> None:
    async def story(w: World) -> None:
        both = [container(n, resources=sized("100m", "64Mi", "64Mi")) for n in ("a", "b")]
        await w.create(pod("web", *both))
        await w.until_phase("Running")
        wanted = sized("200m", "32Mi", "128Mi")
        patch = {"spec": {"containers": [{"name": n, "resources": wanted} for n in ("a", "b")]}}
        await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="resize")
        for _ in range(count):
            await asyncio.sleep(0)
        await w.kill()
        await w.boot()
        await w.advance(2)
        for n in (0, 1):
            assert await shown(w, n=n) == (wanted["requests"], wanted)
        assert await conditions(w) == {}
        assert (w.runtime.attempts("a"), w.runtime.attempts("b")) == ([0], [0])
        (box,) = w.runtime.boxes.values()
        assert box.spec.resources.memory_limit == 256 * MI

    play(tmp_path, story)


def test_a_damaged_note_of_the_allocation_is_told_and_the_containers_tell_instead(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        made = await w.create(pod("web", container(resources=sized("300m"))))
        await w.until_phase("Running")
        await resize(w, sized("400m"))
        await w.settle()
        await w.kill()
        kept = Path(w.config.pod_dir(made["metadata"]["uid"])) / "allocation.json"
        assert json.loads(kept.read_bytes())["containers"]["c"] == sized("400m")
        kept.write_bytes(b"{")
        await w.boot()
        await resize(w, sized("1200m"))
        await w.settle()
        assert await shown(w) == ({"cpu": "400m"}, sized("400m"))
        assert (await conditions(w))["Pending"]["reason"] == "Deferred"

    play(tmp_path, story)
