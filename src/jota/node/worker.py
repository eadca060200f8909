"""One pod's life on this node: look, plan, carry out, tell; again on every wake-up. In: the pod as the API shows it.

The loop never waits for an operation: each runs as a task named in `facts.busy`, and its end wakes the loop. Killing the
agent between any two steps is safe, because the next agent sees the same runtime and plans the same next step.
Next: operations.py has the operations; plan.py decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from jota.aio.clock import parse_rfc3339, rfc3339
from jota.node import remains, verdicts
from jota.node.allocation import Allocation, allocated, asked, inferred, remember, remembered
from jota.node.events import PodEvents
from jota.node.kit import Kit
from jota.node.model import Facts, Failure, Object, Observed, Resizing, Verdict, key_of, parts, uid_of
from jota.node.operations import Operations, keys_of
from jota.node.plan import Action, KillContainer, MountVolumes, Plan, plan, resizes, stop_of
from jota.node.probes.prober import Prober
from jota.node.resizes import generation, summary
from jota.node.resources import pod_resources
from jota.node.status import ID_PREFIX, PASSING_CONDITIONS, PENDING, SECTIONS, build
from jota.node.writer import StatusWriter
from jota.runtime.protocol import RuntimeFault

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds before an operation that failed in an unforeseen way is tried again."""


class PodWorker:
    """Owns everything about one pod uid. `run` returns once the pod's last trace is gone."""

    def __init__(self, kit: Kit, pod: Object) -> None:
        self.kit, self.uid = kit, uid_of(pod)
        self.facts = Facts()
        self.seen = Observed()
        self.pod = self.allocated = pod
        """As the API shows it, and with the resources that are allocated to it: what runs, is shown and is counted goes by
        these."""
        self._shown: tuple[int, Allocation | None] | None = None
        self._plain = True
        self.allocation: Allocation | None = None
        """None: nothing is known of it yet (another agent started the pod); the spec stands in for it until the first look."""
        if not (pod.get("status") or {}).get("startTime"):
            self.allocation = asked(pod)
        elif (kept := remembered(kit.config.pod_dir(self.uid))) is not None:
            self.allocation = kept
        self._show(pod)
        meta = pod["metadata"]
        base = pod.get("status") or {}
        self.writer = StatusWriter(kit.client, kit.clock, meta["namespace"], meta["name"], self.uid, base)
        self.events = PodEvents(kit.recorder, pod)
        self._wake = asyncio.Event()
        self._wake.set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = 0.0
        self.said: set[str] = set()
        """Events that must appear once, however often a step is repeated."""
        self._held: dict[str, float] = {}
        """Operation -> epoch seconds before which it is not tried again, after a failure that nobody foresaw."""
        self._refresh = self._looked = False
        self._ended = 0
        """Operations that have ended: tells whether a listing is older than the last of them."""
        self.operations = Operations(self)
        self._restore(base)

    # -- inputs

    def wake(self) -> None:
        self._wake.set()

    def update(self, pod: Object) -> None:
        """The API shows the pod so. Never goes back from deleted to not deleted."""
        if "deletionTimestamp" in self.pod["metadata"] and "deletionTimestamp" not in pod["metadata"]:
            return
        before = self.pod["metadata"]
        self._show(pod)
        if before.get("generation") != pod["metadata"].get("generation"):
            self.kit.resizes.ask(self)
        if any(before.get(k) != pod["metadata"].get(k) for k in ("labels", "annotations")):
            self.operations.references_changed()  # the downward API shows them
        self.writer.observed(pod.get("status") or {})
        self.wake()

    def gone(self, last: Object) -> None:
        """The API no longer has the pod (a forced delete, or our own): stop what runs and clean up."""
        meta = dict(last["metadata"])
        if "deletionTimestamp" not in meta:
            meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = rfc3339(self.kit.clock.now()), 0
        self._show({**last, "metadata": meta})
        self.writer.stop()
        self.wake()

    def _show(self, pod: Object) -> None:
        """Take the pod, and with it the resources that are allocated to it; worked out anew when either is another."""
        self.pod = pod
        shown = generation(pod), self.allocation
        if (
            self._plain
            and shown[0]
            and self._shown is not None
            and shown[0] == self._shown[0]
            and shown[1] is self._shown[1]
        ):
            self.allocated = pod
            return
        self.allocated = pod if self.allocation is None else allocated(pod, self.allocation)
        self._plain, self._shown = self.allocated is pod, shown
        self.facts.bounds = pod_resources(self.allocated)

    def allocate(self, allocation: Allocation) -> None:
        """From now on the pod has these resources, whatever comes. Raises OSError: nothing has changed."""
        remember(self.kit.config.pod_dir(self.uid), allocation)
        self.allocation = allocation
        self._show(self.pod)
        self.operations.stale_volumes()  # the downward API shows them

    def refresh(self) -> None:
        """Write the volumes again: something that they show has changed."""
        self._refresh = True
        self.wake()

    def hold(self, key: str, seconds: float) -> None:
        """Do not try this operation again before `seconds` have passed."""
        self._held[key] = self.kit.clock.now() + seconds

    @property
    def stopping(self) -> bool:
        """The pod is to end: nothing new is started in it."""
        return (
            "deletionTimestamp" in self.pod["metadata"] or self.facts.stop is not None or self.facts.verdict is not None
        )

    def condemn(self, verdict: Verdict) -> None:
        """The node decided: the pod fails (rejected, evicted) and is stopped."""
        if self.facts.verdict is None:
            self.facts.verdict = verdict
            self.wake()

    def evict(self, verdict: Verdict) -> None:
        """It fails, also if this agent dies before its containers have: the next one would see no reason to stop them."""
        if self.facts.verdict is not None:
            return
        try:
            verdicts.remember(self.kit.config.pod_dir(self.uid), verdict)
        except OSError as e:  # a full disk is what some are evicted for
            log.warning("%s: its eviction will be forgotten if this agent ends: %s", key_of(self.pod), e)
        self.condemn(verdict)

    # -- the loop

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self.group = group
            kit = self.kit
            self.prober = Prober(kit.runtime, kit.clock, kit.random, group, self._probed, self._unhealthy)
            writer = group.create_task(self.writer.run(), name=f"status {key_of(self.pod)}")
            while not self.facts.removed:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._look_and_act()
                except (RuntimeFault, OSError) as e:
                    log.warning("%s: the runtime does not answer: %s", key_of(self.pod), e)
                    self._ring_at(kit.clock.now() + RETRY)
            self.prober.close()
            for task in (writer, self._timer, *self._tasks.values()):
                if task is not None:
                    task.cancel()
            kit.forget(self.uid)

    async def _look_and_act(self) -> None:
        kit, facts = self.kit, self.facts
        self.operations.want_references()
        ended = self._ended
        seen = await kit.snapshots.of(self.uid)
        if self._ended != ended:
            return  # an operation ended after the listing began; its end has rung: look again
        self.seen = seen
        self._learn_remains()
        now = kit.clock.now()
        self._follow_resize(now)
        if not facts.start_time:
            facts.start_time = now
        before = facts.stop
        facts.stop = stop_of(self.pod, facts, now, self.seen)
        steps = plan(self.allocated, self.seen, facts, now, kit.config.curve)
        if steps.verdict is not None and facts.verdict is None:
            self._convict(steps.verdict)
            return
        if facts.stop is not None and before is None:
            self._abandon_starts()
        self._tell(steps, now)
        stopping = facts.stop is not None or facts.verdict is not None
        self.prober.update(self.pod, self.seen, kit.config.address, facts.hooked, stopping)
        if self._refresh and "volumes" not in facts.busy and facts.stop is None:
            self._refresh = False
            self._launch(MountVolumes())
        for action in steps.actions:
            self._launch(action)
        self._sleep_until(steps.wake)

    def _follow_resize(self, now: float) -> None:
        """Whether what runs has what is allocated, and who may be helped once it has."""
        facts, first = self.facts, not self._looked
        if first:
            self._looked = True
            if self.allocation is None:
                self.allocation = inferred(self.pod, self.seen)
                self._show(self.pod)
            self.kit.resizes.ask(self)
        elif facts.progress is None:
            return
        if resizes(self.allocated, self.seen):
            if facts.progress is None:  # the last agent died before it could say so
                facts.progress = Resizing("", "", generation(self.pod), now)
        elif facts.progress is not None:
            number, facts.progress, facts.resize_failure = facts.progress.generation, None, None
            self.events.normal("ResizeCompleted", summary("Pod resize completed", self.allocated, number))
            self.kit.resizes.look()

    def _convict(self, verdict: Verdict) -> None:
        self.facts.verdict = verdict
        self.events.warning(verdict.reason, verdict.message)
        self.wake()

    def _tell(self, steps: Plan, now: float) -> None:
        self.events.backoffs(steps, self.pod)
        if steps.between:
            return
        status = build(self.allocated, self.seen, self.facts, steps, host_ip=self.kit.config.address, now=now)
        self.writer.offer(status)

    # -- operations

    def _launch(self, action: Action) -> None:
        key = keys_of(action)
        deadline = action.deadline if isinstance(action, KillContainer) else 0.0
        if self._held.get(key, 0.0) > self.kit.clock.now():
            return
        if key in self.facts.busy:
            if not isinstance(action, KillContainer):
                return
            self._tasks[key].cancel()
        self.facts.busy[key] = deadline
        self._tasks[key] = self.group.create_task(
            self._perform(key, self.operations.perform(action)), name=f"{key} of {key_of(self.pod)}"
        )

    async def _perform(self, key: str, work: Coroutine[object, object, None]) -> None:
        me = asyncio.current_task()
        try:
            await work
        except Exception as e:  # an operation's surprise must neither end the worker nor be retried in a tight loop
            log.exception("%s: %s failed", key_of(self.pod), key)
            self.hold(key, RETRY)
            self.operations.surprised(key, e)
        finally:
            self._ended += 1
            if self._tasks.get(key) is me:
                del self._tasks[key]
                self.facts.busy.pop(key, None)
            self.wake()

    def _abandon_starts(self) -> None:
        """The pod must stop: waiting for images, volumes and hooks has lost its purpose."""
        for key in list(self._tasks):
            if key.startswith(("image:", "hook:")) or key == "volumes":
                self._tasks[key].cancel()

    def _sleep_until(self, when: float) -> None:
        refresh = self.operations.refresh_at
        if refresh and self.facts.volumes_ready and not self.facts.torn_down:
            when = min(when, refresh) if when else refresh
        now = self.kit.clock.now()
        self._held = {k: t for k, t in self._held.items() if t > now}
        for t in self._held.values():
            when = min(when, t) if when else t
        self._ring_at(when)

    def _ring_at(self, when: float) -> None:
        """Wake at `when` (epoch seconds) and not otherwise; 0: only by an event."""
        if when == self._timer_at and (self._timer is not None and not self._timer.done()):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = when
        if when:
            self._timer = self.group.create_task(self._ring(when), name=f"timer of {key_of(self.pod)}")

    async def _ring(self, when: float) -> None:
        await self.kit.clock.sleep(max(0.0, when - self.kit.clock.now()))
        if self.operations.refresh_at and self.operations.refresh_at <= self.kit.clock.now():
            self.operations.stale_volumes()
        self.wake()

    # -- what is learnt on the way

    def _probed(self, container_id: str, kind: str, passed: bool) -> None:
        self.facts.probes[container_id, kind] = passed
        self.wake()

    def _unhealthy(self, container: str, reason: str, message: str) -> None:
        self.events.warning(reason, message, container)

    def _learn_remains(self) -> None:
        """Read what newly dead containers left, once."""
        facts, live = self.facts, {c.id for c in self.seen.containers}
        pod_dir = self.kit.config.pod_dir(self.uid)
        for p in parts(self.pod):
            for c in self.seen.of(p.name)[:2]:
                if c.state == "exited" and c.id not in facts.termination:
                    facts.termination[c.id] = remains.termination_message(pod_dir, p, c)
                    facts.last_lines[c.id] = remains.last_line(c) if c.exit_code else ""
        for known in (facts.termination, facts.last_lines, facts.hooked):
            for cid in [i for i in known if i not in live]:
                del known[cid]
        for key in [k for k in facts.probes if k[0] not in live]:
            del facts.probes[key]

    def _restore(self, status: Object) -> None:
        """A new agent believes what the last one wrote about running containers, until its own probes tell otherwise."""
        if status.get("startTime"):
            self.facts.verdict = verdicts.remembered(self.kit.config.pod_dir(self.uid))
            self.facts.start_time = parse_rfc3339(status["startTime"])
        for c in status.get("conditions") or []:
            if c["type"] in PASSING_CONDITIONS:
                since = parse_rfc3339(c["lastTransitionTime"]) if c.get("lastTransitionTime") else 0.0
                found = Resizing(c.get("reason", ""), c.get("message", ""), c.get("observedGeneration", 0), since)
                if c["type"] == PENDING:
                    self.facts.pending = found
                else:
                    self.facts.progress = found
        for section in set(SECTIONS.values()):
            for s in status.get(section) or []:
                cid = str(s.get("containerID", "")).removeprefix(ID_PREFIX)
                if not cid or "running" not in s.get("state", {}):
                    continue
                self.facts.hooked[cid] = ""
                if s.get("started"):
                    self.facts.probes[cid, "startup"] = True
                if s.get("ready"):
                    self.facts.probes[cid, "readiness"] = True

    def fail(self, reason: str, message: str, previous: Failure | None) -> Failure:
        """The next point on the 1 s .. 60 s curve of a step that keeps failing."""
        count = previous.count + 1 if previous else 1
        now = self.kit.clock.now()
        return Failure(reason, message, now, now + min(60.0, 2.0 ** min(count - 1, 10)), count)
