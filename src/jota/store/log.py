"""Order writers and group their commits: the part of a store between compare-and-put and a driver's durable append.

A put is checked against the live entry, queued, and committed with whatever else is queued by then. One key has at most
one write in flight: a second writer of the same key waits for the first to become durable and is then checked, so nobody
is ever compared with a write that may still fail. A lone write is committed inline (a thread would only add latency); a
group goes to the driver's thread while the next group gathers. Next: drivers/sqlite.py, drivers/memory.py.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jota.store.index import Index, IndexWatch
from jota.store.protocol import ALONE, Beside, Conflict, Entry, Told, Unavailable, Write

log = logging.getLogger("jota.store")

_SLOW_COMMIT = 0.002
"""Seconds. When commits take longer than this, every write goes to the thread, to keep the event loop free."""
_STALL, _WARY = 0.02, 30.0
"""Seconds. A disk that stood still so long for a small group may do it again (other programs' files are on it, too): for the
next while, no group is written on the loop."""
_SMALL_GROUP, _SMALL_BYTES = 16, 256 << 10
"""Rows, and bytes of values, that the loop waits for: more take a while even when the disk is fast."""
_LARGEST_GROUP = 512
_FORGOTTEN = 1000
"""Revisions that are forgotten in one turn of the loop: two milliseconds, and four of updates."""
_PRUNED = 200
"""Rows that one chore removes while writers wait: some milliseconds."""


class _Write:
    __slots__ = ("_behind", "beside", "entry", "told")

    def __init__(self, entry: Entry, told: Told, beside: tuple[Entry, ...] = ()) -> None:
        self.entry, self.told, self.beside = entry, told, beside
        """`beside`: what becomes durable with it or not at all."""
        self._behind: list[asyncio.Future[None]] = []

    def settled(self) -> asyncio.Future[None]:
        """Done when it is durable or has failed. Only of a write in flight; nobody would end the wait for another. Therefore no
        coroutine, which would begin to wait a turn of the loop later: the write may be over by then."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._behind.append(future)
        return future

    def finish(self, error: BaseException | None) -> None:
        for future in self._behind:
            if not future.done():
                future.set_result(None)
        problem = error if error is None or isinstance(error, Unavailable) else Unavailable(repr(error))
        try:
            self.told(self.entry, problem)
        except Exception:  # the others of its group have nothing to do with it
            log.exception("whoever wrote %s did not hear of it", self.entry.key)


def _settles(done: asyncio.Future[Entry]) -> Told:
    """`done` is the writer's alone, who may be cancelled and with him `done`; the write goes on."""

    def told(entry: Entry, problem: Unavailable | None) -> None:
        if done.done():
            return
        if problem is None:
            done.set_result(entry)
        else:
            done.set_exception(problem)
            done.exception()  # the writer may be cancelled before he reads it: then nobody does

    return told


def _entries(group: list[_Write]) -> list[Entry]:
    """In the order in which they get their revisions: companions right after their write."""
    batch: list[Entry] = []
    for write in group:
        batch.append(write.entry)
        if write.beside:
            batch += write.beside
    return batch


def _small(batch: list[Entry]) -> bool:
    if len(batch) > _SMALL_GROUP:
        return False
    return sum([len(entry.value) for entry in batch if entry.value is not None]) <= _SMALL_BYTES


class LogStore:
    """A Store (protocol.py) over an Index. `append` makes entries durable and blocks."""

    blocking = True
    """Whether `append` does I/O; if not, groups are committed inline too."""

    def __init__(self, index: Index, monotonic: Callable[[], float]) -> None:
        self._index = index
        self._monotonic = monotonic
        self._queue: list[_Write] = []
        self._chores: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()
        self._chore_last = False
        self._unpruned: list[int] = []
        """Rows that a failed prune left behind: the next one takes them along."""
        self._in_flight: dict[str, _Write] = {}
        self._committing = False
        self._scheduled = False
        self._commit_time = 0.0
        self._wary_until = -math.inf
        self._closed = False
        self._thread: ThreadPoolExecutor | None = None

    # -- what a driver supplies

    def append(self, batch: list[Entry]) -> None:
        """Make the batch durable. Raises Unavailable and leaves nothing behind if it cannot."""
        raise NotImplementedError

    def slow(self) -> bool:
        """Whether the next append may take long, for a reason that the driver knows."""
        return False

    def prune(self, dead: list[int], compacted: int) -> None:
        """Remove the rows of these revisions and remember the compacted revision. Blocks; may be cut short by a crash."""
        raise NotImplementedError

    # -- reads

    @property
    def revision(self) -> int:
        return self._index.revision

    @property
    def compacted(self) -> int:
        return self._index.compacted

    @property
    def history_bytes(self) -> int:
        """Bytes of values held by history (live ones included while they are recent)."""
        return self._index.history_bytes

    def get(self, key: str, revision: int = 0) -> Entry | None:
        return self._index.get(key, revision)

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Entry]:
        return self._index.range(prefix, after=after, limit=limit, revision=revision)

    def count(self, prefix: str, *, after: str = "", revision: int = 0) -> int:
        return self._index.count(prefix, after=after, revision=revision)

    def touched(self, table: str) -> int:
        return self._index.touched(table)

    def watch(self, prefix: str, *, after: int, limit: int = 10_000) -> IndexWatch:
        return self._index.watch(prefix, after=after, limit=limit)

    behind = False
    """Nobody else writes here."""

    async def sync(self) -> int:
        return self._index.revision

    # -- writes

    def put(
        self, key: str, value: bytes, *, expect: int | None = None, beside: Beside = ALONE, memo: Any = None
    ) -> Coroutine[Any, Any, Entry]:
        return self._write(key, value, expect, beside, memo)

    async def put_many(self, writes: Sequence[Write]) -> list[Entry | None]:
        if self._closed:
            raise Unavailable("the store is closed")
        begun = [self.begin(write) for write in writes]
        return [None if done is None else await done for done in begun]

    def begin(self, write: Write) -> asyncio.Future[Entry] | None:
        done: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        return done if self.submit(write, _settles(done)) else None

    def submit(self, write: Write, told: Told) -> bool:
        if self._closed:
            raise Unavailable("the store is closed")
        key, value, expect, memo = write
        current = self._index.get(key)
        if key in self._in_flight or expect != (current.revision if current else 0):
            return False
        if value is None and current is None:
            return False
        self._begin(key, value, current, told, memo=memo)
        return True

    def delete(self, key: str, *, expect: int | None = None, beside: Beside = ALONE) -> Coroutine[Any, Any, Entry]:
        return self._write(key, None, expect, beside)

    async def _write(
        self, key: str, value: bytes | None, expect: int | None, beside: Beside, memo: Any = None
    ) -> Entry:
        while (other := self._in_flight.get(key)) is not None or (beside and (other := self._any(beside)) is not None):
            await other.settled()
        if self._closed:
            raise Unavailable("the store is closed")
        current = self._index.get(key)
        if value is None and current is None:
            raise Conflict(key, None)
        if expect is not None and expect != (current.revision if current else 0):
            raise Conflict(key, current)
        done: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._begin(key, value, current, _settles(done), beside, memo)
        return await done

    def _begin(
        self,
        key: str,
        value: bytes | None,
        current: Entry | None,
        told: Told,
        beside: Beside = ALONE,
        memo: Any = None,
    ) -> None:
        """Queue a write that nothing speaks against."""
        entry = Entry(key, value, 0, current.created if current else 0, current, memo)
        self._in_flight[key] = write = _Write(entry, told)
        if beside:
            write.beside = self._companions(beside)
            for companion in write.beside:
                self._in_flight[companion.key] = write
        self._queue.append(write)
        self._schedule()

    def _any(self, keys: Iterable[str]) -> _Write | None:
        """A write in flight of any of these keys."""
        return next((write for write in map(self._in_flight.get, keys) if write is not None), None)

    def _companions(self, beside: Beside) -> tuple[Entry, ...]:
        live = ((key, value, self._index.get(key)) for key, value in beside.items())
        return tuple(
            Entry(key, value, 0, current.created if current else 0, current)
            for key, value, current in live
            if value is not None or current is not None
        )

    def _schedule(self) -> None:
        if not self._committing and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Start the next group of writes or, in turn with them, the next chore. Only one of them touches the log at a time."""
        self._scheduled = False
        if self._committing:
            return
        if self._chores and not (self._queue and self._chore_last):
            self._start_chore()
        elif self._queue:
            self._start_group()

    def _start_chore(self) -> None:
        self._committing = self._chore_last = True
        work, done = self._chores.popleft()

        def finish(error: BaseException | None) -> None:
            self._committing = False
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)
            self._schedule()

        self._in_thread(work, finish)

    def _start_group(self) -> None:
        self._chore_last = False
        group, self._queue = self._queue[:_LARGEST_GROUP], self._queue[_LARGEST_GROUP:]
        batch = _entries(group)
        for revision, entry in enumerate(batch, self._index.revision + 1):
            entry.revision = revision
            entry.created = entry.created or revision
        self._committing = True
        if self._quick(batch):
            try:
                self._timed_append(batch)
            except Exception as error:  # whatever it is: the writers are told, and the log goes on
                self._finish(group, error)
            else:
                self._finish(group, None)
        else:
            self._in_thread(lambda: self._timed_append(batch), lambda error: self._finish(group, error))

    def _quick(self, batch: list[Entry]) -> bool:
        """Whether the loop may wait for it."""
        if not self.blocking:
            return True
        if self._commit_time >= _SLOW_COMMIT or self.slow() or self._monotonic() < self._wary_until:
            return False
        return _small(batch)

    def _timed_append(self, batch: list[Entry]) -> None:
        for entry in batch:
            # A value is made among pieces that go with the request, and as they go they leave holes beside it which are too
            # small for the next request's. A copy made now that they are gone stands close to the others: a sixth less memory.
            # Before the append: after it nothing may fail any more.
            if entry.value is not None:
                entry.value = bytes(memoryview(entry.value))
        begin = self._monotonic()
        self.append(batch)
        took = self._monotonic() - begin
        self._commit_time += 0.2 * (took - self._commit_time)
        if took > _STALL and _small(batch):
            self._wary_until = begin + _WARY

    def _finish(self, group: list[_Write], error: BaseException | None) -> None:
        self._committing = False
        if error is None:
            self._index.apply(_entries(group))
        elif not isinstance(error, Unavailable):
            log.error("a group of %d writes failed", len(group), exc_info=error)
        for write in group:
            del self._in_flight[write.entry.key]
            for companion in write.beside:
                del self._in_flight[companion.key]
            write.finish(error)
        if self._queue or self._chores:
            self._schedule()

    def _in_thread(self, work: Callable[[], None], finish: Callable[[BaseException | None], None]) -> None:
        """`finish` is told on the loop, also when there is no thread to be had: the log goes on in any case."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        loop = asyncio.get_running_loop()

        def run() -> None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as problem:
                error = problem
            # not by a future, which would tell a turn of the loop later
            loop.call_soon_threadsafe(finish, error)

        try:
            self._thread.submit(run)
        except RuntimeError as error:
            # `work` stays in its queue, and must never be done: the writers are told that it was not
            self._thread = None
            finish(Unavailable(str(error)))

    # -- upkeep

    async def compact(self, revision: int) -> None:
        """Forget history up to `revision`; rows go in the background thread, between groups of writes."""
        if self._closed:
            raise Unavailable("the store is closed")
        dead, self._unpruned, done = self._unpruned, [], 0
        revision = min(revision, self._index.revision)
        try:
            while self._index.compacted < revision:
                dead += self._index.compact(min(revision, self._index.compacted + _FORGOTTEN))
                await asyncio.sleep(0)
            while done < max(len(dead), 1):
                await self._chore(dead[done : done + _PRUNED])
                done += _PRUNED
        finally:
            self._unpruned += dead[done:]

    async def _chore(self, dead: list[int]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._chores.append((lambda: self.prune(dead, self._index.compacted), done))
        self._schedule()
        await done

    async def close(self) -> None:
        """Wait for the writes in flight, then end every watch."""
        self._closed = True
        while self._in_flight or self._chores or self._committing:
            writes = [write.settled() for write in self._in_flight.values()]
            chores = [done for _, done in self._chores]
            await (
                asyncio.gather(*writes, *chores, return_exceptions=True) if writes or chores else asyncio.sleep(0.001)
            )
        self._index.close()
        if self._thread is not None:
            self._thread.shutdown()
