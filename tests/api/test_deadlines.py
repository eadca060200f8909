"""Requests have a deadline, except those that are meant to last; a duration is read as Go reads it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.deadline import within
from jota.api.filters.attributes import User
from jota.meta.duration import parse
from jota.testing.cluster import ApiServer, Watching, story
from jota.wire.step import first_step

CM = "/api/v1/namespaces/default/configmaps"
ALICE = User("alice", groups=("system:authenticated",))


def stuck(api: ApiServer) -> None:
    """Nothing becomes durable any more."""

    async def put(key: str, value: bytes, *, expect: int | None = None, **more: Any) -> Any:
        await asyncio.Event().wait()

    api.api.engine.store.put = put  # type: ignore[method-assign]


@story
async def test_a_write_that_takes_longer_than_its_timeout_is_answered_504(api: ApiServer) -> None:
    stuck(api)
    for user in (ALICE, None):
        asked = {"user": user} if user else {}
        late = await api.request("POST", CM, {"metadata": {"name": "x"}}, query="timeout=20ms", **asked)  # type: ignore[arg-type]
        assert late.status == 504
        status = orjson.loads(late.body)  # type: ignore[arg-type]
        assert status["reason"] == "Timeout"
        assert status["message"] == "Timeout: request did not complete within the allotted timeout"
    for level in api.api.flows.levels.values():
        assert (level.used, level.executing) == (0, 0)


@story
async def test_without_a_timeout_the_servers_own_counts(api: ApiServer) -> None:
    stuck(api)
    api.api.config.request_timeout = 0.02
    for query in ("", "timeout=1h", "timeout=0s"):
        late = await api.request("POST", CM, {"metadata": {"name": "x"}}, query=query)
        assert late.status == 504, query


@story
async def test_a_timeout_that_is_no_duration_is_refused(api: ApiServer) -> None:
    refused = await api.request("GET", CM, query="timeout=soon")
    assert refused.status == 400
    assert b"invalid timeout specified in the request URL" in refused.body  # type: ignore[operator]


@story
async def test_a_watch_outlives_every_deadline(api: ApiServer) -> None:
    api.api.config.request_timeout = 0.001
    async with Watching(api, f"{CM}?watch=1&timeoutSeconds=600&timeout=1ms") as watching:
        await asyncio.sleep(0.01)
        await api.advance(300)
        assert not watching.ended
        await api.advance(301)
        assert watching.ended


@pytest.mark.parametrize("stepped", [False, True], ids=["task", "first step outside a task"])
def test_what_never_waits_needs_no_timer_and_what_waits_is_stopped(stepped: bool) -> None:
    seen: list[str] = []

    async def quick() -> str:
        return "done"

    async def late() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def falls(after: float) -> None:
        await asyncio.sleep(after)
        raise LookupError

    async def run(coro: Any) -> Any:
        return await within(0.01, coro)

    async def outside(coro: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not stepped:
            return await run(coro)
        begun: asyncio.Future[Any] = loop.create_future()

        def begin() -> None:
            try:
                begun.set_result(first_step(run(coro), loop))
            except BaseException as error:
                begun.set_exception(error)

        loop.call_soon(begin)
        found = await begun
        return await found if isinstance(found, asyncio.Task) else found

    async def main() -> None:
        assert await outside(quick()) == "done"
        with pytest.raises(TimeoutError):
            await outside(late())
        assert seen == ["cancelled"]
        with pytest.raises(LookupError):
            await outside(falls(0))
        task = asyncio.ensure_future(run(late()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cancelled"] * 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90), ("1.5h", 5400), ("20ms", 0.02), ("-.5s", -0.5), ("0", 0), ("+2s", 2)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse(text) == pytest.approx(seconds)


@given(st.text(max_size=80))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text), float)
    except ValueError as error:
        assert "invalid duration" in str(error)
