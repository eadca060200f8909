from __future__ import annotations

from pathlib import Path

from jota.store.drivers.memory import MemoryStore
from jota.store.protocol import Store
from jota.testing.store_suite import StoreSuite


class TestMemory(StoreSuite):
    durable = False

    def open(self, directory: Path) -> Store:
        return MemoryStore()
