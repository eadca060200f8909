"""Carry out what DynamicResources found: allocate the pod's claims and reserve them for it, before it is bound.

reserve (at the decision, no I/O) -> bind (status of each claim, with its resourceVersion) -> the pod is bound; or release.
`loosen` takes an allocation back that nobody uses and that keeps a pod from being placed (upstream's PostFilter).
"""

from __future__ import annotations

from typing import Any

import msgspec

from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.scheduler.devices import Key
from jota.scheduler.deviceview import FINALIZER, MOST_CONSUMERS, Claim
from jota.scheduler.plugins.dynamic_resources import claims_of, unallocated
from jota.scheduler.pod import Pod, Shape
from jota.scheduler.resources import RESOURCECLAIMS
from jota.scheduler.snapshot import Snapshot

Object = dict[str, Any]
_ATTEMPTS = 5
"""Writes of one claim that may lose against others before the pod is scheduled anew."""


class DevicesNotAllocated(Exception):
    """The pod's claims could not be allocated or reserved; it must be scheduled anew."""


def reserve(nodes: Snapshot, shape: Shape, slot: int) -> None:
    """As DeviceBinder.reserve."""
    devices = nodes.devices
    if open_ := unallocated(devices, shape):
        grants = devices.grants(nodes, open_, slot)
        if isinstance(grants, str):
            raise DevicesNotAllocated(grants)
        for key, grant in grants.items():
            devices.assume(key, grant)
    for key in claims_of(shape):
        if (assumed := devices.assumed.get(key)) is not None:
            assumed.users += 1


def release(nodes: Snapshot, shape: Shape) -> None:
    """As DeviceBinder.release."""
    for key in claims_of(shape):
        assumed = nodes.devices.assumed.get(key)
        if assumed is not None:
            assumed.users -= 1
            if assumed.users <= 0:
                nodes.devices.unassume(key)


class DeviceBinder:
    def __init__(self, client: Client, nodes: Snapshot) -> None:
        self._client, self._nodes = client, nodes

    def reserve(self, shape: Shape, slot: int) -> None:
        """Assume an allocation for each claim that has none. Raises DevicesNotAllocated if that is not possible after all."""
        reserve(self._nodes, shape, slot)

    def release(self, shape: Shape) -> None:
        """The pod needs the assumptions no more: they are in the API, or not wanted."""
        release(self._nodes, shape)

    async def bind(self, shape: Shape, pod: Pod) -> None:
        """Raises DevicesNotAllocated, ApiError, ConnectionError, TimeoutError."""
        for key in claims_of(shape):
            assumed = self._nodes.devices.assumed.get(key)
            await self._give(key, assumed.body if assumed is not None else None, pod)

    async def _give(self, key: Key, body: Object | None, pod: Pod) -> None:
        for _ in range(_ATTEMPTS):
            namespace, name = key
            claim = await self._client.get(RESOURCECLAIMS, name, namespace)
            known = self._nodes.devices.claims.get(key)
            if known is not None and known.metadata.uid != claim["metadata"]["uid"]:
                raise DevicesNotAllocated(f"resource claim {name} was replaced by another of its name")
            try:
                changed = with_consumer(claim, body, pod)
                if changed is None:
                    return
                if FINALIZER not in (claim["metadata"].get("finalizers") or ()):
                    claim["metadata"].setdefault("finalizers", []).append(FINALIZER)
                    claim = await self._client.update(RESOURCECLAIMS, claim)
                written = await self._client.update(RESOURCECLAIMS, {**claim, "status": changed}, subresource="status")
            except ApiError as error:
                if error.code != 409:
                    raise
                continue
            self._nodes.devices.put_claim(_decoded(written))
            return
        raise DevicesNotAllocated(f"resource claim {key[1]} is written by others all the time")

    async def loosen(self, shape: Shape, uid: str) -> bool:
        """Take back the allocations of a refused pod's claims that no other pod uses; whether there were any."""
        done = False
        for namespace, name in claims_of(shape):
            known = self._nodes.devices.claims.get((namespace, name))
            if known is None or known.status.allocation is None or (namespace, name) in self._nodes.devices.assumed:
                continue
            if known.status.allocation.nodeSelector is None or not _unused(known, uid):
                continue
            try:
                claim = await self._client.get(RESOURCECLAIMS, name, namespace)
                if claim["metadata"]["resourceVersion"] != known.metadata.resourceVersion:
                    continue
                status = {k: v for k, v in claim["status"].items() if k not in ("allocation", "reservedFor", "devices")}
                written = await self._client.update(RESOURCECLAIMS, {**claim, "status": status}, subresource="status")
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                continue
            self._nodes.devices.put_claim(_decoded(written))
            done = True
        return done


def with_consumer(claim: Object, body: Object | None, pod: Pod) -> Object | None:
    """The claim's status with the pod among its consumers; None when it is right already. Raises DevicesNotAllocated."""
    status = dict(claim.get("status") or {})
    name = claim["metadata"]["name"]
    if claim["metadata"].get("deletionTimestamp"):
        raise DevicesNotAllocated(f"resource claim {name} is being deleted")
    before, consumers, meta = status.get("allocation"), list(status.get("reservedFor") or ()), pod.metadata
    if before and body is not None and _devices(before) != _devices(body):
        raise DevicesNotAllocated(f"resource claim {name} was allocated by somebody else")
    if not before and body is None:
        raise DevicesNotAllocated(f"resource claim {name} has lost its allocation")
    reserved = any(c["uid"] == meta.uid for c in consumers)
    if before and reserved:
        return None
    if not reserved and len(consumers) >= MOST_CONSUMERS:
        raise DevicesNotAllocated(f"resource claim {name} is in use by {MOST_CONSUMERS} pods")
    if not reserved:
        consumers.append({"resource": "pods", "name": meta.name, "uid": meta.uid})
    return {**status, "allocation": before or body, "reservedFor": consumers}


def _devices(allocation: Object) -> list[tuple[str, ...]]:
    results = (allocation.get("devices") or {}).get("results") or ()
    return [(r["request"], r["driver"], r["pool"], r["device"]) for r in results]


def _unused(claim: Claim, uid: str) -> bool:
    return all(c.uid == uid for c in claim.status.reservedFor or ())


def _decoded(claim: Object) -> Claim:
    return msgspec.json.decode(msgspec.json.encode(claim), type=Claim)
