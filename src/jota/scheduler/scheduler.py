"""The scheduler: watches pods and nodes, decides with `cycle.py`, binds through binder.py. Safe to kill at any line.

Pods that it has placed but not yet seen bound are assumed in the snapshot; a failed binding takes the assumption back. A
new scheduler needs nothing of the old one: bound pods are in the API, all others are simply scheduled again. What happens
outside comes in through feed.py; refused pods may displace others through preemption.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING

from jota.aio.clock import Clock
from jota.aio.waiting import wait_event
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.informers import Informers
from jota.meta.errors import ApiError
from jota.scheduler import preemption
from jota.scheduler.accounts import Accounts, placed_on
from jota.scheduler.binder import UNPREPARED, Binder
from jota.scheduler.cycle import Cycle, explanation
from jota.scheduler.devicebinder import DeviceBinder
from jota.scheduler.devicefeed import HINT, DeviceFeed
from jota.scheduler.feed import Feed
from jota.scheduler.gang import Gangs, Hands
from jota.scheduler.nominations import Nominations
from jota.scheduler.places import Places
from jota.scheduler.pod import Pod, Shape, Shapes
from jota.scheduler.podgroups import group_of
from jota.scheduler.preemption import Candidate, Placed
from jota.scheduler.profile import Settings
from jota.scheduler.queue import SchedulingQueue, Waiting
from jota.scheduler.reporter import Report, Reporter
from jota.scheduler.snapshot import Column, Mask, Node, Snapshot
from jota.scheduler.together import Together, with_mates
from jota.scheduler.volumebinder import VolumeBinder

if TYPE_CHECKING:
    from jota.scheduler.consult import Consultations

log = logging.getLogger("jota.scheduler")

_GROUP = 256
"""Pods that are placed between two looks at the event loop."""
_PREEMPTING = 32
"""The same, after a turn that was too short to choose for all who must go: that takes as long as to place dozens."""
_ALIKE = 64
"""Pods for whom that is chosen at a time, when they are alike."""
_TURN = 0.005
"""Seconds after which the event loop is looked at even so."""
_BINDS_IN_FLIGHT = 512
"""Bindings and reports on their way, from which on no more pods are decided."""
_ANYTHING = "*"
"""Stands for every plugin in what pods in consult.py missed."""


class Scheduler:
    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        random: Random,
        settings: Settings | None = None,
        informers: Informers | None = None,
    ) -> None:
        """`informers` are those of others in this process, who run them: a cache of all pods is kept once."""
        settings = settings or Settings()
        self._client, self._clock, self._random = client, clock, random
        self._nodes = Snapshot()
        self._shapes = Shapes()
        self._queue = SchedulingQueue(settings.initial_backoff, settings.max_backoff)
        self._profiles = {p.name: p for p in settings.profiles}
        self._cycles = {p.name: Cycle(p, self._nodes, random.getrandbits(63)) for p in settings.profiles}
        self._accounts = Accounts(self._nodes)
        self._nominations = Nominations(self._nodes)
        self._unfit: list[Pod] = []
        """Of gangs that extenders want to judge, and cannot: to be told."""
        self._wake = asyncio.Event()
        self._at_a_time = _GROUP
        """Pods that are taken from the queue for one decision."""
        self._places = Places(_BINDS_IN_FLIGHT)
        self._events = {p.name: EventRecorder(client, clock, p.name) for p in settings.profiles}
        self._reporter = Reporter(client, clock, self._events, self._nominations)
        self._volumes = VolumeBinder(client, self._nodes, clock)
        self._feed = Feed(client, self._nodes, self, clock=clock, random=random, shared=informers)
        self._devices = DeviceBinder(client, self._nodes)
        self._binder = Binder(
            client, self._places, self._volumes, self._devices, bound=self._bound, take_back=self._take_back
        )
        self._device_feed = DeviceFeed(
            client, self._nodes.devices, stir=self.stir, admit=self._admit, clock=clock, random=random
        )
        self._gangs = self._make_gangs(settings)
        self._consultations = self._binder.consultations = self._make_consultations(settings)
        self._tasks = asyncio.TaskGroup()
        """While `run` is at work."""

    def _make_gangs(self, settings: Settings) -> Gangs:
        hands = Hands(
            assume=self._assume,
            prepare=self._binder.prepare,
            failures=UNPREPARED,
            bind=self._binder.bind_when_free,
            take_back=self._take_back,
            report=lambda *told: self._report_when_free(self._refusal(*told)),
            keep_room=self._give_room,
            nominations=self._nominations,
            on_node=self._accounts.on_node,
            budgets=self._feed.budgets,
            preempts=lambda pod: self._profiles[pod.spec.schedulerName].preempts,
            wake=self._wake.set,
        )
        together = Together(self._nodes, self._cycle, [self._volumes, self._devices])
        events = self._events[settings.profiles[0].name]
        return Gangs(
            self._client, self._nodes, self._queue, together, hands, events, clock=self._clock, random=self._random
        )

    def _make_consultations(self, settings: Settings) -> Consultations | None:
        if not settings.extenders:
            return None
        from jota.scheduler.consult import Consultations
        from jota.scheduler.extenders import Extenders

        extenders = Extenders(settings.extenders, self._client, clock=self._clock, random=self._random)
        return Consultations(extenders, self._client, self._nodes, self)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for recorder in self._events.values():
                tasks.create_task(recorder.run())
            tasks.create_task(self._feed.run())
            tasks.create_task(self._gangs.run())
            tasks.create_task(self._device_feed.run())
            await self._feed.synced()
            if self._consultations is not None:
                tasks.create_task(self._consultations.run())
            while True:
                await self._wait()
                await self._schedule_ready(tasks)

    async def _wait(self) -> None:
        """Until a pod is ready to be tried."""
        self._wake.clear()
        patience = 0.0 if self._unfit else self._queue.wait(self._clock.monotonic())
        if patience != 0:
            await wait_event(self._wake, self._clock, patience)

    async def _schedule_ready(self, tasks: asyncio.TaskGroup) -> None:
        while self._unfit:
            tasks.create_task(self._report_when_free(Report(self._unfit.pop(), _NO_EXTENDERS)))
        left = 0
        while left < _GROUP:
            await self._places.room()
            left, turn, begin = _GROUP, _Turn(), self._clock.monotonic()
            while left and (group := self._queue.next_group(self._clock.monotonic(), min(left, self._at_a_time))):
                left -= len(group)
                self._at_a_time = _GROUP
                done = 0
                for alike in self._volumes.alike(group):
                    if done and self._clock.monotonic() - begin > _TURN:
                        self._queue.put_back(group[done:])
                        break
                    self._schedule(alike, turn, tasks)
                    done += len(alike)
                if self._clock.monotonic() - begin > _TURN:
                    break
            for namespace, several in turn.bindings.items():
                tasks.create_task(self._binder.bind_together(namespace, several, tasks))
            if turn.reports:
                tasks.create_task(self._report_together(turn.reports))
            await asyncio.sleep(0)

    def _schedule(self, group: list[Waiting], turn: _Turn, tasks: asyncio.TaskGroup) -> None:
        """Decide, and put each pod where it is found by whatever happens next. Nothing here may wait: a pod that is in no
        queue and not assumed would be missed by the event that helps, changes or removes it."""
        try:
            if group[0].gang:
                self._schedule_gang(group[0], tasks)
                return
            if self._consultations is not None and self._consultations.wants(group[0].shape):
                self._consultations.add(group)
                return
            placed, refused = self._decide(group)
        except Exception:  # a plugin failed (they may be other people's): these pods wait, all others go on
            self.put_off(group)
            return
        for waiting, slot in placed:
            node = self._nodes.names[slot]
            self._assume(waiting, node)
            if not self._binder.ready(waiting):
                tasks.create_task(self._binder.bind_prepared(waiting, node))
                continue
            self._places.take()
            turn.bindings.setdefault(waiting.pod.metadata.namespace, []).append((waiting, node))
        if refused:
            try:
                self._refuse(refused, turn, tasks)
            except Exception:
                self.put_off(refused)
        if placed:
            self.stir("InterPodAffinity", "PodTopologySpread")

    def put_off(self, group: list[Waiting]) -> None:
        log.exception("no decision about %s and %d like it", group[0].pod.key, len(group) - 1)
        for waiting in group:
            self._queue.retry(waiting, self._clock.monotonic())

    def _schedule_gang(self, entry: Waiting, tasks: asyncio.TaskGroup) -> None:
        outcome = self._gangs.decide(entry.gang)
        self._gangs.assume(outcome)
        if outcome.refused:
            entry.rejected = outcome.rejected
            self._queue.refuse(entry, self._clock.monotonic())
        if outcome.placed or outcome.refused:
            tasks.create_task(self._gangs.carry_out(entry.gang, outcome))
        if outcome.placed:
            self.stir("InterPodAffinity", "PodTopologySpread")

    # -- deciding

    def _decide(self, group: list[Waiting]) -> tuple[list[tuple[Waiting, int]], list[Waiting]]:
        """(placed with their slots, refused). Pods that share volumes or devices are looked at one by one, and where nominations
        count differently."""
        first = group[0]
        uids = (waiting.pod.metadata.uid for waiting in group)
        apart = not first.shape.reserves or first.shape is not group[-1].shape
        if apart and not self._nominations.tell_apart(uids, first.pod.spec.priority):
            slots = self._cycle(first).place_each([waiting.shape for waiting in group])
            return list(zip(group, slots, strict=False)), group[len(slots) :]
        placed, refused = self._moved_in(group), list[Waiting]()
        inside = {waiting.pod.metadata.uid for waiting, _ in placed}
        full = False
        """One of them was refused, and nobody was placed since: the same holds for those that no room is kept for."""
        try:
            for waiting in group:
                if (uid := waiting.pod.metadata.uid) in inside:
                    continue
                if full and uid not in self._nominations:
                    refused.append(waiting)
                    continue
                slot = self._place_one(waiting)
                full = slot is None
                if slot is None:
                    refused.append(waiting)
                    continue
                if waiting.shape.reserves:
                    self._reserve(waiting.shape, slot)
                placed.append((waiting, slot))
        except BaseException:  # a plugin's mistake must not leave pods in the accounts that nobody will bind
            for waiting, slot in placed:
                self._take_off(waiting.shape, slot)
            raise
        return placed, refused

    def _take_off(self, shape: Shape, slot: int) -> None:
        self._nodes.remove_pod(self._nodes.names[slot], shape)
        if shape.reserves:
            self._volumes.release(shape)
            self._devices.release(shape)

    def _moved_in(self, group: list[Waiting]) -> list[tuple[Waiting, int]]:
        """The usual end of preemptions, at a glance: those for whom nothing matters but the room that is kept for each, and that is
        there, with their slots. It was counted for everybody else all the time, who find things as they were."""
        first, moved = group[0], list[tuple[Waiting, int]]()
        cycle, shape = self._cycle(first), first.shape
        if (
            self._nominations.tell_apart((), first.pod.spec.priority)
            or shape.reserves
            or not cycle.minds_only_room(shape)
        ):
            return moved
        for waiting in group:
            kept = self._nominations.get(waiting.pod.metadata.uid)
            if kept is None or kept.shape is not shape or waiting.shape is not shape:
                continue
            slot = self._nodes.slots.get(kept.node)
            if slot is not None and cycle.may_stay(shape, slot):
                self._nominations.take(kept.uid)
                moved.append((waiting, slot))
        return moved

    def _reserve(self, shape: Shape, slot: int) -> None:
        try:
            self._devices.reserve(shape, slot)
            self._volumes.reserve(shape, slot)
        except BaseException:
            self._nodes.remove_pod(self._nodes.names[slot], shape)
            raise

    def _without_less_important(self, waiting: Waiting) -> AbstractContextManager[None]:
        return self._nominations.lifted((waiting.pod.metadata.uid,), waiting.pod.spec.priority)

    def _place_one(self, waiting: Waiting, within: Mask | None = None, extra: Column | None = None) -> int | None:
        """Its own nominated node first. `within`, `extra`: as cycle.py has them."""
        own = waiting.pod.metadata.uid
        with self._without_less_important(waiting):
            cycle, shape = self._cycle(waiting), waiting.shape
            kept = self._nominations.get(own)
            slot = self._nodes.slots.get(kept.node) if kept is not None else None
            if slot is not None and (within is None or within[slot]) and cycle.fits(shape, slot):
                self._nodes.add_pod(self._nodes.names[slot], shape)
            else:
                slot = next(iter(cycle.place(shape, 1, within, extra)), None)
        if slot is not None:
            self._nominations.drop(own)
        return slot

    def _refuse(self, refused: list[Waiting], turn: _Turn, tasks: asyncio.TaskGroup) -> None:
        first = refused[0]
        cycle = self._cycle(first)
        with self._without_less_important(first):
            refusals = cycle.refusals(first.shape)
        total = int(self._nodes.live.sum())
        text = explanation(refusals, total)
        if HINT in refusals:
            tasks.create_task(self._loosen(refused))
        until, left = self._clock.monotonic() + _TURN, refused
        while left:
            if left is not refused and self._clock.monotonic() > until:
                self._queue.put_back(left)  # to choose victims takes a while
                self._at_a_time = _PREEMPTING
                break
            candidates, why = self._candidates(left, total)
            message = f"{text} preemption: {why}" if why else text
            for waiting, candidate in zip(left, candidates, strict=False):
                waiting.rejected = frozenset(refusals)
                self._queue.refuse(waiting, self._clock.monotonic())
                if candidate is not None:
                    self._make_room(waiting.pod, candidate)
                turn.reports.append(self._refusal(waiting.pod, message, candidate))
            left = left[len(candidates) :]

    async def _loosen(self, refused: list[Waiting]) -> None:
        """Claims that are allocated where their only pod cannot go are allocated anew."""
        try:
            for waiting in refused:
                if await self._devices.loosen(waiting.shape, waiting.pod.metadata.uid):
                    self.stir(HINT)
        except UNPREPARED as error:
            log.warning("claims of %s stay allocated: %s", refused[0].pod.key, error)

    def _candidates(self, refused: list[Waiting], total: int) -> tuple[list[Candidate | None], str]:
        """Whom to send away for the first of these pods, or for so many; the reason when that is not possible."""
        first = refused[0]
        why = self._ineligible(first, total)
        if why is None:
            alike = [
                *takewhile(lambda w: w.shape is first.shape and w.pod.metadata.uid not in self._nominations, refused)
            ]
            if len(alike) > 1 and not self._nominations.tell_apart((), first.pod.spec.priority):
                found = preemption.find_alike(self._asked(first), min(len(alike), _ALIKE))
                if found:
                    return [*found], ""
            with self._without_less_important(first):
                candidate, why = preemption.find(self._asked(first))
            if candidate is not None:
                return [candidate], ""
        hopeless = first.pod.metadata.uid not in self._nominations  # the same for its likes
        return [None] * (len(refused) if hopeless else 1), why

    def _asked(self, waiting: Waiting) -> preemption.Asked:
        start = self._random.randrange(max(1, self._nodes.size))
        priority, budgets = waiting.pod.spec.priority, self._feed.budgets()
        cycle, nodes = self._cycle(waiting), self._nodes
        return preemption.Asked(cycle, nodes, waiting.shape, priority, self._accounts.on_node, budgets, start)

    def _ineligible(self, waiting: Waiting, total: int) -> str | None:
        """Why nobody may be sent away for the pod; None: somebody may, and no room is kept for it any more."""
        pod, profile = waiting.pod, self._profiles[waiting.pod.spec.schedulerName]
        if not profile.preempts or not total:
            return ""
        if pod.spec.preemptionPolicy == "Never":
            return "not eligible due to preemptionPolicy=Never."
        uid, priority = pod.metadata.uid, pod.spec.priority
        kept = self._nominations.get(uid)
        if kept is not None and any(
            p.terminating and p.priority < priority for p in self._accounts.on_node.get(kept.node, {}).values()
        ):
            return "not eligible due to a terminating pod on the nominated node."
        if kept is not None and any(v in self._accounts.placed for v in self._nominations.going(uid)):
            # Victims on their way out are not seen as terminating yet: to choose others would send away more than needed.
            return "waiting for the preemption for this pod to be finished."
        self._nominations.drop(uid)
        if not self._accounts.any_below(priority):
            cycle = self._cycle(waiting)
            return preemption.no_victims(total, int((self._nodes.live & cycle.hopeless(waiting.shape)).sum()))
        return None

    def _make_room(self, pod: Pod, candidate: Candidate) -> None:
        candidate.victims = with_mates(candidate.victims, self._gangs.mates, [])
        self._give_room(pod, candidate)
        self._nominations.expect(pod.metadata.uid, [v.uid for v in candidate.victims])
        self._queue.hold(pod.key)

    def _give_room(self, pod: Pod, candidate: Candidate) -> None:
        candidate.displaced = self._keep_room(pod, candidate.node)

    def _keep_room(self, pod: Pod, node: str) -> list[Placed]:
        return self._nominations.keep(placed_on(pod, node, self._shapes.of(pod)))

    def _refusal(self, pod: Pod, message: str, candidate: Candidate | None) -> Report:
        """Who may send others away and found nobody is nominated no more (upstream, too); who may not stays what he is."""
        preempts = self._profiles[pod.spec.schedulerName].preempts and pod.spec.preemptionPolicy != "Never"
        given_up = candidate is None and preempts and pod.metadata.uid not in self._nominations
        return Report(pod, message, candidate, given_up=given_up)

    def _cycle(self, waiting: Waiting) -> Cycle:
        return self._cycles[waiting.pod.spec.schedulerName]

    # -- pods that extenders are asked about (called by consult.py)

    def feasible(self, waiting: Waiting) -> Mask:
        with self._without_less_important(waiting):
            return self._cycle(waiting).feasible(waiting.shape)

    def place(self, waiting: Waiting, within: Mask, extra: Column) -> str:
        slot = self._place_one(waiting, within, extra)
        if slot is None:
            return ""
        if waiting.shape.reserves:
            self._reserve(waiting.shape, slot)
        node = self._nodes.names[slot]
        self._assume(waiting, node)
        self.stir("InterPodAffinity", "PodTopologySpread")
        return node

    async def carry_out(self, waiting: Waiting, node: str) -> None:
        binder = self._binder
        await (binder.bind_prepared if waiting.shape.reserves else binder.bind_when_free)(waiting, node)

    def candidates(self, waiting: Waiting, within: Mask, *, every: bool) -> tuple[list[Candidate], str]:
        why = self._ineligible(waiting, int(self._nodes.live.sum()))
        if why is not None:
            return [], why
        with self._without_less_important(waiting):
            if every:
                return preemption.every(self._asked(waiting), within)
            candidate, why = preemption.find(self._asked(waiting), within)
        return [candidate] if candidate is not None else [], why

    def refuse_one(
        self,
        waiting: Waiting,
        refusals: dict[str, dict[str, int]],
        room: Candidate | None,
        why: str,
        missed: Collection[str],
    ) -> None:
        found = {**self._cycle(waiting).refusals(waiting.shape), **refusals}
        if HINT in found:
            self._tasks.create_task(self._loosen([waiting]))
        # what an extender refuses, anything may help (upstream)
        waiting.rejected = frozenset() if refusals else frozenset(found)
        helped = bool(missed) if refusals else _ANYTHING in missed or not waiting.rejected.isdisjoint(missed)
        (self._queue.retry if helped else self._queue.refuse)(waiting, self._clock.monotonic())
        if room is not None and all(v.uid in self._accounts.placed for v in room.victims):
            self._make_room(waiting.pod, room)
        else:
            room = None
        text = explanation(found, int(self._nodes.live.sum()))
        message = f"{text} preemption: {why}" if why else text
        self._tasks.create_task(self._report_when_free(self._refusal(waiting.pod, message, room)))
        self._wake.set()

    def fail(self, waiting: Waiting, error: Exception) -> None:
        log.warning("no decision about %s: %s", waiting.pod.key, error)
        waiting.rejected = frozenset()
        self._queue.retry(waiting, self._clock.monotonic())
        report = Report(waiting.pod, str(error), reason="SchedulerError")
        self._tasks.create_task(self._report_when_free(report))
        self._wake.set()

    # -- what happens outside (called by the feed)

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            if not old.spec.nodeName or group_of(old):
                self._drop(old)
            self._nominations.drop(old.metadata.uid)
            self._forget(old.metadata.uid)
        if new is None:
            return
        uid = new.metadata.uid
        if new.finished:
            self._drop(new)
            self._nominations.drop(uid)
            self._forget(uid)
            if new.status.phase == "Succeeded" and (gang := group_of(new)):
                self._gangs.succeeded(gang, new)
        elif new.spec.nodeName:
            if old is None or not old.spec.nodeName:  # it waited until now, or was on its way
                self._drop(new)
                self._nominations.drop(uid)
                self._accounts.assumed.discard(uid)
            self._count(new)
            if (gang := group_of(new)) and new.metadata.deletionTimestamp is None:
                self._gangs.hold(gang, uid, new.spec.nodeName)
            elif gang:
                self._gangs.forget(uid)
        elif uid not in self._accounts.assumed and self._wants(new):
            if new.spec.resourceClaims and self._device_feed.holds(new.key):
                return
            self._enqueue(new)
            if old is None and new.status.nominatedNodeName in self._nodes.slots and uid not in self._nominations:
                self._keep_room(new, new.status.nominatedNodeName)  # an earlier scheduler made room for it
            self._wake.set()
        elif uid not in self._accounts.assumed:
            self._drop(new)
            self._nominations.drop(uid)

    def _enqueue(self, pod: Pod) -> None:
        if gang := group_of(pod):
            if self._consultations is not None and self._consultations.wants(self._shapes.of(pod)):
                self._unfit.append(pod)
            else:
                self._gangs.add(gang, pod, self._shapes.of(pod))
        elif self._consultations is None or not self._consultations.keeps(pod, self._shapes.of(pod)):
            self._queue.add(pod, self._shapes.of(pod), self._clock.monotonic())

    def _admit(self, key: str) -> None:
        """A pod that was held back until devices and claims were known."""
        pod = self._feed.pod(key)
        if pod is not None:
            self.pod_changed(None, pod)

    def _drop(self, pod: Pod) -> None:
        """It waits for no node any more."""
        self._queue.remove(pod.key)
        if self._consultations is not None:
            self._consultations.drop(pod.metadata.uid)
        if gang := group_of(pod):
            self._gangs.remove(gang, pod)

    def _wants(self, pod: Pod) -> bool:
        ours = pod.spec.schedulerName in self._profiles
        return ours and not pod.spec.schedulingGates and pod.metadata.deletionTimestamp is None

    def _count(self, pod: Pod) -> None:
        uid, shape = pod.metadata.uid, self._shapes.of(pod)
        known = self._accounts.placed.get(uid)
        if not self._accounts.seen(pod, shape):
            return
        self._gangs.forget(uid)
        # A new pod may be the one to be near to; one that is going no longer counts for spreading.
        self.stir("InterPodAffinity", "PodTopologySpread")
        if known is not None and any(shape.requests.get(r, 0.0) < a for r, a in known.shape.requests.items()):
            self.stir("NodeResourcesFit")  # it was resized to less

    def _forget(self, uid: str) -> None:
        """The pod holds no resources any more: refused pods whom that may help get another try."""
        self._gangs.forget(uid)
        if not self._accounts.forget(uid):
            return
        self.stir(*WHEN_A_POD_GOES)
        for kept in self._nominations.gone(uid, self._accounts.placed):
            if self._queue.hasten(f"{kept.namespace}/{kept.name}"):
                self._wake.set()

    def node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                name = old.metadata.name
                self._nominations.drop_on(name)
                self._accounts.lose_node(name)
                self.stir("PodTopologySpread")
        elif self._nodes.put_node(new):
            self.stir_all()

    def stir(self, *plugins: str) -> None:
        """Something changed that may help pods which these plugins refused."""
        if self._consultations is not None:
            self._consultations.stir(plugins)
        if self._queue.move(plugins, self._clock.monotonic()):
            self._wake.set()

    def stir_all(self) -> None:
        if self._consultations is not None:
            self._consultations.stir((_ANYTHING,))
        self.stir(*list(self._queue.refused_by()))

    # -- what we do

    def _assume(self, waiting: Waiting, node: str) -> None:
        self._accounts.assume(waiting.pod, node, waiting.shape)

    def _bound(self, pod: Pod, node: str) -> None:
        self._reporter.tell(pod, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")

    def _take_back(self, waiting: Waiting, error: Exception) -> None:
        uid, current = waiting.pod.metadata.uid, self._feed.pod(waiting.pod.key)
        if current is not None and current.metadata.uid == uid and current.spec.nodeName:
            return  # bound after all, by us or by others: it was seen, and is counted where it is
        if current is None or current.metadata.uid != uid or current.finished or not self._wants(current):
            self._forget(uid)
            return
        log.warning("binding %s failed and will be tried again: %s", current.key, error)
        # what happened to the pod meanwhile was passed over
        waiting.pod, waiting.shape, waiting.rejected = current, self._shapes.of(current), frozenset()
        if waiting.gang:
            self._gangs.returned(
                waiting
            )  # first: a gang that has lost a member is tried at once, this one after a backoff
            self._forget(uid)
        else:
            self._forget(uid)
            self._queue.retry(waiting, self._clock.monotonic())
        self._wake.set()

    async def _report_when_free(self, report: Report) -> None:
        await self._places.acquire()
        await self._report(report)

    async def _report_together(self, reports: list[Report]) -> None:
        """In one request as far as the server can, what is left of each in its own."""
        await self._places.acquire()
        for _ in reports[1:]:
            self._places.take()
        try:
            await self._reporter.refused_together(reports)
        except (ApiError, ConnectionError, TimeoutError) as error:
            log.debug("%d refusals are told one by one: %s", len(reports), error)
        for report in reports:
            if report.done:
                self._reported(report)
            else:
                self._tasks.create_task(self._report(report))

    async def _report(self, report: Report) -> None:
        """A place for it is held."""
        pod = report.pod
        try:
            await self._reporter.refused(report)
        except (ApiError, ConnectionError, TimeoutError) as error:
            self._nominations.give_up(pod.metadata.uid)  # the next try chooses anew
            if report.candidate is not None and self._queue.again(group_of(pod) or pod.key, self._clock.monotonic()):
                self._wake.set()
            if not (isinstance(error, ApiError) and error.code == 404):
                log.warning("condition of %s was not written: %s", pod.key, error)
        finally:
            self._reported(report)

    def _reported(self, report: Report) -> None:
        self._places.release()
        if report.candidate is not None and self._queue.release(report.pod.key, self._clock.monotonic()):
            self._wake.set()


@dataclass(slots=True)
class _Turn:
    """What is decided between two looks at the event loop, and written together."""

    bindings: dict[str, list[tuple[Waiting, str]]] = field(default_factory=dict)
    """By namespace."""
    reports: list[Report] = field(default_factory=list)


_NO_EXTENDERS = (
    "pods of a PodGroup are placed in one go, which scheduler extenders cannot judge: an extender wants this pod"
)
WHEN_A_POD_GOES = (
    "NodeResourcesFit",
    "NodePorts",
    "PodTopologySpread",
    "InterPodAffinity",
    "VolumeRestrictions",
    "NodeVolumeLimits",
)
"""Plugins that a pod's going may satisfy."""
