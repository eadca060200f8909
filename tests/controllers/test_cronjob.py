"""CronJob: the schedule as tables and a property against a naive search; the controller as stories."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.controllers import cron
from jota.controllers.cronjob import CRONJOBS, CronJobController, plan
from jota.controllers.garbagecollector import GarbageCollector
from jota.controllers.job import JobController
from jota.controllers.job_pods import JOBS
from jota.meta.resource import EVENTS
from jota.testing.cluster import ApiServer

from .runner import Runner, job
from .stories import names, running

Object = dict[str, Any]


def epoch(text: str, zone: Any = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("schedule", "since", "following"),
    [
        ("*/1 * * * ?", "2026-01-01 00:00:00", "2026-01-01 00:01"),
        ("*/20 9-17 * * mon-fri", "2026-01-02 17:41:00", "2026-01-05 09:00"),
        ("5/15 * * * *", "2026-01-01 00:21:00", "2026-01-01 00:35"),
        ("0 0 29 FEB *", "2026-01-01 00:00:00", "2028-02-29 00:00"),
        ("0 0 1,15 * sun", "2026-01-01 00:00:00", "2026-01-04 00:00"),
        ("0 0 1 * *", "2026-12-15 00:00:00", "2027-01-01 00:00"),
        ("0 12 * * 7", "2026-01-01 00:00:00", "2026-01-04 12:00"),
        ("@hourly", "2026-01-01 00:59:59", "2026-01-01 01:00"),
        ("@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00"),
    ],
)
def test_the_next_time(schedule: str, since: str, following: str) -> None:
    assert cron.parse(schedule).after(epoch(since)) == epoch(following)


def test_a_time_that_never_comes_and_durations() -> None:
    assert cron.parse("0 0 30 2 *").after(0) is None
    assert cron.parse("@every 1h30m").after(10.5) == 10 + 5400


@pytest.mark.parametrize(
    "text", ["", "* * * *", "61 * * * *", "*/0 * * * *", "@often", "a b c d e", "5-1 * * * *", "TZ=UTC * * * * *"]
)
def test_nonsense_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        cron.parse(text)


def test_zones_and_their_leaps() -> None:
    seoul, berlin = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/Berlin")
    assert cron.parse("0 9 * * *", seoul).after(epoch("2026-01-01 00:00")) == epoch("2026-01-02 00:00")
    # 2026-03-29 02:30 does not exist in Berlin.
    after = cron.parse("30 2 * * *", berlin).after(epoch("2026-03-28 12:00"))
    assert after == epoch("2026-03-30 02:30", berlin)


field = st.sampled_from(["*", "0", "7", "*/7", "3-20", "1,5,9", "*/11"])


@settings(max_examples=60, deadline=None)
@given(field, st.sampled_from(["*", "0", "5", "*/5", "8-17"]), st.integers(0, 10**8))
def test_it_agrees_with_looking_at_every_minute(minute: str, hour: str, since: int) -> None:
    schedule = cron.parse(f"{minute} {hour} * * *")
    assert isinstance(schedule, cron.Table)
    at = datetime.fromtimestamp(since - since % 60, UTC) + timedelta(minutes=1)
    while at.minute not in schedule.minutes or at.hour not in schedule.hours:
        at += timedelta(minutes=1)
    assert schedule.after(since) == at.timestamp()


def test_the_last_missed_time_is_found_however_long_ago_the_first_was() -> None:
    now = epoch("2026-06-01 00:00:30")
    assert cron.last_missed(cron.parse("* * * * *"), 0, now) == (epoch("2026-06-01 00:00"), int(now - 60) // 60 + 1)
    assert cron.last_missed(cron.parse("0 0 1 * *"), epoch("2025-01-15 00:00"), now)[0] == epoch("2026-06-01 00:00")
    assert cron.last_missed(cron.parse("* * * * *"), now, now)[0] is None


def test_a_clock_that_went_back_starts_nothing() -> None:
    owner = {
        "metadata": {"name": "tick", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {}},
        "status": {"lastScheduleTime": "2026-01-02T00:00:00Z"},
    }
    decided = plan(owner, [], epoch("2026-01-01 12:00:00"))
    assert decided.start is None
    assert decided.again == pytest.approx(30)


# -- stories


def tick(schedule: str = "*/1 * * * ?", **spec: Any) -> Object:
    template = {"spec": job()["spec"], "metadata": {"labels": {"made": "by-cron"}}}
    return {
        "metadata": {"name": "tick", "namespace": "ns"},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


def told(story: Callable[[ApiServer, Runner], Awaitable[None]], code: int | None = 0) -> None:
    async def run() -> None:
        async with running(JobController, CronJobController, GarbageCollector) as api:
            runner = Runner(api)
            runner.outcome = lambda _: code  # type: ignore[method-assign]
            await story(api, runner)

    asyncio.run(run())


async def said(api: ApiServer) -> set[str]:
    return {e["reason"] for e in (await api.client.list(EVENTS, "ns"))["items"]}


def test_jobs_are_made_each_minute_and_history_is_kept_short() -> None:
    """should schedule multiple jobs concurrently; should delete successful finished jobs with limit"""

    async def story(api: ApiServer, runner: Runner) -> None:
        await api.client.create(CRONJOBS, tick(successfulJobsHistoryLimit=2, timeZone="Asia/Seoul"))
        await runner.rest(270)
        jobs = (await api.client.list(JOBS, "ns"))["items"]
        assert len(jobs) == 2
        one = jobs[0]
        assert one["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
        assert one["metadata"]["labels"]["made"] == "by-cron"
        assert one["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].endswith("+09:00")
        status = (await api.client.get(CRONJOBS, "tick", "ns"))["status"]
        assert not status.get("active")
        assert status["lastSuccessfulTime"] >= status["lastScheduleTime"]
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= await said(api)

    told(story)


def test_a_schedule_whose_time_never_comes_is_told_and_starts_nothing() -> None:
    owner = tick("59 23 31 2 *")
    owner["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    decided = plan(owner, [], epoch("2026-03-01 00:00:00"))
    why = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"
    assert decided.events == [("Warning", "InvalidSchedule", why)]
    assert decided.start is None


def test_forbid_starts_no_second_job() -> None:
    """should not schedule new jobs when ForbidConcurrent"""

    async def story(api: ApiServer, runner: Runner) -> None:
        await api.client.create(CRONJOBS, tick(concurrencyPolicy="Forbid"))
        await runner.rest(200)
        assert len(await names(api, JOBS)) == 1
        status = (await api.client.get(CRONJOBS, "tick", "ns"))["status"]
        assert [r["name"] for r in status["active"]] == await names(api, JOBS)
        assert "JobAlreadyActive" in await said(api)

    told(story, None)


def test_replace_ends_the_running_job() -> None:
    """should replace jobs when ReplaceConcurrent"""

    async def story(api: ApiServer, runner: Runner) -> None:
        await api.client.create(CRONJOBS, tick(concurrencyPolicy="Replace"))
        await runner.rest(70)
        first = await names(api, JOBS)
        await runner.rest(60)
        second = await names(api, JOBS)
        assert len(first) == len(second) == 1
        assert first != second

    told(story, None)


def test_a_suspended_cron_job_starts_nothing() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await api.client.create(CRONJOBS, tick(suspend=True))
        await runner.rest(130)
        assert not await names(api, JOBS)

    told(story)


def test_after_a_long_pause_only_the_latest_time_is_made_up_for() -> None:
    async def story(api: ApiServer, runner: Runner) -> None:
        await api.client.create(CRONJOBS, tick(suspend=True, startingDeadlineSeconds=90))
        await api.advance(7200)
        await api.client.patch(CRONJOBS, "tick", "ns", {"spec": {"suspend": False}})
        await api.advance(5)
        assert len(await names(api, JOBS)) == 1

    told(story, None)


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
def test_a_job_made_by_hand_is_left_alone_and_stands_in_nobodys_way(policy: str) -> None:
    """kubectl create job --from=cronjob/tick: upstream's policies know what is in status.active alone."""

    async def story(api: ApiServer, runner: Runner) -> None:
        owner = await api.client.create(CRONJOBS, tick(concurrencyPolicy=policy))
        reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": owner["metadata"]["uid"]}
        made = job()
        made["metadata"] = {"name": "manual", "namespace": "ns", "ownerReferences": [{**reference, "controller": True}]}
        by_hand = await api.client.create(JOBS, made)
        await runner.rest(70)
        found = {j["metadata"]["name"]: j["metadata"]["uid"] for j in (await api.client.list(JOBS, "ns"))["items"]}
        assert len(found) == 2, "the scheduled one, and the other"
        assert found["manual"] == by_hand["metadata"]["uid"]
        status = (await api.client.get(CRONJOBS, "tick", "ns"))["status"]
        assert [r["name"] for r in status["active"]] == [n for n in found if n != "manual"]
        events = (await api.client.list(EVENTS, "ns"))["items"]
        odd = [e for e in events if e["reason"] == "UnexpectedJob"]
        assert [e["message"] for e in odd] == ["Saw a job that the controller did not create or forgot: manual"]
        assert odd[0].get("count", 1) == 1, "said once, not at every look"

    told(story, None)


def test_a_start_that_is_too_late_is_told_as_upstream_tells_it() -> None:
    owner = tick("0 12 * * *", startingDeadlineSeconds=60)
    owner["metadata"] |= {"uid": "u", "creationTimestamp": "2026-06-01T11:00:00Z"}
    decided = plan(owner, [], epoch("2026-06-01 12:30"))
    assert decided.start is None
    text = "Missed scheduled time to start a job: Mon, 01 Jun 2026 12:00:00 +0000"
    assert decided.events == [("Warning", "MissSchedule", text)]
