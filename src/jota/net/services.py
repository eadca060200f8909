"""Services as data: what nftables maps must hold for a list of service ports, and the change from one state to the next.

Comes in: `ServicePort`s and this node's name. Goes out: `Desired` (elements of maps, the constant chains that they
point to), and per change the text of one nft transaction. Pure. The fixed part of the table is in service_table.py;
nft_proxy.py applies.

Worked example: a service 10.96.0.9:80/TCP with two endpoints is

    services   tcp . 10.96.0.9 . 80              : goto v-c-2    (v: by address, c: cluster, 2 endpoints)
    endpoints  tcp . 10.96.0.9 . 80 . 0x4a6f0000 : 10.244.0.5 . 8080
    endpoints  tcp . 10.96.0.9 . 80 . 0x4a6f0001 : 10.244.1.3 . 8080

and chain v-c-2 says: mark the packet with a random index, dnat to <protocol . address . port . mark> as `endpoints`
has it. Adding an endpoint changes one element of `services` and adds one to `endpoints`, in one transaction; the place of one
that goes is taken by the last, so that all others keep their index (`placed`). The index goes through the packet
mark because nftables 1.0 takes no random number as part of a typed key.

Views. With externalTrafficPolicy: Local, clients from outside see this node's endpoints only, and keep their address
("l" chains, indexes from LOCAL on); pods and the node itself see all of them, through the `-inside` maps, which are
looked up first for such sources (as upstream short-circuits cluster-internal traffic to external addresses). Topology
hints (Endpoint.near) narrow what the cluster view sees, never the local one.

ClientIP affinity. `ids` gives a random endpoint's stable id (a packet mark), `sticky` leads from id to endpoint, and
the dynamic map `affinity` remembers client -> id with a timeout. Ids outlive changes of other endpoints; the id of one
that went finds nothing in `sticky`, and the client is given a new endpoint.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import zip_longest

from jota.net.protocol import Endpoint, ServicePort

MARK = 0x4A6F0000
"""High half of the packet marks that carry an index or an id through the nat hook; they are reset right after it."""
LOCAL = 0x8000
"""First index of the local view in `endpoints` and `ids`."""
MAPS = (
    *("services", "services-inside", "node-ports", "node-ports-inside", "endpoints", "port-endpoints"),
    *("ids", "port-ids", "sticky", "port-sticky", "refuse", "refuse-ports", "hairpin"),
)

Key = tuple[str, str, int]
"""A frontend: protocol ("tcp"), address ("" for a node port), port."""
Identity = tuple[str, str, str]
"""Namespace, service, name of the port."""


@dataclass(slots=True)
class Desired:
    """Everything that depends on services."""

    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in MAPS})
    """Map -> key -> value, as nft spells them; the value of a set's element is ""."""
    chains: set[str] = field(default_factory=set)
    flows: dict[Key, frozenset[tuple[str, int]]] = field(default_factory=dict)
    """UDP frontends and where they lead, for clearing connection tracking (conntrack.py)."""


def compile(ports: Iterable[ServicePort], node: str) -> Desired:
    """What this node's tables must hold. Of two claims to one frontend, the first in order of name wins.

    Addresses that are not IPv4 are passed over: this proxy serves IPv4.
    """
    compiler = Compiler(node)
    compiler.update(ports)
    return compiler.desired


@dataclass(slots=True)
class Change:
    """Elements that go and come, chains that are new, UDP frontends whose targets changed (with their targets now)."""

    gone: Desired = field(default_factory=Desired)
    come: Desired = field(default_factory=Desired)
    chains: set[str] = field(default_factory=set)
    flows: dict[Key, frozenset[tuple[str, int]]] = field(default_factory=dict)


class Compiler:
    """Keeps `desired` up to date from list to list, at a cost that goes with what changed, not with what there is."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._ports: dict[Identity, ServicePort] = {}
        self._frontends: dict[Identity, list[_Frontend]] = {}
        self._claims: dict[Key, dict[Identity, _Frontend]] = {}
        self._hairpin: dict[str, int] = {}
        self.desired = Desired()

    def update(self, ports: Iterable[ServicePort]) -> Change:
        """Take the full list; tell what it changes. Chains are never taken back: they are few, and constant."""
        new: dict[Identity, ServicePort] = {}
        for port in ports:
            new.setdefault((port.namespace, port.name, port.port_name), port)
        old, self._ports = self._ports, new
        changed = [i for i, port in new.items() if (held := old.get(i)) is not port and held != port]
        changed += [i for i in old if i not in new]
        before: dict[Key, _Frontend | None] = {}
        change = Change()
        for identity in changed:
            self._replace(identity, new.get(identity), before)
            for held, by in ((new.get(identity), 1), (old.get(identity), -1)):
                for address in _local_addresses(held, self._node) if held else ():
                    self._count_hairpin(f"{address} . {address}", by, change)
        for key, was in before.items():
            self._emit(key, was, self._winner(key), change)
        self._install(change)
        return change

    def _replace(self, identity: Identity, new: ServicePort | None, before: dict[Key, _Frontend | None]) -> None:
        gone = self._frontends.pop(identity, [])
        if new is None:
            come = []
        else:
            places = {frontend.key: frontend for frontend in gone}
            come = [f.placed_as(places.get(f.key)) for f in _frontends(new, self._node)]
            self._frontends[identity] = come
        for frontend in (*gone, *come):
            if frontend.key not in before:
                before[frontend.key] = self._winner(frontend.key)
        for frontend in gone:
            claims = self._claims[frontend.key]
            claims.pop(identity, None)
            if not claims:
                del self._claims[frontend.key]
        for frontend in come:
            self._claims.setdefault(frontend.key, {}).setdefault(identity, frontend)

    def _winner(self, key: Key) -> _Frontend | None:
        claims = self._claims.get(key)
        return claims[min(claims)] if claims else None

    def _emit(self, key: Key, was: _Frontend | None, now: _Frontend | None, change: Change) -> None:
        if was == now:
            return
        if was:
            was.emit(change.gone, now)
        if now:
            now.emit(change.come, was)
        targets, former = (d.flows.get(key) for d in (change.come, change.gone))
        if targets != former:
            change.flows[key] = targets or frozenset()

    def _count_hairpin(self, key: str, by: int, change: Change) -> None:
        """A pod that reaches itself through a service must see another source, or its answer would never leave it."""
        count = self._hairpin.get(key, 0) + by
        if count:
            self._hairpin[key] = count
        else:
            del self._hairpin[key]
        if count == max(by, 0):
            into, other = (change.come, change.gone) if by > 0 else (change.gone, change.come)
            if other.maps["hairpin"].pop(key, None) is None:
                into.maps["hairpin"][key] = ""

    def _install(self, change: Change) -> None:
        for name in MAPS:
            gone, come, held = change.gone.maps[name], change.come.maps[name], self.desired.maps[name]
            for key in [key for key, value in gone.items() if come.get(key) == value]:
                del gone[key], come[key]
            for key in gone:
                del held[key]
            held.update(come)
        change.chains = change.come.chains - self.desired.chains
        self.desired.chains |= change.chains
        for flow in change.gone.flows:
            self.desired.flows.pop(flow, None)
        self.desired.flows.update(change.come.flows)


def commands(change: Change, table: str) -> str:
    """nft commands of one transaction that carries the change out; "" when there is nothing to do."""
    lines = [line for chain in sorted(change.chains) for line in chain_commands(table, chain)]
    for verb, elements in (("delete", change.gone), ("add", change.come)):
        for name in MAPS:
            lines += _elements(verb, table, name, elements.maps[name])
    return "\n".join(lines)


def load(desired: Desired, table: str) -> str:
    """nft commands that fill a table whose maps are empty, or emptied in the same transaction."""
    return commands(Change(come=desired, chains=desired.chains), table)


def usable(endpoints: Iterable[Endpoint], *, hinted: bool = True) -> list[Endpoint]:
    """Ready ones; when there is none, those that still serve while terminating (upstream's ProxyTerminatingEndpoints).

    `hinted`: of the ready ones only those that topology hints mean for this node."""
    found = {(e.ip, e.port): e for e in endpoints if _is_ipv4(e.ip)}
    ready = [e for e in found.values() if e.ready and (e.near or not hinted)]
    return ready or [*found.values()]


def placed(now: Iterable[Endpoint], was: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The same endpoints, each at the index that it has in `was`. New ones take the places of those that went; what is then left
    empty is filled from the end. So what changes in the kernel is what changed here, and not all that stands behind it."""
    left = {(e.ip, e.port): e for e in now}
    places = [left.pop((e.ip, e.port), None) for e in was]
    holes = [index for index, e in enumerate(places) if e is None]
    new = [e for _, e in sorted(left.items())]
    for hole, endpoint in zip(holes, new, strict=False):
        places[hole] = endpoint
    places += new[len(holes) :]
    for hole in reversed(holes[len(new) :]):
        last = places.pop()
        if hole < len(places):
            places[hole] = last
    return tuple([e for e in places if e is not None])


def chain_name(kind: str, view: str, count: int, affinity: int) -> str:
    """kind v (by address) or p (node port), view c (cluster), m (cluster, masqueraded) or l (local)."""
    return f"{kind}-{view}-{count}" + (f"-t{affinity}" if affinity else "")


def chain_commands(table: str, name: str) -> Iterator[str]:
    """The commands that make one of the constant chains, also over one that stands."""
    kind, view, count, *rest = name.split("-")
    prefix = "port-" if kind == "p" else ""
    key = "meta l4proto . th dport" if kind == "p" else "meta l4proto . ip daddr . th dport"
    offset = MARK + (LOCAL if view == "l" else 0)
    pick = f"meta mark set numgen random mod {count} offset {offset}"
    found = f"{key} . meta mark"
    yield f"add chain ip {table} {name}"
    yield f"flush chain ip {table} {name}"
    rule = f"add rule ip {table} {name} "
    if view == "m":
        yield rule + "ct mark set ct mark or 0x4000"
    if not rest:
        yield rule + pick
        yield rule + f"dnat to {found} map @{prefix}endpoints"
        return
    client, memory = f"ip saddr . {key}", f"@{prefix}affinity"
    remember = f"update {memory} {{ {client} timeout {rest[0].removeprefix('t')}s : meta mark }}"
    go = f"dnat to {found} map @{prefix}sticky"
    # One rule: it stops at the first part that finds nothing, an unknown client or an endpoint that is gone.
    yield rule + f"meta mark set {client} map {memory} {remember} {go}"
    yield rule + pick
    yield rule + f"meta mark set {found} map @{prefix}ids"
    yield rule + f"delete {memory} {{ {client} : meta mark }}"
    yield rule + f"{remember} {go}"


# --- frontends


@dataclass(slots=True, frozen=True)
class _Frontend:
    """One address (or node port) of a service port, with what clients outside and inside the cluster see."""

    key: Key
    outside: tuple[Endpoint, ...]
    view: str
    inside: tuple[Endpoint, ...] | None = None
    """Endpoints for sources inside, when these see others (externalTrafficPolicy: Local); else None."""
    affinity: int = 0
    drop: bool = False
    """Without endpoints: drop silently (there are some, on other nodes), instead of refusing."""

    def placed_as(self, was: _Frontend | None) -> _Frontend:
        """The same, with its endpoints in the places that they had."""
        inside = None
        if self.inside is not None:
            inside = placed(self.inside, (was.inside or ()) if was else ())
        return replace(self, outside=placed(self.outside, was.outside if was else ()), inside=inside)

    def emit(self, desired: Desired, other: _Frontend | None = None) -> None:
        """`other`: one of the same key, with which it is compared; endpoints that are in the same place in both may be left out."""
        if other is not None and (other.view, other.affinity) != (self.view, self.affinity):
            other = None
        protocol, address, port = self.key
        kind = "v" if address else "p"
        key = f"{protocol} . {address} . {port}" if address else f"{protocol} . {port}"
        entry = "services" if address else "node-ports"
        if self.outside:
            self._lead(desired, kind, key, entry, self.view, self.outside, other.outside if other else ())
        else:
            refuse = "refuse" if address else "refuse-ports"
            desired.maps[refuse][key] = "drop" if self.drop else "goto reject-it"
        if self.inside:
            self._lead(desired, kind, key, entry + "-inside", "c", self.inside, (other.inside or ()) if other else ())
        if protocol == "udp":
            targets = {(e.ip, e.port) for e in (*self.outside, *(self.inside or ()))}
            desired.flows[self.key] = frozenset(targets)

    def _lead(
        self,
        desired: Desired,
        kind: str,
        key: str,
        entry: str,
        view: str,
        endpoints: tuple[Endpoint, ...],
        others: tuple[Endpoint, ...],
    ) -> None:
        chain = chain_name(kind, view, len(endpoints), self.affinity)
        desired.chains.add(chain)
        desired.maps[entry][key] = f"goto {chain}"
        prefix = "port-" if kind == "p" else ""
        start = MARK + (LOCAL if view == "l" else 0)
        if not self.affinity:
            targets = desired.maps[prefix + "endpoints"]
            for index, (endpoint, held) in enumerate(zip_longest(endpoints, others[: len(endpoints)]), start):
                if endpoint is not held and (held is None or (endpoint.ip, endpoint.port) != (held.ip, held.port)):
                    targets[f"{key} . {index:#x}"] = f"{endpoint.ip} . {endpoint.port}"
            return
        for index, (number, endpoint) in enumerate(_stable_ids(endpoints), start):
            desired.maps[prefix + "ids"][f"{key} . {index:#x}"] = f"{number:#x}"
            desired.maps[prefix + "sticky"][f"{key} . {number:#x}"] = f"{endpoint.ip} . {endpoint.port}"


def _frontends(port: ServicePort, node: str) -> list[_Frontend]:
    """Each frontend once: an external address may repeat the ClusterIP."""
    found: dict[Key, _Frontend] = {}
    for frontend in _all_frontends(port, node):
        found.setdefault(frontend.key, frontend)
    return list(found.values())


def _all_frontends(port: ServicePort, node: str) -> Iterator[_Frontend]:
    protocol = port.protocol.lower()
    every = tuple(usable(port.endpoints))
    here = tuple(usable((e for e in port.endpoints if e.node == node), hinted=False))
    if _is_ipv4(port.cluster_ip):
        chosen = here if port.internal_local_only else every
        yield _Frontend(
            (protocol, port.cluster_ip, port.port), chosen, "c", affinity=port.affinity_seconds, drop=bool(every)
        )
    external = [(protocol, address, port.port) for address in port.external_ips if _is_ipv4(address)]
    if port.node_port:
        external.append((protocol, "", port.node_port))
    for key in external:
        if port.local_only:
            yield _Frontend(key, here, "l", every, port.affinity_seconds, drop=bool(every))
        else:
            yield _Frontend(key, every, "m", affinity=port.affinity_seconds)


def _local_addresses(port: ServicePort, node: str) -> set[str]:
    return {e.ip for e in port.endpoints if e.node == node and _is_ipv4(e.ip)}


def _stable_ids(endpoints: Sequence[Endpoint]) -> Iterator[tuple[int, Endpoint]]:
    """Ids that depend on the endpoint itself: 16 bits of a checksum, the next free number on a collision, whatever their places."""
    used: dict[int, Endpoint] = {}
    for endpoint in sorted(endpoints, key=lambda e: (e.ip, e.port)):
        number = zlib.crc32(f"{endpoint.ip}:{endpoint.port}".encode()) & 0xFFFF
        while number in used:
            number = (number + 1) & 0xFFFF
        used[number] = endpoint
    numbers = {id(endpoint): number for number, endpoint in used.items()}
    return ((MARK | numbers[id(endpoint)], endpoint) for endpoint in endpoints)


def _elements(verb: str, table: str, name: str, elements: Mapping[str, str]) -> Iterator[str]:
    if elements:
        body = ", ".join(f"{key} : {value}" if value else key for key, value in elements.items())
        yield f"{verb} element ip {table} {name} {{ {body} }}"


@lru_cache(1 << 16)
def _is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
