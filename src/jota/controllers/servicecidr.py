"""ServiceCIDRs: a finalizer and the condition Ready; one that is deleted goes when no address depends on it any more.

In: ServiceCIDRs and the IPAddresses of Services. Out: finalizers and conditions, with upstream's reasons and messages. An
address depends on a range while no other range contains it. Before a range is let go, the API itself is asked once more.
Next: ipaddressrepair.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from jota.aio.clock import rfc3339
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller
from jota.kinds.common import moment
from jota.kinds.networking.ipaddress import ALLOCATOR, MANAGED_BY, managed
from jota.kinds.networking.servicecidr import READY, Network, containing, networks
from jota.meta.errors import ApiError
from jota.meta.resource import IP_ADDRESSES, SERVICE_CIDRS

Object = dict[str, Any]

NAME = "service-cidr-controller"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
GRACE = 10.0
"""Seconds from the deletion to the removal: writes that were let in before it are stored by then (as upstream)."""
IS_READY = ("True", "", "Kubernetes Service CIDR is ready")
IS_USED = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)


def held(cidr: Object, all_: Iterable[Object], addresses: Iterable[str]) -> str:
    """An address that would be in no range any more without this one; "" when it may go. Pure.

    `addresses`: those of Services."""
    others = [o for o in all_ if o["metadata"]["name"] != cidr["metadata"]["name"]]
    if all(any(_covers(wide, one) for o in others for wide in networks(o)) for one in networks(cidr)):
        return ""
    mine = [a for a in addresses if containing([cidr], a)]
    return next((a for a in mine if not containing(others, a)), "")


def _covers(wide: Network, narrow: Network) -> bool:
    return wide.version == narrow.version and wide.overlaps(narrow) and wide.prefixlen <= narrow.prefixlen


class ServiceCIDRController(Controller):
    name: ClassVar[str] = NAME
    workers: ClassVar[int] = 1  # of two that cover each other, only one may be let go

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.cidrs = self.watch(SERVICE_CIDRS, self._overlapping)
        self.addresses = self.watch(IP_ADDRESSES, self._closing)
        self.events = context.recorder(NAME)

    def _overlapping(self, cidr: Object) -> list[str]:
        """Itself, and those whose deletion may depend on it."""
        mine = networks(cidr)
        others = [
            o
            for o in self.cidrs.list()
            if any(a.overlaps(b) for a in mine for b in networks(o) if a.version == b.version)
        ]
        return list(dict.fromkeys([cidr["metadata"]["name"], *(o["metadata"]["name"] for o in others)]))

    def _closing(self, address: Object) -> list[str]:
        """Those on their way out that an address may hold."""
        if not managed(address):
            return []
        closing = [c for c in self.cidrs.list() if "deletionTimestamp" in c["metadata"]]
        return [c["metadata"]["name"] for c in containing(closing, address["metadata"]["name"])]

    async def reconcile(self, key: str) -> float | None:
        cidr = self.cidrs.get(key)
        if cidr is None:
            return None
        if "deletionTimestamp" in cidr["metadata"]:
            return await self._let_go(key, cidr)
        finalizers = cidr["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            cidr = await self._finalizers(key, cidr, [*finalizers, FINALIZER])
        await self._say(key, cidr, *IS_READY)
        return None

    async def _let_go(self, key: str, cidr: Object) -> float | None:
        used = [a["metadata"]["name"] for a in self.addresses.list() if managed(a)]
        if held(cidr, self.cidrs.list(), used):
            await self._say(key, cidr, *IS_USED)
            return None  # an event of an address or of another range comes
        finalizers = cidr["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        left = (moment(cidr["metadata"]["deletionTimestamp"]) or 0.0) + GRACE - self.clock.now()
        if left > 0:
            return left
        listed = (await self.client.list(IP_ADDRESSES, labels=f"{MANAGED_BY}={ALLOCATOR}"))["items"]
        all_ = (await self.client.list(SERVICE_CIDRS))["items"]
        if held(cidr, all_, [a["metadata"]["name"] for a in listed]):
            return 1.0  # the caches are behind
        await self._finalizers(key, cidr, [f for f in finalizers if f != FINALIZER])
        return None

    async def _finalizers(self, key: str, cidr: Object, wanted: list[str]) -> Object:
        meta = cidr["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": wanted}}
        try:
            written = await self.client.patch(SERVICE_CIDRS, key, "", patch)
        except ApiError as e:
            if e.code != 404:
                raise
            return cidr
        self.wrote(key, self.cidrs, written)
        return written

    async def _say(self, key: str, cidr: Object, status: str, reason: str, message: str) -> None:
        current = conditions.find((cidr.get("status") or {}).get("conditions"), READY)
        if current and (current["status"], current.get("reason", ""), current.get("message", "")) == (
            status,
            reason,
            message,
        ):
            return
        ready = {"type": READY, "status": status, "reason": reason, "message": message}
        ready["lastTransitionTime"] = rfc3339(self.clock.now())
        body = {
            "apiVersion": SERVICE_CIDRS.api_version,
            "kind": SERVICE_CIDRS.kind,
            "metadata": {"name": key, "uid": cidr["metadata"]["uid"]},
            "status": {"conditions": [ready]},
        }
        try:
            written = await self.client.patch(
                SERVICE_CIDRS, key, "", body, type="apply", subresource="status", manager=NAME, force=True
            )
        except ApiError as e:
            if e.code in (404, 409):
                raise
            text = "The ServiceCIDR Status can not be set to Ready=True"
            self.events.event(cidr, "Warning", "KubernetesServiceCIDRError", text)
            raise
        self.wrote(key, self.cidrs, written)
