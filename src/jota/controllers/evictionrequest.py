"""EvictionRequests -> Evictions, their status and that of the requests. Keys are pods: "namespace/name/uid".

evictionplan.py decides; imperativeeviction.py is the responder that every pod has. Runs only where the kinds are served
(--runtime-config).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from jota.controllers.controller import Context, Controller, Object
from jota.controllers.evictionplan import Target, plan
from jota.kinds.shape import deep, parts, text
from jota.meta.errors import ApiError
from jota.meta.resource import EVICTION_REQUESTS, EVICTIONS, PODS, Resource

NAME = "evictionrequest-controller"


class Responder(msgspec.Struct, gc=False):
    name: str
    priority: int = 0


class _Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None


class _Spec(msgspec.Struct, gc=False):
    evictionResponders: list[Responder] | None = None
    schedulingGroup: dict[str, Any] | None = None


class _Status(msgspec.Struct, gc=False):
    phase: str = ""


class TargetPod(msgspec.Struct, gc=False):
    """What is read of a Pod."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def terminal(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")


class EvictionRequestController(Controller):
    name: ClassVar[str] = NAME
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ended: dict[str, float] = {}
        """Key -> when its pod was first seen to be gone or finished; a new process waits anew for the last reports."""
        self.requests = self.watch(EVICTION_REQUESTS, _targets)
        self.evictions = self.watch(EVICTIONS, _targets)
        self.pods = self.watch(PODS, self._keys_of_pod, type=TargetPod)

    def _keys_of_pod(self, pod: TargetPod) -> Iterable[str]:
        key = f"{pod.metadata.namespace}/{pod.metadata.name}/"
        named = (k for e in (*self.evictions.list(), *self.requests.list()) for k in _targets(e))
        return {k for k in named if k.startswith(key)}

    def all_keys(self) -> Iterable[str]:
        return {k for e in (*self.requests.list(), *self.evictions.list()) for k in _targets(e)}

    async def reconcile(self, key: str) -> float | None:
        namespace, name, uid = key.split("/")
        requests = [r for r in self.requests.list() if key in _targets(r)]
        evictions = [e for e in self.evictions.list() if key in _targets(e)]
        taken = [e["metadata"]["name"] for e in self.evictions.list() if e["metadata"]["namespace"] == namespace]
        target = _target(self.pods.get(f"{namespace}/{name}"), name, uid)
        if not evictions or not (target.gone or target.terminal):
            self._ended.pop(key, None)
        else:
            target.ended = self._ended.setdefault(key, self.clock.now())
        found = plan(target, requests, evictions, taken, self.clock.now())
        have = {("Eviction", e["metadata"]["name"]): e for e in evictions}
        have |= {("EvictionRequest", r["metadata"]["name"]): r for r in requests}
        for eviction, meta in found.metadata.items():
            spec = have[("Eviction", eviction)]["spec"]
            await self._apply(key, EVICTIONS, namespace, eviction, {"metadata": meta, "spec": spec})
        for resource, statuses in ((EVICTIONS, found.evictions), (EVICTION_REQUESTS, found.requests)):
            for named, status in statuses.items():
                if not _says(have[(resource.kind, named)].get("status") or {}, status):
                    await self._apply(key, resource, namespace, named, {"status": status}, "status")
        if found.create is not None:
            await self._apply(key, EVICTIONS, namespace, found.create["metadata"]["name"], found.create)
        return found.again

    async def _apply(
        self, key: str, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> None:
        meta = {**body.get("metadata", {}), "name": name, "namespace": namespace}
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body, "metadata": meta}
        try:
            written = await self.client.patch(
                resource, name, namespace, full, type="apply", subresource=subresource, manager=NAME, force=True
            )
        except ApiError as error:
            if error.code != 404:  # it has gone meanwhile
                raise
        else:
            self.wrote(key, self.evictions if resource is EVICTIONS else self.requests, written)


def _target(pod: TargetPod | None, name: str, uid: str) -> Target:
    if pod is None:
        return Target(name, uid)
    meta, spec = pod.metadata, pod.spec
    responders = tuple((r.name, r.priority) for r in spec.evictionResponders or ())
    return Target(name, uid, True, meta.uid, pod.terminal, spec.schedulingGroup is not None, None, responders)


def _targets(obj: Object) -> list[str]:
    pod = deep(obj, "spec", "target", "pod")
    return [f"{obj['metadata']['namespace']}/{text(pod, 'name')}/{text(pod, 'uid')}"] if pod else []


def _says(status: Object, wanted: Object) -> bool:
    """Whether all that is wanted is there already; reports have more that is not ours."""
    for field, value in wanted.items():
        if field == "responders":
            have = {text(r, "name"): r for r in parts(status, field)}
            if any(
                have.get(v["name"], {}).get("startTime") != v.get("startTime") or v["name"] not in have for v in value
            ):
                return False
        elif field == "conditions":
            shown = {c.get("type"): {"message": "", **c} for c in parts(status, field)}
            if any(shown.get(c["type"]) != c for c in value):
                return False
        elif status.get(field, [] if isinstance(value, list) else None) != value:
            return False
    return True
