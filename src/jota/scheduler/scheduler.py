"""The scheduler: watches pods and nodes, decides with `cycle.py`, binds through the API. Safe to kill at any line.

Pods that it has placed but not yet seen bound are assumed in the snapshot; a failed binding takes the assumption back. A
new scheduler needs nothing of the old one: bound pods are in the API, all others are simply scheduled again.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from random import Random
from typing import Any

import msgspec

from jota.aio.clock import Clock, rfc3339
from jota.aio.waiting import wait_event
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, NODES, PODS
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Pod, Shape, Shapes
from jota.scheduler.profile import default_profile
from jota.scheduler.queue import SchedulingQueue, Waiting
from jota.scheduler.resources import SELECTING
from jota.scheduler.snapshot import Node, NodeMeta, Snapshot
from jota.scheduler.workloads import Selecting

log = logging.getLogger("jota.scheduler")

_GROUP = 256
"""Pods of one shape that are placed between two looks at the event loop."""
_BINDS_IN_FLIGHT = 512


class Namespace(msgspec.Struct):
    """What is read of a Namespace."""

    metadata: NodeMeta


class Scheduler:
    def __init__(self, client: Client, *, clock: Clock, random: Random) -> None:
        self._client, self._clock = client, clock
        self._profile = default_profile()
        self._nodes = Snapshot()
        self._shapes = Shapes()
        self._queue = SchedulingQueue()
        self._cycle = Cycle(self._profile, self._nodes, random.getrandbits(63))
        self._placed: dict[str, tuple[str, Shape]] = {}
        """Pod uid -> (node, shape) of every pod that the snapshot counts, bound or assumed."""
        self._assumed: set[str] = set()
        self._wake = asyncio.Event()
        self._binding = asyncio.Semaphore(_BINDS_IN_FLIGHT)
        self._events = EventRecorder(client, clock, self._profile.name)
        self._pods = Informer(client, PODS, type=Pod, clock=clock, random=random)
        self._node_informer = Informer(client, NODES, type=Node, clock=clock, random=random)
        self._namespaces = Informer(client, NAMESPACES, type=Namespace, clock=clock, random=random)
        self._selecting = {
            kind: Informer(client, resource, type=Selecting, clock=clock, random=random)
            for kind, resource in SELECTING.items()
        }

    async def run(self) -> None:
        """Until cancelled."""
        self._pods.add_handler(self._pod_changed)
        self._node_informer.add_handler(self._node_changed)
        self._namespaces.add_handler(self._namespace_changed)
        for kind, informer in self._selecting.items():
            informer.add_handler(partial(self._selecting_changed, kind))
        informers: list[Informer[Any]] = [self._node_informer, self._namespaces, *self._selecting.values(), self._pods]
        # Pods last: what decides about them is known by then.
        async with asyncio.TaskGroup() as tasks:
            for each in informers:
                tasks.create_task(each.run())
            tasks.create_task(self._events.run())
            for each in informers:
                await each.synced()
            while True:
                await self._wait()
                await self._schedule_ready(tasks)

    async def _wait(self) -> None:
        """Until a pod is ready to be tried."""
        self._wake.clear()
        patience = self._queue.wait(self._clock.monotonic())
        if patience != 0:
            await wait_event(self._wake, self._clock, patience)

    async def _schedule_ready(self, tasks: asyncio.TaskGroup) -> None:
        while group := self._queue.next_group(self._clock.monotonic(), _GROUP):
            shape = group[0].shape
            slots = self._cycle.place(shape, len(group))
            for waiting, slot in zip(group, slots, strict=False):
                self._assume(waiting, self._nodes.names[slot])
                await self._binding.acquire()
                tasks.create_task(self._bind(waiting, self._nodes.names[slot]))
            refused = group[len(slots) :]
            if refused:
                message = self._cycle.explain(shape)
                for waiting in refused:
                    self._queue.refuse(waiting, self._clock.monotonic())
                    await self._binding.acquire()
                    tasks.create_task(self._report(waiting.pod, message))
            await asyncio.sleep(0)

    # -- what happens outside

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._queue.remove(old.key)
            self._forget(old.metadata.uid)
        if new is None:
            return
        uid = new.metadata.uid
        if new.over:
            self._queue.remove(new.key)
            self._forget(uid)
        elif new.spec.nodeName:
            self._queue.remove(new.key)
            self._assumed.discard(uid)
            self._count(new)
        elif uid not in self._assumed and self._wants(new):
            self._queue.add(new, self._shapes.of(new), self._clock.monotonic())
            self._wake.set()
        elif uid not in self._assumed:
            self._queue.remove(new.key)

    def _wants(self, pod: Pod) -> bool:
        ours = pod.spec.schedulerName == self._profile.name
        return ours and not pod.spec.schedulingGates and pod.metadata.deletionTimestamp is None

    def _count(self, pod: Pod) -> None:
        known = self._placed.get(pod.metadata.uid)
        shape = self._shapes.of(pod)
        if known is not None and known[0] == pod.spec.nodeName and known[1] is shape:
            return
        self._forget(pod.metadata.uid, quietly=True)
        self._placed[pod.metadata.uid] = (pod.spec.nodeName, shape)
        self._nodes.add_pod(pod.spec.nodeName, shape)

    def _forget(self, uid: str, *, quietly: bool = False) -> None:
        """The pod holds no resources any more; unless `quietly`, refused pods get another try."""
        self._assumed.discard(uid)
        known = self._placed.pop(uid, None)
        if known is not None:
            self._nodes.remove_pod(*known)
            if not quietly:
                self._retry_refused()

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        """Affinity may choose namespaces by their labels."""
        seen = new or old
        assert seen is not None
        labels = None if new is None else new.metadata.labels or {}
        if self._nodes.pods.set_namespace(seen.metadata.name, labels) and old is not None:
            self._retry_refused()

    def _selecting_changed(self, kind: str, old: Selecting | None, new: Selecting | None) -> None:
        if new is not None:
            self._nodes.workloads.put(kind, new)
        elif old is not None:
            self._nodes.workloads.remove(kind, old)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._lose_node(old.metadata.name)
        elif self._nodes.put_node(new):
            self._retry_refused()

    def _lose_node(self, name: str) -> None:
        """Its pods keep their place in the accounts: the node may come back under its name before they are gone."""
        self._nodes.remove_node(name)
        for node, shape in self._placed.values():
            if node == name:
                self._nodes.add_pod(name, shape)

    def _retry_refused(self) -> None:
        self._queue.move_all(self._clock.monotonic())
        self._wake.set()

    # -- what we do

    def _assume(self, waiting: Waiting, node: str) -> None:
        uid = waiting.pod.metadata.uid
        self._assumed.add(uid)
        self._placed[uid] = (node, waiting.shape)

    async def _bind(self, waiting: Waiting, node: str) -> None:
        pod = waiting.pod
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, body, pod.metadata.namespace, subresource="binding", name=pod.metadata.name)
        except ApiError as error:
            self._take_back(waiting, error)
        except (ConnectionError, TimeoutError) as error:
            self._take_back(waiting, error)
        else:
            self._events.event(_reference(pod), "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")
        finally:
            self._binding.release()

    def _take_back(self, waiting: Waiting, error: Exception) -> None:
        pod = waiting.pod
        self._forget(pod.metadata.uid)
        gone = isinstance(error, ApiError) and error.code in (404, 409)
        current = self._pods.get(pod.key)
        if current is None or current.metadata.uid != pod.metadata.uid or (gone and current.spec.nodeName):
            return
        log.warning("binding %s failed and will be tried again: %s", pod.key, error)
        self._queue.retry(waiting, self._clock.monotonic())
        self._wake.set()

    async def _report(self, pod: Pod, message: str) -> None:
        """Say why in the pod's own condition and in an event, so that every client shows it; quiet when nothing changed."""
        try:
            known = next((c for c in pod.status.conditions or () if c.type == "PodScheduled"), None)
            if known is not None and known.status == "False" and known.message == message:
                return
            self._events.event(_reference(pod), "Warning", "FailedScheduling", message)
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastTransitionTime": rfc3339(self._clock.now()),
            }
            patch = {"status": {"conditions": [condition]}}
            meta = pod.metadata
            await self._client.patch(PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status")
        except ApiError as error:
            if error.code != 404:
                log.warning("condition of %s was not written: %s", pod.key, error)
        except (ConnectionError, TimeoutError) as error:
            log.warning("condition of %s was not written: %s", pod.key, error)
        finally:
            self._binding.release()


def _reference(pod: Pod) -> dict[str, Any]:
    meta = pod.metadata
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "resourceVersion": meta.resourceVersion,
    }
