"""Who has which address of the node's pod CIDR. Comes in: owners (pod uids); goes out: addresses. Pure: `links` saves
and restores it. Round robin, so that an address just freed is the last to be handed out again: a client that still
talks to a dead pod does not reach a stranger.
"""

from __future__ import annotations

import ipaddress


class Exhausted(Exception):
    """No address of the pod CIDR is free."""


class Allocator:
    def __init__(self, cidr: str, cursor: int = 0) -> None:
        """`cidr`: an IPv4 network of at least 4 addresses. Its first and last address are never handed out."""
        self._network = ipaddress.IPv4Network(cidr)
        if self._network.num_addresses < 4:
            raise ValueError(f"pod CIDR {cidr} is too small")
        self._first = int(self._network.network_address)
        self._usable = self._network.num_addresses - 2
        self.cursor = cursor % self._usable
        """Offset of the address that is looked at next."""
        self._owners: dict[int, str] = {}
        self._leases: dict[str, int] = {}

    @property
    def leases(self) -> dict[str, str]:
        """Owner -> address, a copy."""
        return {owner: self._text(offset) for owner, offset in self._leases.items()}

    def address(self, owner: str) -> str | None:
        offset = self._leases.get(owner)
        return None if offset is None else self._text(offset)

    def owner(self, address: str) -> str | None:
        return self._owners.get(int(ipaddress.IPv4Address(address)) - self._first - 1)

    def take(self, owner: str) -> str:
        """The owner's address, a new one if it has none. Raises Exhausted."""
        held = self._leases.get(owner)
        if held is not None:
            return self._text(held)
        if len(self._owners) >= self._usable:
            raise Exhausted(f"all {self._usable} addresses of {self._network} are in use")
        while self.cursor in self._owners:
            self.cursor = (self.cursor + 1) % self._usable
        return self._give(owner, self.cursor)

    def restore(self, owner: str, address: str) -> bool:
        """Note a lease made earlier. False if the address is not ours to give or someone else has it."""
        offset = int(ipaddress.IPv4Address(address)) - self._first - 1
        if not 0 <= offset < self._usable or self._owners.get(offset, owner) != owner:
            return False
        if self._leases.get(owner, offset) != offset:
            return False
        cursor = self.cursor
        self._give(owner, offset)
        self.cursor = cursor
        return True

    def release(self, owner: str) -> str | None:
        """Free the owner's address and return it; None if it had none."""
        offset = self._leases.pop(owner, None)
        if offset is None:
            return None
        del self._owners[offset]
        return self._text(offset)

    def _give(self, owner: str, offset: int) -> str:
        self._owners[offset] = owner
        self._leases[owner] = offset
        self.cursor = (offset + 1) % self._usable
        return self._text(offset)

    def _text(self, offset: int) -> str:
        return str(ipaddress.IPv4Address(self._first + 1 + offset))
