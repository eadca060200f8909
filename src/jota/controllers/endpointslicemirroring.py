"""Mirrors of Endpoints written by hand: services without a selector get EndpointSlices too, which is what proxies read.

In: Endpoints, their services. Out: slices labelled as managed by this controller and owned by the Endpoints. Not mirrored:
Endpoints of a service with a selector (they are made, not written), with the label skip-mirror, and leader election records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, ClassVar

from jota.client.informer import key_of
from jota.controllers import claim
from jota.controllers.controller import Context, Controller, own
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, SERVICES

Object = dict[str, Any]
Key = tuple[str, tuple[Any, ...]]

SERVICE_NAME, MANAGED_BY = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"}
)
LIMIT = 1000
"""Addresses mirrored per subset (upstream's --mirroring-max-endpoints-per-subset)."""


@dataclass(slots=True)
class Plan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def mirrored(endpoints: Object | None, service: Object | None) -> bool:
    if endpoints is None or service is None or service["spec"].get("selector"):
        return False
    meta = endpoints["metadata"]
    if "deletionTimestamp" in meta or (meta.get("labels") or {}).get(SKIP) == "true":
        return False
    return LEADER not in (meta.get("annotations") or {})


def plan(endpoints: Object | None, service: Object | None, slices: list[Object]) -> Plan:
    """`slices`: those that mirror these Endpoints now."""
    out = Plan()
    wanted = _wanted(endpoints) if endpoints is not None and mirrored(endpoints, service) else {}
    for one in slices:
        key = (one["addressType"], _frozen(one.get("ports") or ()))
        content = wanted.pop(key, None)
        if content is None or endpoints is None:
            out.delete.append(one)
            continue
        meta = {**one["metadata"], **_marks(endpoints)}
        if meta != one["metadata"] or content != (one.get("endpoints") or []):
            out.update.append({**one, "metadata": meta, "endpoints": content})
    if endpoints is not None:
        out.create = [_slice(endpoints, key, content) for key, content in wanted.items()]
    return out


def _wanted(endpoints: Object) -> dict[Key, list[Object]]:
    out: dict[Key, list[Object]] = {}
    for subset in endpoints.get("subsets") or ():
        ports = _frozen(subset.get("ports") or ())
        both = [(a, True) for a in subset.get("addresses") or ()]
        both += [(a, False) for a in subset.get("notReadyAddresses") or ()]
        for address, ready in both[:LIMIT]:
            try:
                family = f"IPv{ip_address(address['ip']).version}"
            except ValueError:
                continue
            out.setdefault((family, ports), []).append(_endpoint(address, ready))
    return out


def _endpoint(address: Object, ready: bool) -> Object:
    out: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    return out | {k: address[k] for k in ("hostname", "nodeName", "targetRef") if address.get(k)}


def _marks(endpoints: Object) -> Object:
    """Labels and annotations follow the Endpoints."""
    meta = endpoints["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER}
    notes = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in _NOT_COPIED}
    return {"labels": labels, **({"annotations": notes} if notes else {})}


def _slice(endpoints: Object, key: Key, content: list[Object]) -> Object:
    meta = endpoints["metadata"]
    reference = claim.reference(endpoints, ENDPOINTS.api_version, ENDPOINTS.kind)
    base = {"generateName": f"{meta['name']}-", "namespace": meta["namespace"], "ownerReferences": [reference]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**base, **_marks(endpoints)},
        "addressType": key[0],
        "endpoints": content,
        "ports": [dict(port) for port in key[1]],
    }


def _frozen(ports: Iterable[Object]) -> tuple[Any, ...]:
    return tuple(sorted(tuple(sorted((k, v) for k, v in p.items() if v not in (None, ""))) for p in ports))


class EndpointSliceMirroring(Controller):
    name: ClassVar[str] = "endpointslicemirroring"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.endpoints = self.watch(ENDPOINTS, own)
        self.services = self.watch(SERVICES, own)
        self.slices = self.watch(ENDPOINTSLICES, _mirrored_key)
        self.slices.add_index("mirror", _mirrored_key)

    async def reconcile(self, key: str) -> float | None:
        decided = plan(self.endpoints.get(key), self.services.get(key), list(self.slices.by_index("mirror", key)))
        for one in decided.create:
            self.wrote(key, self.slices, await self.client.create(ENDPOINTSLICES, one))
        for one in decided.update:
            self.wrote(key, self.slices, await self.client.update(ENDPOINTSLICES, one))
        for one in decided.delete:
            meta = one["metadata"]
            try:
                await self.client.delete(ENDPOINTSLICES, meta["name"], meta["namespace"], uid=meta["uid"])
            except ApiError as e:
                if e.code not in (404, 409):
                    raise
        return None


def _mirrored_key(one: Object) -> list[str]:
    """Of slices that are mirrors."""
    labels = one["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return []
    return [key_of(one["metadata"]["namespace"], labels[SERVICE_NAME])]
