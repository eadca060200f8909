"""The stored FlowSchemas and PriorityLevelConfigurations drive `flows.py`, and the built-in ones are kept as they should be.

`load` reads what is stored now. `reconcile` writes what is missing (upstream's rules for mandatory and suggested objects,
annotation apf.kubernetes.io/autoupdate-spec). `run` does both, and the Dangling conditions, whenever one of them changed
and once a minute. What to write is decided by the pure functions `kept` and `condition`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import orjson

from jota.aio.clock import rfc3339
from jota.api import bootstrap
from jota.api.filters.attributes import COMPONENT
from jota.api.flowcontrol.limits import plan
from jota.api.flowcontrol.matching import read
from jota.api.flowcontrol.objects import (
    AUTOUPDATE,
    FLOW_SCHEMAS,
    MANDATORY,
    PRIORITY_LEVELS,
    flow_schemas,
    priority_levels,
)
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text
from jota.meta.resource import Resource
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api")
EVERY = 60.0
"""Seconds between two looks without a reason."""
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
"""Field manager of the conditions, as upstream."""


class Keeper:
    def __init__(self, api: Api) -> None:
        """Sets the built-in configuration; `start` when the store can be read."""
        self._api = api
        self._changed = asyncio.Event()
        self._set(priority_levels(), flow_schemas())

    async def start(self) -> None:
        """Read what is stored, write what is missing. Raises a group of RuntimeErrors when the server refuses its own."""
        for resource in (FLOW_SCHEMAS, PRIORITY_LEVELS):
            self._api.registry.subscribe(resource, self._look)
        await self.reconcile()
        self.load()
        await self.conditions()

    async def run(self) -> None:
        """Until cancelled."""
        clock = self._api.clock
        while True:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._changed.wait()), group.create_task(clock.sleep(EVERY))]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
            self._changed.clear()
            try:
                await self.reconcile()
                await self.conditions()
            except* RuntimeError as errors:
                log.warning("flow control objects could not be kept up: %s", errors.exceptions)

    def _look(self) -> None:
        self.load()
        self._changed.set()

    def load(self) -> None:
        """Take over what is stored; a mandatory object that is gone counts as built in."""
        registry = self._api.registry
        levels = {o["metadata"]["name"]: o for o in registry.look_over(PRIORITY_LEVELS)}
        schemas = {o["metadata"]["name"]: o for o in registry.look_over(FLOW_SCHEMAS)}
        for builtin, found in ((priority_levels(), levels), (flow_schemas(), schemas)):
            for obj in builtin:
                if obj["metadata"]["name"] in MANDATORY:
                    found.setdefault(obj["metadata"]["name"], obj)
        self._set(levels.values(), schemas.values())

    def _set(self, levels: object, schemas: object) -> None:
        flows = self._api.flows
        flows.configure(plan(levels, flows.total), [read(schema) for schema in schemas])  # type: ignore[arg-type,attr-defined]

    async def reconcile(self) -> None:
        """Bring the built-in objects to what they should be. All at once: one commit for a new cluster."""
        async with asyncio.TaskGroup() as group:
            for resource, wanted in ((PRIORITY_LEVELS, priority_levels()), (FLOW_SCHEMAS, flow_schemas())):
                if (resource.group, resource.version, resource.plural) not in self._api.served:
                    continue
                for obj in wanted:
                    existing = self._api.registry.get(resource, "", obj["metadata"]["name"])
                    new = kept(existing, obj)
                    if new is not None:
                        group.create_task(bootstrap.put(self._api, resource, new))

    async def conditions(self) -> None:
        """Say of each schema whether its level exists. All at once, as `reconcile`."""
        api = self._api
        levels = {o["metadata"]["name"] for o in api.registry.look_over(PRIORITY_LEVELS)}
        async with asyncio.TaskGroup() as group:
            for schema in api.registry.look_over(FLOW_SCHEMAS):
                level = text(part(part(schema, "spec"), "priorityLevelConfiguration"), "name")
                conditions = condition(schema, level, level in levels, rfc3339(api.clock.now()))
                if conditions is not None:
                    group.create_task(self._write(FLOW_SCHEMAS, schema, conditions))

    async def _write(self, resource: Resource, obj: Object, conditions: list[Object]) -> None:
        meta = obj["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": conditions}}
        headers = {"content-type": "application/merge-patch+json", **bootstrap.AGENT}
        path, body = resource.path("", meta["name"]) + "/status", orjson.dumps(patch)
        query = f"fieldManager={CONSUMER}"
        response = await self._api.handle(Request("PATCH", path, query, headers, body, user=COMPONENT))
        if response.status not in (200, 404, 409):
            raise RuntimeError(f"PATCH {path}: {response.status} {response.body!r}")


def kept(existing: Object | None, wanted: Object) -> Object | None:
    """What to write over `existing`; None when it is as it should be.

    Upstream's rule: a mandatory object always gets its spec back (the operator may choose the shares of `exempt`). A
    suggested one does when its annotation says "true", never when it says "false"; without either, when nobody ever
    changed it (generation 1), and the answer is written into the annotation.
    """
    if existing is None:
        return wanted
    meta, name = existing["metadata"], wanted["metadata"]["name"]
    given = part(meta, "annotations").get(AUTOUPDATE)
    ours = name in MANDATORY or given == "true" or (given != "false" and meta.get("generation", 1) == 1)
    annotations = {**part(meta, "annotations"), AUTOUPDATE: "true" if ours else "false"}
    spec = _with_shares(wanted["spec"], part(existing, "spec")) if ours else existing["spec"]
    new = {**existing, "metadata": {**meta, "annotations": annotations}, "spec": spec}
    return None if new == existing else new


def _with_shares(wanted: Object, existing: Object) -> Object:
    own = part(existing, "exempt")
    if wanted.get("type") != "Exempt" or existing.get("type") != "Exempt" or not own:
        return wanted
    return {**wanted, "exempt": {**wanted["exempt"], **own}}


def condition(schema: Object, level: str, exists: bool, now: str) -> list[Object] | None:
    """The conditions to write; None when Dangling says so already."""
    name = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    new: Object = {"type": "Dangling", "status": "False", "reason": "Found", "message": f"{name} and it exists"}
    if not exists:
        message = f"{name} but there is no such object"
        new = {"type": "Dangling", "status": "True", "reason": "NotFound", "message": message}
    present = parts(part(schema, "status"), "conditions")
    old = next((c for c in present if c.get("type") == "Dangling"), {})
    if all(old.get(k) == v for k, v in new.items()):
        return None
    since = old.get("lastTransitionTime") if old.get("status") == new["status"] else None
    others = [c for c in present if c.get("type") != "Dangling"]
    return [*others, {**new, "lastTransitionTime": since or now}]
