"""Endpoints, the older form of EndpointSlices that many clients still read: one object per service, of its name.

In: services with a selector and their pods. Out: subsets of addresses that share their ports.

A service may have more pods than an Endpoints object holds: which of them are in it is chosen, the ready ones first, and what is
chosen stays as long as it can. Which pods have an address to offer is kept from look to look (`Offered`), and follows the pods
that changed; after a failure, on the slow timer, and when the service or its Endpoints changed it is made anew.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, ClassVar

from jota.controllers import backends, triggertime
from jota.controllers.controller import CHEAP_SECONDS, Context, Controller, own
from jota.controllers.endpointslice_plan import HEADLESS, families_of
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTS, PODS, SERVICES

Object = dict[str, Any]

LIMIT = 1000
"""Addresses in one object, at most (as upstream)."""
REST_PER_ADDRESS = 0.0005
"""Seconds of rest after a look at a service: each change writes all addresses, so the more there are, the more changes share it."""
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"


class Offered:
    """The pods of a service that have an address to offer, by name."""

    def __init__(self, service: Object, pods: Iterable[Pod]) -> None:
        self._service = service
        self._ready: set[str] = set()
        self._unready: set[str] = set()
        for pod in pods:
            self.put(pod.metadata.name, pod)

    def put(self, name: str, pod: Pod | None) -> None:
        """The pod of this name, or None when it does not belong to the service any more, is as it is now."""
        self._ready.discard(name)
        self._unready.discard(name)
        if pod is not None and _offers(self._service, pod):
            (self._ready if pod.ready else self._unready).add(name)

    def choose(self, held: Collection[str]) -> tuple[set[str], bool]:
        """(those that shall be in the object, whether others are left out). `held`: those that are in it now."""
        if len(self._ready) + len(self._unready) <= LIMIT:
            return self._ready | self._unready, False
        chosen: set[str] = set()
        for names in (self._ready, self._unready):
            for some in (names.intersection, names.difference):
                if room := LIMIT - len(chosen):
                    found = some(held)
                    chosen.update(found if len(found) <= room else nsmallest(room, found))
        return chosen, True


def _offers(service: Object, pod: Pod) -> bool:
    """Terminating pods are out, unless unready ones are in."""
    if pod.finished or (pod.terminating and not service["spec"].get("publishNotReadyAddresses")):
        return False
    if backends.address_of(pod.ips, families_of(service)[0]) is None:
        return False
    return backends.headless(service) or bool(backends.ports_of(service, pod))


def subsets_of(service: Object, pods: Iterable[Pod]) -> list[Object]:
    """`pods`: those chosen."""
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    family = families_of(service)[0]
    groups: dict[tuple[Any, ...], tuple[list[Object], list[Object]]] = {}
    for pod in pods:
        address = backends.address_of(pod.ips, family)
        if address is None:
            continue
        ports = backends.ports_of(service, pod)
        frozen = tuple(tuple(sorted((k, v) for k, v in p.items() if v != "")) for p in ports)
        ready, unready = groups.setdefault(frozen, ([], []))
        (ready if always or pod.ready else unready).append(_address(service, pod, address))
    return [_subset(ports, *groups[ports]) for ports in sorted(groups)]


def _address(service: Object, pod: Pod, address: str) -> Object:
    meta = pod.metadata
    reference = {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
    out: Object = {"ip": address, "targetRef": reference}
    if pod.spec.nodeName:
        out["nodeName"] = pod.spec.nodeName
    if hostname := backends.hostname_of(service, pod):
        out["hostname"] = hostname
    return out


def _subset(ports: tuple[Any, ...], ready: list[Object], unready: list[Object]) -> Object:
    out: Object = {}
    if ready:
        out["addresses"] = sorted(ready, key=_in_order)
    if unready:
        out["notReadyAddresses"] = sorted(unready, key=_in_order)
    if ports:
        out["ports"] = [dict(port) for port in ports]
    return out


def _in_order(address: Object) -> tuple[bytes, str]:
    """By number; of two pods with the same address (of their host), by name."""
    ip = address["ip"]
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip), address["targetRef"]["name"]


def plan(service: Object, pods: Iterable[Pod], cut: bool, current: Object | None) -> Object | None:
    """The Endpoints object to write, or None when the current one is right. `pods` are those chosen; `cut`: there are others."""
    subsets = subsets_of(service, pods)
    labels = {**(service["metadata"].get("labels") or {}), MANAGED_BY: MANAGER}
    if backends.headless(service):
        labels[HEADLESS] = ""
    meta: Object = dict(current["metadata"]) if current else {"name": service["metadata"]["name"]}
    meta |= {"namespace": service["metadata"]["namespace"], "labels": labels}
    notes = {k: v for k, v in (meta.get("annotations") or {}).items() if k != OVER_CAPACITY}
    if cut:
        notes[OVER_CAPACITY] = "truncated"
    if notes or "annotations" in meta:
        meta["annotations"] = notes
    if current is not None and (current.get("subsets") or []) == subsets and current["metadata"] == meta:
        return None
    out: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta}
    if subsets:
        out["subsets"] = subsets
    return out


def names_in(endpoints: Object | None) -> set[str]:
    """The pods whose addresses are in it."""
    found: set[str] = set()
    for subset in (endpoints or {}).get("subsets") or ():
        for addresses in (subset.get("addresses"), subset.get("notReadyAddresses")):
            found.update([(a.get("targetRef") or {}).get("name", "") for a in addresses or ()])
    return found


@dataclass(slots=True, frozen=True)
class _Left:
    """How a look left things."""

    service: Object
    offered: Offered
    version: str
    """resourceVersion of the Endpoints."""
    chosen: set[str]
    cut: bool


class EndpointsController(Controller):
    name: ClassVar[str] = "endpoints"
    longest_rest: ClassVar[float] = 1.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch(SERVICES, own)
        self.endpoints = self.watch(ENDPOINTS, own)
        self.pods = self.watch(PODS, type=Pod)
        self.changes = backends.Changes(self.services, self.pods, self.queue.add)
        self._times = triggertime.TriggerTimes()
        self._left: dict[str, _Left] = {}
        """By key; missing where the next look must be at everything."""

    def all_keys(self) -> Iterable[str]:
        self._left.clear()  # the slow timer trusts nothing
        return super().all_keys()

    async def reconcile(self, key: str) -> float | None:
        service, current = self.services.get(key), self.endpoints.get(key)
        left, changed = self._left.pop(key, None), self.changes.take(key)
        if service is None:
            self._times.forget(key)
            if current is not None and (current["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER:
                await self._delete(current)
            return None
        if not service["spec"].get("selector"):
            return None  # endpoints by hand
        version = current["metadata"]["resourceVersion"] if current is not None else ""
        if left is not None and left.service is service and left.version == version:
            when = self._times.of_changed(key, changed, lambda name: self._pod(key, name))
            for name in changed:
                left.offered.put(name, self._pod(key, name))
            chosen, cut = left.offered.choose(left.chosen)
            if chosen == left.chosen and cut == left.cut and chosen.isdisjoint(changed):
                self._left[key] = left
                return None
            offered = left.offered
        else:
            found = backends.pods_of(service, self.pods)
            when = self._times.of_all(key, service, found)
            offered = Offered(service, found)
            chosen, cut = offered.choose(names_in(current))
        pods = [pod for name in chosen if (pod := self._pod(key, name)) is not None]
        wanted = plan(service, pods, cut, current)
        if wanted is not None:
            triggertime.mark(wanted["metadata"], when)
            write = self.client.update if current is not None else self.client.create
            written = await write(ENDPOINTS, wanted)
            self.wrote(key, self.endpoints, written)
            version = written["metadata"]["resourceVersion"]
        self._left[key] = _Left(service, offered, version, chosen, cut)
        return None

    def _pod(self, key: str, name: str) -> Pod | None:
        """If the service selects it."""
        pod = self.pods.get(f"{key.rpartition('/')[0]}/{name}")
        return pod if pod is not None and key in self.changes.services_of(pod) else None

    def gathering(self, key: str, took: float) -> float:
        left = self._left.get(key)
        return REST_PER_ADDRESS * len(left.chosen) if left is not None and took > CHEAP_SECONDS else 0.0

    async def _delete(self, current: Object) -> None:
        meta = current["metadata"]
        try:
            await self.client.delete(ENDPOINTS, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise
