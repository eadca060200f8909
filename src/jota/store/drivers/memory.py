"""A store that forgets when the process ends: for tests and for clusters that live as long as a test."""

from __future__ import annotations

import time

from jota.store.index import Index
from jota.store.log import LogStore
from jota.store.protocol import Entry


class MemoryStore(LogStore):
    """Same semantics as every driver, durable for nobody."""

    blocking = False

    def __init__(self) -> None:
        super().__init__(Index(), time.monotonic)

    def append(self, batch: list[Entry]) -> None:
        """Nothing to do: the index is the store."""

    def prune(self, dead: list[int], compacted: int) -> None:
        """Nothing to do: forgotten entries are garbage."""
