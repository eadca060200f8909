"""Fan-out of commits: one store watch for the whole server, from which every API watch and in-process observer is fed.

A commit batch comes in; each watcher gets, synchronously, the entries of its resource that may concern it, once per
batch. A watcher that pins one field to one value (a kubelet: spec.nodeName=n1) stands in an index by that value, so five
thousand kubelets do not each look at every pod. Next: verbs/watch.py, registry.py.

What costs in a fan-out is not the event but the write to each of a thousand sockets. So a crowd (`CROWD`) rests after each
delivery for half as long as that took: what happens meanwhile is held and leaves in one write, and no fan-out takes more
than two thirds of the loop's time. The server's own (mirrors, informers in process, callbacks) are told at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from jota.aio.clock import Clock
from jota.api import object as at_rest
from jota.api.slow import SlowWatchers
from jota.store.protocol import Compacted, Entry, Store

log = logging.getLogger("jota.api")
_BACKLOG = 1 << 20
"""Events that may queue between two turns of the loop; beyond it every watcher is cut off and must list again."""
CROWD = 64
"""Watchers of one resource that are told of one batch, from which on they rest."""
REST_FROM, REST_MOST = 0.005, 0.05
"""Seconds that a delivery takes before a rest pays, and the longest rest."""


class Watcher(Protocol):
    trigger: tuple[str, str] | None
    """(field, value) when only entries with that value, now or before, concern this watcher."""
    inside: bool
    """It is the server's own and costs no write to a socket: it never rests with the crowd."""

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

    __slots__ = ("callbacks", "every", "held", "index", "inside", "rest", "triggered")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.every: dict[Watcher, None] = {}
        self.triggered: dict[str, dict[str, dict[Watcher, None]]] = {}
        self.inside: dict[Watcher, None] = {}
        self.callbacks: list[Callable[[], None]] = []
        self.rest: asyncio.TimerHandle | None = None
        self.held: list[Entry] = []
        """What happened during the rest."""

    def add(self, watcher: Watcher) -> None:
        if watcher.inside:
            self.inside[watcher] = None
        elif watcher.trigger is None:
            self.every[watcher] = None
        else:
            field, value = watcher.trigger
            self.triggered.setdefault(field, {}).setdefault(value, {})[watcher] = None

    def discard(self, watcher: Watcher) -> None:
        if watcher.inside:
            self.inside.pop(watcher, None)
            return
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
        found = [*self.inside, *self.every]
        for by_value in self.triggered.values():
            for group in by_value.values():
                found.extend(group)
        return found

    def follow(self, entries: list[Entry]) -> None:
        """Tell the server's own."""
        for watcher in list(self.inside):
            try:
                watcher.deliver(entries)
            except Exception:
                _broken(watcher)
        self.call_back()

    def call_back(self) -> None:
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                log.exception("an observer of the store failed")

    def dispatch(self, entries: list[Entry]) -> int:
        """Tell the watchers whom it may concern; how many these were."""
        told = len(self.every)
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
                group = list(by_value.get(value, ()))
                told += len(group)
                for watcher in group:
                    try:
                        watcher.deliver(few)
                    except Exception:
                        _broken(watcher)
        return told

    def _values(self, entry: Entry, field: str) -> set[str]:
        """The field's value now and before, as far as it can be read."""
        found = set()
        for one in (entry, entry.previous):
            if one is not None and one.value is not None:
                try:
                    found.add(self.index(one, field))
                except Exception:  # what one object holds must not end everybody's events
                    log.exception("%s of %s cannot be read", field, one.key)
        return found


def _broken(watcher: Watcher) -> None:
    """A mistake about one object must not end everybody's events: the watcher is cut off, and its client lists again."""
    log.exception("a watcher failed and is cut off")
    _cut(watcher)


def _cut(watcher: Watcher) -> None:
    try:
        watcher.cut()
    except Exception:
        log.exception("a watcher cannot be cut off")


class Feed:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
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
        """Dispatch what is queued now; afterwards all of the server's own, and every watcher that does not rest, stand at the
        store's revision."""
        try:
            batch = self._watch.pending()
        except Compacted:
            self._restart()
            return
        if batch:
            self._dispatch(batch)

    def settle(self, channel: Channel) -> None:
        """End the rest: afterwards every watcher of the channel stands at the store's revision."""
        self.pump()
        self._wake(channel)

    def join(self, channel: Channel, watcher: Watcher, prefix: str, after: int) -> None:
        """Deliver what happened under `prefix` since revision `after`, then everything to come. Raises Compacted."""
        self.settle(channel)
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
        """A clean end of stream for each API watch, after all that was committed; the server's own observers go on."""
        for channel in self._channels.values():
            self._wake(channel)
            for watcher in channel.watchers():
                watcher.end()

    def _restart(self) -> None:
        self._watch.close()
        self._watch = self._store.watch("/", after=self._store.revision, limit=_BACKLOG)
        for channel in self._channels.values():
            channel.held.clear()
            for watcher in channel.watchers():
                _cut(watcher)
            channel.call_back()

    def _dispatch(self, batch: list[Entry]) -> None:
        by_channel: dict[str, list[Entry]] = {}
        for entry in batch:
            key = entry.key
            prefix = key[: key.index("/", key.index("/", 1) + 1) + 1]
            if prefix in self._channels:
                by_channel.setdefault(prefix, []).append(entry)
        for prefix, entries in by_channel.items():
            channel = self._channels[prefix]
            channel.follow(entries)
            if channel.rest is None:
                self._deliver(channel, entries)
            else:
                channel.held += entries
        for entry in batch:
            at_rest.told(entry)
        self._forget_frames()

    def _deliver(self, channel: Channel, entries: list[Entry]) -> None:
        began = self._clock.monotonic()
        told = channel.dispatch(entries)
        took = self._clock.monotonic() - began
        if told >= CROWD and took > REST_FROM:
            loop = asyncio.get_running_loop()
            channel.rest = loop.call_later(min(took / 2, REST_MOST), self._wake, channel)

    def _wake(self, channel: Channel) -> None:
        """The rest is over."""
        if channel.rest is not None:
            channel.rest.cancel()
            channel.rest = None
        held, channel.held = channel.held, []
        if held:
            self._deliver(channel, held)
            self._forget_frames()

    def _forget_frames(self) -> None:
        self.frames.clear()
        self.batches.clear()
