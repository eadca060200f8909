"""The loop: observe, plan, carry out, tell. All that decides is in plan.py; killed at any line, the next run goes on from what is.

Machines are made and removed in the background, so that a slow provider delays nobody else. Before a machine is given back
the API itself is asked once more whether a pod has slipped onto its node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from jota.aio.clock import Clock
from jota.aio.waiting import wait_event
from jota.autoscaler.actions import Adopt, Create, Evict, Forget, Mark, Memory, Plan, Remove, Tell, Unmark
from jota.autoscaler.observer import Flight, Observer
from jota.autoscaler.patience import Patience
from jota.autoscaler.plan import plan
from jota.autoscaler.provider import Provider, ProviderFault
from jota.autoscaler.report import NAME, NAMESPACE, Report
from jota.autoscaler.settings import BadSettings, GroupSettings, Settings
from jota.autoscaler.world import CORDONED, DRAINED, GROUP, TO_BE_DELETED, Node, Observed, Pod
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, NODES, PODS
from jota.scheduler.pod import Shapes

log = logging.getLogger(__name__)

GATHER = 1.0
"""Seconds in which events are gathered before they are looked at."""
CATCH_UP = 5.0
Object = dict[str, Any]


class Autoscaler:
    def __init__(
        self,
        client: Client,
        settings: Callable[[], Settings | None],
        make: Callable[[GroupSettings], Provider],
        *,
        clock: Clock,
    ) -> None:
        """`settings` is asked before every pass: None ends the work, BadSettings (raised) leaves things as they were."""
        self._client, self._ask, self._make, self._clock = client, settings, make, clock
        self._stir = asyncio.Event()
        self.observer = Observer(client, clock, self._stir.set)
        self.memory = Memory()
        self.started = asyncio.Event()
        """Set once the cluster is seen, right before the first pass."""
        self._settings = Settings()
        self._providers: dict[str, tuple[GroupSettings, Provider]] = {}
        self._flights: dict[tuple[str, str], Flight] = {}
        self._removals = Patience()
        self._events = EventRecorder(client, clock, "cluster-autoscaler")
        self._report = Report()
        self._shapes = Shapes()
        self._seen = 0
        """resourceVersion of our own last write of a Node."""

    async def run(self) -> None:
        """Until the settings say so, or until cancelled."""
        async with asyncio.TaskGroup() as tasks:  # also of machines in the making, and of slow providers' answers
            helpers = [tasks.create_task(self.observer.informers.run()), tasks.create_task(self._events.run())]
            await self.observer.informers.synced()
            self.started.set()
            while await self._try(tasks):
                await self._rest()
            await self._events.flush()
            self.observer.close()
            for helper in helpers:
                helper.cancel()

    async def _try(self, tasks: asyncio.TaskGroup) -> bool:
        """A pass; whether there is to be another. What one did not do the next finds again."""
        try:
            return await self._pass(tasks)
        except (
            Exception
        ):  # an object that nobody thought of must not end the work for all others; it is logged with its trace
            log.exception("a pass failed")
            return True

    async def _rest(self) -> None:
        interval = self._settings.options.scanInterval
        if await wait_event(self._stir, self._clock, interval):
            await self._clock.sleep(min(GATHER, interval / 2))
        self._stir.clear()

    async def _pass(self, tasks: asyncio.TaskGroup) -> bool:
        """Everything once; whether there is to be another pass."""
        wanted = self._read_settings()
        await self._caught_up()
        now = self._clock.now()
        providers = {g.name: self._provider(g) for g in self._settings.groups}
        observed = await self.observer.look(self._settings, providers, self._flights, tasks)
        decided = plan(observed, self.memory, now, self._shapes)
        for tell in decided.tells:
            self._tell(tell)
        await self._carry_out(decided, tasks)
        await self._write_report(observed, decided, now)
        return wanted

    def _read_settings(self) -> bool:
        try:
            found = self._ask()
        except BadSettings as error:
            log.warning("the settings are not taken, the former ones go on: %s", error)
            return True
        self._settings = found or Settings(options=self._settings.options)
        return found is not None

    def _provider(self, group: GroupSettings) -> Provider:
        known = self._providers.get(group.name)
        if known is None or known[0] != group:
            known = self._providers[group.name] = group, self._make(group)
        return known[1]

    async def _caught_up(self) -> None:
        """Let the cache of nodes show our own writes before we decide on it."""
        try:
            async with asyncio.timeout(CATCH_UP):
                await self.observer.nodes.caught_up(self._seen)
        except TimeoutError:
            log.info("the cache of nodes lags behind revision %d", self._seen)

    # -- doing

    async def _carry_out(self, decided: Plan, tasks: asyncio.TaskGroup) -> None:
        for action in decided.actions:
            try:
                match action:
                    case Adopt():
                        await self._adopt(action)
                    case Mark():
                        await self._mark(action)
                    case Unmark():
                        await self._unmark(action.node)
                        log.info("node %s is given back: %s", action.node.name, action.reason)
                    case Evict():
                        await self._evict(action.pod)
                    case Forget():
                        await self._delete_node(action.node)
                    case Create():
                        self._begin(tasks, (action.group, action.name), "creating", self._create(action))
                    case Remove():
                        self._remove_soon(tasks, action)
            except ApiError as error:
                if error.code not in (404, 409, 429):
                    log.warning("%s: %s", type(action).__name__, error)
            except (ConnectionError, TimeoutError) as error:
                log.info("the API does not answer: %s", error or "timed out")
                return

    async def _mark(self, action: Mark) -> None:
        """One write: the taint, the cordon and whose they are."""

        def change(node: Object) -> None:
            meta, spec = node["metadata"], node.setdefault("spec", {})
            notes = meta.setdefault("annotations", {})
            if not spec.get("unschedulable"):
                notes[CORDONED] = "cluster-autoscaler"
            if action.full:
                notes[DRAINED] = "true"
            meta.setdefault("labels", {})[GROUP] = action.group
            mark = {"key": TO_BE_DELETED, "value": str(int(self._clock.now())), "effect": "NoSchedule"}
            spec["unschedulable"], spec["taints"] = True, [*_others(spec), mark]

        await self._change(action.node, change)
        self._tell(Tell(action.node, "ScaleDown", "marked the node as toBeDeleted/unschedulable"))

    async def _unmark(self, node: Node) -> None:
        def change(found: Object) -> None:
            notes, spec = found["metadata"].setdefault("annotations", {}), found["spec"]
            spec["taints"] = _others(spec)
            notes.pop(DRAINED, None)
            if notes.pop(CORDONED, None) is not None:
                spec.pop("unschedulable", None)

        await self._change(node, change)

    async def _change(self, node: Node, change: Callable[[Object], None]) -> None:
        """Read, change, write; somebody else's write in between is a conflict, and the next pass looks again."""
        found = await self._client.get(NODES, node.name)
        if found["metadata"]["uid"] != node.metadata.uid:
            return
        change(found)
        written = await self._client.update(NODES, found)
        self._seen = max(self._seen, int(written["metadata"]["resourceVersion"]))
        self._stir.set()

    async def _adopt(self, action: Adopt) -> None:
        meta = {"uid": action.node.metadata.uid, "labels": {GROUP: action.group}}
        written = await self._client.patch(NODES, action.node.name, "", {"metadata": meta})
        self._seen = max(self._seen, int(written["metadata"]["resourceVersion"]))

    async def _evict(self, pod: Pod) -> None:
        meta = pod.metadata
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta.name, "namespace": meta.namespace},
            "deleteOptions": {"preconditions": {"uid": meta.uid}},
        }
        await self._client.create(PODS, eviction, meta.namespace, subresource="eviction", name=meta.name)
        self._tell(Tell(pod, "ScaleDown", "deleting pod for node scale down"))
        self._stir.set()

    async def _delete_node(self, node: Node) -> None:
        await self._client.delete(NODES, node.name, uid=node.metadata.uid)
        self._stir.set()

    # -- machines, in the background

    def _begin(self, tasks: asyncio.TaskGroup, key: tuple[str, str], state: str, work: Any) -> None:
        if key in self._flights:
            work.close()
            return

        async def fly() -> None:
            try:
                await work
            finally:
                self._flights.pop(key, None)
                self._stir.set()

        self._flights[key] = state, self._clock.now()
        tasks.create_task(fly(), name=f"{state} {key[1]}")

    async def _create(self, action: Create) -> None:
        provider = self._providers[action.group][1]
        try:
            await provider.create(action.name)
        except Exception as error:  # also a provider's own mistake: the group is left alone for a while, others go on
            self._provider_failed(action.group, f"{action.name}: {_words(error)}", error)
            text = f"Scale-up failed for group {action.group}: {_words(error)}"
            self._tell(Tell(None, "FailedToScaleUpGroup", text, "Warning"))

    def _remove_soon(self, tasks: asyncio.TaskGroup, action: Remove) -> None:
        key = action.group, action.machine
        if self._removals.over(key, self._clock.monotonic()):
            self._begin(tasks, key, "deleting", self._remove(action))

    async def _remove(self, action: Remove) -> None:
        key = action.group, action.machine
        try:
            if action.node is not None and await self._in_use(action.node):
                return
            await self._providers[action.group][1].delete(action.machine)
            if action.node is not None:
                await self._client.delete(NODES, action.node.name, uid=action.node.metadata.uid)
        except ApiError as error:
            if error.code != 404:
                log.warning("node of machine %s: %s", action.machine, error)
        except (ConnectionError, TimeoutError) as error:
            log.info("the API does not answer: %s", error or "timed out")
        except Exception as error:
            self._removals.failed(key, self._clock.monotonic())
            self.memory.failed = self._clock.now()
            text = f"Scale-down: machine {action.machine} of group {action.group} is not removed: {_words(error)}"
            self._tell(Tell(action.node, "ScaleDownFailed", text, "Warning"))
            _log(error, "removing %s", action.machine)
            return
        self._removals.asked(key, self._clock.monotonic())
        self._told_removal(action)

    def _told_removal(self, action: Remove) -> None:
        if action.node is None:
            return self._tell(Tell(None, "DeleteUnregistered", f"Removed unregistered node {action.machine}"))
        self._tell(Tell(action.node, "ScaleDown", "node removed by cluster autoscaler"))
        if action.drained:
            return self._tell(Tell(None, "ScaleDown", f"Scale-down: node {action.node.name} removed with drain"))
        return self._tell(Tell(None, "ScaleDownEmpty", f"Scale-down: empty node {action.node.name} removed"))

    async def _in_use(self, node: Node) -> bool:
        """Whether a pod that would be lost is on the node, as the API itself says. Raises ApiError."""
        listed = await self._client.list(PODS, fields=f"spec.nodeName={node.name}", type=_Pods)
        here = [
            p for p in listed.items or () if not p.stays and not p.finished and not (p.terminating and not node.ready)
        ]
        if here:
            log.info("node %s is not removed yet: %s is on it", node.name, here[0].key)
        return bool(here)

    def _provider_failed(self, group: str, message: str, error: Exception) -> None:
        code = error.code if isinstance(error, ProviderFault) else "error"
        self.memory.provider_failed(group, code, message, self._clock.now(), self._settings.options)
        _log(error, "group %s", group)

    # -- telling

    def _tell(self, tell: Tell) -> None:
        self._events.event(_reference(tell.about), tell.type, tell.reason, tell.message)

    async def _write_report(self, observed: Observed, decided: Plan, now: float) -> None:
        wanted = self._report.due(observed, decided, self.memory, now)
        if wanted is None:
            return
        try:
            patch = {"metadata": {"annotations": wanted["metadata"]["annotations"]}, "data": wanted["data"]}
            try:
                await self._client.patch(CONFIGMAPS, NAME, NAMESPACE, patch)
            except ApiError as error:
                if error.code != 404:
                    raise
                await self._client.create(CONFIGMAPS, wanted)
        except (ApiError, ConnectionError, TimeoutError) as error:
            log.info("the status is not written: %s", error or "timed out")
            return
        self._report.written(observed, decided, self.memory, now)


def _log(error: Exception, what: str, *arguments: object) -> None:
    """A provider's fault in words; anything else is a mistake and shows where."""
    if isinstance(error, ProviderFault):
        log.warning(what + ": %s", *arguments, error)
    else:
        log.error(what, *arguments, exc_info=error)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ProviderFault) else f"{type(error).__name__}: {error}"


def _others(spec: Object) -> list[Object]:
    """A node's taints but the mark."""
    return [t for t in spec.get("taints") or () if t["key"] != TO_BE_DELETED]


def _reference(about: Pod | Node | None) -> Object:
    if about is None:
        return {"kind": "ConfigMap", "namespace": NAMESPACE, "name": NAME, "apiVersion": "v1"}
    meta = about.metadata
    if isinstance(about, Node):
        return {"kind": "Node", "name": meta.name, "uid": meta.uid, "apiVersion": "v1"}
    assert isinstance(about, Pod)
    return {
        "kind": "Pod",
        "namespace": about.metadata.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "apiVersion": "v1",
    }


class _Pods(msgspec.Struct):
    items: list[Pod] | None = None
