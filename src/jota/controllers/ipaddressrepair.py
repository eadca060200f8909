"""Puts right what Services and IPAddresses say of each other. In: both, and ServiceCIDRs. Out: IPAddresses made and deleted.

The API stores an IPAddress in the commit of its Service, so there is something to do only after somebody changed IPAddresses
by hand, and for Services that are older than IPAddresses. The Services are right. What the caches say is looked at again in
the API before anything is done. Reasons, messages and graces are those of upstream's ipallocator-repair-controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jota.client.informer import split_key
from jota.controllers.controller import Context, Controller
from jota.kinds.common import moment
from jota.kinds.core.service import needs_cluster_ip
from jota.kinds.networking.ipaddress import family, labelled, managed, of_service, service_of
from jota.kinds.networking.servicecidr import containing
from jota.kinds.shape import part, text, texts
from jota.meta.errors import ApiError
from jota.meta.resource import IP_ADDRESSES, SERVICE_CIDRS, SERVICES, Resource

Object = dict[str, Any]

NAME = "ipallocator-repair-controller"
LEAKED = 60.0
"""Seconds that an IPAddress may wait for its Service."""
FRESH = 5.0
"""The same for one that a Service of that name does not have."""
SERVICE, ADDRESS = "service:", "address:"
"""What a key begins with."""


@dataclass(slots=True, frozen=True)
class Step:
    """One thing to do or to tell."""

    address: str
    reason: str = ""
    """Of the Warning; "": none."""
    message: str = ""
    create: bool = False
    delete: bool = False


def cluster_ips(service: Object) -> list[str]:
    spec = part(service, "spec")
    if not needs_cluster_ip(spec):
        return []
    return [ip for ip in texts(spec, "clusterIPs") or [text(spec, "clusterIP")] if ip not in ("", "None")]


def plan_service(
    service: Object,
    cidrs: Iterable[Object],
    addresses: Mapping[str, Object],
    services: Mapping[str, Object],
) -> list[Step]:
    """What each of its addresses lacks. `addresses`: IPAddresses by name; `services`: those that they refer to, by key. Pure."""
    ranges, steps = list(cidrs), []
    key = _key(service)
    for ip in cluster_ips(service):
        found, of = addresses.get(ip), f"[{family(ip)}]: {ip}"
        wrong = f"the ClusterIP {of} for Service {key} has a wrong reference; repairing"
        if not containing(ranges, ip):
            said = f"Cluster IP {of} is not within any configured Service CIDR; please recreate service"
            steps.append(Step(ip, "ClusterIPOutOfRange", said))
        elif found is None:
            said = f"Cluster IP {of} is not allocated; repairing"
            steps.append(Step(ip, "ClusterIPNotAllocated", said, create=True))
        elif service_of(found) != key:
            other = services.get(service_of(found))
            if other is None:
                steps.append(Step(ip, "ClusterIPNotAllocated", wrong, create=True, delete=True))
            elif ip in cluster_ips(other):
                said = f"Cluster IP [{family(ip)}]:{ip} was assigned to multiple services; please recreate service"
                steps.append(Step(ip, "ClusterIPAlreadyAllocated", said))
            elif not labelled(found):
                steps.append(Step(ip, create=True, delete=True))
            # else the plan of the address deletes it
        elif not labelled(found):
            steps.append(Step(ip, create=True, delete=True))
    return steps


def plan_address(address: Object, service: Object | None, now: float) -> tuple[Step | None, float | None]:
    """(what to do, seconds after which to look again) about one IPAddress and the Service that it refers to. Pure."""
    meta, of = address["metadata"], service_of(address)
    name, age = meta["name"], now - (moment(meta.get("creationTimestamp")) or 0.0)
    if not managed(address):
        return None, None
    if not of:
        said = (
            f"IPAddress {name} appears to have been modified, not referencing a Service {_shown(address)}: cleaning up"
        )
        return Step(name, "IPAddressNotAllocated", said, delete=True), None
    if service is None:
        if age <= LEAKED:
            return None, LEAKED - age + 1.0
        said = f"IPAddress: {name} for Service {of} appears to have leaked: cleaning up"
        return Step(name, "IPAddressNotAllocated", said, delete=True), None
    if name in cluster_ips(service):
        return None, None
    born = moment(service["metadata"].get("creationTimestamp")) or 0.0
    external = text(part(service, "spec"), "type") == "ExternalName"
    grace = LEAKED if external else FRESH if (moment(meta.get("creationTimestamp")) or 0.0) > born else 0.0
    if age < grace:
        return None, grace - age
    said = f"IPAddress: {name} for Service {of} has a wrong reference; cleaning up"
    return Step(name, "IPAddressWrongReference", said, delete=True), None


def _shown(address: Object) -> str:
    """A parent as Go prints one."""
    parent = part(part(address, "spec"), "parentRef")
    fields = ("Group", "Resource", "Namespace", "Name")
    return "&ParentReference{" + "".join(f"{f}:{text(parent, f.lower())}," for f in fields) + "}"


def _key(service: Object) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


class IPAddressRepairController(Controller):
    name: ClassVar[str] = NAME
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch(SERVICES, _of_service, when=_moved)
        self.addresses = self.watch(IP_ADDRESSES, _of_address)
        self.cidrs = self.watch(SERVICE_CIDRS)
        self.events = context.recorder(NAME)

    def all_keys(self) -> Iterable[str]:
        keys = [SERVICE + key for key, _ in self.services.items()]
        return keys + [ADDRESS + key for key, _ in self.addresses.items()]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(SERVICE):
            await self._service(key, key.removeprefix(SERVICE))
            return None
        return await self._address(key, key.removeprefix(ADDRESS))

    async def _service(self, key: str, of: str) -> None:
        service = self.services.get(of)
        if service is None:
            return
        found = {ip: a for ip in cluster_ips(service) if (a := self.addresses.get(ip)) is not None}
        parents = {service_of(a) for a in found.values()} - {"", of}
        others = {p: s for p in parents if (s := self.services.get(p)) is not None}
        if not plan_service(service, self.cidrs.list(), found, others):
            return
        service = await self._live_service(of)
        if service is None:
            return
        live = {ip: a for ip in cluster_ips(service) if (a := await self._live(IP_ADDRESSES, ip)) is not None}
        parents = {service_of(a) for a in live.values()} - {"", of}
        others = {p: s for p in parents if (s := await self._live_service(p)) is not None}
        cidrs = (await self.client.list(SERVICE_CIDRS))["items"]
        for step in plan_service(service, cidrs, live, others):
            if step.reason:
                self.events.event(service, "Warning", step.reason, step.message)
            if step.delete:
                await self._delete(live[step.address])
            if step.create:
                namespace, name = split_key(of)
                made = await self.client.create(IP_ADDRESSES, of_service(step.address, namespace, name))
                self.wrote(key, self.addresses, made)

    async def _address(self, key: str, name: str) -> float | None:
        address = self.addresses.get(name)
        if address is None:
            return None
        step, again = plan_address(address, self.services.get(service_of(address)), self.clock.now())
        if step is None:
            return again
        address = await self._live(IP_ADDRESSES, name)
        if address is None:
            return None
        of = service_of(address)
        service = await self._live_service(of) if of else None
        step, again = plan_address(address, service, self.clock.now())
        if step is None:
            return again
        self.events.event(address, "Warning", step.reason, step.message)
        await self._delete(address)
        return None

    async def _live_service(self, key: str) -> Object | None:
        namespace, name = split_key(key)
        return await self._live(SERVICES, name, namespace)

    async def _live(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        try:
            return await self.client.get(resource, name, namespace)
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    async def _delete(self, address: Object) -> None:
        meta = address["metadata"]
        try:
            await self.client.delete(IP_ADDRESSES, meta["name"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise


def _of_service(service: Object) -> list[str]:
    return [SERVICE + _key(service), *(ADDRESS + ip for ip in cluster_ips(service))]


def _of_address(address: Object) -> list[str]:
    """The address itself, and its Service, which may lack it now."""
    of = service_of(address)
    own = ADDRESS + address["metadata"]["name"]
    return [own, SERVICE + of] if of else [own]


def _moved(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or cluster_ips(old) != cluster_ips(new)
