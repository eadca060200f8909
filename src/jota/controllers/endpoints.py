"""Endpoints, the older form of EndpointSlices that many clients still read: one object per service, of its name.

In: services with a selector and their pods. Out: subsets of addresses that share their ports.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, ClassVar

from jota.controllers import backends
from jota.controllers.controller import Context, Controller, own
from jota.controllers.endpointslice import HEADLESS, families_of
from jota.controllers.views import Pod, alike
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTS, PODS, SERVICES

Object = dict[str, Any]

LIMIT = 1000
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"


def subsets_of(service: Object, pods: Iterable[Pod]) -> tuple[list[Object], bool]:
    """(subsets, whether addresses beyond the limit were left out). Terminating pods are out, unless unready ones are in."""
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    v6 = families_of(service)[0] == "IPv6"
    groups: dict[tuple[Any, ...], tuple[list[Object], list[Object]]] = {}
    ordered = sorted(pods, key=lambda p: (not p.ready, p.metadata.name))
    count = 0
    for pod in ordered:
        address = next((a for a in pod.ips if (":" in a) == v6), None)
        if address is None or pod.finished or (pod.terminating and not always):
            continue
        ports = backends.ports_of(service, pod)
        if not ports and not backends.headless(service):
            continue
        count += 1
        if count > LIMIT:
            break
        frozen = tuple(tuple(sorted((k, v) for k, v in p.items() if v != "")) for p in ports)
        ready, unready = groups.setdefault(frozen, ([], []))
        (ready if always or pod.ready else unready).append(_address(service, pod, address))
    return [_subset(ports, *groups[ports]) for ports in sorted(groups)], count > LIMIT


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
        out["addresses"] = sorted(ready, key=lambda a: ip_address(a["ip"]).packed)
    if unready:
        out["notReadyAddresses"] = sorted(unready, key=lambda a: ip_address(a["ip"]).packed)
    if ports:
        out["ports"] = [dict(port) for port in ports]
    return out


def plan(service: Object, pods: Iterable[Pod], current: Object | None) -> Object | None:
    """The Endpoints object to write, or None when the current one is right."""
    subsets, cut = subsets_of(service, pods)
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


class EndpointsController(Controller):
    name: ClassVar[str] = "endpoints"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch(SERVICES, own)
        self.endpoints = self.watch(ENDPOINTS, own)
        self.pods = self.watch(
            PODS,
            backends.ServicesOf(self.services),
            when=backends.matters,
            on=backends.LOOKED_AT,
            alike=alike,
            type=Pod,
        )

    async def reconcile(self, key: str) -> float | None:
        service, current = self.services.get(key), self.endpoints.get(key)
        if service is None:
            if current is not None and (current["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER:
                await self._delete(current)
            return None
        if not service["spec"].get("selector"):
            return None  # endpoints by hand
        pods = backends.pods_of(service, self.pods)
        wanted = plan(service, pods, current)
        if wanted is not None:
            write = self.client.update if current is not None else self.client.create
            self.wrote(key, self.endpoints, await write(ENDPOINTS, wanted))
        return None

    async def _delete(self, current: Object) -> None:
        meta = current["metadata"]
        try:
            await self.client.delete(ENDPOINTS, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise
