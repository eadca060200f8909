"""Gangs: pods of one PodGroup that are placed together or not at all. In: pods, groups. Out: one decision for each gang.

A gang waits in the scheduling queue as one entry, once enough of its pods exist. It is decided in one go (together.py), so
none of its pods ever holds resources while it waits for another: two gangs cannot block each other, and one that is larger
than the cluster blocks nobody. Nothing waits for a partner after the decision, so there is no time limit to that either.
Volumes and devices of all members are made ready before the first is bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jota.aio.clock import Clock, rfc3339
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.meta.errors import ApiError
from jota.meta.resource import PODGROUPS
from jota.scheduler.cycle import explanation
from jota.scheduler.devicebinder import DevicesNotAllocated
from jota.scheduler.nominations import Nominations
from jota.scheduler.pod import Pod, Shape
from jota.scheduler.podgroups import PodGroups, Policy
from jota.scheduler.preemption import Budget, Candidate, Placed
from jota.scheduler.queue import SchedulingQueue, Waiting
from jota.scheduler.snapshot import Mask, Snapshot
from jota.scheduler.together import Together, Trial

log = logging.getLogger("jota.scheduler")

_GATHER = 1.0
"""Seconds in which more pods of an incomplete gang may come before what is missing is told."""
_SCHEDULED = "PodGroupInitiallyScheduled"


@dataclass(slots=True)
class Gang:
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """Pod key -> a member without a node."""
    placed: dict[str, str] = field(default_factory=dict)
    """Uid -> node of each member that is bound or assumed, and not over."""
    done: set[str] = field(default_factory=set)
    """Keys of members that have succeeded: the last pods of a Job do not wait for those that had their turn."""

    @property
    def had(self) -> int:
        """Members that need no place any more."""
        return len(self.placed) + len(self.done)


@dataclass(slots=True)
class Hands:
    """What the scheduler does for a gang as for any pod."""

    assume: Callable[[Waiting, str], None]
    prepare: Callable[[Waiting, str], Awaitable[None]]
    """Volumes and devices; raises what `failures` names."""
    failures: tuple[type[Exception], ...]
    bind: Callable[[Waiting, str], Coroutine[Any, Any, None]]
    take_back: Callable[[Waiting, Exception], None]
    report: Callable[[Pod, str, Candidate | None], Awaitable[None]]
    keep_room: Callable[[Pod, Candidate], None]
    nominations: Nominations
    on_node: Mapping[str, Mapping[str, Placed]]
    budgets: Callable[[], list[Budget]]
    preempts: Callable[[Pod], bool]
    """Whether the pod's profile preempts."""
    wake: Callable[[], None]


@dataclass(slots=True)
class Outcome:
    """A decision. The caller carries it out: `placed` is already in the snapshot."""

    placed: list[tuple[Waiting, str]] = field(default_factory=list)
    refused: list[Waiting] = field(default_factory=list)
    message: str = ""
    """Why the refused ones were."""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    """Uid -> the room that others make for it."""
    rejected: frozenset[str] = frozenset()


class Gangs:
    def __init__(
        self,
        client: Client,
        nodes: Snapshot,
        queue: SchedulingQueue,
        together: Together,
        hands: Hands,
        events: EventRecorder,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self._client, self._clock, self._random = client, clock, random
        self._nodes, self._queue, self._together, self._hands, self._events = nodes, queue, together, hands, events
        self._gangs: dict[str, Gang] = {}
        self._of: dict[str, str] = {}
        """Uid of a placed member -> its gang."""
        self._groups = PodGroups(client, clock, random, self._group_changed)
        self._untold: dict[str, None] = {}
        """Gangs about which something may have to be told."""
        self._told = asyncio.Event()
        self._sequence = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._groups.run())
            tasks.create_task(self._tell())

    # -- who is in

    def add(self, key: str, pod: Pod, shape: Shape) -> None:
        """A pod that waits for a node, new or changed."""
        gang = self._gang(key)
        known = gang.waiting.get(pod.key)
        if known is not None and known.pod.metadata.uid == pod.metadata.uid and known.shape is shape:
            known.pod = pod
            return
        self._sequence += 1
        order = (-pod.spec.priority, self._clock.monotonic(), self._sequence)
        gang.waiting[pod.key] = Waiting(pod, shape, order, gang=key)
        self._offer(key)

    def remove(self, key: str, pod: Pod) -> None:
        """It waits no more: gone, bound, or not ours."""
        gang = self._gangs.get(key)
        if gang is not None:
            gang.done.discard(pod.key)
            if gang.waiting.pop(pod.key, None) is not None or not gang.had:
                self._offer(key)

    def succeeded(self, key: str, pod: Pod) -> None:
        self._gang(key).done.add(pod.key)
        self._offer(key)

    def hold(self, key: str, uid: str, node: str) -> None:
        """A member is bound or assumed."""
        self._gang(key).placed[uid] = node
        self._of[uid] = key

    def forget(self, uid: str) -> None:
        """A pod is over, gone or about to go: its gang can no longer count on it."""
        key = self._of.pop(uid, "")
        if key:
            self._gangs[key].placed.pop(uid, None)
            self._offer(key)

    def returned(self, waiting: Waiting) -> None:
        """A member that could not be bound: the gang is tried again after a backoff."""
        gang, uid = self._gang(waiting.gang), waiting.pod.metadata.uid
        gang.placed.pop(uid, None)
        self._of.pop(uid, None)
        gang.waiting[waiting.pod.key] = waiting
        entry = Waiting(waiting.pod, waiting.shape, waiting.order, gang=waiting.gang)
        self._queue.retry(entry, self._clock.monotonic())

    def mates(self, victim: Placed) -> list[Placed]:
        """Who goes with a victim, because their group is disrupted as a whole."""
        key = self._of.get(victim.uid, "")
        policy = self._groups.policy(key) if key else None
        if policy is None or not policy.whole:
            return []
        placed = self._gangs[key].placed
        found = (self._hands.on_node.get(node, {}).get(uid) for uid, node in placed.items() if uid != victim.uid)
        return [p for p in found if p is not None]

    def _gang(self, key: str) -> Gang:
        gang = self._gangs.get(key)
        if gang is None:
            gang = self._gangs[key] = Gang()
            self._groups.need(key)
        return gang

    def _group_changed(self, key: str) -> None:
        if key in self._gangs:
            self._offer(key)

    def _offer(self, key: str) -> None:
        """Queue the gang if enough of it is there."""
        gang, policy, now = self._gangs[key], self._groups.policy(key), self._clock.monotonic()
        if not gang.waiting and not gang.had:
            self._queue.remove(key)
            self._groups.drop(key)
            self._untold.pop(key, None)
            del self._gangs[key]
            return
        if policy is not None and policy.least == 0:
            self._queue.remove(key)
            for waiting in gang.waiting.values():
                self._queue.add(waiting.pod, waiting.shape, now)
            gang.waiting.clear()
            self._hands.wake()
        elif policy is not None and gang.waiting and len(gang.waiting) + gang.had >= policy.least:
            first = min(gang.waiting.values(), key=lambda w: w.order)
            priority = first.pod.spec.priority if policy.priority is None else policy.priority
            self._queue.add_gang(key, first.pod, first.shape, priority, now)
            self._hands.wake()
        else:
            self._queue.remove(key)
            for waiting in gang.waiting.values():
                self._hands.nominations.drop(waiting.pod.metadata.uid)
            self._untold[key] = None
            self._told.set()

    # -- deciding

    def decide(self, key: str) -> Outcome:
        gang, policy = self._gangs.get(key), self._groups.policy(key)
        if gang is None or policy is None or not gang.waiting:
            return Outcome()
        members = list(gang.waiting.values())
        least = max(0, policy.least - gang.had)
        uids = dict.fromkeys(w.pod.metadata.uid for w in members)
        priority = members[0].pod.spec.priority if policy.priority is None else policy.priority
        kept = {uid: n.node for uid in uids if (n := self._hands.nominations.get(uid)) is not None}
        with self._hands.nominations.lifted(uids, priority):
            domains = self._domains(policy, gang, members)
            trial = self._try_each(domains, members, least, kept)
            room: list[tuple[Waiting, Candidate]] = []
            waits = any(self._clearing(node, priority) for node in kept.values())
            if len(trial.placed) < least and not waits:
                room = self._make_room(domains, members, least, policy, gang)
        return self._outcome(key, members, least, trial, room, waits)

    def _domains(self, policy: Policy, gang: Gang, members: list[Waiting]) -> list[Mask | None]:
        if not policy.topology:
            return [None]
        return [*self._together.domains(policy.topology, members[0].shape, members, gang.placed.values())]

    def _try_each(self, domains: list[Mask | None], members: list[Waiting], least: int, kept: dict[str, str]) -> Trial:
        """The first domain that holds enough, else the trial that came nearest."""
        if not domains:
            nowhere = {"node(s) without the label of the group's topology": int(self._nodes.live.sum())}
            return Trial(refused=members, refusals={"PodGroup": nowhere}, plugins={"PodGroup"})
        trials: list[Trial] = []
        for within in domains:
            trials.append(self._together.place(members, least, within, kept))
            if len(trials[-1].placed) >= least:
                return trials[-1]
        best = max(trials, key=lambda t: len(t.placed))
        best.plugins = set[str]().union(*(t.plugins for t in trials))
        return best

    def _clearing(self, node: str, priority: int) -> bool:
        """Whether victims are still on their way out of the room that is kept there for a member."""
        return any(p.terminating and p.priority < priority for p in self._hands.on_node.get(node, {}).values())

    def _make_room(
        self, domains: list[Mask | None], members: list[Waiting], least: int, policy: Policy, gang: Gang
    ) -> list[tuple[Waiting, Candidate]]:
        """Others make room for the whole gang, or none has to go."""
        first = members[0].pod
        if not policy.preempts or first.spec.preemptionPolicy == "Never" or not self._hands.preempts(first):
            return []
        mine, start = set(gang.placed), self._random.randrange(max(1, self._nodes.size))
        # Of the gang itself nobody is sent away, however unimportant.
        others = {
            node: {uid: p for uid, p in pods.items() if uid not in mine} for node, pods in self._hands.on_node.items()
        }
        for within in domains:
            budgets = self._hands.budgets()
            room = self._together.make_room(members, least, policy.priority, others, budgets, self.mates, start, within)
            if room:
                return room
        return []

    def _outcome(
        self,
        key: str,
        members: list[Waiting],
        least: int,
        trial: Trial,
        room: list[tuple[Waiting, Candidate]],
        waits: bool,
    ) -> Outcome:
        total, name = int(self._nodes.live.sum()), key.partition("/")[2]
        text = explanation(trial.refusals, total)
        rejected = frozenset(trial.plugins)
        if len(trial.placed) >= least:
            for waiting, _ in trial.placed:
                self._hands.nominations.drop(waiting.pod.metadata.uid)
            placed = [(w, self._nodes.names[slot]) for w, slot in trial.placed]
            return Outcome(placed, trial.refused, text if trial.refused else "", {}, rejected)
        if not waits:
            for waiting in members:
                self._hands.nominations.drop(waiting.pod.metadata.uid)
        for waiting, candidate in room:
            self._hands.keep_room(waiting.pod, candidate)
        count = f"{len(trial.placed)} of the {least} pods" if least > 1 else "none of the pods"
        message = f'PodGroup "{name}": {count} that must be placed together fit: {text}'
        if room:
            victims = sum(len(c.victims) for _, c in room)
            message += f" preemption: {victims} pod(s) make room for the group."
        return Outcome([], members, message, {w.pod.metadata.uid: c for w, c in room}, rejected)

    # -- acting

    def assume(self, outcome: Outcome) -> None:
        for waiting, node in outcome.placed:
            self._gangs[waiting.gang].waiting.pop(waiting.pod.key, None)
            self.hold(waiting.gang, waiting.pod.metadata.uid, node)
            self._hands.assume(waiting, node)

    async def carry_out(self, key: str, outcome: Outcome) -> None:
        """Bind the placed together, tell the others why they wait."""
        if outcome.placed and await self._prepare_all(key, outcome.placed):
            async with asyncio.TaskGroup() as tasks:
                for waiting, node in outcome.placed:
                    tasks.create_task(self._hands.bind(waiting, node))
            if self._whole(key):
                await self._tell_group(key, "True", "Scheduled", f"{len(outcome.placed)} pods were placed together")
        for waiting in outcome.refused:
            await self._hands.report(waiting.pod, outcome.message, outcome.candidates.get(waiting.pod.metadata.uid))
        if outcome.refused and not outcome.placed:
            await self._tell_group(key, "False", "Unschedulable", outcome.message)

    def _whole(self, key: str) -> bool:
        """Whether enough of the gang is bound or assumed."""
        gang, policy = self._gangs.get(key), self._groups.policy(key)
        return gang is not None and policy is not None and gang.had >= policy.least

    async def _prepare_all(self, key: str, placed: list[tuple[Waiting, str]]) -> bool:
        """Volumes and devices of all, or the whole gang is taken back; also when a member went away meanwhile."""
        wanting = [(w, node) for w, node in placed if w.shape.reserves]
        if not wanting:
            return True
        results = await asyncio.gather(*(self._hands.prepare(w, n) for w, n in wanting), return_exceptions=True)
        failed = next((r for r in results if isinstance(r, BaseException)), None)
        if failed is None and not self._whole(key):
            failed = DevicesNotAllocated("the gang is no longer complete")
        if failed is None:
            return True
        if not isinstance(failed, self._hands.failures):
            raise failed
        for waiting, _ in placed:
            self._hands.take_back(waiting, failed)
        return False

    # -- telling

    async def _tell(self) -> None:
        """Say what is missing in gangs that are not complete, once they had a moment to become so."""
        while True:
            await self._told.wait()
            await self._clock.sleep(_GATHER)
            self._told.clear()
            keys, self._untold = list(self._untold), {}
            for key in keys:
                await self._tell_missing(key)

    async def _tell_missing(self, key: str) -> None:
        message = self._missing(key)
        if message:
            for waiting in list(self._gangs[key].waiting.values()):
                await self._hands.report(waiting.pod, message, None)
            await self._tell_group(key, "False", "Unschedulable", message)

    def _missing(self, key: str) -> str:
        gang, policy = self._gangs.get(key), self._groups.policy(key)
        if gang is None or not gang.waiting:
            return ""
        if policy is None:
            return self._groups.absence(key)
        have = len(gang.waiting) + gang.had
        name, lacking = key.partition("/")[2], policy.least - have
        if lacking <= 0:
            return ""
        return f'waiting for {lacking} more pod(s) of PodGroup "{name}": {have} of {policy.least} are there'

    async def _tell_group(self, key: str, status: str, reason: str, message: str) -> None:
        """Its condition and an event; the custom resource of others has only the event. True is for good (upstream)."""
        group = self._groups.get(key)
        if group is None:
            return
        known = next((c for c in group.status.conditions or () if c.type == _SCHEDULED), None)
        if known is not None and (known.status == "True" or (known.status, known.message) == (status, message)):
            return
        meta, ours = group.metadata, key.startswith(f"{PODGROUPS.group}:")
        where = {"kind": "PodGroup", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
        version = PODGROUPS.api_version if ours else "scheduling.x-k8s.io/v1alpha1"
        kind, why = ("Normal", reason) if status == "True" else ("Warning", "FailedScheduling")
        self._events.event({**where, "apiVersion": version}, kind, why, message)
        if not ours:
            return
        since = known.lastTransitionTime if known is not None and known.status == status else ""
        condition = {
            "type": _SCHEDULED,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since or rfc3339(self._clock.now()),
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                PODGROUPS, meta.name, meta.namespace, patch, type="strategic", subresource="status"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                log.warning("condition of %s was not written: %s", key, error)
        except (ConnectionError, TimeoutError) as error:
            log.warning("condition of %s was not written: %s", key, error)
