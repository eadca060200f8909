"""Forget UDP flows that lead to endpoints which are gone: connection tracking would keep sending a busy client there.

Comes in: UDP frontends that changed, with their targets now. Goes out: entries deleted through ctnetlink. Reading and
choosing are pure; `sweep` does it. (TCP needs none of this: a connection to a dead endpoint ends by itself.)
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from jota.net import netlink, sys
from jota.net.netlink import Request
from jota.net.services import Key

CT_GET, CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE = 1, 2, 18
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)


class Flow(NamedTuple):
    """One tracked UDP flow: where the client sent to, who answers, and the entry's identity for deleting it."""

    destination: tuple[str, int]
    answerer: tuple[str, int]
    identity: bytes


def read_flow(body: bytes) -> Flow | None:
    """A flow from one dumped entry; None for anything but UDP over IPv4."""
    found = netlink.attributes(body, len(HEADER))
    original, reply = found.get(CTA_TUPLE_ORIG, b""), found.get(CTA_TUPLE_REPLY, b"")
    destination, answerer = _end(original, destination=True), _end(reply, destination=False)
    if destination is None or answerer is None:
        return None
    identity = netlink.attribute(CTA_TUPLE_ORIG | netlink.NESTED, original)
    if CTA_ZONE in found:
        identity += netlink.attribute(CTA_ZONE, found[CTA_ZONE])
    return Flow(destination, answerer, identity)


def _end(tuple_data: bytes, *, destination: bool) -> tuple[str, int] | None:
    parts = netlink.attributes(tuple_data)
    address = netlink.attributes(parts.get(CTA_TUPLE_IP, b""))
    protocol = netlink.attributes(parts.get(CTA_TUPLE_PROTO, b""))
    raw = address.get(CTA_IP_V4_DST if destination else CTA_IP_V4_SRC)
    port = protocol.get(CTA_PROTO_DST_PORT if destination else CTA_PROTO_SRC_PORT)
    if protocol.get(CTA_PROTO_NUM) != bytes([socket.IPPROTO_UDP]) or raw is None or port is None:
        return None
    return socket.inet_ntoa(raw), int.from_bytes(port, "big")


def is_stale(flow: Flow, frontends: Mapping[Key, frozenset[tuple[str, int]]]) -> bool:
    """Does the flow go through one of the frontends, but not to one of its targets? Pure.

    A flow that went through untranslated (there was no endpoint when it began) is stale as soon as there are targets.
    """
    address, port = flow.destination
    targets = frontends.get(("udp", address, port))
    if targets is None:
        targets = frontends.get(("udp", "", port))
    if targets is None or flow.answerer in targets:
        return False
    translated = flow.answerer != flow.destination
    return translated or bool(targets)


def sweep(frontends: Mapping[Key, frozenset[tuple[str, int]]]) -> int:
    """Delete the stale flows of these frontends in this namespace; returns how many. Raises sys.NetworkFault."""
    if not frontends:
        return 0
    with sys.Netlink(netlink.NETLINK_NETFILTER) as door:
        entries = door.query(Request(CT_GET, netlink.NLM_F_DUMP, HEADER, "list tracked connections"))
        flows = [flow for flow in map(read_flow, entries) if flow is not None and is_stale(flow, frontends)]
        for flow in flows:
            body = HEADER + flow.identity
            door.run([Request(CT_DELETE, netlink.NLM_F_ACK, body, "forget a UDP flow", (errno.ENOENT,))])
        return len(flows)
