"""Pods that extenders want to be asked about: one after the other, beside the scheduler's loop, which goes on meanwhile.

A pod is taken out of the queue, judged by the plugins (where may it go now), then by the extenders, which takes its time, and
then decided as any other pod: on the nodes that the extenders left, as they are by then. As upstream's scheduler, this one asks
about one pod at a time, so that an extender's own accounts can follow. A pod that changes or goes meanwhile is let go of.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

import numpy as np

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import PODS
from jota.scheduler.extender import ExtenderFailed, Object
from jota.scheduler.extenders import Extenders, Verdict
from jota.scheduler.pod import Pod, Shape
from jota.scheduler.preemption import Candidate
from jota.scheduler.queue import Waiting
from jota.scheduler.snapshot import Column, Mask, Snapshot

NAME = "extender"
"""In tables of refusals, where plugins stand by their names."""
_TRIES = 3
"""How often a pod is judged anew at once when the nodes that were left filled up meanwhile."""
Refusals = dict[str, dict[str, int]]


class Hands(Protocol):
    """What the scheduler does for such a pod as for any. Nothing waits but what is a coroutine."""

    def feasible(self, waiting: Waiting) -> Mask: ...

    def place(self, waiting: Waiting, within: Mask, extra: Column) -> str:
        """The node; the pod is assumed there, with what it needs. "" when it fits nowhere there now."""
        ...

    async def carry_out(self, waiting: Waiting, node: str) -> None: ...

    def candidates(self, waiting: Waiting, within: Mask, *, every: bool) -> tuple[list[Candidate], str]:
        """The best room that others could make, or `every` one; or why there is none."""
        ...

    def refuse_one(
        self, waiting: Waiting, refusals: Refusals, room: Candidate | None, why: str, missed: Collection[str]
    ) -> None:
        """Put it back, say why, and make room. `refusals`: beside those of plugins; `missed`: plugins that something
        happened for meanwhile."""
        ...

    def fail(self, waiting: Waiting, error: Exception) -> None:
        """Try again later, and say so."""
        ...

    def put_off(self, group: list[Waiting]) -> None:
        """Log the exception that is at work, and try again later."""
        ...


class Consultations:
    def __init__(self, extenders: Extenders, client: Client, nodes: Snapshot, hands: Hands) -> None:
        self._extenders, self._client, self._nodes, self._hands = extenders, client, nodes, hands
        self._waiting: dict[str, Waiting] = {}
        """Pod uid -> who is to be asked about; one of them may be at work."""
        self._order: list[tuple[tuple[int, float, int], str]] = []
        self._missed: set[str] = set()
        """Plugins whose refusals something may have turned around since the pod at work was begun with."""
        self._wake = asyncio.Event()

    def wants(self, shape: Shape) -> bool:
        """Whether any extender wants to be asked about such pods before they are placed."""
        return self._extenders.interested(shape)

    async def bind(self, pod: Pod, shape: Shape, node: str) -> bool:
        """Whether an extender has bound the pod. Raises ExtenderFailed."""
        return await self._extenders.bind(pod, shape, node)

    def stir(self, plugins: Iterable[str]) -> None:
        self._missed.update(plugins)

    def add(self, group: list[Waiting]) -> None:
        for waiting in group:
            uid = waiting.pod.metadata.uid
            self._waiting[uid] = waiting
            heapq.heappush(self._order, (waiting.order, uid))
        self._wake.set()

    def keeps(self, pod: Pod, shape: Shape) -> bool:
        """A pod was seen: whether it is still at work here. One whose shape has changed is not, any more."""
        waiting = self._waiting.get(pod.metadata.uid)
        if waiting is None:
            return False
        if waiting.shape is not shape:
            self.drop(pod.metadata.uid)
            return False
        waiting.pod = pod
        return True

    def drop(self, uid: str) -> None:
        self._waiting.pop(uid, None)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._extenders.run())
            await self._extenders.synced()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._order:
                    _, uid = heapq.heappop(self._order)
                    waiting = self._waiting.get(uid)
                    if waiting is not None:
                        await self._try(uid, waiting, tasks)

    async def _try(self, uid: str, waiting: Waiting, tasks: asyncio.TaskGroup) -> None:
        try:
            node = await self._consult(uid, waiting)
        except (ExtenderFailed, ApiError, ConnectionError, TimeoutError) as error:
            if self._let_go(uid, waiting):
                self._hands.fail(waiting, error)
        except Exception:  # a plugin failed: this pod waits, all others go on
            if self._let_go(uid, waiting):
                self._hands.put_off([waiting])
        else:
            if node:
                tasks.create_task(self._hands.carry_out(waiting, node))

    def _let_go(self, uid: str, waiting: Waiting) -> bool:
        """Whether the pod was still ours; it is not, any more."""
        if self._waiting.get(uid) is not waiting:
            return False
        del self._waiting[uid]
        return True

    async def _consult(self, uid: str, waiting: Waiting) -> str:
        """The node where the pod is assumed; "" when it was refused or has gone.

        Raises ExtenderFailed, ApiError, ConnectionError, TimeoutError, and what plugins raise."""
        nodes, meta = self._nodes, waiting.pod.metadata
        self._missed.clear()
        pod: Object = await self._client.get(PODS, meta.name, meta.namespace)
        verdict = Verdict([])
        for _ in range(_TRIES):
            names = [nodes.names[slot] for slot in np.flatnonzero(self._hands.feasible(waiting)).tolist()]
            verdict = await self._extenders.judge(pod, waiting.shape, names) if names else Verdict([])
            if self._waiting.get(uid) is not waiting:
                return ""
            if not verdict.passed:
                break
            node = self._hands.place(waiting, *self._columns(verdict))
            if node:
                self._let_go(uid, waiting)
                return node
        await self._refuse(uid, waiting, pod, verdict)
        return ""

    def _columns(self, verdict: Verdict) -> tuple[Mask, Column]:
        """(where it may go, what is added to scores), by the slots that the nodes have now."""
        within, extra = np.zeros(self._nodes.size, np.bool_), np.zeros(self._nodes.size)
        for name in verdict.passed:
            slot = self._nodes.slots.get(name)
            if slot is not None:
                within[slot], extra[slot] = True, verdict.scores.get(name, 0.0)
        return within, extra

    async def _refuse(self, uid: str, waiting: Waiting, pod: Object, verdict: Verdict) -> None:
        """Raises ExtenderFailed."""
        reasons = dict(Counter(verdict.failed.values()))
        within = self._nodes.live.copy()
        for name in verdict.unresolvable:
            if (slot := self._nodes.slots.get(name)) is not None:
                within[slot] = False
        minded = self._extenders.mind_preemption(waiting.shape)
        rooms, why = self._hands.candidates(waiting, within, every=minded)
        if rooms and minded:
            rooms = await self._extenders.preempt(pod, waiting.shape, rooms)
        if self._let_go(uid, waiting):
            room = min(rooms, key=Candidate.cost, default=None)
            self._hands.refuse_one(waiting, {NAME: reasons} if reasons else {}, room, why, self._missed)
