"""The API server: a wire Handler over a store. `Api.handle` takes a Request and gives a Response; chain.py has the order.

api = Api(store, clock=SystemClock(), random=Random())
await api.start()                     # bootstrap objects, the feed
serve(api.handle)                     # wire/http.py, or client.InProcess(api.handle, user)
await api.close()
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from jota.aio.clock import Clock
from jota.api import bootstrap, chain, componentstatus, kept, legacyuses, straight
from jota.api.admission.plugin import Plugin
from jota.api.admission.table import plugins as default_plugins
from jota.api.aggregation.services import Aggregation
from jota.api.config import ApiConfig
from jota.api.custom.manager import CustomResources
from jota.api.documents import Documents
from jota.api.feed import Feed
from jota.api.filters.attributes import Authenticator, Authorizer
from jota.api.flowcontrol.flows import Flows
from jota.api.flowcontrol.keeper import Keeper
from jota.api.lanes import Lanes
from jota.api.metadata import uids
from jota.api.metrics import Metrics
from jota.api.metricsapi import serve as metrics_api
from jota.api.registry import Registry
from jota.api.resource import Engine
from jota.api.served import Served, Verb
from jota.api.subresources import binding
from jota.kinds.kind import Kind
from jota.kinds.table import KINDS
from jota.kinds.virtual import VIRTUAL
from jota.store.protocol import Store
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.audit import Audit

__all__ = ["Api", "ApiConfig"]


class Api:
    def __init__(
        self,
        store: Store,
        *,
        kinds: Iterable[Kind] = KINDS,
        clock: Clock,
        random: Random,
        authenticator: Authenticator | None = None,
        authorizer: Authorizer | None = None,
        config: ApiConfig | None = None,
        plugins: Sequence[Plugin] | None = None,
    ) -> None:
        """Without an authenticator only preset users get in; without an authorizer everybody may do everything."""
        self.store, self.clock, self.random = store, clock, random
        self.authenticator, self.authorizer = authenticator, authorizer
        self.config = config or ApiConfig()
        self.audit: Audit | None = None
        """Set before `start` to have requests noted (audit.py)."""
        self.metrics = Metrics()
        self.flows = Flows(self.config.max_inflight, clock)
        self.feed = Feed(store, clock)
        self.feed.slow.together = self.config.watch_backlog
        self._kinds: dict[tuple[str, str], Kind] = {}
        self.registry = Registry(store, self.feed, self._kinds)
        chosen = default_plugins(self.config) if plugins is None else plugins
        self.engine = Engine(store, self.feed, self.registry, clock, random, chosen, self.config)
        self.engine.webhooks.authorizer = lambda: self.authorizer
        self.served = self.engine.served
        """(group, version, plural) -> what is served there."""
        self.lanes = Lanes(self.flows, self.served)
        self.flows.changed = self.lanes.forget
        self.audit_ids = uids(random)
        self.aggregation = Aggregation(self)
        self.documents = Documents(self)
        self.components: dict[str, Callable[[], bool]] = {}
        """Parts of the control plane beside the store, by name: whether they run (componentstatus.py)."""
        for kind in kinds:
            if self.config.serves(kind):
                self.install(kind)
        self.answer("", "bindings", binding.create)
        metrics_api.install(self)
        componentstatus.install(self)
        self.custom = CustomResources(self)
        self.flow_keeper = Keeper(self)
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.legacy_uses = legacyuses.Uses(self)
        self.closing = False
        """Requests that would last are told to go elsewhere."""
        self.metrics.more.append(self.feed.slow.text)
        self.metrics.more.append(lambda: self.flows.measures.text(self.flows.levels.values()))
        executing = ("Requests at work.", self.flows.executing)
        self.metrics.gauges["apiserver_current_inflight_requests"] = executing
        self.metrics.gauges["jota_store_revision"] = ("The newest revision.", lambda: self.store.revision)

    def install(self, kind: Kind, served: Served | None = None) -> None:
        """Serve one more kind (custom resources come and go at run time)."""
        resource = kind.resource
        self.served[(resource.group, resource.version, resource.plural)] = served or Served(kind, self.feed)
        if kind.storage is None:
            self._kinds[(resource.group, resource.plural)] = kind
        self._changed()

    def _changed(self) -> None:
        self.engine.forget()
        self.documents.forget()
        self.lanes.forget()

    def answer(self, group: str, plural: str, verb: Verb) -> None:
        """Serve one of the kinds that are never stored (kinds/virtual.py): `verb` answers a POST."""
        virtual = next(v for v in VIRTUAL if (v.resource.group, v.resource.plural) == (group, plural))
        kind = Kind(virtual.resource, schema=virtual.schema, singular=virtual.singular, verbs=virtual.verbs)
        if not self.config.serves(kind):
            return
        served = Served(kind, self.feed)
        served.answer = verb
        self.served[(group, virtual.resource.version, plural)] = served
        self.documents.forget()
        self.lanes.forget()

    def uninstall(self, group: str, version: str, plural: str) -> None:
        """Stop serving a kind and end its watches. What is stored stays."""
        served = self.served.pop((group, version, plural), None)
        if served is not None:
            self.feed.settle(served.channel)
            for watcher in served.channel.watchers():
                watcher.end()
            if served.kind.storage is None:
                self._kinds.pop((group, plural), None)
        self._changed()

    async def start(self) -> None:
        """Begin to feed watchers, serve custom resources and create what every cluster has. Raises StoreError."""
        self.custom.start()
        self._keeper = asyncio.create_task(self._run(), name="api")
        await asyncio.gather(bootstrap.run(self), self.aggregation.start(), self.flow_keeper.start())
        await legacyuses.tracked(self)
        await self.aggregation.bootstrapped()

    async def _run(self) -> None:
        """The parent of the server's own tasks."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.feed.run(), name="feed"),
                group.create_task(self.custom.run(), name="custom resources"),
                group.create_task(self.aggregation.run(), name="aggregation"),
                group.create_task(self.flow_keeper.run(), name="flow control"),
                group.create_task(kept.keep(self), name="what is kept"),
                group.create_task(self.legacy_uses.write(), name="uses of tokens in Secrets"),
            ]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    def new_uid(self) -> str:
        return self.engine.new_uid()

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """A wire Handler. Raises nothing: errors are Status responses."""
        return chain.handle(self, request)

    def reply(self, request: Request) -> Response | Awaitable[Response]:
        """The same as a wire Answerer: what nothing need be found out for is answered at once."""
        return straight.answer(self, request) or chain.handle(self, request)

    def fail_ready(self) -> None:
        """First step of a stop: /readyz fails, so that load balancers send nobody here any more; all is still served."""
        self.documents.stopping = True

    def end_watches(self) -> None:
        """Second step, when nobody new can connect: watches end cleanly after what is committed, and none begins."""
        self.closing = True
        self.feed.pump()
        self.feed.end_watchers()

    async def close(self) -> None:
        """Let go of the store's watch; the store itself is its owner's."""
        self._stop.set()
        self.feed.close()
        if self._keeper is not None:
            await self._keeper
