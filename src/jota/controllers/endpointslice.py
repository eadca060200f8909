"""EndpointSlices: the addresses behind every service that has a selector. In: services, pods, nodes. Out: slices.

Slices of others (another managed-by) are never touched. A look that finds the service and its slices as the last one left them
is at the pods that changed since and at the slices that hold them; any other look, each after a failure and those of the slow
timer are at everything. endpointslice_plan.py decides. Next: net/services.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from jota.controllers import backends, topologyhints, triggertime
from jota.controllers.controller import CHEAP_SECONDS, Context, Controller, own
from jota.controllers.endpointslice_plan import MANAGED_BY, MANAGER, SERVICE_NAME, Plan, partial, plan
from jota.controllers.topologyhints import zone_of
from jota.controllers.views import Pod, index_by_node
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTSLICES, NODES, PODS, SERVICES

Object = dict[str, Any]
REST_PER_SLICE = 0.02
"""Seconds of rest after a look at a service: the more endpoints it has, the longer are the changes gathered that share a slice."""


class _Mark(NamedTuple):
    """What is remembered of a slice."""

    version: str
    pods: frozenset[str]
    """Names of those in it."""


@dataclass(slots=True, frozen=True)
class _Left:
    """How a look left things."""

    service: Object
    slices: dict[str, _Mark]
    """By name."""

    def stands(self, service: Object, slices: Mapping[str, Object]) -> bool:
        """All is still so."""
        if self.service is not service or self.slices.keys() != slices.keys():
            return False
        return all(one["metadata"]["resourceVersion"] == self.slices[name].version for name, one in slices.items())

    def put(self, one: Object) -> None:
        names = frozenset([(e.get("targetRef") or {}).get("name", "") for e in one.get("endpoints") or ()])
        self.slices[one["metadata"]["name"]] = _Mark(one["metadata"]["resourceVersion"], names)


class EndpointSliceController(Controller):
    name: ClassVar[str] = "endpointslice"
    cheap: ClassVar[float] = 0.02
    """A pod that ends must leave its services at once: clients are told of a finished rollout within milliseconds."""
    longest_rest: ClassVar[float] = 1.0
    """Seconds; only after looks at thousands of pods (upstream's --endpointslice-updates-batch-period delays the first change,
    too, and is 0 unless somebody sets it)."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch(SERVICES, own)
        self.slices = self.watch(ENDPOINTSLICES, _service_key)
        self.slices.add_index("service", _service_key)
        self.pods = self.watch(PODS, type=Pod)
        index_by_node(self.pods)
        self.changes = backends.Changes(self.services, self.pods, self.queue.add)
        self._spread: Mapping[str, float] | None = None
        self._weighed = False
        """Whether `_spread` is what topologyhints.ratios says of the nodes as they are."""
        self.nodes = self.watch(NODES)
        self.nodes.add_handler(self._on_node)
        self.events = context.recorder("endpoint-slice-controller")
        self._announced = topologyhints.Announcements()
        self._times = triggertime.TriggerTimes()
        self._left: dict[str, _Left] = {}
        """By key of the service; missing where the next look must be at everything."""

    def all_keys(self) -> Iterable[str]:
        self._left.clear()  # the slow timer trusts nothing
        return super().all_keys()

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        """Its zone is that of the endpoints on it; a zone's part of the CPU is of interest to services with hints in proportion
        to it."""
        if (zone_of(old) if old else "") != (zone_of(new) if new else ""):
            for pod in self.pods.by_index("node", ((new or old or {})["metadata"])["name"]):
                self.changes.note(pod)
        if (topologyhints.cpu_of(old) if old else None) != (topologyhints.cpu_of(new) if new else None):
            self._weighed = False
            for service in self.services.list():
                if topologyhints.automatic(service):
                    self.queue.add(own(service)[0])

    async def reconcile(self, key: str) -> float | None:
        service = self.services.get(key)
        left, changed = self._left.pop(key, None), self.changes.take(key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            self._announced.news(key, {})
            self._times.forget(key)
            return None  # the garbage collector removes the slices of a service that is gone
        if not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            return None  # endpoints by hand
        slices = {str(one["metadata"]["name"]): one for one in self.slices.by_index("service", key)}
        if left is not None and left.stands(service, slices) and not topologyhints.automatic(service):
            decided = self._partial(key, left, changed, slices) if changed else Plan()
        else:
            decided, left = self._plan(key, service, slices), _Left(service, {})
            for one in slices.values():
                left.put(one)
        await self._do(key, decided, left)
        for type_, reason, message in self._announced.news(key, decided.hints):
            self.events.event(service, type_, reason, message)
        self._left[key] = left
        return None

    def gathering(self, key: str, took: float) -> float:
        left = self._left.get(key)
        return REST_PER_SLICE * len(left.slices) if left is not None and took > CHEAP_SECONDS else 0.0

    def _plan(self, key: str, service: Object, slices: Mapping[str, Object]) -> Plan:
        if topologyhints.automatic(service) and not self._weighed:
            self._spread, self._weighed = topologyhints.ratios(self.nodes.list()), True
        pods = backends.pods_of(service, self.pods)
        decided = plan(service, pods, self._zone, slices.values(), self._spread)
        return _at(self._times.of_all(key, service, pods), decided)

    def _partial(self, key: str, left: _Left, changed: set[str], slices: Mapping[str, Object]) -> Plan:
        namespace = key.rpartition("/")[0]

        def pod_named(name: str) -> Pod | None:
            pod = self.pods.get(f"{namespace}/{name}")
            return pod if pod is not None and key in self.changes.services_of(pod) else None

        holding = {name: mark.pods for name, mark in left.slices.items()}
        decided = partial(left.service, changed, pod_named, self._zone, slices, holding)
        return _at(self._times.of_changed(key, changed, pod_named), decided)

    def _zone(self, node: str) -> str:
        found = self.nodes.get(node)
        return zone_of(found) if found is not None else ""

    async def _do(self, key: str, decided: Plan, left: _Left) -> None:
        for write, slices in ((self.client.create, decided.create), (self.client.update, decided.update)):
            for one in slices:
                written = await write(ENDPOINTSLICES, one)
                self.wrote(key, self.slices, written)
                left.put(written)
        for one in decided.delete:
            await self._delete(one)
            left.slices.pop(one["metadata"]["name"], None)

    async def _delete(self, one: Object) -> None:
        meta = one["metadata"]
        try:
            await self.client.delete(ENDPOINTSLICES, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise


def _at(when: str, decided: Plan) -> Plan:
    """What is written says when what it shows began to change."""
    for one in (*decided.create, *decided.update):
        triggertime.mark(one["metadata"], when)
    return decided


def _service_key(one: Object) -> Iterable[str]:
    """Of slices that are ours."""
    labels = one["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) == MANAGER and SERVICE_NAME in labels:
        return (f"{one['metadata']['namespace']}/{labels[SERVICE_NAME]}",)
    return ()
