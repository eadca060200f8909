"""Netlink messages as bytes: builders of requests and readers of answers. Pure: nothing here touches the kernel.

Comes in: names, indexes, addresses. Goes out: `Request` values that `sys.Netlink.run` sends in one batch, and small
records (`Link`, `Route`, `Address`) read from dumps. Layouts are those of linux/rtnetlink.h, if_link.h, if_addr.h and
neighbour.h; integers are in the machine's order unless said otherwise. Next: sys.py.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28

IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
IFLA_GROUP, IFLA_NET_NS_FD = 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
NDA_DST, NDA_LLADDR = 1, 2
NESTED = 0x8000
RT_TABLE_MAIN = 254
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254
RTN_UNICAST = 1
RTNH_F_ONLINK = 4
NUD_PERMANENT = 0x80

NETLINK_NETFILTER = 12

PROTOCOL = 74
"""rtm_protocol of every route that Jota makes ("J"; free in iproute2's rt_protos), so that they can be told from others'."""


class Request(NamedTuple):
    """One netlink request. `what` says in words what is asked (for errors); `tolerate` lists errnos that mean "fine"."""

    kind: int
    flags: int
    body: bytes
    what: str
    tolerate: tuple[int, ...] = ()


@dataclass(slots=True, frozen=True)
class Link:
    index: int
    name: str
    alias: str
    mtu: int
    up: bool


@dataclass(slots=True, frozen=True)
class Route:
    destination: str
    """CIDR; "0.0.0.0/0" for the default route."""
    link: int
    gateway: str
    protocol: int
    priority: int
    table: int
    scope: int


@dataclass(slots=True, frozen=True)
class Address:
    link: int
    address: str
    prefix: int


def attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + bytes(-size % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """kind -> payload (the last one wins); a malformed tail is dropped."""
    out: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            break
        out[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return out


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence, body) of each message in one datagram."""
    offset = 0
    while offset + 16 <= len(data):
        size, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if size < 16:
            return
        yield kind, sequence, data[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def encode(request: Request, sequence: int) -> bytes:
    flags = request.flags | NLM_F_REQUEST
    return struct.pack("=IHHII", 16 + len(request.body), request.kind, flags, sequence, 0) + request.body


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _interface(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


# --- links


def link_up(index: int, *, alias: str = "", group: int = 0, master: int = 0) -> Request:
    """Set a link up, in the same breath its alias (shown by `ip link`), its group and the bridge it belongs to."""
    body = _interface(index, IFF_UP, IFF_UP)
    if group:
        body += attribute(IFLA_GROUP, _u32(group))
    if alias:
        body += attribute(IFLA_IFALIAS, alias.encode()[:255])
    if master:
        body += attribute(IFLA_MASTER, _u32(master))
    return Request(RTM_NEWLINK, NLM_F_ACK, body, f"set link {index} up")


def veth(
    name: str, peer: str, *, peer_namespace: int, mac: bytes = b"", peer_mac: bytes = b"", mtu: int = 1500
) -> Request:
    """A veth pair: `name` here, `peer` in the network namespace of the open file `peer_namespace`."""
    other = _interface() + attribute(IFLA_IFNAME, _text(peer)) + attribute(IFLA_MTU, _u32(mtu))
    other += attribute(IFLA_NET_NS_FD, _u32(peer_namespace))
    if peer_mac:
        other += attribute(IFLA_ADDRESS, peer_mac)
    data = attribute(IFLA_INFO_DATA | NESTED, attribute(VETH_INFO_PEER | NESTED, other))
    body = _interface() + attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_MTU, _u32(mtu))
    if mac:
        body += attribute(IFLA_ADDRESS, mac)
    body += attribute(IFLA_LINKINFO | NESTED, attribute(IFLA_INFO_KIND, b"veth") + data)
    return Request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, f"create veth {name} with peer {peer}")


def simple_link(name: str, kind: str, *, mac: bytes = b"", mtu: int = 1500) -> Request:
    """A link that needs no parameters: "bridge" or "dummy"."""
    body = _interface() + attribute(IFLA_IFNAME, _text(name)) + attribute(IFLA_MTU, _u32(mtu))
    if mac:
        body += attribute(IFLA_ADDRESS, mac)
    body += attribute(IFLA_LINKINFO | NESTED, attribute(IFLA_INFO_KIND, kind.encode()))
    return Request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, f"create {kind} {name}")


def delete_link(index: int, *tolerate: int) -> Request:
    return Request(RTM_DELLINK, NLM_F_ACK, _interface(index), f"delete link {index}", tolerate)


def delete_group(group: int, *tolerate: int) -> Request:
    """Delete all links of a group at once: as long as one (20 ms), however many there are."""
    body = _interface() + attribute(IFLA_GROUP, _u32(group))
    return Request(RTM_DELLINK, NLM_F_ACK, body, f"delete links of group {group}", tolerate)


def get_link(name: str) -> Request:
    return Request(RTM_GETLINK, 0, _interface() + attribute(IFLA_IFNAME, _text(name)), f"get link {name}")


def dump_links() -> Request:
    return Request(RTM_GETLINK, NLM_F_DUMP, _interface(), "list links")


def read_link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    found = attributes(body, 16)
    name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode()
    alias = found.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace")
    return Link(index, name, alias, struct.unpack("=I", found.get(IFLA_MTU, b"\0" * 4))[0], bool(flags & IFF_UP))


# --- addresses, routes, neighbours (IPv4)


def _address_body(index: int, address: str, prefix: int, scope: int) -> bytes:
    raw = socket.inet_aton(address)
    head = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, scope, index)
    return head + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)


def add_address(index: int, address: str, prefix: int = 32, *, scope: int = 0) -> Request:
    """Idempotent: an address that stands already is fine."""
    body = _address_body(index, address, prefix, scope)
    return Request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, f"add address {address}/{prefix}")


def delete_address(index: int, address: str, prefix: int, *tolerate: int) -> Request:
    body = _address_body(index, address, prefix, 0)
    return Request(RTM_DELADDR, NLM_F_ACK, body, f"delete address {address}/{prefix}", tolerate)


def dump_addresses() -> Request:
    return Request(RTM_GETADDR, NLM_F_DUMP, struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, 0), "list addresses")


def read_address(body: bytes) -> Address:
    _, prefix, _, _, index = struct.unpack_from("=BBBBi", body)
    found = attributes(body, 8)
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or bytes(4)
    return Address(index, socket.inet_ntoa(raw), prefix)


def _route_body(
    destination: str, *, link: int, gateway: str, source: str, priority: int, scope: int, onlink: bool
) -> bytes:
    network = ipaddress.IPv4Network(destination)
    flags = RTNH_F_ONLINK if onlink else 0
    head = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, network.prefixlen, 0, 0, RT_TABLE_MAIN, PROTOCOL, scope, RTN_UNICAST, flags
    )
    body = head
    if network.prefixlen:
        body += attribute(RTA_DST, network.network_address.packed)
    if gateway:
        body += attribute(RTA_GATEWAY, socket.inet_aton(gateway))
    if link:
        body += attribute(RTA_OIF, _u32(link))
    if source:
        body += attribute(RTA_PREFSRC, socket.inet_aton(source))
    if priority:
        body += attribute(RTA_PRIORITY, _u32(priority))
    return body


def replace_route(
    destination: str, *, link: int = 0, gateway: str = "", source: str = "", priority: int = 0, onlink: bool = False
) -> Request:
    """A route in the main table; one that stands for the same destination and priority is replaced."""
    scope = SCOPE_UNIVERSE if gateway else SCOPE_LINK
    body = _route_body(
        destination, link=link, gateway=gateway, source=source, priority=priority, scope=scope, onlink=onlink
    )
    what = f"route {destination}" + (f" via {gateway}" if gateway else "") + (f" dev {link}" if link else "")
    return Request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, what)


def delete_route(destination: str, *tolerate: int, link: int = 0, priority: int = 0) -> Request:
    # Scope "nowhere" (255) matches any scope when deleting (fib_table_delete).
    body = _route_body(destination, link=link, gateway="", source="", priority=priority, scope=255, onlink=False)
    return Request(RTM_DELROUTE, NLM_F_ACK, body, f"delete route {destination}", tolerate)


def dump_routes() -> Request:
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(RTM_GETROUTE, NLM_F_DUMP, body, "list routes")


def read_route(body: bytes) -> Route:
    _, prefix, _, _, table, protocol, scope, _, _ = struct.unpack_from("=BBBBBBBBI", body)
    found = attributes(body, 12)
    destination = socket.inet_ntoa(found.get(RTA_DST, bytes(4)))
    gateway = socket.inet_ntoa(found[RTA_GATEWAY]) if RTA_GATEWAY in found else ""
    number = {key: struct.unpack("=I", found[key])[0] for key in (RTA_OIF, RTA_PRIORITY, RTA_TABLE) if key in found}
    return Route(
        destination=f"{destination}/{prefix}",
        link=number.get(RTA_OIF, 0),
        gateway=gateway,
        protocol=protocol,
        priority=number.get(RTA_PRIORITY, 0),
        table=number.get(RTA_TABLE, table),
        scope=scope,
    )


def permanent_neighbour(index: int, address: str, mac: bytes) -> Request:
    """A fixed ARP entry: the kernel never asks on the wire for `address`."""
    head = struct.pack("=BxxxiHBB", socket.AF_INET, index, NUD_PERMANENT, 0, 0)
    body = head + attribute(NDA_DST, socket.inet_aton(address)) + attribute(NDA_LLADDR, mac)
    return Request(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body, f"neighbour {address}")
