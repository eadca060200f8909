"""Services as data: what nftables maps must hold for a list of service ports, and the change from one state to the next.

Comes in: `ServicePort`s and this node's name. Goes out: `Desired` (elements of maps, the constant chains that they
point to) and, from two of them, the text of one nft transaction. Pure. The fixed part of the table is in
service_table.py; nft_proxy.py applies.

Worked example: a service 10.96.0.9:80/TCP with two endpoints is

    services   tcp . 10.96.0.9 . 80              : goto v-c-2    (v: by address, c: cluster, 2 endpoints)
    endpoints  tcp . 10.96.0.9 . 80 . 0x4a6f0000 : 10.244.0.5 . 8080
    endpoints  tcp . 10.96.0.9 . 80 . 0x4a6f0001 : 10.244.1.3 . 8080

and chain v-c-2 says: mark the packet with a random index, dnat to <protocol . address . port . mark> as `endpoints`
has it. Adding an endpoint changes one element of `services` and adds one to `endpoints`, in one transaction. The index
goes through the packet mark because nftables 1.0 takes no random number as part of a typed key.

Views. With externalTrafficPolicy: Local, clients from outside see this node's endpoints only, and keep their address
("l" chains, indexes from LOCAL on); pods and the node itself see all of them, through the `-inside` maps, which are
looked up first for such sources (as upstream short-circuits cluster-internal traffic to external addresses).

ClientIP affinity. `ids` gives a random endpoint's stable id (a packet mark), `sticky` leads from id to endpoint, and
the dynamic map `affinity` remembers client -> id with a timeout. Ids outlive changes of other endpoints; the id of one
that went finds nothing in `sticky`, and the client is given a new endpoint.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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

    Ports with addresses that are not IPv4 are passed over: this proxy serves IPv4.
    """
    desired = Desired()
    taken: set[Key] = set()
    for port in sorted(ports, key=lambda p: (p.namespace, p.name, p.port_name)):
        for frontend in _frontends(port, node):
            if frontend.key not in taken:
                taken.add(frontend.key)
                frontend.emit(desired)
        _hairpin(port, node, desired)
    return desired


def diff(old: Desired, new: Desired, table: str) -> str:
    """nft commands of one transaction that turns `old` into `new`; "" when they are equal."""
    lines = [line for chain in sorted(new.chains - old.chains) for line in chain_commands(table, chain)]
    additions: list[str] = []
    for name in MAPS:
        before, after = old.maps[name], new.maps[name]
        gone = {key: value for key, value in before.items() if after.get(key) != value}
        come = {key: value for key, value in after.items() if before.get(key) != value}
        lines += _elements("delete", table, name, gone)
        additions += _elements("add", table, name, come)
    return "\n".join(lines + additions)


def load(desired: Desired, table: str) -> str:
    """nft commands that fill a table whose maps are empty, or emptied in the same transaction."""
    return diff(Desired(), desired, table)


def changed_flows(old: Desired | None, new: Desired) -> dict[Key, frozenset[tuple[str, int]]]:
    """UDP frontends whose targets changed (all, when the past is unknown), with their targets now."""
    if old is None:
        return dict(new.flows)
    keys = old.flows.keys() | new.flows.keys()
    none: frozenset[tuple[str, int]] = frozenset()
    return {key: new.flows.get(key, none) for key in keys if old.flows.get(key) != new.flows.get(key)}


def usable(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Ready ones; when there is none, those that still serve while terminating (upstream's ProxyTerminatingEndpoints)."""
    found = {(e.ip, e.port): e for e in endpoints if _is_ipv4(e.ip)}
    ready = {key: e for key, e in found.items() if e.ready}
    return [e for _, e in sorted((ready or found).items())]


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

    def emit(self, desired: Desired) -> None:
        protocol, address, port = self.key
        kind = "v" if address else "p"
        key = f"{protocol} . {address} . {port}" if address else f"{protocol} . {port}"
        entry = "services" if address else "node-ports"
        if self.outside:
            self._lead(desired, kind, key, entry, self.view, self.outside)
        else:
            refuse = "refuse" if address else "refuse-ports"
            desired.maps[refuse][key] = "drop" if self.drop else "goto reject-it"
        if self.inside:
            self._lead(desired, kind, key, entry + "-inside", "c", self.inside)
        if protocol == "udp":
            targets = {(e.ip, e.port) for e in (*self.outside, *(self.inside or ()))}
            desired.flows[self.key] = frozenset(targets)

    def _lead(
        self, desired: Desired, kind: str, key: str, entry: str, view: str, endpoints: tuple[Endpoint, ...]
    ) -> None:
        chain = chain_name(kind, view, len(endpoints), self.affinity)
        desired.chains.add(chain)
        desired.maps[entry][key] = f"goto {chain}"
        prefix = "port-" if kind == "p" else ""
        start = MARK + (LOCAL if view == "l" else 0)
        if not self.affinity:
            targets = desired.maps[prefix + "endpoints"]
            for index, endpoint in enumerate(endpoints, start):
                targets[f"{key} . {index:#x}"] = f"{endpoint.ip} . {endpoint.port}"
            return
        for index, (number, endpoint) in enumerate(_stable_ids(endpoints), start):
            desired.maps[prefix + "ids"][f"{key} . {index:#x}"] = f"{number:#x}"
            desired.maps[prefix + "sticky"][f"{key} . {number:#x}"] = f"{endpoint.ip} . {endpoint.port}"


def _frontends(port: ServicePort, node: str) -> Iterator[_Frontend]:
    protocol = port.protocol.lower()
    every = tuple(usable(port.endpoints))
    here = tuple(usable(e for e in port.endpoints if e.node == node))
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


def _hairpin(port: ServicePort, node: str, desired: Desired) -> None:
    """A pod that reaches itself through a service must see another source, or its answer would never leave it."""
    for endpoint in port.endpoints:
        if endpoint.node == node and _is_ipv4(endpoint.ip):
            desired.maps["hairpin"][f"{endpoint.ip} . {endpoint.ip}"] = ""


def _stable_ids(endpoints: Iterable[Endpoint]) -> Iterator[tuple[int, Endpoint]]:
    """Ids that depend on the endpoint itself: 16 bits of a checksum, the next free number on a collision."""
    used: set[int] = set()
    for endpoint in endpoints:
        number = zlib.crc32(f"{endpoint.ip}:{endpoint.port}".encode()) & 0xFFFF
        while number in used:
            number = (number + 1) & 0xFFFF
        used.add(number)
        yield MARK | number, endpoint


def _elements(verb: str, table: str, name: str, elements: Mapping[str, str]) -> Iterator[str]:
    if elements:
        body = ", ".join(f"{key} : {value}" if value else key for key, value in elements.items())
        yield f"{verb} element ip {table} {name} {{ {body} }}"


def _is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
