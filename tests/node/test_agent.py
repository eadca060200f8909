"""Stories of the agent: a bound pod runs, changes, ends; the agent dies and comes back."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jota.meta.resource import CONFIGMAPS, LEASES, NODES, PODS, SECRETS
from jota.node.config import EvictionThresholds
from jota.node.machine import Machine, Memory
from jota.node.volumes.volume import VolumeFault

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


def test_a_node_that_was_declared_unknown_says_that_it_is_ready(tmp_path: Path) -> None:
    """It was silent for longer than the grace period and has not noticed: its own view has not changed."""

    async def story() -> None:
        async with World(tmp_path) as w:
            await w.advance(15)
            silent = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}}
            await w.api.client.patch(NODES, "n1", "", silent, type="strategic", subresource="status")

            async def ready() -> bool:
                node = await w.api.client.get(NODES, "n1")
                (found,) = (c for c in node["status"]["conditions"] if c["type"] == "Ready")
                return bool(found["status"] == "True" and found["reason"] == "KubeletReady")

            await w.until(ready, within=11)

    asyncio.run(story())


def test_two_containers_start_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod("web", container("a"), container("b", "app:2")))
            await w.until_phase("Running")
            starts = [line for line in w.runtime.journal if line.startswith("start_container")]
            assert starts == ["start_container a/0", "start_container b/0"]

    asyncio.run(story())


def test_resources_are_changed_in_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            small = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
            await w.create(pod("web", container(resources=small)))
            await w.until_phase("Running")
            cid = w.runtime.running("c").id
            big = {"requests": {"cpu": "150m"}, "limits": {"cpu": "400m"}}
            patch = {"spec": {"containers": [{"name": "c", "resources": big}]}}
            await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="resize")
            await w.until(lambda: w.runtime.specs[cid].resources.cpu_quota == 40_000)
            await w.settle()
            status = (await w.status())["containerStatuses"][0]
            assert status["resources"] == big
            assert status["allocatedResources"] == big["requests"]
            assert status["restartCount"] == 0

    asyncio.run(story())


def test_an_ephemeral_container_joins(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            extra = {"name": "dbg", "image": "app:2", "targetContainerName": "c", "imagePullPolicy": "IfNotPresent"}
            patch = {"spec": {"ephemeralContainers": [extra]}}
            await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="ephemeralcontainers")
            await w.until(lambda: w.runtime.is_running("dbg"))
            await w.settle()
            assert w.runtime.specs[w.runtime.running("dbg").id].target_container == w.runtime.running("c").id
            w.runtime.exit("dbg", 1)
            await w.advance(30)
            status = await w.status()
            assert status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
            assert status["phase"] == "Running"
            assert w.runtime.attempts("dbg") == [0]

    asyncio.run(story())


def test_a_crash_loop_is_told_and_slows_down(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until(lambda: w.runtime.is_running("c"))
            w.runtime.exit("c", 1)
            await w.until(lambda: w.runtime.is_running("c"), within=0.5)
            w.runtime.exit("c", 1)
            await w.settle()
            status = (await w.status())["containerStatuses"][0]
            assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            assert status["lastState"]["terminated"]["exitCode"] == 1
            await w.advance(0.9)
            assert not w.runtime.is_running("c")
            await w.advance(0.2)
            assert w.runtime.is_running("c")
            assert (await w.status())["containerStatuses"][0]["restartCount"] == 2
            assert await w.events("BackOff") == [
                f"Back-off restarting failed container c in pod web_default({(await w.get())['metadata']['uid']})"
            ]

    asyncio.run(story())


def test_a_missing_image_is_told_and_comes_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod("web", container(image="late:1")))
            await w.advance(0.5)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert state["reason"] == "ImagePullBackOff"
            assert "manifest unknown" in state["message"]
            w.runtime.images.remote["late:1"] = w.runtime.images.remote["app:1"]
            await w.until_phase("Running", within=10)

    asyncio.run(story())


def test_a_missing_config_map_holds_the_pod_until_it_comes(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]
            await w.create(pod("web", container(env=env)))
            await w.advance(0.5)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert state == {"reason": "CreateContainerConfigError", "message": 'configmap "cm" not found'}
            await w.advance(30)
            await w.api.client.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"a": "1"}}, "default")
            await w.settle()
            assert (await w.status())["phase"] == "Running"  # at once: the object is watched, not polled
            assert ("A", "1") in w.runtime.specs[w.runtime.running("c").id].env

    asyncio.run(story())


def test_a_volume_type_that_is_not_supported_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            mounts = [{"name": "v", "mountPath": "/v"}]
            nfs = {"name": "v", "nfs": {"server": "x", "path": "/"}}
            await w.create(pod("web", container(volumeMounts=mounts), volumes=[nfs]))
            await w.advance(1)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert state["reason"] == "ContainerCreating"
            assert state["message"] == 'volume "v": type nfs is not supported on this node'
            assert (await w.events("FailedMount"))[0] == 'volume "v": type nfs is not supported on this node'
            await w.api.client.delete(PODS, "web", "default")
            await w.until_gone()

    asyncio.run(story())


def test_a_volume_that_no_container_mounts_is_left_alone_until_one_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            unused = [
                {"name": "s", "secret": {"secretName": "late"}},
                {"name": "n", "nfs": {"server": "x", "path": "/"}},
            ]
            await w.create(pod(volumes=unused))
            await w.until_phase("Running", within=5)
            assert await w.events("FailedMount") == []
            extra = {"name": "dbg", "image": "app:2", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}
            patch = {"spec": {"ephemeralContainers": [extra]}}
            await w.api.client.patch(PODS, "web", "default", patch, type="strategic", subresource="ephemeralcontainers")
            await w.advance(1)
            assert not w.runtime.is_running("dbg")
            assert 'secret "late" not found' in (await w.events("FailedMount"))[0]
            secret = {"metadata": {"name": "late"}, "data": {"a": "MQ=="}}
            await w.api.client.create(SECRETS, secret, "default")
            await w.until(lambda: w.runtime.is_running("dbg"))
            (mount,) = (m for m in w.runtime.specs[w.runtime.running("dbg").id].mounts if m.target == "/s")
            assert Path(mount.source, "a").read_text() == "1"
            assert w.runtime.attempts("c") == [0]

    asyncio.run(story())


def test_deletion_runs_the_hook_then_the_signal_then_kills(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            hook = {"preStop": {"exec": {"command": ["drain"]}}}
            await w.create(pod("web", container(lifecycle=hook), terminationGracePeriodSeconds=10))
            await w.until_phase("Running")
            w.runtime.stops["c"] = lambda c: None
            await w.api.client.delete(PODS, "web", "default")
            await w.settle()
            assert w.runtime.execs == [("c", ["drain"])]
            await w.advance(9)
            assert w.runtime.is_running("c")
            assert await w.exists()
            await w.advance(2)
            assert not await w.exists()

    asyncio.run(story())


@pytest.mark.parametrize("step", ["create_container", "start_container"])
def test_a_pod_deleted_while_its_container_starts_does_not_last(tmp_path: Path, step: str) -> None:
    """It would ignore the signal, and its grace period is ten minutes."""

    async def story() -> None:
        async with World(tmp_path) as w:
            do = getattr(w.runtime, step)

            async def deleted_meanwhile(*arguments: Any) -> Any:
                done = await do(*arguments)
                await w.api.client.delete(PODS, "web", "default")
                while not any("deletionTimestamp" in k.pod["metadata"] for k in w.agent.workers.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                return done

            setattr(w.runtime, step, deleted_meanwhile)
            w.runtime.stops["c"] = lambda c: None
            await w.create(pod(terminationGracePeriodSeconds=600))
            await w.until_gone()
            if step == "create_container":
                assert not [s for s in w.runtime.journal if s.startswith(("start_container", "stop_container"))]
            await w.until(lambda: not (w.runtime.made or w.runtime.boxes or w.network.held))

    asyncio.run(story())


def test_a_second_delete_with_less_grace_is_obeyed(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod(terminationGracePeriodSeconds=600))
            await w.until_phase("Running")
            w.runtime.stops["c"] = lambda c: None
            await w.api.client.delete(PODS, "web", "default")
            await w.advance(20)
            await w.api.client.delete(PODS, "web", "default", grace=3)
            await w.advance(4)
            assert not await w.exists()

    asyncio.run(story())


def test_a_forced_delete_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            w.runtime.stops["c"] = lambda c: None
            await w.api.client.delete(PODS, "web", "default", grace=0)
            assert not await w.exists()
            await w.until(
                lambda: not (w.runtime.made or w.runtime.boxes or w.network.held or w.agent.workers), within=15
            )

    asyncio.run(story())


def test_a_pod_that_does_not_fit_fails(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path, capacity={"cpu": "1", "memory": "1Gi"}) as w:
            await w.create(pod("web", container(resources={"requests": {"cpu": "2"}})))
            status = await w.until_phase("Failed")
            assert status["reason"] == "OutOfcpu"
            assert w.runtime.boxes == {}
            await w.create(pod("picky", nodeSelector={"color": "red"}))
            assert (await w.until_phase("Failed", "picky"))["reason"] == "NodeAffinity"

    asyncio.run(story())


def test_the_active_deadline_ends_a_pod(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod(activeDeadlineSeconds=30))
            await w.until_phase("Running")
            await w.advance(31)
            status = await w.until_phase("Failed")
            assert status["reason"] == "DeadlineExceeded"
            assert not w.runtime.is_running("c")
            assert await w.exists()

    asyncio.run(story())


def test_a_failed_pod_is_kept_until_it_is_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod(restartPolicy="Never"))
            await w.until_phase("Running")
            w.runtime.exit("c", 3)
            status = await w.until_phase("Failed")
            assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
            await w.settle()
            assert w.network.held == {}
            assert len(w.runtime.made) == 1  # its log can still be read
            await w.kill()
            await w.boot()
            await w.advance(5)
            assert await w.status() == status
            await w.api.client.delete(PODS, "web", "default")
            await w.until_gone()
            await w.until(lambda: not w.runtime.made)

    asyncio.run(story())


def test_liveness_restarts_and_readiness_shows(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            alive = {"exec": {"command": ["alive"]}, "periodSeconds": 2, "failureThreshold": 2}
            ready = {"exec": {"command": ["ready"]}, "periodSeconds": 2, "failureThreshold": 1}
            good = {"alive": True, "ready": False}
            w.runtime.exec_result = lambda name, command: (0 if good[command[0]] else 1, b"", b"sick")
            await w.create(pod("web", container(livenessProbe=alive, readinessProbe=ready)))
            await w.until_phase("Running")
            assert (await w.status())["containerStatuses"][0]["ready"] is False
            good["ready"] = True
            await w.advance(2.5)
            assert (await w.status())["containerStatuses"][0]["ready"] is True
            good["alive"] = False
            await w.until(lambda: w.runtime.attempts("c") == [0, 1], within=10)
            await w.settle()
            assert "Liveness probe failed: sick" in await w.events("Unhealthy")
            assert await w.events("Killing") == ["Container c failed liveness probe, will be restarted"]

    asyncio.run(story())


def test_many_pods_come_and_go_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            names = [f"p{n}" for n in range(30)]
            await asyncio.gather(*(w.create(pod(n)) for n in names))
            for n in names:
                await w.until_phase("Running", n)
            await w.api.client.delete_collection(PODS, "default")
            for n in names:
                await w.until_gone(n)
            await w.until(lambda: not (w.runtime.made or w.runtime.boxes or w.agent.workers))

    asyncio.run(story())


class Starving(Machine):
    """A machine that is short of memory until pods have gone."""

    short = False

    def memory(self) -> Memory:
        return Memory(8 << 30, (1 << 20) if self.short else (4 << 30))


def test_a_pod_is_evicted_when_memory_is_short(tmp_path: Path) -> None:
    async def story() -> None:
        w = World(tmp_path)
        w.config = replace(w.config, eviction=EvictionThresholds(disk_available=0.0, inodes_free=0.0))
        w.machine = Starving(w.config.data_dir)
        async with w:
            await w.create(pod())
            await w.until_phase("Running")
            w.machine.short = True
            status = await w.until_phase("Failed")
            assert status["reason"] == "Evicted"
            w.machine.short = False
            conditions = {c["type"]: c for c in (await w.api.client.get(NODES, "n1"))["status"]["conditions"]}
            assert conditions["MemoryPressure"]["status"] == "True"
            assert any("low on resource: memory" in m for m in await w.events("Evicted"))

    asyncio.run(story())


def test_a_status_by_another_hand_ends_the_pod(tmp_path: Path) -> None:
    """Controllers' tests set the phase to Failed; the containers must go."""

    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            await w.api.client.patch(PODS, "web", "default", {"status": {"phase": "Failed"}}, subresource="status")
            await w.until(lambda: not w.runtime.is_running("c"))
            await w.advance(5)
            assert (await w.status())["phase"] == "Failed"

    asyncio.run(story())


def test_the_image_changes_in_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            await w.create(pod())
            await w.until_phase("Running")
            patch = {"spec": {"containers": [{"name": "c", "image": "app:2"}]}}
            await w.api.client.patch(PODS, "web", "default", patch, type="strategic")
            await w.until(lambda: w.runtime.attempts("c") == [0, 1])
            await w.until(lambda: w.runtime.is_running("c"))
            await w.settle()
            assert w.runtime.running("c").image == "sha256:app:2"
            assert (await w.status())["observedGeneration"] == 2
            assert await w.events("Killing") == ["Container c definition changed, will be restarted"]

    asyncio.run(story())


def file_of(w: World, volume: str, kind: str = "downward-api") -> Path:
    uid = next(iter(w.agent.workers))
    return Path(w.config.pod_dir(uid), "volumes", f"kubernetes.io~{kind}", volume)


def test_a_label_that_the_node_got_a_moment_ago_counts(tmp_path: Path) -> None:
    """The scheduler sees it at once, the agent reads its Node now and then."""

    async def story() -> None:
        async with World(tmp_path) as w:
            await w.api.client.patch(NODES, "n1", patch={"metadata": {"labels": {"color": "red"}}})
            await w.create(pod("picky", nodeSelector={"color": "red"}))
            await w.until_phase("Running", "picky")
            await w.create(pod("other", nodeSelector={"color": "blue"}))
            await w.until_phase("Failed", "other")
            assert (await w.get("other"))["status"]["reason"] == "NodeAffinity"

    asyncio.run(story())


def test_labels_reach_the_downward_api(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            mounts = [{"name": "v", "mountPath": "/v"}]
            volume = {"name": "v", "downwardAPI": {"items": items}}
            await w.create(pod("web", container(volumeMounts=mounts), volumes=[volume]))
            await w.until_phase("Running")
            await w.api.client.patch(PODS, "web", "default", {"metadata": {"labels": {"a": "b"}}})
            await w.settle()
            assert (file_of(w, "v") / "labels").read_text() == 'a="b"'

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to bind-mount the sub-path")
def test_a_start_that_depends_on_an_annotation_recovers(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            env = [{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['path']"}}}]
            mounts = [{"name": "v", "mountPath": "/v", "subPathExpr": "$(P)"}]
            obj = pod("web", container(env=env, volumeMounts=mounts), volumes=[{"name": "v"}])
            obj["metadata"]["annotations"] = {"path": "/absolute"}
            await w.create(obj)
            await w.advance(20)
            state = (await w.status())["containerStatuses"][0]["state"]["waiting"]
            assert state["reason"] == "CreateContainerConfigError"
            patch = {"metadata": {"annotations": {"path": "fine"}}}
            await w.api.client.patch(PODS, "web", "default", patch)
            await w.settle()
            assert (await w.status())["phase"] == "Running"

    asyncio.run(story())


def test_a_token_that_cannot_be_renewed_is_asked_for_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with World(tmp_path) as w:
            asked: list[float] = []

            async def token(obj: object, audience: str, seconds: int) -> tuple[str, float]:
                asked.append(w.clock.monotonic())
                if len(asked) in (2, 3):
                    raise VolumeFault("no")
                return f"t{len(asked)}", w.clock.now() + 100

            monkeypatch.setattr(w.agent.kit.tokens, "token", token)
            mounts = [{"name": "t", "mountPath": "/t"}]
            volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "sa"}}]}}
            await w.create(pod("web", container(volumeMounts=mounts), volumes=[volume]))
            await w.until_phase("Running")
            await w.advance(110)
            assert [round(t - asked[0]) for t in asked] == [0, 100, 101, 103]
            uid = next(iter(w.agent.workers))
            found = Path(w.config.volatile_dir, uid, "kubernetes.io~projected", "t", "sa")
            assert found.read_text() == "t4"

    asyncio.run(story())
