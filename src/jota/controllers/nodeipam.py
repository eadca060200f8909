"""Pod address ranges: every node gets its own part of the cluster CIDR. In: nodes. Out: spec.podCIDR and podCIDRs.

One worker only: two nodes must never be given the same part, and a part is taken once the write of it is durable.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller, own
from jota.meta.resource import NODES

Object = dict[str, Any]

IPV6_MASK = 64


def plan(cluster: list[str], node_mask: int, taken: Iterable[str]) -> list[str] | None:
    """One free part of each cluster CIDR, or None when one of them is full."""
    used = sorted(map(_span, taken))
    chosen = []
    for text in cluster:
        network = ip_network(text)
        mask = max(node_mask if network.version == 4 else IPV6_MASK, network.prefixlen)
        part = _first_free(network, mask, [(start, end) for version, start, end in used if version == network.version])
        if part is None:
            return None
        chosen.append(str(part))
    return chosen


@lru_cache(1 << 16)
def _span(text: str) -> tuple[int, int, int]:
    """(version, first address, last address): those of all nodes are looked at for each new one."""
    network = ip_network(text)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _first_free(
    network: IPv4Network | IPv6Network, mask: int, used: list[tuple[int, int]]
) -> IPv4Network | IPv6Network | None:
    """Parts are looked at in order; a used range of any size blocks every part that it overlaps. `used`: in order."""
    size = 1 << (network.max_prefixlen - mask)
    base, last = int(network.network_address), int(network.broadcast_address)
    at = base
    for start, end in used:
        if end < at:
            continue
        if start >= at + size:
            break
        at = base + ((end - base) // size + 1) * size
    if at + size - 1 > last:
        return None
    return ip_network((at, mask)) if network.version == 4 else IPv6Network((at, mask))


def _parts(node: Object | None) -> list[str]:
    spec = (node or {}).get("spec") or {}
    return spec.get("podCIDRs") or [p for p in [spec.get("podCIDR")] if p]


class NodeIpamController(Controller):
    name: ClassVar[str] = "node-ipam"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._full = False
        """No part was free, and none has become so."""
        self.nodes = self.watch(NODES, own, when=self._moved)
        self.events = context.recorder("cidrAllocator")
        self._given: dict[str, tuple[str, list[str]]] = {}
        """Node -> (uid, parts) that were written and that the cache may not show yet."""

    def _moved(self, old: Object | None, new: Object | None) -> bool:
        """Heartbeats do not count."""
        if old is not None and new is not None and _parts(old) == _parts(new):
            return False
        self._full = False
        return True

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.get(key)
        if node is None or (node.get("spec") or {}).get("podCIDR") or not self.config.cluster_cidr:
            return None
        cluster = self.config.cluster_cidr.split(",")
        parts = None if self._full else plan(cluster, self.config.node_mask, self._taken())
        self._full = parts is None
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
            parts = _parts(node)
            taken += parts
            given = self._given.get(name)
            if given is not None and (parts or given[0] != node["metadata"]["uid"]):
                del self._given[name]
        for name in [n for n in self._given if self.nodes.get(n) is None]:
            del self._given[name]
        return taken + [p for _, parts in self._given.values() for p in parts]
