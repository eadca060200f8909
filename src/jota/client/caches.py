"""The caches that one client fills: where one looks for what another has decoded, and what they tell /metrics.

Two caches of the same resource and type, in the same server's objects, hold the same object at the same resourceVersion: kept
once, decoded once. Events of a running watch bring that along (meta/watchevent.py); this is for states read as a whole.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol
from weakref import WeakSet

from jota.client.reader import Unreadable
from jota.meta.resource import Resource


class Peer(Protocol):
    """An informer."""

    resource: Resource
    unreadable: dict[str, Unreadable]

    def peek(self, key: str, version: str) -> Any:
        """The object at this resourceVersion, or None."""
        ...


class Caches:
    def __init__(self) -> None:
        self._peers: dict[Hashable, WeakSet[Peer]] = {}

    def join(self, same: Hashable, peer: Peer) -> WeakSet[Peer]:
        """`same`: equal for those that hold the same objects. All of these, the new one too."""
        peers = self._peers.setdefault(same, WeakSet())
        peers.add(peer)
        return peers

    def unreadable(self) -> list[tuple[Resource, Unreadable]]:
        """What the caches cannot hold now, each object once."""
        found = {
            (peer.resource, one.key): one
            for peers in self._peers.values()
            for peer in peers
            for one in peer.unreadable.values()
        }
        return [(resource, one) for (resource, _), one in found.items()]

    def text(self) -> list[str]:
        """Lines for /metrics."""
        name = "jota_informer_unreadable"
        out = [f"# HELP {name} Objects that caches of this process cannot hold: 1 each.", f"# TYPE {name} gauge"]
        lines = []
        for resource, one in self.unreadable():
            pairs = (
                ("group", resource.group),
                ("resource", resource.plural),
                ("object", one.key),
                ("field", one.field),
            )
            labels = ",".join(f'{k}="{_escaped(v)}"' for k, v in pairs)
            lines.append(f"{name}{{{labels}}} 1")
        return out + sorted(lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
