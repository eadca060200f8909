"""Fan-out of commits: one store watch for the whole server, from which every API watch and in-process observer is fed.

A commit batch comes in; each watcher gets, synchronously, the entries of its resource that may concern it, once per
batch. A watcher that pins one field to one value (a kubelet: spec.nodeName=n1) stands in an index by that value, so five
thousand kubelets do not each look at every pod. Next: verbs/watch.py, registry.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from jota.api.slow import SlowWatchers
from jota.store.protocol import Compacted, Entry, Store

log = logging.getLogger("jota.api")
_BACKLOG = 1 << 20
"""Events that may queue between two turns of the loop; beyond it every watcher is cut off and must list again."""


class Watcher(Protocol):
    trigger: tuple[str, str] | None
    """(field, value) when only entries with that value, now or before, concern this watcher."""

    def deliver(self, entries: list[Entry]) -> None:
        """Entries of one batch in revision order. Must not raise and must not block."""
        ...

    def cut(self) -> None:
        """Events were lost: end with 410."""
        ...

    def end(self) -> None:
        """The server stops: end quietly; the client comes back elsewhere."""
        ...


Index = Callable[[Entry, str], str]
"""(live entry, field) -> the field's value."""


class Channel:
    """The watchers of one stored resource."""

    __slots__ = ("callbacks", "every", "index", "triggered")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.every: dict[Watcher, None] = {}
        self.triggered: dict[str, dict[str, dict[Watcher, None]]] = {}
        self.callbacks: list[Callable[[], None]] = []

    def add(self, watcher: Watcher) -> None:
        if watcher.trigger is None:
            self.every[watcher] = None
        else:
            field, value = watcher.trigger
            self.triggered.setdefault(field, {}).setdefault(value, {})[watcher] = None

    def discard(self, watcher: Watcher) -> None:
        if watcher.trigger is None:
            self.every.pop(watcher, None)
            return
        field, value = watcher.trigger
        by_value = self.triggered.get(field, {})
        group = by_value.get(value, {})
        group.pop(watcher, None)
        if not group:
            by_value.pop(value, None)
        if not by_value:
            self.triggered.pop(field, None)

    def watchers(self) -> list[Watcher]:
        found = list(self.every)
        for by_value in self.triggered.values():
            for group in by_value.values():
                found.extend(group)
        return found

    def dispatch(self, entries: list[Entry]) -> None:
        for watcher in list(self.every):
            try:
                watcher.deliver(entries)
            except Exception:
                _broken(watcher)
        for field, by_value in list(self.triggered.items()):
            chosen: dict[str, list[Entry]] = {}
            for entry in entries:
                for value in self._values(entry, field):
                    if value in by_value:
                        chosen.setdefault(value, []).append(entry)
            for value, few in chosen.items():
                for watcher in list(by_value.get(value, ())):
                    try:
                        watcher.deliver(few)
                    except Exception:
                        _broken(watcher)
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                log.exception("an observer of the store failed")

    def _values(self, entry: Entry, field: str) -> set[str]:
        """The field's value now and before."""
        live = (e for e in (entry, entry.previous) if e is not None and e.value is not None)
        return {self.index(e, field) for e in live}


def _broken(watcher: Watcher) -> None:
    """A mistake about one object must not end everybody's events: the watcher is cut off, and its client lists again."""
    log.exception("a watcher failed and is cut off")
    try:
        watcher.cut()
    except Exception:
        log.exception("a watcher cannot be cut off")


class Feed:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._channels: dict[str, Channel] = {}
        self._watch = store.watch("/", after=store.revision, limit=_BACKLOG)
        self.slow = SlowWatchers()
        self.frames: dict[tuple[object, ...], bytes] = {}
        """Encoded events of the batch in hand, shared by its watchers (key: whatever tells encodings apart)."""
        self.batches: dict[tuple[object, ...], tuple[list[Entry], list[bytes]]] = {}
        """The same for whole lists of entries. Kept with their frames, so that their `id` stays theirs."""

    def channel(self, prefix: str, index: Index) -> Channel:
        """The channel of a stored resource's prefix ("/apps/deployments/"), made on first use."""
        found = self._channels.get(prefix)
        if found is None:
            found = self._channels[prefix] = Channel(index)
        return found

    async def run(self) -> None:
        """Dispatch until the store closes."""
        while True:
            try:
                batch = await self._watch.__anext__()
            except StopAsyncIteration:
                return
            except Compacted:
                self._restart()
                continue
            self._dispatch(batch)

    def pump(self) -> None:
        """Dispatch what is queued now; afterwards every watcher stands at the store's revision."""
        try:
            batch = self._watch.pending()
        except Compacted:
            self._restart()
            return
        if batch:
            self._dispatch(batch)

    def join(self, channel: Channel, watcher: Watcher, prefix: str, after: int) -> None:
        """Deliver what happened under `prefix` since revision `after`, then everything to come. Raises Compacted."""
        self.pump()
        if after < self._store.revision:
            backlog = self._store.watch(prefix, after=after, limit=_BACKLOG)
            try:
                entries = backlog.pending()
            finally:
                backlog.close()
            if entries:
                watcher.deliver(entries)
                self._forget_frames()
        channel.add(watcher)

    def close(self) -> None:
        """End every watcher."""
        self._watch.close()
        self.end_watchers()

    def end_watchers(self) -> None:
        """A clean end of stream for each API watch; the server's own observers go on."""
        for channel in self._channels.values():
            for watcher in channel.watchers():
                watcher.end()

    def _restart(self) -> None:
        self._watch.close()
        self._watch = self._store.watch("/", after=self._store.revision, limit=_BACKLOG)
        for channel in self._channels.values():
            for watcher in channel.watchers():
                watcher.cut()
            for callback in channel.callbacks:
                callback()

    def _dispatch(self, batch: list[Entry]) -> None:
        by_channel: dict[str, list[Entry]] = {}
        for entry in batch:
            key = entry.key
            prefix = key[: key.index("/", key.index("/", 1) + 1) + 1]
            if prefix in self._channels:
                by_channel.setdefault(prefix, []).append(entry)
        for prefix, entries in by_channel.items():
            self._channels[prefix].dispatch(entries)
        self._forget_frames()

    def _forget_frames(self) -> None:
        self.frames.clear()
        self.batches.clear()
