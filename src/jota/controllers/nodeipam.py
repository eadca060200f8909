"""Pod address ranges: every node gets its own part of the cluster CIDR. In: nodes. Out: spec.podCIDR and podCIDRs.

One worker only: two nodes must never be given the same part, and a part is taken once the write of it is durable.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller, own
from jota.meta.resource import NODES

Object = dict[str, Any]

IPV6_MASK = 64


def plan(cluster: list[str], node_mask: int, taken: Iterable[str]) -> list[str] | None:
    """One free part of each cluster CIDR, or None when one of them is full."""
    used = [ip_network(t) for t in taken]
    chosen = []
    for text in cluster:
        network = ip_network(text)
        mask = max(node_mask if network.version == 4 else IPV6_MASK, network.prefixlen)
        part = _first_free(network, mask, [u for u in used if u.version == network.version])
        if part is None:
            return None
        chosen.append(str(part))
    return chosen


def _first_free(
    network: IPv4Network | IPv6Network, mask: int, used: list[IPv4Network | IPv6Network]
) -> IPv4Network | IPv6Network | None:
    """Parts are looked at in order; a used range of any size blocks every part that it overlaps."""
    size = 1 << (network.max_prefixlen - mask)
    base, last = int(network.network_address), int(network.broadcast_address)
    blocks = sorted((int(u.network_address), int(u.broadcast_address)) for u in used)
    at = base
    for start, end in blocks:
        if end < at:
            continue
        if start >= at + size:
            break
        at = base + ((end - base) // size + 1) * size
    if at + size - 1 > last:
        return None
    return ip_network((at, mask)) if network.version == 4 else IPv6Network((at, mask))


class NodeIpamController(Controller):
    name: ClassVar[str] = "node-ipam"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = self.watch(NODES, own)
        self.events = context.recorder("cidr-allocator")
        self._given: dict[str, tuple[str, list[str]]] = {}
        """Node -> (uid, parts) that were written and that the cache may not show yet."""

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.get(key)
        if node is None or (node.get("spec") or {}).get("podCIDR") or not self.config.cluster_cidr:
            return None
        parts = plan(self.config.cluster_cidr.split(","), self.config.node_mask, self._taken())
        if parts is None:
            self.events.event(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return 30.0
        meta = {"uid": node["metadata"]["uid"], "resourceVersion": node["metadata"]["resourceVersion"]}
        patch = {"metadata": meta, "spec": {"podCIDR": parts[0], "podCIDRs": parts}}
        self.wrote(key, self.nodes, await self.client.patch(NODES, key, "", patch))
        self._given[key] = (node["metadata"]["uid"], parts)
        return None

    def _taken(self) -> list[str]:
        taken: list[str] = []
        for name, node in self.nodes.items():
            parts = (node.get("spec") or {}).get("podCIDRs") or [
                p for p in [(node.get("spec") or {}).get("podCIDR")] if p
            ]
            taken += parts
            given = self._given.get(name)
            if given is not None and (parts or given[0] != node["metadata"]["uid"]):
                del self._given[name]
        for name in [n for n in self._given if self.nodes.get(n) is None]:
            del self._given[name]
        return taken + [p for _, parts in self._given.values() for p in parts]
