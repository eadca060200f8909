"""The in-memory index behind every driver: live entries in key order, recent history, and the fan-out to watchers.

A driver makes a batch of entries durable and then calls `apply`; from that moment readers and watchers see it. History is
one deque of writes in revision order. A read at an old revision starts from the live entries and undoes the writes that
came after it, so keeping history costs one pointer per write:

    live {a: 5, b: 4}, history [.. a@3(prev a@1), b@4(prev none), a@5(prev a@3)]
    range at revision 3: undo a@5 -> a@3, undo b@4 -> absent  =>  {a: 3}

Next: `log.py` orders the writers and groups their commits.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable

from jota.store.protocol import Compacted, Entry, FutureRevision

_LAST = "\U0010ffff"


def table_of(key: str) -> str:
    """The first two path segments with their slashes ("/apps/deployments/"), or "" when the key or prefix has fewer."""
    third = key.find("/", key.find("/", 1) + 1)
    return key[: third + 1] if third > 0 else ""


class _Table:
    """Live entries of one resource: a dict for points, a sorted list of keys for ranges."""

    __slots__ = ("keys", "live", "touched", "watchers")

    def __init__(self) -> None:
        self.live: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.touched = 0
        self.watchers: list[IndexWatch] = []

    def span(self, prefix: str, after: str) -> tuple[int, int]:
        low = bisect_left(self.keys, prefix)
        if after:
            low = max(low, bisect_right(self.keys, after))
        return low, bisect_left(self.keys, prefix + _LAST, low)


class IndexWatch:
    """One subscription (protocol.Watch). Bounded: a reader that falls behind `limit` events gets Compacted."""

    __slots__ = ("_index", "_lost", "_open", "_queue", "_waiter", "limit", "prefix")

    def __init__(self, index: Index, prefix: str, backlog: list[Entry], limit: int) -> None:
        self._index, self.prefix, self.limit = index, prefix, limit
        self._queue = backlog
        self._waiter: asyncio.Future[None] | None = None
        self._lost = 0
        self._open = True

    def __aiter__(self) -> IndexWatch:
        return self

    async def __anext__(self) -> list[Entry]:
        while not self._queue:
            if self._lost:
                raise Compacted(self._lost, self._index.revision)
            if not self._open:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.pending()

    def pending(self) -> list[Entry]:
        if self._lost:
            raise Compacted(self._lost, self._index.revision)
        events, self._queue = self._queue, []
        return events

    def close(self) -> None:
        self._open = False
        self._index.forget(self)
        self._wake()

    def offer(self, events: list[Entry]) -> None:
        if self._lost:
            return
        if len(self._queue) + len(events) > self.limit:
            self.lose(events[0].revision)
            return
        self._queue.extend(events)
        self._wake()

    def lose(self, revision: int) -> None:
        """This watcher missed events from `revision` on: its next read says so."""
        self._queue, self._lost = [], revision
        self._wake()

    def oldest(self) -> int:
        return self._queue[0].revision if self._queue else 0

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Index:
    def __init__(self, revision: int = 1, compacted: int = 0) -> None:
        self.revision = revision
        self.compacted = compacted
        self.history: deque[Entry] = deque()
        self.history_bytes = 0
        self._tables: dict[str, _Table] = {}
        self._closed = False
        self._wide: list[IndexWatch] = []
        """Watchers of prefixes that span tables."""

    # -- reads

    def get(self, key: str, revision: int = 0) -> Entry | None:
        table = self._tables.get(table_of(key))
        entry = table.live.get(key) if table is not None else None
        if revision and revision != self.revision:
            self._check(revision)
            for write in self._since(revision):
                if write.key == key:
                    entry = _live(write.previous)
        return entry

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Entry]:
        if revision and revision != self.revision:
            self._check(revision)
            return self._range_at(prefix, after, limit, revision)
        found: list[Entry] = []
        for table in self._tables_under(prefix):
            low, high = table.span(prefix, after)
            if limit:
                high = min(high, low + limit - len(found))
            found.extend(map(table.live.__getitem__, table.keys[low:high]))
            if limit and len(found) >= limit:
                break
        return found

    def touched(self, table: str) -> int:
        """The revision of the newest write to a table ("/core/pods/"); 0 when there was none."""
        found = self._tables.get(table)
        return found.touched if found is not None else 0

    def count(self, prefix: str, *, after: str = "", revision: int = 0) -> int:
        if revision and revision != self.revision:
            return len(self.range(prefix, after=after, revision=revision))
        name = table_of(prefix)
        if name:  # the common question, asked for each write: is there any of these?
            found = self._tables.get(name)
            if found is None or not found.keys:
                return 0
            low, high = found.span(prefix, after)
            return high - low
        total = 0
        for table in self._tables_under(prefix):
            low, high = table.span(prefix, after)
            total += high - low
        return total

    def _tables_under(self, prefix: str) -> Iterable[_Table]:
        name = table_of(prefix)
        if name:
            table = self._tables.get(name)
            return (table,) if table else ()
        return (self._tables[n] for n in sorted(self._tables) if n.startswith(prefix) or prefix.startswith(n))

    def _range_at(self, prefix: str, after: str, limit: int, revision: int) -> list[Entry]:
        state: dict[str, Entry | None] = {e.key: e for e in self.range(prefix, after=after)}
        for write in self._since(revision):
            if write.key.startswith(prefix) and write.key > after:
                state[write.key] = _live(write.previous)
        found = [entry for _, entry in sorted(state.items()) if entry is not None]
        return found[:limit] if limit else found

    def _since(self, revision: int) -> Iterable[Entry]:
        """Writes newer than `revision`, newest first."""
        for write in reversed(self.history):
            if write.revision <= revision:
                return
            yield write

    def _check(self, revision: int) -> None:
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)

    # -- writes

    def apply(self, batch: list[Entry]) -> None:
        """Make durable entries visible, in revision order. Fills in `created` and `previous` facts that the log left out."""
        by_table: dict[str, list[Entry]] = {}
        name, table, here = "", _Table(), list[Entry]()
        for entry in batch:
            if not name or not entry.key.startswith(name):
                name = table_of(entry.key)
                table, here = self._tables.setdefault(name, _Table()), by_table.setdefault(name, [])
            if entry.value is None:
                if table.live.pop(entry.key, None) is not None:
                    del table.keys[bisect_left(table.keys, entry.key)]
            else:
                if entry.key not in table.live:
                    insort(table.keys, entry.key)
                table.live[entry.key] = entry
                self.history_bytes += len(entry.value)
            self.history.append(entry)
            table.touched = entry.revision
            here.append(entry)
        self.revision = batch[-1].revision
        for name, entries in by_table.items():
            _publish(self._tables[name].watchers, entries)
        if self._wide:
            _publish(self._wide, batch)

    def load(self, entries: Iterable[Entry]) -> list[int]:
        """Fill an empty index with a driver's log, in revision order (no watchers exist yet); `previous` is filled in. The
        revisions of rows that a compaction left behind: superseded or gone by `compacted`. Sorts once, at the end."""
        name, table, dead = "", _Table(), []
        for entry in entries:
            key, revision = entry.key, entry.revision
            if not name or not key.startswith(name):
                name = table_of(key)
                table = self._tables.setdefault(name, _Table())
            live = table.live
            old = live.get(key)
            if entry.value is not None:
                live[key] = entry
            elif old is not None:
                del live[key]
            if revision > self.compacted:
                entry.previous = old
                self.history.append(entry)
                self.history_bytes += len(entry.value or b"")
            else:
                if old is not None:
                    dead.append(old.revision)
                if entry.value is None:
                    dead.append(revision)
            self.revision = table.touched = revision
        self.revision = max(self.revision, self.compacted)
        for table in self._tables.values():
            table.keys = sorted(table.live)
        return dead

    def compact(self, revision: int) -> list[int]:
        """Forget history up to `revision`; the revisions whose rows no reader can reach any more."""
        revision = min(revision, self.revision)
        dead: list[int] = []
        while self.history and self.history[0].revision <= revision:
            write = self.history.popleft()
            if write.previous is not None:
                dead.append(write.previous.revision)
                write.previous = None
            if write.value is None:
                dead.append(write.revision)
            else:
                self.history_bytes -= len(write.value)
        self.compacted = max(self.compacted, revision)
        for watch in self._watchers():
            if 0 < watch.oldest() <= revision:
                watch.lose(watch.oldest())
        return dead

    # -- watches

    def watch(self, prefix: str, *, after: int, limit: int) -> IndexWatch:
        if after > self.revision:
            raise FutureRevision(after, self.revision)
        if after < self.compacted:
            raise Compacted(after, self.compacted)
        backlog = [w for w in self._since(after) if w.key.startswith(prefix)]
        backlog.reverse()
        watch = IndexWatch(self, prefix, backlog, max(limit, len(backlog)))
        name = table_of(prefix)
        if self._closed:
            watch.close()
        elif name:
            self._tables.setdefault(name, _Table()).watchers.append(watch)
        else:
            self._wide.append(watch)
        return watch

    def forget(self, watch: IndexWatch) -> None:
        name = table_of(watch.prefix)
        table = self._tables.get(name)
        watchers = table.watchers if name and table else self._wide
        if watch in watchers:
            watchers.remove(watch)

    def close(self) -> None:
        """End every watch, and those to come: they give their backlog and stop."""
        self._closed = True
        for watch in list(self._watchers()):
            watch.close()

    def _watchers(self) -> Iterable[IndexWatch]:
        yield from self._wide
        for table in self._tables.values():
            yield from table.watchers


def _live(entry: Entry | None) -> Entry | None:
    return entry if entry is not None and entry.value is not None else None


def _publish(watchers: list[IndexWatch], entries: list[Entry]) -> None:
    """Offer a batch to each watcher; the filtering is done once per distinct prefix."""
    matched: dict[str, list[Entry]] = {}
    for watch in watchers:
        events = matched.get(watch.prefix)
        if events is None:
            events = matched[watch.prefix] = [e for e in entries if e.key.startswith(watch.prefix)]
        if events:
            watch.offer(events)
