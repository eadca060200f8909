"""Every APIService, and what follows from it: who answers for a group version, in which order discovery lists them.

In: the stored APIServices, mirrored. Out: `route` for chain.py, `foreign` for discovery. It also makes the local APIServices
(autoregister.py) and runs one keeper per remote one (remote.py, imported with the first).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from jota.aio.waiting import wait_event
from jota.api.aggregation import autoregister
from jota.api.aggregation.autoregister import GroupVersion
from jota.api.aggregation.priorities import CUSTOM, KING, Priority, built_in
from jota.api.filters.attributes import COMPONENT
from jota.api.path import Target
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.apiregistration.apiservice import APISERVICES, is_local
from jota.kinds.kind import Object
from jota.kinds.shape import meta, number, part, text
from jota.meta.resource import CONFIGMAPS, ENDPOINTSLICES, SERVICES
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.aggregation.remote import Remote
    from jota.api.server import Api

log = logging.getLogger("jota.api.aggregation")
AGENT = {"user-agent": "apiserver", "content-type": "application/json"}
RETRY = 1.0
"""Seconds until a failed write is tried again."""
TRUST_PERIOD = 60.0
"""Seconds between looks at the ConfigMap that extension servers read our CAs from."""
TRUST = "extension-apiserver-authentication"


class Foreign(NamedTuple):
    """What discovery must know beside the kinds of this server."""

    priorities: Mapping[GroupVersion, Priority] = {}
    """Of every group version with an APIService."""
    versions: Mapping[GroupVersion, Object] = {}
    """Group versions that other servers answer for -> APIVersionDiscovery."""

    def priority(self, group: str, version: str) -> Priority:
        return self.priorities.get((group, version)) or built_in(group, version) or CUSTOM


NOTHING_FOREIGN = Foreign()


class Aggregation:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._stored: dict[str, Object] = {}
        self.remotes: dict[GroupVersion, Remote] = {}
        self._at_start: frozenset[str] = frozenset()
        self._synced: frozenset[str] = frozenset()
        self._dirty, self._started = asyncio.Event(), asyncio.Event()
        self._followed = False

    # -- for others

    def route(self, target: Target) -> Remote | None:
        """Who answers a request, when it is not this server."""
        if not self.remotes:
            return None
        if target.resource:
            return self.remotes.get((target.group, target.version))
        parts = target.path.rstrip("/").split("/")
        if len(parts) == 4 and parts[1] == "apis":
            return self.remotes.get((parts[2], parts[3]))
        return self.remotes.get(("", parts[2])) if len(parts) == 3 and parts[1] == "api" else None

    def foreign(self) -> Foreign:
        priorities = {}
        for apiservice in self._stored.values():
            spec = part(apiservice, "spec")
            ranks = Priority(number(spec, "groupPriorityMinimum"), number(spec, "versionPriority"))
            priorities[(text(spec, "group"), text(spec, "version"))] = ranks
        return Foreign(priorities, {key: remote.shown() for key, remote in self.remotes.items()})

    def renewed(self) -> None:
        """Our own certificate was issued anew."""
        for remote in self.remotes.values():
            remote.tls.forget()

    # -- life

    async def start(self) -> None:
        """Know what is stored, make the local ones that are missing.

        Raises RuntimeError when the server refuses its own objects.
        """
        if not self._served:
            return
        api = self._api
        api.registry.mirror(APISERVICES, self._changed)
        api.registry.subscribe(CRDS, self._dirty.set)
        self._at_start = frozenset(self._stored)
        if not await self._register():
            raise RuntimeError("the local APIServices cannot be made; the log has the cause")

    @property
    def _served(self) -> bool:
        return (APISERVICES.group, APISERVICES.version, APISERVICES.plural) in self._api.served

    async def bootstrapped(self) -> None:
        """The system namespaces are there. Raises RuntimeError as `start` does."""
        if not await self._publish_trust():
            raise RuntimeError(f"ConfigMap {TRUST} cannot be written; the log has the cause")
        self._started.set()

    async def run(self) -> None:
        """Until cancelled. Nothing is done before `start` knows what is stored."""
        await self._started.wait()
        keepers: dict[GroupVersion, tuple[Remote, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._dirty.clear()
                for key, (remote, task) in list(keepers.items()):
                    if self.remotes.get(key) is not remote:
                        task.cancel()
                        del keepers[key]
                for key, remote in self.remotes.items():
                    if key not in keepers:
                        keepers[key] = remote, group.create_task(remote.keep(), name=f"availability of {remote.name}")
                good = await self._register() and await self._publish_trust()
                pause = TRUST_PERIOD if self._api.config.front_proxy is not None else None
                await wait_event(self._dirty, self._api.clock, pause if good else RETRY)

    # -- following

    def _changed(self, new: Object | None, old: Object | None) -> None:
        name = text(meta(new or old or {}), "name")
        if new is None:
            self._stored.pop(name, None)
        else:
            self._stored[name] = new
        spec = part(new or old or {}, "spec")
        self._place((text(spec, "group"), text(spec, "version")), name, new)
        self._dirty.set()
        self._api.documents.forget()

    def _place(self, key: GroupVersion, name: str, apiservice: Object | None) -> None:
        """Route a group version to its server, or back to this one."""
        if apiservice is None or is_local(apiservice) or key[0] == KING:
            self.remotes.pop(key, None)
            return
        known = self.remotes.get(key)
        if known is not None:
            known.update(apiservice)
            return
        from jota.api.aggregation.remote import Remote

        self.remotes[key] = Remote(self._api, name, apiservice)
        self._follow()

    def _follow(self) -> None:
        """From the first remote server on: a change of services or endpoints may have made one come or go."""
        if self._followed:
            return
        self._followed = True

        def look() -> None:
            for remote in self.remotes.values():
                remote.look()

        for resource in (SERVICES, ENDPOINTSLICES):
            self._api.registry.subscribe(resource, look)

    # -- writing

    async def _register(self) -> bool:
        """Make the local APIServices what they should be. False: try again."""
        api = self._api
        if not self._served:
            return True
        custom = api.custom.group_versions()
        built = {(g, v) for g, v, _ in api.served} - custom
        desired = autoregister.wanted(built, custom)
        steps = autoregister.plan(desired, self._stored, self._at_start, self._synced)
        path = APISERVICES.path()
        writes = [self._write("POST", path, obj) for obj in steps.create]
        writes += [self._write("PUT", f"{path}/{text(meta(obj), 'name')}", obj) for obj in steps.update]
        writes += [self._write("DELETE", f"{path}/{name}") for name in steps.delete]
        good = all(await asyncio.gather(*writes)) if writes else True
        if good:
            self._synced |= {*desired, *self._stored}
        return good

    async def _write(self, method: str, path: str, obj: Object | None = None) -> bool:
        """A lost race comes back as a change. False: it was refused."""
        body = orjson.dumps(obj) if obj is not None else b""
        response = await self._api.handle(Request(method, path, headers=AGENT, body=body, user=COMPONENT))
        if response.status not in (200, 201, 404, 409):
            log.error("%s %s: %d %s", method, path, response.status, response.body)
            return False
        return True

    async def _publish_trust(self) -> bool:
        """ConfigMap kube-system/extension-apiserver-authentication: whom extension servers may believe. False: try again.

        Upstream's cluster authentication trust controller writes the same keys.
        """
        proxy = self._api.config.front_proxy
        if proxy is None:
            return True
        data = {
            "client-ca-file": proxy.client_ca,
            "requestheader-client-ca-file": proxy.ca,
            "requestheader-allowed-names": _list(*proxy.names),
            "requestheader-username-headers": _list("X-Remote-User"),
            "requestheader-uid-headers": _list("X-Remote-Uid"),
            "requestheader-group-headers": _list("X-Remote-Group"),
            "requestheader-extra-headers-prefix": _list("X-Remote-Extra-"),
        }
        found = self._api.registry.get(CONFIGMAPS, "kube-system", TRUST)
        obj = {"metadata": {"name": TRUST, "namespace": "kube-system"}, "data": data}
        if found is None:
            return await self._write("POST", CONFIGMAPS.path("kube-system"), obj)
        if found.get("data") == data:
            return True
        return await self._write("PUT", CONFIGMAPS.path("kube-system", TRUST), {**found, "data": data})


def _list(*values: str) -> Any:
    return orjson.dumps(values).decode()
