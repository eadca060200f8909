"""Eviction by NoExecute taints of devices. In: slices with tainted devices, DeviceTaintRules, claims. Out: deletes of pods.

A pod goes when a device of one of its claims has such a taint that the claim does not tolerate, after the time that it does.
The tolerations are those that the scheduler copied into the allocation. Taints without timeAdded count from when they were
first seen. Next: tainteviction.py does the same for nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.client.informer import key_of, split_key
from jota.controllers.controller import Context, Controller, own
from jota.controllers.disruption import mark
from jota.controllers.resourceclaim import CLAIMS
from jota.controllers.tainteviction import tolerated_for
from jota.controllers.views import Pod, Toleration
from jota.meta.errors import ApiError
from jota.meta.resource import PODS, Resource

Object = dict[str, Any]
DeviceId = tuple[str, str, str]
"""(driver, pool, device)"""

RULES = Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False)
SLICES = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False)


def plan(claim: Object, taints: Mapping[DeviceId, list[Object]], first_seen: Mapping[Any, float]) -> float | None:
    """When the pods of the claim must go (epoch seconds, may be past), or None: they may stay.

    `taints`: NoExecute taints by device. `first_seen`: (device, taint key) -> when, for those without timeAdded.
    """
    allocation = (claim.get("status") or {}).get("allocation") or {}
    deadline: float | None = None
    for result in (allocation.get("devices") or {}).get("results") or ():
        device = result["driver"], result["pool"], result["device"]
        tolerations = msgspec.convert(result.get("tolerations") or [], list[Toleration])
        for taint in taints.get(device, ()):
            allowed = tolerated_for(tolerations, taint)
            if allowed is not None:
                since = (
                    parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else first_seen[device, taint["key"]]
                )
                deadline = since + allowed if deadline is None else min(deadline, since + allowed)
    return deadline


class DeviceTaintEvictionController(Controller):
    name: ClassVar[str] = "device-taint-eviction"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch(CLAIMS, own)
        self.claims.add_index("pool", _pools)
        self.slices = self.watch(SLICES, self._claims_of, when=lambda old, new: executing(old) != executing(new))
        self.slices.add_index("pool", lambda s: [f"{s['spec']['driver']}/{s['spec']['pool']['name']}"])
        self.rules = self.watch(RULES, self._claims_ruled)
        self.pods = self.watch(PODS, type=Pod)
        self.events = context.recorder("device-taint-eviction")
        self._first_seen: dict[tuple[DeviceId, str], float] = {}

    def _claims_of(self, found: Object) -> Iterable[str]:
        pool = f"{found['spec']['driver']}/{found['spec']['pool']['name']}"
        return [key_of(c["metadata"]["namespace"], c["metadata"]["name"]) for c in self.claims.by_index("pool", pool)]

    def _claims_ruled(self, rule: Object) -> Iterable[str]:
        held = ((key, _held(claim)) for key, claim in self.claims.items())
        return [key for key, devices in held if any(ruled(rule, device) for device in devices)]

    async def reconcile(self, key: str) -> float | None:
        claim = self.claims.get(key)
        consumers = ((claim.get("status") or {}).get("reservedFor") or ()) if claim is not None else ()
        if claim is None or not consumers:
            return None
        slices = [s for pool in _pools(claim) for s in self.slices.by_index("pool", pool)]
        taints = {device: found for s in slices for device, found in executing(s).items()}
        for device in _held(claim):
            found = [r["spec"]["taint"] for r in self.rules.list() if ruled(r, device)]
            if found := [t for t in found if t.get("effect") == "NoExecute"]:
                taints[device] = [*taints.get(device, ()), *found]
        self._see(set(_pools(claim)), taints)
        deadline = plan(claim, taints, self._first_seen)
        if deadline is None:
            return None
        left = deadline - self.clock.now()
        if left > 0:
            return left
        namespace, name = split_key(key)
        for consumer in consumers:
            await self._evict(key_of(namespace, consumer["name"]), consumer["uid"], name)
        return None

    def _see(self, pools: set[str], taints: Mapping[DeviceId, list[Object]]) -> None:
        """A taint that went and comes again counts anew."""
        now = {(device, t["key"]) for device, found in taints.items() for t in found}
        for key in [k for k in self._first_seen if k not in now and f"{k[0][0]}/{k[0][1]}" in pools]:
            del self._first_seen[key]
        for key in now:
            self._first_seen.setdefault(key, self.clock.now())

    async def _evict(self, key: str, uid: str, claim: str) -> None:
        pod = self.pods.get(key)
        if pod is None or pod.metadata.uid != uid or pod.terminating or pod.finished:
            return
        text = f"Device taint manager: deleting due to NoExecute taint of a device of resource claim {claim}"
        self.events.event(pod.reference(), "Normal", "DeviceTaintManagerEviction", f"Marking for deletion Pod {key}")
        namespace, name = split_key(key)
        try:
            await mark(self.client, pod, "DeletionByDeviceTaintManager", text, self.clock.now())
            await self.client.delete(PODS, name, namespace, uid=uid)
        except ApiError as e:
            if e.code != 404:
                raise


def executing(found: Object | None) -> dict[DeviceId, list[Object]]:
    """Device -> its NoExecute taints, of those that have any."""
    if found is None:
        return {}
    spec, out = found["spec"], dict[DeviceId, list[Object]]()
    for device in spec.get("devices") or ():
        taints = [t for t in device.get("taints") or () if t.get("effect") == "NoExecute"]
        if taints:
            out[spec["driver"], spec["pool"]["name"], device["name"]] = taints
    return out


def ruled(rule: Object, device: DeviceId) -> bool:
    """Whether the rule is about the device: no selector, no device; an empty one, every device."""
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    wanted = (selector.get(field) for field in ("driver", "pool", "device"))
    return all(w is None or w == own for w, own in zip(wanted, device, strict=True))


def _held(claim: Object) -> list[DeviceId]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return [(r["driver"], r["pool"], r["device"]) for r in results]


def _pools(claim: Object) -> list[str]:
    return sorted({f"{driver}/{pool}" for driver, pool, _ in _held(claim)})
