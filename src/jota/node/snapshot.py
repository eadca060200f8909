"""One look at the runtime for many pods. In: uids. Out: Observed. Concurrent questions share one listing.

A caller is answered by a listing that began after it asked, so what it did before is visible in the answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from jota.net.protocol import PodNetwork
from jota.node.model import Observed
from jota.runtime.protocol import Container, Runtime, Sandbox

UNKNOWN_EXIT = 137


class Snapshots:
    def __init__(self, runtime: Runtime, network: PodNetwork, group: asyncio.TaskGroup) -> None:
        self._runtime, self._network, self._group = runtime, network, group
        self._next: asyncio.Task[dict[str, Observed] | Exception] | None = None
        self._turn = asyncio.Lock()

    async def of(self, uid: str) -> Observed:
        found = (await self.all()).get(uid) or Observed()
        return Observed(found.sandboxes, found.containers, self._network.addresses().get(uid, ""))

    async def all(self) -> dict[str, Observed]:
        """Everything that exists, by pod uid. Raises what the runtime raised (RuntimeFault, OSError)."""
        if self._next is None:
            self._next = self._group.create_task(self._list(), name="list containers")
        outcome = await asyncio.shield(self._next)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _list(self) -> dict[str, Observed] | Exception:
        """The listing; a failure is handed to those who asked, and must not end the task group of the whole agent."""
        async with self._turn:
            self._next = None
            try:
                return await self._read()
            except Exception as e:
                return e

    async def _read(self) -> dict[str, Observed]:
        out: dict[str, Observed] = {}
        containers: list[Container] = await self._runtime.containers()
        sandboxes: list[Sandbox] = await self._runtime.sandboxes()
        for c in containers:
            out.setdefault(c.pod_uid, Observed()).containers.append(_settled(c))
        for s in sandboxes:
            out.setdefault(s.spec.pod_uid, Observed()).sandboxes.append(s)
        return out


def _settled(c: Container) -> Container:
    """A container that the runtime lost track of has ended, and not well (a reboot, a killed supervisor)."""
    if c.state != "unknown":
        return c
    return replace(
        c,
        state="exited",
        exit_code=c.exit_code or UNKNOWN_EXIT,
        reason=c.reason or "ContainerStatusUnknown",
        finished_at=c.finished_at or c.started_at or c.created_at,
    )
