"""Ranges that service addresses are handed out from: ServiceCIDRs in, candidates in the order of their trial out. Pure.

Of each range the lower part is left to those who ask for fixed addresses, and taken from only when the upper is used up
(KEP-3070). The range that the server was started with comes first, the others follow by name. Next: service_ip.py.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import chain
from random import Random

from jota.kinds.networking.servicecidr import DEFAULT, Network, contains, networks, ready
from jota.kinds.shape import Object, meta

TRIES = 64
"""Random picks before a range is searched in order."""
LEAST, MOST, STEP = 16, 256, 16
"""Addresses of the lower part: a STEPth of the range within these bounds."""


def offset(network: Network) -> int:
    """How many addresses at the beginning of a range are kept for fixed ones (upstream's calculateRangeOffset)."""
    size = network.num_addresses
    return 0 if size <= LEAST else min(max(size // STEP, LEAST), MOST)


def candidates(network: Network, random: Random) -> Iterator[str]:
    """Every address that the range may give, the likely ones first; some of them more than once."""
    first = int(network.network_address) + 1
    size = network.num_addresses - (2 if network.version == 4 else 1)
    low = min(offset(network), max(size, 0))
    upper = size - low
    picks = (low + random.randrange(upper) for _ in range(TRIES if upper > 0 else 0))
    whole = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
    return (str(whole(first + at)) for at in chain(picks, range(low, size), range(low)))


class Ranges:
    """The ranges of one family that are ready. Fed by a mirror of the ServiceCIDRs."""

    def __init__(self, version: int, fixed: Iterable[Network] = ()) -> None:
        """`version`: 4 or 6. `fixed`: what to take from where ServiceCIDRs are not served."""
        self._version = version
        self._ready: dict[str, list[Network]] = {}
        self._known = tuple(fixed)

    def change(self, new: Object | None, old: Object | None) -> None:
        if old is not None:
            self._ready.pop(meta(old)["name"], None)
        if new is not None and ready(new):
            self._ready[meta(new)["name"]] = [n for n in networks(new) if n.version == self._version]
        names = sorted(self._ready, key=lambda name: (name != DEFAULT, name))
        self._known = tuple(dict.fromkeys(n for name in names for n in self._ready[name]))

    def has(self, address: str) -> bool:
        """Whether any range may give the address."""
        return any(contains(network, address) for network in self._known)

    def candidates(self, random: Random) -> Iterator[str]:
        """Addresses to try; none when no range is ready."""
        return chain.from_iterable(candidates(network, random) for network in self._known)
