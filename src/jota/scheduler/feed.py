"""What the scheduler knows of the world: informers in, changes of the snapshot out, and hints about who may be helped.

A hint names the plugins whose refusals an event may turn around (upstream's queueing hints); pods refused by others sleep on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Protocol

import msgspec

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.informers import Informers
from jota.meta.resource import NAMESPACES, NODES, PODS
from jota.scheduler.pod import Pod
from jota.scheduler.preemption import Budget
from jota.scheduler.resources import BUDGETS, CLAIMS, CLASSES, CSINODES, SELECTING, VOLUMES
from jota.scheduler.snapshot import Node, NodeMeta, Snapshot
from jota.scheduler.storage import Claim, Class, CsiNode, Volume
from jota.scheduler.workloads import Selecting

_STORAGE = ("VolumeBinding", "VolumeZone", "VolumeRestrictions", "NodeVolumeLimits")


class Namespace(msgspec.Struct):
    """What is read of a Namespace."""

    metadata: NodeMeta


class Listener(Protocol):
    """Who is told of pods and nodes, and whom a change may help: the scheduler."""

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None: ...
    def node_changed(self, old: Node | None, new: Node | None) -> None: ...
    def stir(self, *plugins: str) -> None: ...


class Feed:
    def __init__(
        self,
        client: Client,
        nodes: Snapshot,
        listener: Listener,
        *,
        clock: Clock,
        random: Random,
        shared: Informers | None = None,
    ) -> None:
        """`shared` are run by somebody else."""
        self._nodes, self._listener = nodes, listener
        made: Callable[..., Informer[Any]] = partial(Informer, client, clock=clock, random=random)
        self._pods: Informer[Pod] = made(PODS, type=Pod) if shared is None else shared.of(PODS, type=Pod)
        self._shares = shared is not None
        self._budgets: Informer[Budget] = made(BUDGETS, type=Budget)
        node_informer: Informer[Node] = made(NODES, type=Node)
        storage = nodes.storage
        others: list[tuple[Informer[Any], Callable[[Any, Any], None]]] = [
            (node_informer, listener.node_changed),
            (made(NAMESPACES, type=Namespace), self._namespace_changed),
            (made(CLAIMS, type=Claim), partial(self._stored, storage.claims, lambda o: o.key)),
            (made(VOLUMES, type=Volume), partial(self._stored, storage.volumes, lambda o: o.metadata.name)),
            (made(CLASSES, type=Class), partial(self._stored, storage.classes, lambda o: o.metadata.name)),
            (made(CSINODES, type=CsiNode), self._limits_changed),
        ]
        for kind, resource in SELECTING.items():
            others.append((made(resource, type=Selecting), partial(self._selecting_changed, kind)))
        for informer, handler in others:
            informer.add_handler(handler)
        self._pods.add_handler(listener.pod_changed)
        # Pods last: what decides about them is known by then.
        self._informers = [*(informer for informer, _ in others), self._budgets, self._pods]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                if informer is not self._pods or not self._shares:
                    tasks.create_task(informer.run())

    async def synced(self) -> None:
        for informer in self._informers:
            await informer.synced()

    def pod(self, key: str) -> Pod | None:
        return self._pods.get(key)

    def budgets(self) -> list[Budget]:
        return self._budgets.list()

    def _stored(self, table: dict[Any, Any], key: Callable[[Any], Any], old: Any, new: Any) -> None:
        if new is None:
            table.pop(key(old), None)
        else:
            table[key(new)] = new
        self._listener.stir(*_STORAGE)

    def _limits_changed(self, old: CsiNode | None, new: CsiNode | None) -> None:
        if new is None:
            if old is not None:
                self._nodes.storage.set_limits(old.metadata.name, {})
        else:
            limits = {
                d.name: d.allocatable.count
                for d in new.spec.drivers or ()
                if d.allocatable is not None and d.allocatable.count is not None
            }
            self._nodes.storage.set_limits(new.metadata.name, limits)
        self._listener.stir("NodeVolumeLimits")

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        """Affinity may choose namespaces by their labels."""
        seen = new or old
        assert seen is not None
        labels = None if new is None else new.metadata.labels or {}
        if self._nodes.pods.set_namespace(seen.metadata.name, labels) and old is not None:
            self._listener.stir("InterPodAffinity")

    def _selecting_changed(self, kind: str, old: Selecting | None, new: Selecting | None) -> None:
        """The cluster's default constraints spread what these select."""
        if new is not None:
            if not self._nodes.workloads.put(kind, new):
                return
        elif old is not None:
            self._nodes.workloads.remove(kind, old)
        self._listener.stir("PodTopologySpread")
