"""The house base of controllers: events become keys, keys become calls of `reconcile`, failures come back later.

A controller subclasses Controller: in `__init__` it names what it watches and which keys a change concerns, and
`reconcile(key)` makes the API agree with what should be. Reconcile is safe to repeat and reads only caches and the API;
the decision in it is a pure function `plan`. One crash is one key's back-off, never another's. Next: table.py.

Own writes: caches lag behind them. `wrote(key, informer, version)` makes the base hold the key back until that cache
reflects the write, so a reconcile always sees what the previous one did (resourceVersions are ordered numbers).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from jota.aio.backoff import Backoff
from jota.aio.clock import Clock
from jota.client.cache import ALL
from jota.client.client import Client
from jota.client.events import EventRecorder
from jota.client.informer import Informer, key_of
from jota.client.informers import Informers
from jota.client.workqueue import QueueClosed, WorkQueue
from jota.meta.errors import ApiError
from jota.meta.resource import Resource

log = logging.getLogger(__name__)
Object = dict[str, Any]
Keys = Callable[[Any], Iterable[str]]

CATCH_UP_SECONDS = 5.0
"""How long a key waits for the caches to reflect its own last write; then it goes to the back of the queue."""
CHEAP_SECONDS, REST_SECONDS = 0.001, 0.25
"""A reconcile longer than the first is followed by a rest of at most the second, in which events of its key gather: the defaults
of `cheap` and `longest_rest`."""
MAX_BACKOFF = 30.0


@dataclass(slots=True, frozen=True)
class ControllerConfig:
    """What the composition root decides. Durations in seconds."""

    cluster_cidr: str = "10.42.0.0/16"
    """Pod addresses of the whole cluster; one or, comma-separated, two (dual stack)."""
    node_mask: int = 24
    """Prefix length of each node's part of `cluster_cidr` (IPv4; IPv6 parts are /64)."""
    ca_pem: str = ""
    """Published in every namespace as ConfigMap kube-root-ca.crt."""
    signer: Any = None
    """jota.pki.ca.CertificateAuthority that signs kubelets' certificates; None: requests stay unsigned."""
    reserved: frozenset[str] = frozenset()
    """Names and addresses by which clients know the API server: no node's certificate bears them."""
    token_signer: Any = None
    """jota.pki.jwt.TokenSigner of the ServiceAccount tokens that are kept in Secrets; None: such Secrets stay empty."""
    certificate_days: float = 365.0
    node_monitor_period: float = 5.0
    node_monitor_grace: float = 40.0
    """Age of a node's last heartbeat at which its Ready condition becomes Unknown."""
    node_startup_grace: float = 60.0
    """The same for a node that has never reported."""
    node_eviction_rate: float = 10.0
    """Nodes per second and zone whose pods may be evicted. Upstream's 0.1 spares a control plane that starts some tens of
    pods a second; what protects against false alarms is the states of zones.py."""
    secondary_node_eviction_rate: float = 0.1
    """The same in a zone of more than 50 nodes of which more than half are unhealthy (upstream: 0.01)."""
    terminated_pod_threshold: int = 12500
    """Finished pods kept in the whole cluster."""
    event_ttl: float = 3600.0
    legacy_token_unused: float = 365 * 86400.0
    """After which tokens in Secrets are marked invalid, and after which those are deleted (upstream's
    --legacy-service-account-token-clean-up-period)."""


@dataclass(slots=True)
class Context:
    """What every controller is handed."""

    client: Client
    clock: Clock
    config: ControllerConfig
    informers: Informers
    random: Random = field(default_factory=Random)
    recorders: dict[str, EventRecorder] = field(default_factory=dict)

    def recorder(self, component: str) -> EventRecorder:
        """The event recorder of a component; run_controllers runs them all."""
        return self.recorders.setdefault(component, EventRecorder(self.client, self.clock, component))


class Controller:
    """Base. Subclasses set `name`, call `watch` in `__init__`, and implement `reconcile`."""

    name: ClassVar[str] = ""
    workers: ClassVar[int] = 4
    cheap: ClassVar[float] = CHEAP_SECONDS
    """Reconciles up to this long are not followed by a rest."""
    longest_rest: ClassVar[float] = REST_SECONDS
    resync: ClassVar[float] = 300.0
    """Seconds after which every key of `all_keys` is looked at again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client, self.clock, self.config = context.client, context.clock, context.config
        self.queue = WorkQueue(context.clock, Backoff(0.005, MAX_BACKOFF))
        self._informers: list[Informer[Any]] = []
        self._written: dict[str, dict[Informer[Any], int]] = {}

    # -- for subclasses

    def watch(
        self,
        resource: Resource,
        keys: Keys | None = None,
        *,
        when: Callable[[Any, Any], bool] | None = None,
        type: Any = None,
        fields: str = "",
        on: int = ALL,
        alike: Callable[[Any, Any], bool] | None = None,
        of: Callable[[Any], object] | None = None,
    ) -> Informer[Any]:
        """Use the shared cache of `resource`; each change enqueues `keys(object)` of both its old and new state.

        Without `keys`: only read it. `when(old, new)` filters changes, `on` by what they were about and `of` by what the objects
        are (client/cache.py). Those that are `alike` have the same keys: one look. The object's own key: `watch(R, own)`.
        """
        informer = self.context.informers.of(resource, type=type, fields=fields)
        self._informers.append(informer)
        if keys is not None:

            def handler(old: Any, new: Any) -> None:
                if alike is not None and old is not None and new is not None and alike(old, new):
                    found = keys(new)  # most often nobody's: that is known before what `when` looks at
                    if found and (when is None or when(old, new)):
                        for key in found:
                            self.queue.add(key)
                    return
                if when is not None and not when(old, new):
                    return
                for obj in (old, new):
                    if obj is not None:
                        for key in keys(obj):
                            self.queue.add(key)

            informer.add_handler(handler, on, of)
        return informer

    async def reconcile(self, key: str) -> float | None:
        """Make it so. Returns seconds after which to look again, or None; 0 is at once, there is more to do. Any exception:
        again after a back-off."""
        raise NotImplementedError

    def all_keys(self) -> Iterable[str]:
        """Keys for the slow timer; by default those of the first resource watched."""
        return list(self._informers[0].keys()) if self._informers else []

    def rest(self, key: str, took: float) -> float:
        """Seconds in which events of `key` gather, after a reconcile that took so long; more than `longest_rest` are not granted."""
        gathering = self.gathering(key, took)
        return max(4 * took if took > self.cheap else 0.0, gathering if gathering > self.cheap else 0.0)

    def gathering(self, key: str, took: float) -> float:
        """The same by how much hangs on `key`: where each look writes of all of it, more changes shall share one."""
        return 0.0

    def wrote(self, key: str, informer: Informer[Any], written: Object | str) -> None:
        """Remember what came back from a write of ours (the object, or its resourceVersion): `key` waits until `informer`
        reflects it."""
        version = written if isinstance(written, str) else written.get("metadata", {}).get("resourceVersion", "")
        if version.isdigit():
            seen = self._written.setdefault(key, {})
            seen[informer] = max(seen.get(informer, 0), int(version))

    # -- the loop

    async def run(self) -> None:
        """Work until cancelled."""
        for informer in self._informers:
            await informer.synced()
        async with asyncio.TaskGroup() as group:
            for n in range(self.workers):
                group.create_task(self._work(), name=f"{self.name} {n}")
            group.create_task(self._resync(), name=f"{self.name} resync")

    async def step(self) -> None:
        """Work off the next key (tests and virtual time; `run` does the same in a loop)."""
        key = await self.queue.get()
        began, rest = self.clock.monotonic(), 0.0
        try:
            if await self._one(key) != 0:
                # A thousand events about the pods of one set are one look, not a thousand: they gather a moment.
                rest = min(self.longest_rest, self.rest(key, self.clock.monotonic() - began))
        finally:
            self.queue.done(key, rest)

    async def _work(self) -> None:
        while True:
            try:
                await self.step()
            except QueueClosed:
                return

    async def _one(self, key: str) -> float | None:
        """What `reconcile` returned; None when it failed."""
        again = None
        try:
            if not await self._caught_up(key):
                self.queue.add_backoff(key)
                return None
            again = await self.reconcile(key)
        except ApiError as e:
            self._failed(key, e, expected=e.code in (409, 429, 503, 504) or e.code == 404)
        except (ConnectionError, TimeoutError) as e:
            self._failed(key, e, expected=True)
        except Exception as e:  # a mistake in one reconcile must not stop the others; it is logged with its trace
            self._failed(key, e, expected=False)
        else:
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
        return again

    def _failed(self, key: str, error: Exception, *, expected: bool) -> None:
        if expected:
            log.info("%s %s: %s", self.name, key, error)
        elif isinstance(error, ApiError):
            log.warning("%s %s: %s", self.name, key, error)
        else:
            log.error("%s %s failed", self.name, key, exc_info=error)
        self.queue.add_backoff(key)

    async def _caught_up(self, key: str) -> bool:
        behind = self._written.get(key, {})
        while behind:
            informer, version = next(iter(behind.items()))
            if informer.revision < version:
                try:
                    async with asyncio.timeout(CATCH_UP_SECONDS):
                        await informer.caught_up(version)
                except TimeoutError:
                    return False
            if behind[informer] == version:
                del behind[informer]
        self._written.pop(key, None)
        return True

    async def _resync(self) -> None:
        while True:
            await self.clock.sleep(self.resync * (1 + 0.2 * self.context.random.random()))
            for key in list(self.all_keys()):
                self.queue.add(key)


class Sweep(Controller):
    """A controller that looks at everything once in `period` seconds: implement `sweep`."""

    workers: ClassVar[int] = 1
    period: ClassVar[float] = 60.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.queue.add("sweep")

    def all_keys(self) -> Iterable[str]:
        return ()

    async def reconcile(self, key: str) -> float | None:
        await self.sweep()
        return self.period

    async def sweep(self) -> None:
        raise NotImplementedError


def own(obj: Object) -> tuple[str]:
    """The object's own key, for `watch`."""
    meta = obj["metadata"]
    return (key_of(meta.get("namespace", ""), meta["name"]),)


def controller_of(obj: Object) -> Object | None:
    """The owner reference with `controller: true`, if any."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference  # type: ignore[no-any-return]
    return None


def owned_by(kind: str, group: str = "") -> Keys:
    """Keys of the controlling owner of `kind`, for `watch` on what it owns."""

    def keys(obj: Object) -> Iterable[str]:
        reference = controller_of(obj)
        if reference and reference["kind"] == kind and reference["apiVersion"].rpartition("/")[0] == group:
            return (key_of(obj["metadata"].get("namespace", ""), reference["name"]),)
        return ()

    return keys
