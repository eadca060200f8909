"""What an explanation may look at: the public API, read on demand and remembered for the length of one explanation."""

from __future__ import annotations

import builtins
from typing import Any

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, Resource
from jota.why.finding import Object


class World:
    """Reads through a client. An object that may not be read counts as absent, and `denied` remembers it."""

    def __init__(self, client: Client, namespace: str, now: float) -> None:
        self.client, self.namespace, self.now = client, namespace, now
        self.denied: builtins.list[str] = []
        self._lists: dict[tuple[Any, ...], builtins.list[Object]] = {}

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        where = self.namespace if namespace is None else namespace
        try:
            return await self.client.get(resource, name, where if resource.namespaced else "")
        except ApiError as error:
            if error.code == 403:
                self.denied.append(error.message)
            elif error.code != 404:
                raise
            return None

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> builtins.list[Object]:
        where = (self.namespace if namespace is None else namespace) if resource.namespaced else ""
        key = (resource, where, labels, fields)
        if key not in self._lists:
            try:
                found = await self.client.list(resource, where, labels=labels, fields=fields)
                # items of typed lists carry no kind
                self._lists[key] = [{"kind": resource.kind, **item} for item in found.get("items") or ()]
            except ApiError as error:
                if error.code not in (403, 404):
                    raise
                self.denied.append(error.message)
                self._lists[key] = []
        return self._lists[key]

    async def events(self, obj: Object) -> builtins.list[Object]:
        """Events about one object, oldest first."""
        uid = obj["metadata"].get("uid", "")
        found = await self.list(EVENTS, obj["metadata"].get("namespace", ""), fields=f"involvedObject.uid={uid}")
        return sorted(found, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")

    async def last_event(self, obj: Object, *reasons: str) -> Object | None:
        return next((e for e in reversed(await self.events(obj)) if e.get("reason") in reasons), None)

    async def owned(self, resource: Resource, owner: Object) -> builtins.list[Object]:
        """Objects whose controller is `owner`."""
        uid = owner["metadata"]["uid"]
        return [
            o
            for o in await self.list(resource)
            if any(r.get("uid") == uid and r.get("controller") for r in o["metadata"].get("ownerReferences") or ())
        ]
