"""Definitions come and go: install and remove their kinds, keep their conditions, clear their instances away.

What is served follows the store at once: `changed` runs within the commit that brought a definition. What must be written back
(accepted names, Established, the end of a deletion) is done by `run`, one name at a time, safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import orjson

from jota.aio.clock import rfc3339
from jota.api import object as at_rest
from jota.api import registry
from jota.api.custom import naming
from jota.api.custom.conversion import Converter, is_webhook
from jota.api.custom.kinds import kind_for
from jota.api.custom.served import CustomServed, version_of
from jota.api.filters.attributes import COMPONENT
from jota.api.webhook_client import WebhookClient
from jota.kinds.apiextensions.crd import CRDS, FINALIZER, is_true, storage_version
from jota.kinds.kind import Object
from jota.kinds.shape import meta, part, parts, text
from jota.meta import conditions
from jota.meta.resource import Resource
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api.custom")
AGENT = {"user-agent": "apiserver", "content-type": "application/json"}
RETRY = 1.0
"""Seconds until a failed write is tried again."""
_REMOVED = "InstanceDeletionCompleted", "removed all instances"
_OVERLAPPING = "OverlappingBuiltInResource", "instances overlap with built-in resources in storage"


class CustomResources:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._definitions: dict[str, Object] = {}
        self._installed: dict[str, tuple[object, list[Resource]]] = {}
        """CRD name -> (what was installed, as a value to compare; its resources)."""
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._watched: set[str] = set()
        self._client = WebhookClient(api.registry)

    def start(self) -> None:
        """Install what is stored, and follow what comes."""
        self._api.registry.mirror(CRDS, self._changed)

    def group_versions(self) -> set[tuple[str, str]]:
        """Every group and version that a definition wants to be served, whether its names are accepted yet or not."""
        return {
            (_group(crd), text(version, "name"))
            for crd in self._definitions.values()
            for version in parts(part(crd, "spec"), "versions")
            if version.get("served") is True
        }

    # -- following

    def _changed(self, new: Object | None, old: Object | None) -> None:
        name = meta(new or old or {}).get("name", "")
        if new is None:
            self._definitions.pop(name, None)
            self._remove(name)
            self._touch(*self._definitions)  # names may have become free
            return
        self._definitions[name] = new
        try:
            self._install(name, new)
        except Exception:
            # a definition that was stored by an older release must not take the server down
            log.exception("cannot serve CustomResourceDefinition %s", name)
        self._touch(name)

    def _touch(self, *names: str) -> None:
        self._dirty.update(dict.fromkeys(names))
        self._wake.set()

    def _install(self, name: str, crd: Object) -> None:
        """Serve every version of an established definition; nothing happens when nothing about it changed."""
        if not is_true(crd, "Established") or self._built_in(crd):
            return
        spec, accepted = part(crd, "spec"), part(part(crd, "status"), "acceptedNames")
        terminating = is_true(crd, "Terminating")
        state = orjson.dumps([spec, accepted])
        if name in self._installed and self._installed[name][0] == state:
            for served in self._served(name):
                served.terminating = terminating
            return
        self._remove(name)
        storage, api = storage_version(crd), self._api
        stored = kind_for(crd, storage, storage)
        # only a webhook is asked about versions that are not served any more
        versions = [v for v in parts(spec, "versions") if v.get("served") is True or is_webhook(crd)]
        names = [text(v, "name") for v in versions]
        kinds = {name: stored if name == storage else kind_for(crd, name, storage) for name in names}
        converter = (
            Converter(crd, self._client, kinds, api.new_uid, api.clock.monotonic)
            if is_webhook(crd) and len(names) > 1
            else None
        )
        resources = []
        for version in parts(spec, "versions"):
            if version.get("served") is not True:
                continue
            kind = kinds[version["name"]]
            resource = kind.resource
            if (resource.group, resource.version, resource.plural) in api.served:
                log.warning(
                    "%s is served already: CustomResourceDefinition %s is ignored", resource.group_resource, name
                )
                continue
            served = CustomServed(kind, stored, api.feed, converter)
            served.terminating = terminating
            api.install(kind, served)
            resources.append(resource)
        self._installed[name] = state, resources

    def _built_in(self, crd: Object) -> bool:
        """Whether what it defines is a kind of the server's own: objects are kept by group and plural, whatever the version."""
        own = self._api.registry.kind(_group(crd), self._stored(crd).plural)
        return own is not None and bool(own.schema)

    def _served(self, name: str) -> list[CustomServed]:
        found = (self._api.served.get((r.group, r.version, r.plural)) for r in self._installed[name][1])
        return [served for served in found if isinstance(served, CustomServed)]

    def _remove(self, name: str) -> None:
        _, resources = self._installed.pop(name, (None, []))
        for resource in resources:
            self._api.uninstall(resource.group, resource.version, resource.plural)

    # -- writing back

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                name = next(iter(self._dirty))
                del self._dirty[name]
                if not await self._reconcile(name):
                    await self._api.clock.sleep(RETRY)
                    self._touch(name)

    async def _reconcile(self, name: str) -> bool:
        """False: try again later."""
        crd = self._definitions.get(name)
        if crd is None:
            return True
        try:
            if meta(crd).get("deletionTimestamp"):
                return await self._clear(name, crd)
            others = [c for n, c in self._definitions.items() if n != name and _group(c) == _group(crd)]
            now, built_in = rfc3339(self._api.clock.now()), self._built_in(crd)
            status = naming.status_of(crd, others, now, built_in=built_in)
            if status == crd.get("status"):
                return True
            return await self._put(crd | {"status": status}, "status")
        except Exception:
            log.exception("CustomResourceDefinition %s", name)
            return False

    async def _put(self, crd: Object, subresource: str = "") -> bool:
        """Write a definition; a lost race comes back as a change. False: it was refused."""
        path = CRDS.path(name=meta(crd)["name"], subresource=subresource)
        request = Request("PUT", path, headers=AGENT, body=orjson.dumps(crd), user=COMPONENT)
        response = await self._api.handle(request)
        if response.status not in (200, 404, 409):
            log.error("PUT %s: %d %s", path, response.status, response.body)
        return response.status in (200, 404, 409)

    # -- deletion

    async def _clear(self, name: str, crd: Object) -> bool:
        """Delete what is left of the instances; let the definition go when there are none."""
        if FINALIZER not in meta(crd).get("finalizers", []):
            return True
        resource = self._stored(crd)
        prefix = registry.prefix(resource)
        foreign = self._built_in(crd)
        left = 0 if foreign else self._api.store.count(prefix)
        if not left:
            finalizers = [f for f in meta(crd)["finalizers"] if f != FINALIZER]
            status = dict(part(crd, "status"))
            status["conditions"] = self._finished(status, *(_OVERLAPPING if foreign else _REMOVED))
            if status["conditions"] != part(crd, "status").get("conditions"):
                return await self._put(crd | {"status": status}, "status")
            return await self._put(crd | {"metadata": {**meta(crd), "finalizers": finalizers}})
        self._look_again(name, resource)
        return await self._delete_instances(name, resource)

    def _finished(self, status: Object, reason: str, about: str) -> list[Any]:
        now = rfc3339(self._api.clock.now())
        return conditions.set(
            parts(status, "conditions"), "Terminating", "False", now=now, reason=reason, message=about
        )

    def _look_again(self, name: str, resource: Resource) -> None:
        """Each change of an instance may have been the last one's end."""
        if name in self._watched:
            return
        self._watched.add(name)

        def look() -> None:
            crd = self._definitions.get(name)
            if crd is not None and meta(crd).get("deletionTimestamp"):
                self._touch(name)

        self._api.registry.subscribe(resource, look)

    async def _delete_instances(self, name: str, resource: Resource) -> bool:
        """Those that deletion has not yet begun for; finalizers hold others, whose end comes as a change. False: try again.

        Each goes through the version that it is stored in, where that is served: no webhook has to be asked.
        """
        served = {r.version: r for r in self._installed.get(name, (None, []))[1]}
        if not served:
            return True
        done = True
        for entry in self._api.store.range(registry.prefix(resource)):
            value = entry.value or b"{}\n"
            found = at_rest.decode_metadata(value)
            if found.get("deletionTimestamp"):
                continue
            via = served.get(version_of(value)) or served.get(resource.version) or next(iter(served.values()))
            path = via.path(text(found, "namespace"), text(found, "name"))
            response = await self._api.handle(Request("DELETE", path, headers=AGENT, user=COMPONENT))
            if response.status not in (200, 202, 404, 409):
                log.warning("DELETE %s: %d", path, response.status)
                done = False
        return done

    @staticmethod
    def _stored(crd: Object) -> Resource:
        spec = part(crd, "spec")
        names = part(spec, "names")
        namespaced = text(spec, "scope") == "Namespaced"
        return Resource(
            text(spec, "group"), storage_version(crd), text(names, "plural"), text(names, "kind"), namespaced
        )


def _group(crd: Object) -> str:
    return text(part(crd, "spec"), "group")
