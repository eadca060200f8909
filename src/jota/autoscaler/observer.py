"""Eyes: informers of all that is looked at, and the providers' lists. Out: an Observed. Next: plan.py.

Machines that are being made or removed at this moment are seen as such, whatever their provider says already. A provider that
takes long to answer delays nobody: its group is left alone until it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jota.aio.clock import Clock
from jota.autoscaler.provider import Machine, Provider, ProviderFault, Template
from jota.autoscaler.settings import Settings
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
ANSWER = 10.0
"""Seconds that one look waits for providers."""
Flight = tuple[str, float]
"""("creating" or "deleting", since when)"""


@dataclass(slots=True)
class Listing:
    """What a provider says of its group."""

    first: int = 0
    template: Template = field(default_factory=Template)
    machines: list[Machine] = field(default_factory=list)
    fault: str = ""


class Observer:
    """`stir()` is called when something may have to be done at once."""

    def __init__(self, client: Client, clock: Clock, stir: Callable[[], None]) -> None:
        self._clock = clock
        self._asked: dict[str, tuple[Provider, asyncio.Task[Listing]]] = {}
        """Group -> the question that has not been answered yet."""
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
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        flights: Mapping[tuple[str, str], Flight],
        tasks: asyncio.TaskGroup,
    ) -> Observed:
        """`tasks`: where questions live that take longer than this look."""
        for group in settings.groups:
            known = self._asked.get(group.name)
            if known is None or known[0] is not providers[group.name]:
                provider = providers[group.name]
                self._asked[group.name] = provider, tasks.create_task(_ask(group.name, provider))
        asked = {g.name: self._asked[g.name][1] for g in settings.groups}
        await self._answers(set(asked.values()))
        views = []
        for group in settings.groups:
            view = GroupView(group, prefix=providers[group.name].prefix)
            if asked[group.name].done():
                listing = self._asked.pop(group.name)[1].result()
                view.first, view.template, view.fault = listing.first, listing.template, listing.fault
                view.machines = [] if view.fault else _with_flights(group.name, listing.machines, flights)
            else:
                view.fault = f"its provider has not answered for {ANSWER:.0f} s"
            views.append(view)
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

    def close(self) -> None:
        """Wait for no answer any more."""
        for _, task in self._asked.values():
            task.cancel()

    async def _answers(self, asked: set[asyncio.Task[Listing]]) -> None:
        """Until all have answered, or for long enough."""
        timer = asyncio.ensure_future(self._clock.sleep(ANSWER))
        try:
            while asked and not timer.done():
                done, _ = await asyncio.wait({*asked, timer}, return_when=asyncio.FIRST_COMPLETED)
                asked = {a for a in asked if a not in done}
        finally:
            timer.cancel()


async def _ask(group: str, provider: Provider) -> Listing:
    try:
        return Listing(await provider.first(), await provider.template(), await provider.machines())
    except ProviderFault as fault:
        return Listing(fault=str(fault))
    except Exception as error:  # a mistake in one provider must not stop the others; it is logged with its trace
        log.error("provider of group %s", group, exc_info=error)
        return Listing(fault=f"{type(error).__name__}: {error}")


def _with_flights(group: str, listed: list[Machine], flights: Mapping[tuple[str, str], Flight]) -> list[Machine]:
    machines = {m.name: m for m in listed}
    for (owner, name), (state, since) in flights.items():
        if owner != group:
            continue
        known = machines.get(name)
        if known is None and state == "creating":
            machines[name] = Machine(name, state, created=since)
        elif known is not None and (state == "deleting" or known.state == "failed"):
            machines[name] = replace(known, state=state)
    return [machines[name] for name in sorted(machines)]


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
