"""Addresses of simulated nodes and pods: a node is in 198.18.0.0/15 and has a /24 of 100.64.0.0/10 for its pods.

Benchmarking (RFC 2544) and shared (RFC 6598) address space: clusters seldom use them; nothing answers there.
"""

from __future__ import annotations

from ipaddress import IPv4Address

_HOSTS = int(IPv4Address("198.18.0.0"))
_PODS = int(IPv4Address("100.64.0.0"))
_PER_NODE = 254


class Addresses:
    def __init__(self) -> None:
        self._taken: dict[str, dict[int, str]] = {}
        """Node -> last byte -> pod uid."""
        self._of: dict[str, int] = {}
        """Pod uid -> last byte."""

    def host(self, node: str) -> str:
        return str(IPv4Address(_HOSTS + 1 + number(node)))

    def cidr(self, node: str) -> str:
        return f"{IPv4Address(_PODS + number(node) * 256)}/24"

    def take(self, node: str, uid: str) -> str:
        """The pod's address, the lowest free one when it has none. Addresses are shared when 254 are in use."""
        taken = self._taken.setdefault(node, {})
        last = self._of.get(uid)
        if last is None:
            last = next((n for n in range(1, _PER_NODE + 1) if n not in taken), _PER_NODE)
            taken[last] = uid
            self._of[uid] = last
        return str(IPv4Address(_PODS + number(node) * 256 + last))

    def keep(self, node: str, uid: str, address: str) -> None:
        """A pod that has its address already (seen at a restart)."""
        last = int(address.rpartition(".")[2]) if address.count(".") == 3 else 0
        if uid not in self._of and last:
            self._taken.setdefault(node, {})[last] = uid
            self._of[uid] = last

    def free(self, node: str, uid: str) -> None:
        last = self._of.pop(uid, None)
        taken = self._taken.get(node)
        if last is not None and taken is not None and taken.get(last) == uid:
            del taken[last]


def number(node: str) -> int:
    """The number at the end of a hollow node's name."""
    return int(node.rpartition("-")[2])
