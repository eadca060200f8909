"""PersistentVolumes by name, sorted into those that any claim may take and those that are kept for one, as they come and go.

A cluster has many bound volumes and few free ones; whoever looks for a volume looks at the latter alone. Next: storage.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jota.meta.quantity import value

if TYPE_CHECKING:
    from jota.scheduler.storage import Volume

Key = tuple[str, str]
"""(namespace, claim)"""


class Offer(NamedTuple):
    """A volume that a claim could take, with what is asked of it worked out once."""

    size: int
    """Bytes."""
    name: str
    modes: frozenset[str]
    volume: Volume


class VolumeTable(dict[str, "Volume"]):
    """Changed by item assignment, `del` and `pop` alone."""

    def __init__(self) -> None:
        super().__init__()
        self._free: dict[str, dict[str, Offer]] = {}
        """Storage class -> name -> volume without a holder."""
        self._held: dict[Key, dict[str, Offer]] = {}

    def offers(self, storage_class: str, claim: Key) -> list[Offer]:
        """Free volumes of the class, and those of any class whose claimRef names the claim; not those that are being deleted."""
        return [*self._free.get(storage_class, {}).values(), *self._held.get(claim, {}).values()]

    def __setitem__(self, name: str, volume: Volume) -> None:
        self._drop(name)
        super().__setitem__(name, volume)
        if volume.metadata.deletionTimestamp is not None:
            return
        spec = volume.spec
        size = int(value(str((spec.capacity or {}).get("storage", 0))))
        offer = Offer(size, name, frozenset(spec.accessModes or ()), volume)
        if spec.claimRef is not None and spec.claimRef.name:
            self._held.setdefault((spec.claimRef.namespace, spec.claimRef.name), {})[name] = offer
        elif volume.status.phase in ("", "Available"):
            self._free.setdefault(spec.storageClassName, {})[name] = offer

    def __delitem__(self, name: str) -> None:
        self._drop(name)
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self._drop(name)
        return super().pop(name, *default)

    def _drop(self, name: str) -> None:
        before = self.get(name)
        if before is None:
            return
        holder = before.spec.claimRef
        tables: tuple[tuple[dict[Any, dict[str, Offer]], Any], ...] = (
            (self._free, before.spec.storageClassName),
            (self._held, (holder.namespace, holder.name) if holder is not None else None),
        )
        for table, key in tables:
            if key in table:
                table[key].pop(name, None)
                if not table[key]:
                    del table[key]
