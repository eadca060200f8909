"""What goes wrong below the log must reach its writers as Unavailable, and must not stop those that come after."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from jota.store.drivers.memory import MemoryStore
from jota.store.drivers.sqlite import SqliteStore
from jota.store.index import Index
from jota.store.log import LogStore
from jota.store.protocol import Compacted, Entry, Unavailable


class Moody(MemoryStore):
    """Fails with whatever it is told to fail with."""

    def __init__(self, *, blocking: bool) -> None:
        super().__init__()
        self.blocking = blocking  # type: ignore[misc]
        self.mood: list[Exception] = []
        self.pruned: list[int] = []

    def append(self, batch: list[Entry]) -> None:
        if self.mood:
            raise self.mood.pop(0)

    def prune(self, dead: list[int], compacted: int) -> None:
        if self.mood:
            raise self.mood.pop(0)
        self.pruned += dead


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("error", [OverflowError("int too large"), MemoryError(), Unavailable("disk full"), OSError(5)])
@pytest.mark.parametrize("writers", [1, 3])
def test_any_failure_of_an_append_is_told_and_the_log_goes_on(blocking: bool, error: Exception, writers: int) -> None:
    async def story() -> None:
        store = Moody(blocking=blocking)
        store.mood = [error]
        puts = (store.put(f"/core/pods/a/{n}", b"x") for n in range(writers))
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(r) for r in results] == [Unavailable] * writers
        assert store.revision == 1
        entry = await asyncio.wait_for(store.put("/core/pods/a/0", b"y", expect=0), 2)
        assert entry.revision == 2
        await asyncio.wait_for(store.close(), 2)

    asyncio.run(story())


class Disk(LogStore):
    """Each append takes `seconds`."""

    def __init__(self) -> None:
        self.now = self.seconds = 0.0
        super().__init__(Index(), lambda: self.now)
        self.threads: list[bool] = []
        """Of each append: whether the loop went on meanwhile."""
        self.known_slow = False

    def slow(self) -> bool:
        return self.known_slow

    def append(self, batch: list[Entry]) -> None:
        self.now += self.seconds
        self.threads.append(threading.current_thread() is not threading.main_thread())


def test_the_loop_waits_for_small_groups_on_a_fast_disk_and_for_nothing_else() -> None:
    async def story() -> None:
        store = Disk()

        async def write(count: int) -> bool:
            await asyncio.gather(*(store.put(f"/core/pods/a/{n}", b"x") for n in range(count)))
            return store.threads.pop()

        store.seconds = 0.0003
        assert [await write(count) for count in (1, 5, 16, 17, 100, 1)] == [False, False, False, True, True, False]
        await asyncio.gather(*(store.put(f"/core/configmaps/a/{n}", bytes(100_000)) for n in range(3)))
        assert store.threads.pop()
        store.known_slow = True
        assert await write(1)
        store.known_slow = False
        assert not await write(1)
        store.seconds = 0.01
        assert [await write(1) for _ in range(4)] == [False, True, True, True]
        store.seconds = 0.0003
        assert [await write(1) for _ in range(20)][-1] is False, "it is fast again"
        await store.close()

    asyncio.run(story())


def test_a_disk_that_stood_still_once_is_not_waited_for_on_the_loop_for_a_while() -> None:
    async def story() -> None:
        store = Disk()

        async def write(seconds: float, count: int = 1) -> bool:
            store.seconds = seconds
            await asyncio.gather(*(store.put(f"/core/pods/a/{n}", b"x") for n in range(count)))
            return store.threads.pop()

        assert not await write(0.0003)
        assert await write(0.09, 100), "many take a while, which is no stall"
        store.now += 1
        assert [await write(0.0001) for _ in range(50)][-1] is False
        assert not await write(0.09)
        assert all([await write(0.0003) for _ in range(200)])
        store.now += 25
        assert await write(0.03), "it does it again, and holds up nobody"
        store.now += 29
        assert await write(0.0003)
        store.now += 1
        assert [await write(0.0003) for _ in range(20)][-1] is False
        await store.close()

    asyncio.run(story())


def test_a_store_that_gets_no_thread_says_so_and_goes_on_when_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        store = Moody(blocking=True)
        start, left = threading.Thread.start, [2]

        def scarce(thread: threading.Thread) -> None:
            if thread.name.startswith("store") and left[0]:
                left[0] -= 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        puts = [store.put(f"/core/pods/a/{n}", b"x") for n in range(20)]  # a group that the loop does not wait for
        results = await asyncio.wait_for(asyncio.gather(*puts, return_exceptions=True), 5)
        assert [str(r) for r in results] == ["can't start new thread"] * 20
        with pytest.raises(Unavailable):
            await asyncio.wait_for(store.compact(store.revision), 5)
        puts = [store.put(f"/core/pods/a/{n}", b"y", expect=0) for n in range(20)]
        entries = await asyncio.wait_for(asyncio.gather(*puts), 5)
        assert [e.revision for e in entries] == [*range(2, 22)]
        await asyncio.wait_for(store.compact(store.revision), 5)
        await asyncio.wait_for(store.close(), 5)

    asyncio.run(story())


def test_many_at_once_conflict_one_by_one_and_fail_together() -> None:
    async def story() -> None:
        store = Moody(blocking=True)
        first = await store.put("/core/pods/a/x", b"1")
        slow = asyncio.ensure_future(store.put("/core/pods/a/y", b"1"))
        await asyncio.sleep(0)  # it is on its way
        writes = [("x", first.revision), ("x", first.revision), ("y", 0), ("z", 0), ("z", 7), ("w", 9)]
        found = await store.put_many([(f"/core/pods/a/{name}", b"2", expect, name) for name, expect in writes])
        assert [entry is not None for entry in found] == [True, False, False, True, False, False]
        assert (found[0] is not None and (found[0].previous, found[0].memo)) == (first, "x")
        assert (await slow).value == b"1"
        store.mood = [OSError(5)]
        with pytest.raises(Unavailable):
            await store.put_many([(f"/core/pods/a/{n}", b"3", 0, None) for n in range(3)])
        assert store.get("/core/pods/a/0") is None
        assert await store.put_many([("/core/pods/a/0", b"3", 0, None)]) == [store.get("/core/pods/a/0")]
        await store.close()
        with pytest.raises(Unavailable):
            await store.put_many([("/core/pods/a/1", b"3", 0, None)])

    asyncio.run(story())


@pytest.mark.parametrize("blocking", [True, False])
def test_who_waits_for_no_future_is_told_in_the_turn_in_which_it_is_known(blocking: bool) -> None:
    async def main() -> None:
        store, heard = Moody(blocking=blocking), list[tuple[str, object]]()

        def hear(entry: Entry, problem: Unavailable | None) -> None:
            seen = store.get(entry.key)
            heard.append((entry.key, problem or (seen is entry)))

        def stumble(entry: Entry, problem: Unavailable | None) -> None:
            hear(entry, problem)
            raise ZeroDivisionError

        assert store.submit(("/a", b"1", 0, None), stumble)
        assert not store.submit(("/a", b"2", 0, None), hear)  # the first is on its way
        assert store.submit(("/b", b"1", 0, None), hear)
        behind = store.begin(("/c", b"1", 0, None))
        assert behind is not None
        assert (await behind).key == "/c"
        assert heard == [("/a", True), ("/b", True)]
        assert not store.submit(("/a", b"2", 7, None), hear)
        assert not store.submit(("/none", None, 0, None), hear)
        heard.clear()
        store.mood.append(OSError(5))
        assert store.submit(("/a", b"2", store.revision - 2, None), hear)
        with pytest.raises(Unavailable):
            await store.put("/d", b"1")  # in the same group
        assert [key for key, problem in heard if isinstance(problem, Unavailable)] == ["/a"]
        await store.close()
        with pytest.raises(Unavailable):
            store.submit(("/e", b"1", 0, None), hear)

    asyncio.run(main())


def test_among_many_writes_some_may_be_deletions() -> None:
    async def story() -> None:
        store = Moody(blocking=True)
        first, second = [await store.put(f"/core/pods/a/{name}", b"1") for name in "xy"]
        found = await store.put_many(
            [
                (first.key, None, first.revision, None),
                (first.key, None, first.revision, None),
                (second.key, None, first.revision, None),
                ("/core/pods/a/z", None, 0, None),
                ("/core/pods/a/new", b"2", 0, None),
            ]
        )
        assert [entry is not None for entry in found] == [True, False, False, False, True]
        assert found[0] is not None
        assert (found[0].value, found[0].previous) == (None, first)
        assert [store.get(key) is not None for key in (first.key, second.key)] == [False, True]
        await store.close()

    asyncio.run(story())


def test_others_are_served_while_much_is_forgotten() -> None:
    async def story() -> None:
        store = MemoryStore()
        for n in range(100):
            await store.put_many([(f"/core/pods/a/{n}-{m}", b"x", 0, None) for m in range(200)])
        compaction = asyncio.ensure_future(store.compact(store.revision))
        turns = 0
        while not compaction.done():
            await asyncio.sleep(0)
            turns += 1
            assert len(store.range("/core/pods/a/7-")) == 200
        assert turns >= 20
        assert (store.compacted, store.history_bytes) == (store.revision, 0)
        await store.close()

    asyncio.run(story())


def test_rows_that_could_not_be_pruned_go_with_the_next_compaction() -> None:
    async def story() -> None:
        store = Moody(blocking=True)
        for n in range(4):
            await store.put("/core/pods/a/x", b"%d" % n)
        store.mood = [Unavailable("disk full")]
        with pytest.raises(Unavailable):
            await store.compact(store.revision)
        await store.compact(store.revision)
        assert sorted(store.pruned) == [2, 3, 4]
        await store.close()
        with pytest.raises(Unavailable, match="closed"):
            await store.compact(store.revision)

    asyncio.run(story())


def test_sqlite_tells_of_what_no_database_error_stands_for(tmp_path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        with pytest.raises(Unavailable):
            await store.put("/core/pods/a/\ud800", b"x")  # no UTF-8
        assert (await store.put("/core/pods/a/b", b"x")).revision == 2
        await store.close()

    asyncio.run(story())


def test_a_checkpoint_that_fails_does_not_fail_the_write_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))

        def fails() -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(store, "_bound_wal", fails)
        first = await store.put("/core/pods/a/b", b"1")
        second = await store.put("/core/pods/a/b", b"2")  # once: UNIQUE constraint failed: log.rev, for ever
        assert (first.revision, second.revision) == (2, 3)
        await store.close()

    asyncio.run(story())


def test_the_file_is_for_its_user_alone(tmp_path: Path) -> None:
    (tmp_path / "db").touch(0o644)

    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        await store.put("/core/pods/a/b", b"1")
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        await store.close()

    asyncio.run(story())


def test_a_watch_on_a_closed_store_ends() -> None:
    async def story() -> None:
        store = MemoryStore()
        await store.put("/core/pods/a/b", b"1")
        await store.close()
        for prefix, events in (("/", 1), ("/core/pods/", 1), ("/apps/deployments/", 0)):
            batches = [batch async for batch in store.watch(prefix, after=1)]
            assert sum(map(len, batches)) == events

    asyncio.run(asyncio.wait_for(story(), 2))


def test_a_watcher_that_lags_behind_a_compaction_is_told() -> None:
    async def story() -> None:
        store = MemoryStore()
        watch = store.watch("/core/pods/", after=1)
        current = store.watch("/core/pods/", after=1)
        await store.put("/core/pods/a/b", b"1")
        last = await store.put("/core/pods/a/b", b"2")
        assert len(current.pending()) == 2
        await store.compact(last.revision)
        with pytest.raises(Compacted):
            watch.pending()
        await store.put("/core/pods/a/b", b"3")
        assert [e.value for e in current.pending()] == [b"3"]

    asyncio.run(story())


def test_ranges_over_tables_come_in_key_order_and_in_pages() -> None:
    async def story() -> None:
        store = MemoryStore()
        keys = ["/a/b/x", "/a/b.c/x", "/a/b-c/x", "/a/bc/x/y", "/aa/b/x", "/a/b/y", "/a/b/x/z"]
        for key in keys:
            await store.put(key, b"1")
        for prefix in ("/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/x", "/z"):
            wanted = sorted(k for k in keys if k.startswith(prefix))
            assert [e.key for e in store.range(prefix)] == wanted
            paged: list[str] = []
            while page := store.range(prefix, after=paged[-1] if paged else "", limit=2):
                assert len(page) <= 2
                paged += [e.key for e in page]
            assert paged == wanted
            assert store.count(prefix) == len(wanted)

    asyncio.run(story())


def test_a_loaded_index_is_the_one_that_was_written() -> None:
    written, loaded, log = Index(), Index(), []
    live: dict[str, Entry] = {}
    for n in range(2, 200):
        key = f"/core/pods/a/{n * 7919 % 31}"
        gone = n % 5 == 0 and key in live
        entry = Entry(key, None if gone else b"%d" % n, n, n, live.get(key))
        live[key] = entry
        if gone:
            del live[key]
        log.append(entry)
        written.apply([entry])
    loaded.load(log)
    assert loaded.range("/") == written.range("/")
    assert loaded.range("/", revision=100) == written.range("/", revision=100)
    assert (loaded.revision, loaded.history_bytes) == (written.revision, written.history_bytes)


@pytest.mark.parametrize("compacted", range(1, 42))
def test_a_loaded_index_is_the_one_that_was_compacted(compacted: int) -> None:
    """However many of the dead rows were still there when the process died: they are named, and none is seen."""
    writes = [("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", None), ("c", b"5"), ("b", b"6"), ("a", None), ("c", b"8")]
    written, rows = Index(), []
    for n in range(40):
        key, value = f"/core/pods/a/{writes[n % 8][0]}", writes[n % 8][1]
        live = written.get(key)
        written.apply([Entry(key, value, n + 2, n + 2, live)])
        rows.append((key, value, n + 2))
    dead = written.compact(compacted)
    for pruned in range(len(dead) + 1):
        left = set(dead[pruned:])
        loaded = Index(compacted=compacted)
        found = loaded.load(Entry(k, v, r, r) for k, v, r in rows if r in left or r not in dead)
        assert set(found) == left
        assert (loaded.revision, loaded.compacted, loaded.history_bytes) == (41, compacted, written.history_bytes)
        for revision in range(compacted, 42):
            here, there = (i.range("/core/", revision=revision) for i in (loaded, written))
            assert [(e.key, e.value, e.revision) for e in here] == [(e.key, e.value, e.revision) for e in there]


def test_a_key_that_is_written_very_often_is_forgotten_without_harm() -> None:
    entry = None
    for n in range(300_000):
        entry = Entry("/coordination.k8s.io/leases/a/x", b"", n, 0, entry)
    assert entry is not None
    end = entry.previous
    del entry, end  # each takes the one before it along: no deeper on the stack for all that


def test_what_is_stored_is_a_copy_that_stands_apart_from_what_it_was_made_of() -> None:
    async def story() -> None:
        store = MemoryStore()
        given = b"x" * 4000
        entry = await store.put("/core/pods/a/x", given)
        assert entry.value == given
        assert entry.value is not given
        assert store.get("/core/pods/a/x") is entry
        await store.close()

    asyncio.run(story())
