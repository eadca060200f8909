"""Which names the cluster's zone has (Kubernetes DNS-based service discovery, version 1.1.0). Pure, incremental.

Comes in: Services, their EndpointSlices, names of namespaces. Goes out: `lookup(name, type)` -> Answer, or None for names
that are not ours (server.py forwards them).

For domain cluster.local, with service web in namespace shop:

    web.shop.svc.cluster.local                        A      its ClusterIP; headless: every ready endpoint
    _http._tcp.web.shop.svc.cluster.local             SRV    0 weight port target, for each named port
    a-0.web.shop.svc.cluster.local                    A      headless, endpoint with hostname a-0
    10-244-0-7.web.shop.svc.cluster.local             A      headless, endpoint without a hostname
    7.0.244.10.in-addr.arpa                           PTR    the way back, for ClusterIPs and headless endpoints
    mail.shop.svc.cluster.local                       CNAME  of an ExternalName service
    10-244-0-7.shop.pod.cluster.local                 A      made up from the name itself, in existing namespaces

A name that exists without the asked type, or that has names below it, gives an empty answer, never NXDOMAIN: resolvers
take NXDOMAIN for the whole subtree.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jota.net.dns import packet
from jota.net.dns.packet import ANY, CNAME, NS, PTR, QUESTION_POINTER, SOA, SRV, TXT, A, Answer, encode_name, record
from jota.net.objects import EndpointSlice, Service, is_headless

TTL = 5
"""Seconds; short, because endpoints move."""
CHAIN = 8
"""CNAMEs that are followed inside the zone."""


class Record(NamedTuple):
    name: bytes
    kind: int
    data: bytes


class Zone:
    def __init__(self, domain: str = "cluster.local", *, address: str = "", watches_namespaces: bool = True) -> None:
        """`address`: of the name server itself (ns.dns.<domain>). Raises ValueError for an impossible domain."""
        self.domain = domain.rstrip(".").lower()
        self.apex = encode_name(self.domain)
        self._pods = encode_name(f"pod.{self.domain}")
        self._names: dict[bytes, dict[int, dict[bytes, int]]] = {}
        """Name -> type -> data -> how many services claim it."""
        self._below: dict[bytes, int] = {}
        """Name -> how many records are at it or below it."""
        self._owned: dict[str, frozenset[Record]] = {}
        self._slices: dict[str, set[str]] = {}
        """Service -> its slices that have records of their own."""
        self._watches_namespaces = watches_namespaces
        self._answers: dict[tuple[bytes, int], Answer] = {}
        """Answers given lately; emptied by every change."""
        self.version = 1
        """Grows with every change; the SOA's serial number."""
        self.set_records("", self._own_records(address))

    # --- changes

    def set_service(self, service: Service, slices: Iterable[EndpointSlice]) -> None:
        """The service, and all its slices."""
        meta = service.metadata
        key = f"{meta.namespace}/{meta.name}"
        self.set_records(key, service_records(service, self.domain))
        given = {entry.metadata.name: entry for entry in slices}
        for entry in given.values():
            self.set_slice(service, entry)
        for name in self._slices.get(key, set()) - given.keys():
            self.remove_slice(key, name)

    def set_slice(self, service: Service, entry: EndpointSlice) -> None:
        """One slice of a service that is there: of the many of a headless one, one changes at a time."""
        meta, name = service.metadata, entry.metadata.name
        key = f"{meta.namespace}/{meta.name}"
        records = slice_records(service, entry, self.domain)
        if not records:
            self.remove_slice(key, name)
            return
        self._slices.setdefault(key, set()).add(name)
        self.set_records(_slice_of(key, name), records)

    def remove_slice(self, key: str, name: str) -> None:
        """`key`: "namespace/name" of the service; `name`: of the slice. Idempotent."""
        names = self._slices.get(key, set())
        if name in names:
            names.remove(name)
            if not names:
                del self._slices[key]
            self.set_records(_slice_of(key, name), ())

    def remove_service(self, key: str) -> None:
        """`key`: "namespace/name". Idempotent."""
        self.set_records(key, ())
        for name in [*self._slices.get(key, ())]:
            self.remove_slice(key, name)

    def set_namespace(self, name: str, present: bool) -> None:
        """Namespaces exist in DNS even when empty."""
        found = [Record(encode_name(f"{name}.{part}.{self.domain}"), 0, b"") for part in ("svc", "pod")]
        self.set_records(f"namespace {name}", found if present else ())

    def set_records(self, owner: str, records: Iterable[Record]) -> None:
        """Replace what `owner` contributes."""
        new = frozenset(records)
        old = self._owned.pop(owner, frozenset())
        if new:
            self._owned[owner] = new
        if old == new:
            return
        for entry in sorted(new - old):
            self._count(entry, 1)
        for entry in old - new:
            self._count(entry, -1)
        self._answers.clear()
        self.version = self.version % 0x7FFFFFFF + 1

    def _count(self, entry: Record, by: int) -> None:
        kinds = self._names.setdefault(entry.name, {})
        data = kinds.setdefault(entry.kind, {})
        data[entry.data] = data.get(entry.data, 0) + by
        if not data[entry.data]:
            del data[entry.data]
            if not data:
                del kinds[entry.kind]
            if not kinds:
                del self._names[entry.name]
        for name in _upwards(entry.name):
            left = self._below.get(name, 0) + by
            if left:
                self._below[name] = left
            else:
                del self._below[name]

    # --- questions

    def lookup(self, name: bytes, kind: int) -> Answer | None:
        """The answer to a lower-case wire name; None if it is not ours. Never raises, whatever the name."""
        found = self._answers.get((name, kind))
        if found is None:
            found = self._find(name, kind)
            if found is not None and found.code == packet.NOERROR:
                if len(self._answers) > 50_000:
                    self._answers.clear()
                self._answers[name, kind] = found
        return found

    def _find(self, name: bytes, kind: int) -> Answer | None:
        ours = name == self.apex or (name.endswith(self.apex) and self.apex in _upwards(name))
        kinds = self._names.get(name)
        if kinds is None:
            if not ours:
                return None
            return self._pod(name, kind) or self._negative(name in self._below)
        if CNAME in kinds and kind not in (CNAME, ANY):
            return self._follow(kinds, kind)
        wanted = [k for k in kinds if k] if kind == ANY else [kind]
        records = [record(QUESTION_POINTER, k, TTL, data) for k in wanted for data in kinds.get(k, ())]
        if kind == SOA and name == self.apex:
            records = [self._soa()]
        if not records:
            return self._negative(True)
        return Answer(records=records, additional=list(self._glue(kinds)) if kind == SRV else [])

    def _follow(self, kinds: dict[int, dict[bytes, int]], kind: int) -> Answer:
        """The CNAME, and what it leads to, which stub resolvers expect in the same answer."""
        owner, records = QUESTION_POINTER, []
        for _ in range(CHAIN):
            target = next(iter(kinds[CNAME]))
            records.append(record(owner, CNAME, TTL, target))
            lower = target.lower()
            kinds = self._names.get(lower, {})
            if CNAME not in kinds:
                records += [record(target, kind, TTL, data) for data in kinds.get(kind, ())]
                inside = self.apex in _upwards(lower)
                return Answer(records=records, chase=b"" if inside else lower)
            owner = target
        return Answer(packet.SERVFAIL)

    def _glue(self, kinds: dict[int, dict[bytes, int]]) -> Iterator[bytes]:
        for data in kinds.get(SRV, ()):
            target = data[6:]
            for address in self._names.get(target, {}).get(A, ()):
                yield record(target, A, TTL, address)

    def _pod(self, name: bytes, kind: int) -> Answer | None:
        """10-244-0-7.shop.pod.<domain>; None if the name is not of that form."""
        parts = list(packet.labels(name))
        if not name.endswith(self._pods) or encode_labels(parts[2:]) != self._pods:
            return None
        namespace = encode_labels(parts[1:])
        if self._watches_namespaces and namespace not in self._below:
            return None
        try:
            address = ipaddress.IPv4Address(parts[0].replace(b"-", b".").decode("latin-1"))
        except ValueError:
            return None
        if kind not in (A, ANY):
            return self._negative(True)
        return Answer(records=[record(QUESTION_POINTER, A, TTL, address.packed)])

    def _negative(self, exists: bool) -> Answer:
        return Answer(packet.NOERROR if exists else packet.NXDOMAIN, authority=self._soa())

    def _soa(self) -> bytes:
        data = encode_name(f"ns.dns.{self.domain}") + encode_name(f"hostmaster.{self.domain}")
        return record(self.apex, SOA, TTL, data + struct.pack("!IIIII", self.version, 7200, 1800, 86400, TTL))

    def _own_records(self, address: str) -> Iterator[Record]:
        server = encode_name(f"ns.dns.{self.domain}")
        yield Record(self.apex, NS, server)
        yield Record(encode_name(f"dns-version.{self.domain}"), TXT, b"\x051.1.0")
        for part in ("svc", "pod"):
            yield Record(encode_name(f"{part}.{self.domain}"), 0, b"")
        if address:
            yield Record(server, A, socket.inet_aton(address))


def service_records(service: Service, domain: str) -> Iterator[Record]:
    """The records of one service but for those of its endpoints. Names that cannot be DNS names are left out."""
    meta, spec = service.metadata, service.spec
    own = f"{meta.name}.{meta.namespace}.svc.{domain}"
    name = encode_name(own)
    if spec.type == "ExternalName":
        target = _try_name(spec.externalName or "")
        if target:
            yield Record(name, CNAME, target)
    elif is_headless(service):
        yield Record(name, 0, b"")  # the name exists, even while no endpoint is ready
    else:
        yield from _cluster_ip(name, own, service)


def _cluster_ip(name: bytes, own: str, service: Service) -> Iterator[Record]:
    address = _packed(service.spec.clusterIP or "")
    if address is None:
        return
    yield Record(name, A, address)
    yield Record(_reverse(address), PTR, name)
    for port in service.spec.ports or ():
        if port.name:
            yield Record(_srv(port.name, port.protocol, own), SRV, struct.pack("!HHH", 0, 100, port.port) + name)


def slice_records(service: Service, entry: EndpointSlice, domain: str) -> set[Record]:
    """The records of the endpoints in one slice: headless services have some."""
    if service.spec.type == "ExternalName" or not is_headless(service) or entry.addressType != "IPv4":
        return set()
    own = f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}"
    name = encode_name(own)
    found: set[Record] = set()
    for endpoint in entry.endpoints or ():
        if not endpoint.ready:
            continue
        for address in filter(None, map(_packed, endpoint.addresses or ())):
            host = endpoint.hostname or socket.inet_ntoa(address).replace(".", "-")
            target = encode_name(f"{host}.{own}")
            found |= {Record(name, A, address), Record(target, A, address), Record(_reverse(address), PTR, target)}
            for port in entry.ports or ():
                if port.name and port.port:
                    data = struct.pack("!HHH", 0, 100, port.port) + target
                    found.add(Record(_srv(port.name, port.protocol, own), SRV, data))
    return found


def _slice_of(key: str, name: str) -> str:
    """The owner of a slice's records."""
    return f"slice {name} of {key}"


def _srv(port: str, protocol: str | None, own: str) -> bytes:
    return encode_name(f"_{port}._{protocol or 'TCP'}.{own}")


def _reverse(address: bytes) -> bytes:
    return encode_name(".".join(str(part) for part in reversed(address)) + ".in-addr.arpa")


def _packed(address: str) -> bytes | None:
    try:
        return ipaddress.IPv4Address(address).packed
    except ValueError:
        return None


def _try_name(text: str) -> bytes:
    try:
        return encode_name(text) if text else b""
    except ValueError:
        return b""


def _upwards(name: bytes) -> Iterator[bytes]:
    """The name itself, then each of its parents, without the root."""
    while len(name) > 1:
        yield name
        name = name[name[0] + 1 :]


def encode_labels(parts: Iterable[bytes]) -> bytes:
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
