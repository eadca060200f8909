"""A crash between any two API calls of the job controllers ends the same, with exact counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jota.controllers.job import JobController
from jota.controllers.job_pods import JOBS
from jota.meta.resource import NAMESPACES, PODS
from jota.testing.cluster import ApiServer

from .runner import Runner, index_of, job, reasons
from .test_crash_at_every_step import Process

Object = dict[str, Any]
Body = Callable[[], Object]


def plain() -> Object:
    return job(completions=3, parallelism=2)


def indexed() -> Object:
    return job(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1)


async def told(body: Body, at: int, after: bool) -> tuple[Any, bool]:
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        process, runner = Process(api, at, after, (JobController,)), Runner(api)
        failed: set[str] = set()

        def outcome(pod: Object) -> int:
            """Each index (or the job) fails once."""
            which = str(index_of(pod)) if "annotations" in pod["metadata"] else "any"
            first = which not in failed
            failed.add(which)
            return int(first)

        runner.outcome = outcome  # type: ignore[method-assign]
        await api.client.create(JOBS, body())
        try:
            for _ in range(6):
                await runner.rest(15)
                await process.revive()
            got = await api.client.get(JOBS, "work", "ns")
            pods = (await api.client.list(PODS, "ns"))["items"]
        finally:
            await process.end()
        status = got["status"]
        counts = {k: status.get(k) for k in ("succeeded", "failed", "active", "uncountedTerminatedPods")}
        end = {"reasons": reasons(got), "counts": counts, "pods": len(pods), "indexes": status.get("completedIndexes")}
        return {**end, "held": sum(bool(p["metadata"].get("finalizers")) for p in pods)}, process.died


@pytest.mark.fault
@pytest.mark.parametrize("body", [plain, indexed])
@pytest.mark.parametrize("after", [False, True])
def test_counts_are_exact_wherever_the_process_dies(body: Body, after: bool) -> None:
    async def tell() -> None:
        wanted, _ = await told(body, -1, False)
        assert wanted["held"] == 0
        assert wanted["counts"]["failed"] == (1 if body is plain else 3)
        deaths = 0
        for at in range(1, 100):
            end, died = await told(body, at, after)
            assert end == wanted, f"died at write {at} ({'after' if after else 'before'} it)"
            if not died:
                break
            deaths += 1
        assert deaths > 10

    asyncio.run(tell())
