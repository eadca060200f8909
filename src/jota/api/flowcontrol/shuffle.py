"""Shuffle sharding: each flow is dealt a small hand of queues, so that a flood fills its own hand and few others share it."""

from __future__ import annotations

import hashlib


def deal(schema: str, flow: str, queues: int, hand: int) -> tuple[int, ...]:
    """`hand` different numbers below `queues`, always the same for the same flow.

    >>> len(set(deal("global-default", "alice", 64, 6)))
    6
    """
    seed = f"{len(schema)},{schema},{flow}".encode()
    number = int.from_bytes(hashlib.sha256(seed).digest(), "little")
    moved: dict[int, int] = {}
    """A deck of which only the places that differ from a new one are kept: there may be ten million queues."""
    dealt = []
    for size in range(queues, queues - min(hand, queues), -1):
        number, at = divmod(number, size)
        dealt.append(moved.get(at, at))
        moved[at] = moved.get(size - 1, size - 1)
    return tuple(dealt)
