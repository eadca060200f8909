"""Tokens in Secrets that nobody uses: marked invalid after a year, deleted after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from jota.client.informers import Informers
from jota.controllers.controller import Context, ControllerConfig
from jota.controllers.legacytokencleaner import DAY, LegacyTokenCleaner
from jota.kinds.core.legacytoken import INVALID_SINCE, LAST_USED, TRACKING, day
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS, SECRETS, SERVICEACCOUNTS
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock

from .stories import exists

Object = dict[str, Any]


async def secret(api: ApiServer, name: str, account: str = "robot", labels: Object | None = None) -> None:
    meta = {"name": name, "annotations": {"kubernetes.io/service-account.name": account}, "labels": labels or {}}
    body = {"metadata": meta, "type": "kubernetes.io/service-account-token"}
    await api.client.create(SECRETS, {**body, "data": {"token": "eA=="}}, "ns")


async def robot(api: ApiServer, *secrets: str) -> None:
    named = [{"name": name} for name in secrets]
    await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}, "secrets": named}, "ns")


async def invalid(api: ApiServer, name: str) -> str:
    labels = (await api.client.get(SECRETS, name, "ns"))["metadata"].get("labels") or {}
    return str(labels.get(INVALID_SINCE, ""))


class Calendar(VirtualClock):
    """Days pass here alone: what the API does every few seconds need not be done for years."""

    days = 0.0

    def now(self) -> float:
        return super().now() + self.days * DAY


@asynccontextmanager
async def cleaning() -> AsyncIterator[tuple[ApiServer, Calendar, Callable[[float], Awaitable[None]]]]:
    """An API server, the calendar, and what lets days pass until the next sweep."""
    async with ApiServer() as api:
        await api.client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        calendar = Calendar(api.clock.now())
        since = {"metadata": {"name": TRACKING}, "data": {"since": day(calendar.now())}}
        await api.client.create(CONFIGMAPS, since, "kube-system")
        random = Random(7)
        context = Context(api.client, calendar, ControllerConfig(), Informers(api.client, calendar, random), random)
        cleaner = LegacyTokenCleaner(context)

        async def passing(days: float) -> None:
            calendar.days += days
            await cleaner.sweep()

        yield api, calendar, passing


def test_a_year_and_then_another() -> None:
    async def story() -> None:
        async with cleaning() as (api, calendar, passing):
            await robot(api, "own", "mounted", "used", "odd")
            for name in ("own", "mounted", "used", "by-hand"):
                await secret(api, name)
            await secret(api, "odd", labels={LAST_USED: "yesterday"})
            volume = {"name": "t", "secret": {"secretName": "mounted"}}
            spec = {"containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
            await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "ns")
            await passing(365)
            assert not await invalid(api, "own"), "the first day of noting may have been half over"
            used = {"metadata": {"labels": {LAST_USED: day(calendar.now())}}}
            await api.client.patch(SECRETS, "used", "ns", used)
            await passing(3)
            assert await invalid(api, "own")
            for name in ("mounted", "used", "odd", "by-hand"):
                assert not await invalid(api, name)
            await passing(364)
            assert await exists(api, SECRETS, "own", "ns")
            await passing(4)
            assert not await exists(api, SECRETS, "own", "ns")
            assert await invalid(api, "used"), "a year after its last use"

    asyncio.run(story())


def test_nothing_ends_while_it_is_unknown_since_when_uses_are_noted() -> None:
    async def story() -> None:
        async with cleaning() as (api, calendar, passing):
            await robot(api, "own")
            await secret(api, "own")
            calendar.days += 300
            later = {"data": {"since": day(calendar.now())}}
            await api.client.patch(CONFIGMAPS, TRACKING, "kube-system", later)
            await passing(100)
            assert not await invalid(api, "own")
            await api.client.delete(CONFIGMAPS, TRACKING, "kube-system")
            await passing(270)
            assert not await invalid(api, "own")
            await api.client.create(CONFIGMAPS, {"metadata": {"name": TRACKING}, **later}, "kube-system")
            await passing(1)
            assert await invalid(api, "own")

    asyncio.run(story())


@pytest.mark.parametrize("account", ["nobody", "robot"])
def test_an_account_that_is_gone_or_another_names_nothing(account: str) -> None:
    async def story() -> None:
        async with cleaning() as (api, _, passing):
            await robot(api, "own")
            await secret(api, "own", account)
            other = {"metadata": {"annotations": {"kubernetes.io/service-account.uid": "another"}}}
            await api.client.patch(SECRETS, "own", "ns", other)
            await passing(370)
            assert not await invalid(api, "own")

    asyncio.run(story())
