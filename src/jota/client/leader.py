"""Leader election on a Lease: at most one of many candidates runs its work at a time.

In: a Lease name and an identity. Out: `lead(work)` runs `work` while this process holds the Lease and cancels it when
the Lease may have passed on. Safety rests on durations, never on comparing clocks of two machines: a follower counts
from when it itself saw the Lease change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from jota.aio.clock import Clock, rfc3339_micro
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import LEASES

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LeaderElector:
    """One candidate. Seconds as upstream's: the leader gives up after `renew_deadline` without a renewal."""

    client: Client
    clock: Clock
    name: str
    identity: str
    random: Random
    namespace: str = "kube-system"
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    leading: bool = False
    _seen: tuple[str, str, float] = ("", "", 0.0)
    """(holder, renewTime, monotonic time at which we first saw this pair)."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership, run `work`, give the Lease back. Returns when `work` ends or leadership is lost."""
        while not await self._try_hold():
            await self.clock.sleep(self.retry_period * (1 + 0.2 * self.random.random()))
        log.info("%s leads %s", self.identity, self.name)
        self.leading = True
        running = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait({running, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leading = False
            for task in (running, renewing):
                task.cancel()
            await asyncio.wait({running, renewing})
        lost = not renewing.cancelled()
        if not lost:
            await self._release()
        if not running.cancelled():
            running.result()

    async def _renew(self) -> None:
        """Renew until that failed for `renew_deadline`; then return: leadership is lost."""
        last = self.clock.monotonic()
        while self.clock.monotonic() - last < self.renew_deadline:
            await self.clock.sleep(self.retry_period)
            try:
                async with asyncio.timeout(self.renew_deadline):
                    held = await self._try_hold()
            except TimeoutError:
                held = False
            if held:
                last = self.clock.monotonic()
        log.warning("%s lost %s", self.identity, self.name)

    async def _try_hold(self) -> bool:
        try:
            return await self._hold()
        except (ApiError, ConnectionError, TimeoutError) as e:
            log.info("lease %s: %s", self.name, e)
            return False

    async def _hold(self) -> bool:
        """Create, take over or renew the Lease; True when it is ours after this call."""
        now = self.clock.now()
        try:
            lease = await self.client.get(LEASES, self.name, self.namespace)
        except ApiError as e:
            if e.code != 404:
                raise
            await self.client.create(LEASES, self._new(now))
            return True
        spec = lease.setdefault("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.identity and not self._expired(holder, spec):
            return False
        if holder != self.identity:
            spec["acquireTime"] = rfc3339_micro(now)
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + 1
        spec.update(holderIdentity=self.identity, renewTime=rfc3339_micro(now), leaseDurationSeconds=self._duration())
        await self.client.update(LEASES, lease)  # its resourceVersion makes this a compare-and-swap
        return True

    def _expired(self, holder: str, spec: dict[str, Any]) -> bool:
        renewed = str(spec.get("renewTime"))
        if self._seen[:2] != (holder, renewed):
            self._seen = (holder, renewed, self.clock.monotonic())
        duration = spec.get("leaseDurationSeconds") or self.lease_duration
        return self.clock.monotonic() - self._seen[2] > duration

    async def _release(self) -> None:
        """Let the next candidate in without waiting for the Lease to run out."""
        try:
            lease = await self.client.get(LEASES, self.name, self.namespace)
            if lease.get("spec", {}).get("holderIdentity") == self.identity:
                lease["spec"].update(holderIdentity="", leaseDurationSeconds=1)
                await self.client.update(LEASES, lease)
        except (ApiError, ConnectionError, TimeoutError) as e:
            log.info("lease %s was not given back: %s", self.name, e)

    def _new(self, now: float) -> dict[str, Any]:
        stamp = rfc3339_micro(now)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._duration(),
                "acquireTime": stamp,
                "renewTime": stamp,
                "leaseTransitions": 0,
            },
        }

    def _duration(self) -> int:
        return int(self.lease_duration)
