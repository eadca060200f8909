"""What people do to clusters: a million replicas, selectors that overlap, edits in the middle of a rollout, cron nonsense."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.controllers.controller import ControllerConfig
from jota.controllers.cronjob import CRONJOBS, CronJobController
from jota.controllers.deployment import DeploymentController
from jota.controllers.job import JobController
from jota.controllers.job_pods import JOBS
from jota.controllers.jobttl import JobTtlController
from jota.controllers.replicaset import BURST, REPLICATIONCONTROLLERS, ReplicaSetController
from jota.controllers.statefulset import StatefulSetController
from jota.controllers.statefulset_pods import STATEFULSETS
from jota.controllers.table import run_controllers
from jota.kinds.core.quota import QUOTAS
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, EVENTS, NAMESPACES, PODS, REPLICASETS
from jota.testing.cluster import ApiServer

from .runner import Runner, job
from .stories import Kubelet, names, running, web
from .test_clock_jumps import DAY, JumpingClock

Object = dict[str, Any]
MILLION = 1_000_000


async def count(api: ApiServer) -> int:
    listed = await api.client.list(PODS, "ns", limit=1)
    return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount") or 0)


def test_a_million_replicas_come_in_bursts_and_leave_room_for_others() -> None:
    """Real time: virtual time would stand still until all of them were there."""

    async def story() -> None:
        clock, stop = SystemClock(), asyncio.Event()
        async with ApiServer(clock=clock) as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            work = run_controllers(
                api.client,
                clock,
                ControllerConfig(),
                stop,
                random=Random(1),
                controllers=(DeploymentController, ReplicaSetController),
            )
            task = asyncio.create_task(work)

            async def until(holds: Callable[[int], bool]) -> int:
                async with asyncio.timeout(60):
                    while not holds(found := await count(api)):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                return found

            await api.client.create(DEPLOYMENTS, web(MILLION))
            begun = await until(lambda n: n > BURST)
            other = web(3)
            other["metadata"]["name"], labels = "small", {"app": "small"}
            other["spec"]["selector"] = {"matchLabels": labels}
            other["spec"]["template"]["metadata"] = {"labels": labels}
            await api.client.create(DEPLOYMENTS, other)
            async with asyncio.timeout(60):
                while len(await names(api, PODS, labels="app=small")) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert begun < await count(api) < MILLION // 10, "the small one did not wait for the large one"
            await api.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 2}})
            await until(lambda n: n == 2 + 3)
            assert len(await names(api, PODS, labels="app=web")) == 2
            stop.set()
            await task

    asyncio.run(story())


@pytest.mark.parametrize("resource", [DEPLOYMENTS, REPLICASETS, STATEFULSETS])
@pytest.mark.parametrize("size", [-1, 2**31, "many", 1.5])
def test_numbers_of_replicas_that_are_none_are_refused(resource: Any, size: Any) -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            with pytest.raises(ApiError) as refused:
                await api.client.create(resource, web(size))
            assert refused.value.code in (400, 422)

    asyncio.run(story())


async def owners(api: ApiServer) -> Counter[str]:
    pods = (await api.client.list(PODS, "ns"))["items"]
    return Counter(
        next((r["name"] for r in p["metadata"].get("ownerReferences", ()) if r.get("controller")), "") for p in pods
    )


def test_sets_with_the_same_selector_share_nothing_and_take_each_orphan_once() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            for n in range(3):
                spec = web()["spec"]["template"]["spec"]
                await api.client.create(
                    PODS, {"metadata": {"name": f"o{n}", "namespace": "ns", "labels": {"app": "web"}}, "spec": spec}
                )
            for name, size in (("a", 2), ("b", 3)):
                await api.client.create(REPLICASETS, {**web(size), "metadata": {"name": name, "namespace": "ns"}})
            rc = {**web(1), "metadata": {"name": "c", "namespace": "ns"}}
            rc["spec"]["selector"] = {"app": "web"}
            await api.client.create(REPLICATIONCONTROLLERS, rc)
            await kubelet.settle()
            assert await owners(api) == {"a": 2, "b": 3, "c": 1}
            await api.client.delete(REPLICASETS, "a", "ns", propagation="Orphan")
            await kubelet.settle()
            await api.advance(10)
            await kubelet.settle()
            assert await owners(api) == {"b": 3, "c": 1}, "what the others adopted was too much, and went"

    asyncio.run(story())


def test_deployments_with_the_same_selector_leave_each_other_alone() -> None:
    async def story() -> None:
        async with running() as api:
            kubelet = Kubelet(api)
            for name, image in (("a", "one"), ("b", "two"), ("c", "one")):
                await api.client.create(DEPLOYMENTS, {**web(2, image), "metadata": {"name": name, "namespace": "ns"}})
            await kubelet.settle()
            patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "three"}]
            await api.client.patch(DEPLOYMENTS, "a", "ns", patch, "json")
            await kubelet.settle()
            sets = (await api.client.list(REPLICASETS, "ns"))["items"]
            by_owner = Counter((s["metadata"]["ownerReferences"][0]["name"], s["spec"]["replicas"]) for s in sets)
            assert by_owner == {("a", 0): 1, ("a", 2): 1, ("b", 2): 1, ("c", 2): 1}
            assert len(await names(api, PODS)) == 6
            for name in "abc":
                status = (await api.client.get(DEPLOYMENTS, name, "ns"))["status"]
                assert status["availableReplicas"] == status["replicas"] == 2

    asyncio.run(story())


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("image"), st.sampled_from(["v1", "v2", "v3"])),
        st.tuples(st.just("replicas"), st.integers(0, 6)),
        st.tuples(st.just("paused"), st.booleans()),
        st.tuples(st.just("surge"), st.sampled_from([(1, 0), (0, 1), ("50%", "50%"), (3, 2)])),
        st.tuples(st.just("recreate"), st.booleans()),
        st.tuples(st.just("kill"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=6,
)


async def edit(api: ApiServer, what: str, value: Any) -> None:
    if what == "kill":
        pods = await names(api, PODS)
        if pods:
            await api.client.delete(PODS, pods[value % len(pods)], "ns")
        return
    rolling = dict(zip(("maxSurge", "maxUnavailable"), value, strict=True)) if what == "surge" else {}
    path, new = {
        "image": ("/spec/template/spec/containers/0/image", value),
        "replicas": ("/spec/replicas", value),
        "paused": ("/spec/paused", value),
        "surge": ("/spec/strategy", {"type": "RollingUpdate", "rollingUpdate": rolling}),
        "recreate": ("/spec/strategy", {"type": "Recreate" if value else "RollingUpdate"}),
    }[what]
    await api.client.patch(DEPLOYMENTS, "web", "ns", [{"op": "add", "path": path, "value": new}], "json")


@settings(max_examples=25, deadline=None)
@given(EDITS, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_a_deployment_edited_in_the_middle_of_everything_ends_as_last_told(
    edits: list[tuple[str, Any]], pauses: list[int]
) -> None:
    """Every path converges: one set with all the pods, of the last image, and a status that says so."""

    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController) as api:
            kubelet = Kubelet(api)
            await api.client.create(DEPLOYMENTS, web(3, "v1"))
            for (what, value), ticks in zip(edits, pauses, strict=False):
                for _ in range(ticks):
                    await api.advance(0.3)
                    await kubelet.tick()
                await edit(api, what, value)
            await edit(api, "paused", False)
            await kubelet.settle()
            await api.advance(30)
            await kubelet.settle()
            got = await api.client.get(DEPLOYMENTS, "web", "ns")
            wanted, image = got["spec"]["replicas"], got["spec"]["template"]["spec"]["containers"][0]["image"]
            pods = (await api.client.list(PODS, "ns"))["items"]
            assert [p["spec"]["containers"][0]["image"] for p in pods] == [image] * wanted
            sizes = [s["spec"]["replicas"] for s in (await api.client.list(REPLICASETS, "ns"))["items"]]
            assert sorted(sizes)[:-1] == [0] * (len(sizes) - 1)
            status = got["status"]
            assert status["observedGeneration"] == got["metadata"]["generation"]
            assert status.get("availableReplicas", 0) == status.get("updatedReplicas", 0) == wanted
            reasons = {c["type"]: c["reason"] for c in status["conditions"]}
            assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}

    asyncio.run(story())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4
    ),
    st.sampled_from(["OrderedReady", "Parallel"]),
)
def test_a_stateful_set_edited_in_the_middle_of_everything_ends_as_last_told(
    edits: list[tuple[str, int, int]], policy: str
) -> None:
    async def story() -> None:
        async with running(StatefulSetController) as api:
            kubelet = Kubelet(api)
            await api.client.create(STATEFULSETS, web(3, "v1", podManagementPolicy=policy))
            for image, size, ticks in edits:
                for _ in range(ticks):
                    await api.advance(0.3)
                    await kubelet.tick()
                patch = [
                    {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
                    {"op": "replace", "path": "/spec/replicas", "value": size},
                ]
                await api.client.patch(STATEFULSETS, "web", "ns", patch, "json")
            await kubelet.settle()
            pods = (await api.client.list(PODS, "ns"))["items"]
            assert [p["metadata"]["name"] for p in pods] == [f"web-{n}" for n in range(size)]
            assert {p["spec"]["containers"][0]["image"] for p in pods} <= {image}
            status = (await api.client.get(STATEFULSETS, "web", "ns"))["status"]
            assert status["replicas"] == status["availableReplicas"] == size
            if size:
                assert status["currentRevision"] == status["updateRevision"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedule": "every day"}, "spec.schedule"),
        ({"schedule": "61 * * * *"}, "spec.schedule"),
        ({"schedule": ""}, "spec.schedule"),
        ({"schedule": "* * * * * *"}, "spec.schedule"),
        ({"schedule": "TZ=UTC * * * * *"}, "spec.schedule"),
        ({"schedule": "* * * * *", "timeZone": "Mars/Olympus"}, "spec.timeZone"),
        ({"schedule": "* * * * *", "timeZone": "Local"}, "spec.timeZone"),
        ({"schedule": "* * * * *", "startingDeadlineSeconds": -1}, "spec.startingDeadlineSeconds"),
        ({"schedule": "* * * * *", "concurrencyPolicy": "Sometimes"}, "spec.concurrencyPolicy"),
        ({"schedule": "* * * * *", "successfulJobsHistoryLimit": -1}, "spec.successfulJobsHistoryLimit"),
    ],
)
def test_cron_nonsense_is_refused_by_name(spec: Object, words: str) -> None:
    async def story() -> None:
        async with ApiServer() as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            body = {
                "metadata": {"name": "x", "namespace": "ns"},
                "spec": {"jobTemplate": {"spec": job()["spec"]}, **spec},
            }
            with pytest.raises(ApiError) as refused:
                await api.client.create(CRONJOBS, body)
            assert refused.value.code == 422
            assert words in str(refused.value)

    asyncio.run(story())


def test_a_schedule_that_never_comes_starts_nothing_and_harms_no_other() -> None:
    async def story() -> None:
        async with running(CronJobController, JobController) as api:
            for name, schedule in (("never", "0 0 30 2 *"), ("often", "* * * * *")):
                spec = {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}}
                await api.client.create(CRONJOBS, {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})
            await Runner(api).rest(130)
            jobs = await names(api, JOBS)
            assert len(jobs) == 2
            assert all(j.startswith("often-") for j in jobs)

    asyncio.run(story())


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_jobs_and_cron_jobs_outlive_a_clock_that_jumps(jump: float) -> None:
    """Forward: one start is made up for, the others are told of; back: nothing is started twice. TTLs go by the new time."""

    async def story() -> None:
        clock, stop = JumpingClock(), asyncio.Event()
        async with ApiServer(clock=clock) as api:
            await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
            work = (JobController, CronJobController, JobTtlController)
            task = asyncio.create_task(run_controllers(api.client, clock, ControllerConfig(), stop, controllers=work))
            runner = Runner(api)
            template = {"spec": job(ttlSecondsAfterFinished=100_000)["spec"]}
            spec = {"schedule": "*/10 * * * *", "jobTemplate": template, "successfulJobsHistoryLimit": 100}
            await api.client.create(CRONJOBS, {"metadata": {"name": "tick", "namespace": "ns"}, "spec": spec})
            await api.client.create(JOBS, job("slow", activeDeadlineSeconds=200_000, completions=2, parallelism=1))

            async def rest(seconds: int) -> None:
                for _ in range(seconds // 5):
                    await clock.advance(5)
                    await runner.tick()

            await rest(900)
            before = await names(api, JOBS)
            assert len(before) == 2
            clock.jump = jump
            await rest(60)
            made = set(await names(api, JOBS)) - set(before)
            assert len(made) == (1 if jump > 0 else 0)
            status = (await api.client.get(JOBS, "slow", "ns"))["status"]
            assert status["succeeded"] == 2
            said = {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
            assert ("TooManyMissedTimes" in said) == (jump > 0)
            stop.set()
            await task

    asyncio.run(story())


def test_a_foreign_set_of_the_name_that_a_deployments_set_would_have() -> None:
    """The hash is counted on (status.collisionCount), and what belongs to somebody else is left alone."""

    async def story() -> None:
        async with running(DeploymentController, ReplicaSetController) as api:
            await api.client.create(DEPLOYMENTS, web(2))
            await api.advance(2)
            (taken,) = await names(api, REPLICASETS)
            await api.client.delete(DEPLOYMENTS, "web", "ns", propagation="Background")
            await api.client.delete(REPLICASETS, taken, "ns")
            labels = {"app": "foreign"}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "y"}]}}
            spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
            foreign = await api.client.create(
                REPLICASETS, {"metadata": {"name": taken, "namespace": "ns"}, "spec": spec}
            )
            await api.client.create(DEPLOYMENTS, web(2))
            await api.advance(5)
            status = (await api.client.get(DEPLOYMENTS, "web", "ns"))["status"]
            assert status["collisionCount"] == 1
            assert status["updatedReplicas"] == 2
            assert len(await names(api, REPLICASETS)) == 2
            now = await api.client.get(REPLICASETS, taken, "ns")
            assert now["metadata"]["uid"] == foreign["metadata"]["uid"]
            assert "ownerReferences" not in now["metadata"]
            assert now["spec"]["template"]["spec"]["containers"][0]["image"] == "y"

    asyncio.run(story())


@pytest.mark.parametrize("deadline", [600, 2**31 - 1])
def test_a_deployment_whose_sets_are_refused_says_so_as_upstream(deadline: int) -> None:
    async def story() -> None:
        async with running(DeploymentController) as api:
            quota = {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"count/replicasets.apps": "0"}}}
            await api.client.create(QUOTAS, quota)
            status = {"status": {"hard": quota["spec"]["hard"], "used": {"count/replicasets.apps": "0"}}}
            await api.client.patch(QUOTAS, "q", "ns", status, subresource="status")
            await api.client.create(DEPLOYMENTS, web(1, progressDeadlineSeconds=deadline))
            await api.advance(2)
            events = (await api.client.list(EVENTS, "ns"))["items"]
            assert {e["reason"] for e in events} == {"ReplicaSetCreateError"}
            assert events[0]["message"].startswith('Failed to create new replica set "web-')
            conds = (await api.client.get(DEPLOYMENTS, "web", "ns"))["status"]["conditions"]
            found = {c["type"]: (c["status"], c["reason"]) for c in conds}
            assert found.get("Progressing") == (None if deadline > 600 else ("False", "ReplicaSetCreateError"))

    asyncio.run(story())
