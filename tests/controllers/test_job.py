"""Job: stories on the real API server in virtual time; each tier-1 behaviour of upstream's application tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jota.controllers import job_indexes
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.job import JobController
from jota.controllers.job_pods import FINALIZER, JOBS
from jota.controllers.jobttl import JobTtlController
from jota.meta.resource import EVENTS, PODS
from jota.testing.cluster import ApiServer

from .runner import Runner, index_of, job, reasons
from .stories import exists, names, running

Object = dict[str, Any]
Exit = Callable[[Object], int | None]


def told(story: Callable[[ApiServer, Runner], Awaitable[None]], outcome: Exit = lambda _: 0) -> None:
    async def run() -> None:
        async with running(JobController, JobTtlController, GarbageCollector) as api:
            runner = Runner(api)
            runner.outcome = outcome  # type: ignore[method-assign]
            await story(api, runner)

    asyncio.run(run())


async def ended(api: ApiServer, runner: Runner, body: Object, seconds: float = 60.0) -> Object:
    await api.client.create(JOBS, body)
    await runner.rest(seconds)
    return await api.client.get(JOBS, "work", "ns")


async def pods(api: ApiServer) -> list[Object]:
    return list((await api.client.list(PODS, "ns"))["items"])


def test_a_job_runs_to_completion() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(completions=4, parallelism=2))
        status = got["status"]
        assert reasons(got) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
        assert status["succeeded"] == 4
        assert (status["ready"], status["terminating"]) == (0, 0)
        assert status["uncountedTerminatedPods"] == {}
        assert status["completionTime"] >= status["startTime"]
        assert all(c["lastProbeTime"] >= c["lastTransitionTime"] for c in status["conditions"])
        found = await pods(api)
        assert len(found) == 4
        assert not any(p["metadata"].get("finalizers") for p in found)
        assert all(p["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "work" for p in found)
        told_ = {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}
        assert {"SuccessfulCreate", "Completed"} <= told_

    told(story)


def test_indexed_pods_know_their_index() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(completions=4, parallelism=2, completionMode="Indexed"))
        assert got["status"]["completedIndexes"] == "0-3"
        found = await pods(api)
        assert sorted(index_of(p) for p in found) == [0, 1, 2, 3]
        one = next(p for p in found if index_of(p) == 2)
        assert one["spec"]["hostname"] == "work-2"
        assert one["metadata"]["generateName"] == "work-2-"
        assert "JOB_COMPLETION_INDEX" in [e["name"] for e in one["spec"]["containers"][0]["env"]]

    told(story)


def test_failures_are_retried_with_growing_delays_until_the_backoff_limit() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        start = api.clock.now()
        got = await ended(api, runner, job(backoffLimit=2), 9)
        assert got["status"]["failed"] == 1
        assert got["status"].get("active", 0) == 0, "the first replacement waits ten seconds"
        await runner.rest(6)
        assert len(await pods(api)) == 2
        await runner.rest(40)
        got = await api.client.get(JOBS, "work", "ns")
        assert reasons(got)["Failed"] == "BackoffLimitExceeded"
        assert got["status"]["failed"] == 3
        assert api.clock.now() - start > 30

    told(story, lambda _: 1)


def test_indexes_fail_one_by_one_with_a_backoff_limit_per_index() -> None:
    """should execute all indexes despite some failing when using backoffLimitPerIndex"""

    async def story(api: ApiServer, runner: Runner) -> None:
        body = job(completions=4, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=1)
        got = await ended(api, runner, body, 120)
        assert got["status"]["failedIndexes"] == "0,2"
        assert got["status"]["completedIndexes"] == "1,3"
        assert (got["status"]["failed"], got["status"]["succeeded"]) == (4, 2)
        assert reasons(got) == {"FailureTarget": "FailedIndexes", "Failed": "FailedIndexes"}

    told(story, lambda pod: int(index_of(pod) % 2 == 0))


def test_max_failed_indexes_ends_the_job_and_its_running_pods() -> None:
    """should terminate job execution when the number of failed indexes exceeds maxFailedIndexes"""

    async def story(api: ApiServer, runner: Runner) -> None:
        body = job(completions=4, parallelism=4, completionMode="Indexed", backoffLimitPerIndex=0, maxFailedIndexes=0)
        got = await ended(api, runner, body)
        assert reasons(got)["Failed"] == "MaxFailedIndexesExceeded"
        assert got["status"]["failedIndexes"] == "0"
        assert got["status"]["failed"] == 4
        assert got["status"].get("active", 0) == 0

    told(story, lambda pod: 1 if index_of(pod) == 0 else None)


def test_fail_index_by_policy_spares_the_retries() -> None:
    """should mark indexes as failed when the FailIndex action is matched in podFailurePolicy"""
    policy = {"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}

    async def story(api: ApiServer, runner: Runner) -> None:
        body = job(completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=5)
        got = await ended(api, runner, {**body, "spec": {**body["spec"], "podFailurePolicy": policy}})
        assert got["status"]["failedIndexes"] == "0"
        assert got["status"]["failed"] == 1
        assert reasons(got)["Failed"] == "FailedIndexes"

    told(story, lambda pod: 42 if index_of(pod) == 0 else 0)


def test_fail_job_by_policy_names_the_container_and_the_rule() -> None:
    """should allow to use the pod failure policy on exit code to fail the job early"""
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [7], "containerName": "c"}}

    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(podFailurePolicy={"rules": [rule]}))
        assert reasons(got)["Failed"] == "PodFailurePolicy"
        message = next(c["message"] for c in got["status"]["conditions"] if c["type"] == "Failed")
        assert message.startswith("Container c for pod ns/work-")
        assert message.endswith("failed with exit code 7 matching FailJob rule at index 0")
        assert len(await pods(api)) == 1

    told(story, lambda _: 7)


def test_evicted_pods_can_be_ignored() -> None:
    """should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition"""
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}

    async def story(api: ApiServer, runner: Runner) -> None:
        done = False
        runner.outcome = lambda _: 0 if done else None  # type: ignore[method-assign]
        got = await ended(api, runner, job(backoffLimit=0, podFailurePolicy={"rules": [rule]}), 5)
        assert got["status"]["ready"] == 1
        (pod,) = await pods(api)
        target = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
        await runner.finish(pod, 137, conditions=target)
        done = True
        await runner.rest(40)
        got = await api.client.get(JOBS, "work", "ns")
        assert reasons(got)["Complete"] == "CompletionsReached"
        assert got["status"].get("failed", 0) == 0

    told(story)


def test_the_success_policy_ends_the_job_early() -> None:
    """with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending"""
    policy = {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}

    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(
            api, runner, job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy)
        )
        assert reasons(got) == {"SuccessCriteriaMet": "SuccessPolicy", "Complete": "SuccessPolicy"}
        assert got["status"]["completedIndexes"] == "0"
        assert got["status"]["terminating"] == 0
        assert got["status"].get("active", 0) == 0

    told(story, lambda pod: 0 if index_of(pod) == 0 else None)


def test_a_suspended_job_has_no_pods_and_resumes_with_a_new_start_time() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(suspend=True), 2)
        assert reasons(got) == {"Suspended": "JobSuspended"}
        assert not await pods(api)
        assert "startTime" not in got["status"]
        await api.client.patch(JOBS, "work", "ns", {"spec": {"suspend": False}})
        await runner.rest(3)
        got = await api.client.get(JOBS, "work", "ns")
        (pod,) = await pods(api)
        assert got["status"]["startTime"]
        await api.client.patch(JOBS, "work", "ns", {"spec": {"suspend": True}})
        await runner.rest(3)
        assert not await pods(api)
        got = await api.client.get(JOBS, "work", "ns")
        assert got["status"].get("failed", 0) == 0, "a pod removed by suspension is no failure"
        assert pod["metadata"]["finalizers"] == [FINALIZER]

    told(story, lambda _: None)


def test_the_active_deadline_fails_the_job() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(activeDeadlineSeconds=5), 12)
        assert reasons(got) == {"FailureTarget": "DeadlineExceeded", "Failed": "DeadlineExceeded"}
        assert got["status"]["failed"] == 1
        assert not await pods(api)

    told(story, lambda _: None)


def test_a_finished_job_is_removed_after_its_ttl() -> None:
    """should remove pods after the ttl, with the job"""

    async def story(api: ApiServer, runner: Runner) -> None:
        got = await ended(api, runner, job(ttlSecondsAfterFinished=20), 10)
        assert reasons(got)["Complete"]
        await runner.rest(30)
        assert not await exists(api, JOBS, "work", "ns")
        assert not await pods(api)

    told(story)


def test_matching_orphans_are_adopted_and_non_matching_pods_released() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await ended(api, runner, job(parallelism=2, completions=2), 3)
        first, _ = await pods(api)
        name = first["metadata"]["name"]
        await api.client.patch(PODS, name, "ns", {"metadata": {"ownerReferences": None}})
        await runner.rest(3)
        back = await api.client.get(PODS, name, "ns")
        assert back["metadata"]["ownerReferences"][0]["controller"]
        assert back["metadata"]["finalizers"] == [FINALIZER]
        await api.client.patch(PODS, name, "ns", {"metadata": {"labels": None}})
        await runner.rest(3)
        free = await api.client.get(PODS, name, "ns")
        assert not free["metadata"].get("ownerReferences")
        assert not free["metadata"].get("finalizers")
        assert len(await names(api, PODS)) == 3

    told(story, lambda _: None)


def test_a_running_pod_that_lost_its_finalizer_is_tracked_again() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await ended(api, runner, job(), 3)
        (pod,) = await pods(api)
        name = pod["metadata"]["name"]
        await api.client.patch(PODS, name, "ns", {"metadata": {"finalizers": None}})
        await runner.rest(2)
        assert (await api.client.get(PODS, name, "ns"))["metadata"]["finalizers"] == [FINALIZER]

    told(story, lambda _: None)


def test_deleting_a_job_sets_its_pods_free() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await ended(api, runner, job(), 3)
        await api.client.delete(JOBS, "work", "ns", propagation="Background")
        await runner.rest(10)
        assert not await pods(api)
        await ended(api, runner, job(), 3)
        await api.client.delete(JOBS, "work", "ns", propagation="Orphan")
        await runner.rest(10)
        (left,) = await pods(api)
        assert not left["metadata"].get("finalizers")

    told(story, lambda _: None)


def test_replacements_wait_for_the_end_with_the_policy_failed() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await ended(api, runner, job(podReplacementPolicy="Failed"), 3)
        (pod,) = await pods(api)
        await api.client.delete(PODS, pod["metadata"]["name"], "ns")
        await api.advance(30)
        assert len(await pods(api)) == 1
        got = await api.client.get(JOBS, "work", "ns")
        assert (got["status"]["terminating"], got["status"].get("active", 0)) == (1, 0)

    told(story, lambda _: None)


def test_parallelism_can_be_changed_while_the_job_runs() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await ended(api, runner, job(parallelism=4, completions=8), 3)
        await api.client.patch(JOBS, "work", "ns", {"spec": {"parallelism": 1}})
        await runner.rest(5)
        got = await api.client.get(JOBS, "work", "ns")
        assert got["status"]["active"] == len(await pods(api)) == 1
        assert got["status"].get("failed", 0) == 0

    told(story, lambda _: None)


@given(st.sets(st.integers(0, 60)))
def test_index_texts_round_trip(indexes: set[int]) -> None:
    assert job_indexes.parse(job_indexes.render(indexes), 61) == indexes


def test_index_texts_are_written_as_upstream_does() -> None:
    assert job_indexes.render({1, 3, 4, 5, 7}) == "1,3-5,7"
    assert job_indexes.render({0, 1}) == "0,1"
    assert job_indexes.parse("1,x,3-5,9-", 5) == {1, 3, 4}
