"""Eyes: informers of all that is looked at, and the providers' lists. Out: an Observed. Next: plan.py.

Machines that are being made or removed at this moment are seen as such, whatever their provider says already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jota.aio.clock import Clock
from jota.autoscaler.provider import Machine, Provider, ProviderFault
from jota.autoscaler.settings import GroupSettings, Settings
from jota.autoscaler.world import DaemonSet, GroupView, Node, Observed, Pod
from jota.client.client import Client
from jota.client.informer import Informer
from jota.client.informers import Informers
from jota.meta.resource import NAMESPACES, NODES, PODS, Resource
from jota.scheduler.feed import Namespace
from jota.scheduler.preemption import Budget
from jota.scheduler.resources import BUDGETS, CLAIMS, CLASSES, CSINODES, SELECTING, VOLUMES
from jota.scheduler.storage import Claim, Class, CsiNode, Volume
from jota.scheduler.workloads import Selecting

log = logging.getLogger(__name__)

DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
Flight = tuple[str, float]
"""("creating" or "deleting", since when)"""


class Observer:
    """`stir()` is called when something may have to be done at once."""

    def __init__(self, client: Client, clock: Clock, stir: Callable[[], None]) -> None:
        self.informers = Informers(client, clock)
        of: Callable[..., Informer[Any]] = self.informers.of
        self.nodes: Informer[Node] = of(NODES, type=Node)
        self.pods: Informer[Pod] = of(PODS, type=Pod)
        self._daemons: Informer[DaemonSet] = of(DAEMONSETS, type=DaemonSet)
        self._budgets: Informer[Budget] = of(BUDGETS, type=Budget)
        self._claims: Informer[Claim] = of(CLAIMS, type=Claim)
        self._volumes: Informer[Volume] = of(VOLUMES, type=Volume)
        self._classes: Informer[Class] = of(CLASSES, type=Class)
        self._csinodes: Informer[CsiNode] = of(CSINODES, type=CsiNode)
        self._namespaces: Informer[Namespace] = of(NAMESPACES, type=Namespace)
        self._selecting = {kind: of(resource, type=Selecting) for kind, resource in SELECTING.items()}
        self.pods.add_handler(lambda old, new: stir() if _newly_stuck(old, new) else None)
        self.nodes.add_handler(lambda old, new: stir() if _moved(old, new) else None)

    async def look(
        self, settings: Settings, providers: Mapping[str, Provider], flights: Mapping[tuple[str, str], Flight]
    ) -> Observed:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(_ask(g, providers[g.name], flights)) for g in settings.groups]
        views = [a.result() for a in asked]
        _refuse_shared(views)
        return Observed(
            settings.options,
            views,
            self.nodes.list(),
            self.pods.list(),
            self._daemons.list(),
            self._budgets.list(),
            self._claims.list(),
            self._volumes.list(),
            self._classes.list(),
            self._csinodes.list(),
            self._namespaces.list(),
            {kind: informer.list() for kind, informer in self._selecting.items()},
        )


async def _ask(group: GroupSettings, provider: Provider, flights: Mapping[tuple[str, str], Flight]) -> GroupView:
    view = GroupView(group, prefix=provider.prefix)
    try:
        view.first = await provider.first()
        view.template = await provider.template()
        listed = await provider.machines()
    except ProviderFault as fault:
        view.fault = str(fault)
        return view
    except Exception as error:  # a mistake in one provider must not stop the others; it is logged with its trace
        log.error("provider of group %s", group.name, exc_info=error)
        view.fault = f"{type(error).__name__}: {error}"
        return view
    machines = {m.name: m for m in listed}
    for (owner, name), (state, since) in flights.items():
        if owner != group.name:
            continue
        known = machines.get(name)
        if known is None and state == "creating":
            machines[name] = Machine(name, state, created=since)
        elif known is not None and (state == "deleting" or known.state == "failed"):
            machines[name] = replace(known, state=state)
    view.machines = [machines[name] for name in sorted(machines)]
    return view


def _refuse_shared(views: list[GroupView]) -> None:
    """A node is of one group: a provider that lists another group's is not believed at all."""
    owners: dict[str, str] = {}
    for view in views:
        for machine in view.machines:
            owner = owners.setdefault(machine.node_name, view.name)
            if owner != view.name:
                view.fault = f"its provider lists {machine.node_name}, which is of group {owner}"
        if view.fault:
            view.machines = []


def _newly_stuck(old: Pod | None, new: Pod | None) -> bool:
    return new is not None and new.unschedulable and not (old is not None and old.unschedulable)


def _moved(old: Node | None, new: Node | None) -> bool:
    return old is None or new is None or old.ready != new.ready or old.marked_at != new.marked_at
