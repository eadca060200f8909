"""How many volumes of each CSI driver are in use on each node: columns over node slots, kept up with every pod.

A claim's driver is its volume's, or the provisioner that will make one. Claims that pods use before that is known are looked
up again when somebody asks. Next: plugins/node_volume_limits.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jota.scheduler.storage import Storage

Column = NDArray[np.float64]
Key = tuple[str, str]
"""(namespace, claim)"""


class Attached:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._room = 0
        self._columns: dict[str, Column] = {}
        self._drivers: dict[Key, str] = {}
        """Of the claims in use; as they were counted."""
        self._unknown: dict[Key, None] = {}
        """Claims in use whose driver is not known yet."""
        self._where: dict[Key, set[int]] = {}

    def add(self, key: Key, slot: int, sign: int) -> None:
        """The first pod that uses the claim came to (1), or the last one left (-1) the node."""
        slots = self._where.setdefault(key, set())
        if sign > 0:
            if not slots:
                self._resolve(key)
            slots.add(slot)
        else:
            slots.discard(slot)
        self._count(key, slot, sign)
        if not slots:
            del self._where[key]
            self._drivers.pop(key, None)
            self._unknown.pop(key, None)

    def leave(self, slot: int) -> None:
        """The node is gone, and its pods with it."""
        for key in [k for k, slots in self._where.items() if slot in slots]:
            self.add(key, slot, -1)

    def grow(self, room: int) -> None:
        self._room = room
        for driver, column in self._columns.items():
            bigger = np.zeros(room)
            bigger[: len(column)] = column
            self._columns[driver] = bigger

    def volumes(self, driver: str) -> Column:
        """Per slot, of the driver's volumes those in use. Longer than the nodes are many; not to be changed."""
        for key in list(self._unknown):
            self._resolve(key)
            if key not in self._unknown:
                for slot in self._where[key]:
                    self._count(key, slot, 1)
        column = self._columns.get(driver)
        if column is None:
            column = self._columns[driver] = np.zeros(self._room)
        return column

    def _resolve(self, key: Key) -> None:
        driver = self._storage.driver_of(*key)
        if driver is None:
            self._unknown[key] = None
        else:
            self._unknown.pop(key, None)
            self._drivers[key] = driver

    def _count(self, key: Key, slot: int, sign: int) -> None:
        driver = self._drivers.get(key)
        if driver:
            column = self._columns.get(driver)
            if column is None:
                column = self._columns[driver] = np.zeros(self._room)
            column[slot] += sign
