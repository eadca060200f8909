"""The public suite that every store driver must pass. A driver's test file subclasses StoreSuite and says how to open one.

class TestSqlite(StoreSuite):
    def open(self, directory: Path) -> Store: return SqliteStore(str(directory / "db"))
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.store.protocol import Compacted, Conflict, Entry, FutureRevision, Store, Unavailable

KEYS = ["/core/pods/a/x", "/core/pods/a/y", "/core/pods/ab/x", "/core/secrets/a/x", "/apps/deployments/a/x"]
PREFIXES = ["/", "/core/", "/core/pods/", "/core/pods/a/", "/core/secrets/", "/apps/deployments/", "/none/such/"]

put = st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(["live", "stale", "absent", "any"]))
delete = st.tuples(st.just("delete"), st.sampled_from(KEYS), st.sampled_from(["live", "stale", "any"]))
compact = st.tuples(st.just("compact"), st.integers(0, 30), st.just(""))
reopen = st.tuples(st.just("reopen"), st.just(0), st.just(""))
operations = st.lists(st.one_of(put, put, put, delete, compact, reopen), max_size=40)


class Model:
    """What a store is, said plainly: the list of all writes."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, str, bytes | None]] = []
        self.revision = 1
        self.compacted = 0

    def state(self, revision: int) -> dict[str, tuple[int, bytes]]:
        live: dict[str, tuple[int, bytes]] = {}
        for rev, key, value in self.writes:
            if rev > revision:
                break
            if value is None:
                live.pop(key, None)
            else:
                live[key] = (rev, value)
        return live

    def write(self, key: str, value: bytes | None) -> int:
        self.revision += 1
        self.writes.append((self.revision, key, value))
        return self.revision


class StoreSuite:
    durable = True

    def open(self, directory: Path) -> Store:
        raise NotImplementedError

    def _run(self, story: object) -> None:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(story(self, Path(directory)))  # type: ignore[operator]

    # -- the model checker

    def test_it_agrees_with_the_model(self) -> None:
        @given(operations)
        @settings(max_examples=60, deadline=None)
        def check(steps: list[tuple[str, object, str]]) -> None:
            with tempfile.TemporaryDirectory() as directory:
                asyncio.run(self._check_model(Path(directory), steps))

        check()

    async def _check_model(self, directory: Path, steps: list[tuple[str, object, str]]) -> None:
        store, model = self.open(directory), Model()
        for n, (verb, target, mode) in enumerate(steps):
            if verb == "compact":
                revision = min(int(str(target)), model.revision)
                await store.compact(revision)
                model.compacted = max(model.compacted, revision)
            elif verb == "reopen":
                if self.durable:
                    await store.close()
                    store = self.open(directory)
            else:
                await self._write(store, model, str(target), None if verb == "delete" else b"%d" % n, mode)
            self._compare(store, model)
        await store.close()

    async def _write(self, store: Store, model: Model, key: str, value: bytes | None, mode: str) -> None:
        live = model.state(model.revision).get(key)
        current = live[0] if live else 0
        expect = {"live": current, "stale": current + 1000, "absent": 0, "any": None}[mode]
        fails = (expect is not None and expect != current) or (value is None and live is None)
        try:
            if value is None:
                entry = await store.delete(key, expect=expect)
            else:
                entry = await store.put(key, value, expect=expect)
        except Conflict as conflict:
            assert fails
            assert (conflict.current.revision if conflict.current else 0) == current
        else:
            assert not fails
            assert entry.revision == model.write(key, value)

    def _compare(self, store: Store, model: Model) -> None:
        assert store.revision == model.revision
        assert store.compacted == model.compacted
        for revision in {model.revision, model.compacted, (model.revision + model.compacted) // 2} - {0}:
            state = model.state(revision)
            for prefix in PREFIXES:
                wanted = sorted((k, *v) for k, v in state.items() if k.startswith(prefix))
                assert [(e.key, e.revision, e.value) for e in store.range(prefix, revision=revision)] == wanted
                assert store.count(prefix, revision=revision) == len(wanted)
                page = store.range(prefix, revision=revision, limit=1)
                assert [e.key for e in page] == [w[0] for w in wanted[:1]]
                if page:
                    rest = store.range(prefix, revision=revision, after=page[0].key)
                    assert [e.key for e in rest] == [w[0] for w in wanted[1:]]
            for key in KEYS:
                entry = store.get(key, revision)
                assert (entry.revision if entry else None) == (state[key][0] if key in state else None)
        for prefix in PREFIXES:
            watch = store.watch(prefix, after=model.compacted)
            seen = [(e.revision, e.key, e.value) for e in watch.pending()]
            assert seen == [w for w in model.writes if w[1].startswith(prefix) and w[0] > model.compacted]
            watch.close()

    # -- stories

    def test_revisions_outside_history_are_refused(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            for n in range(5):
                await store.put(KEYS[0], b"%d" % n)
            await store.compact(4)
            with pytest.raises(Compacted):
                store.get(KEYS[0], 3)
            with pytest.raises(Compacted):
                store.range("/", revision=2)
            with pytest.raises(Compacted):
                store.watch("/", after=3)
            with pytest.raises(FutureRevision):
                store.range("/", revision=99)
            with pytest.raises(FutureRevision):
                store.watch("/", after=99)
            await store.close()

        self._run(story)

    def test_a_watch_sees_every_write_once_in_order_under_concurrent_writers(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            watch = store.watch("/core/pods/", after=store.revision)
            acknowledged: list[Entry] = []

            async def writer(n: int) -> None:
                for i in range(25):
                    acknowledged.append(await store.put(f"/core/pods/a/{n}-{i}", b"v", expect=0))
                    acknowledged.append(await store.put("/core/pods/a/shared", b"%d" % n))

            await asyncio.gather(*(writer(n) for n in range(8)))
            seen = watch.pending()
            assert [e.revision for e in seen] == sorted(e.revision for e in acknowledged)
            assert len(seen) == 400
            for event in seen:
                if event.previous is not None:
                    assert event.previous.key == event.key
            await store.close()

        self._run(story)

    def test_one_of_many_creators_wins(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)

            async def create(n: int) -> bool:
                try:
                    await store.put(KEYS[0], b"%d" % n, expect=0)
                except Conflict as conflict:
                    assert conflict.current is not None
                    return False
                return True

            assert sum(await asyncio.gather(*(create(n) for n in range(20)))) == 1
            await store.close()

        self._run(story)

    def test_what_is_beside_a_write_comes_and_goes_with_it_or_not_at_all(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            owner, mate, other = "/core/services/a/s", "/net/addresses/1", "/net/addresses/2"
            first = await store.put(owner, b"1", expect=0, beside={mate: b"m", other: None})
            made = store.get(mate)
            assert made is not None
            assert (made.value, made.revision, made.created) == (b"m", first.revision + 1, first.revision + 1)
            assert store.revision == first.revision + 1  # nothing was there to be removed
            with pytest.raises(Conflict):
                await store.put(owner, b"2", expect=0, beside={mate: None, other: b"o"})
            assert store.get(mate) is made
            assert store.get(other) is None
            await store.put(owner, b"3", expect=first.revision, beside={mate: None, other: b"o"})
            assert [e.key for e in store.range("/net/addresses/")] == [other]
            if suite.durable:
                await store.close()
                store = suite.open(directory)
                assert [(e.key, e.value) for e in store.range("/net/addresses/")] == [(other, b"o")]
            await store.delete(owner, beside={other: None})
            assert store.range("/") == []
            await store.close()

        self._run(story)

    def test_writers_of_what_is_beside_take_turns(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            mate = "/net/addresses/1"
            watch = store.watch("/net/addresses/", after=store.revision)

            async def writer(n: int) -> None:
                await store.put(f"/core/services/a/{n}", b"s", beside={mate: b"%d" % n})

            async def stranger() -> bool:
                try:
                    await store.put(mate, b"stranger", expect=0)
                except Conflict:
                    return False
                return True

            results = await asyncio.gather(writer(1), stranger(), writer(2), stranger(), writer(1))
            assert [r for r in results if r is not None] == [False, False]
            seen = watch.pending()
            assert [e.value for e in seen] == [b"1", b"2", b"1"]
            assert [e.previous.revision if e.previous else 0 for e in seen] == [0, *(e.revision for e in seen[:-1])]
            await store.close()

        self._run(story)

    def test_a_store_that_closes_at_any_moment_of_a_write_ends_after_it(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            for turns, writers in ((turns, writers) for turns in range(8) for writers in (1, 3)):
                (where := directory / f"{turns}-{writers}").mkdir()
                store = suite.open(where)
                puts = [asyncio.ensure_future(store.put(f"/core/pods/a/{n}", b"1")) for n in range(writers)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                await asyncio.wait_for(store.close(), 5)
                done = await asyncio.gather(*puts, return_exceptions=True)
                assert all(isinstance(one, Entry | Unavailable) for one in done)
                assert store.count("/core/") == sum(isinstance(one, Entry) for one in done)

        self._run(story)

    def test_a_slow_watcher_is_told_and_others_are_not_harmed(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            slow = store.watch("/core/", after=store.revision, limit=5)
            quick = store.watch("/core/", after=store.revision)
            for n in range(10):
                await store.put(KEYS[0], b"%d" % n)
            with pytest.raises(Compacted):
                await slow.__anext__()
            assert len(quick.pending()) == 10
            await store.close()
            with pytest.raises(StopAsyncIteration):
                await quick.__anext__()

        self._run(story)

    def test_a_cancelled_writer_does_not_wedge_its_key(self) -> None:
        async def story(suite: StoreSuite, directory: Path) -> None:
            store = suite.open(directory)
            tasks = [asyncio.ensure_future(store.put(k, b"1")) for k in KEYS]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for key in KEYS:
                await asyncio.wait_for(store.put(key, b"2"), 5)
                entry = store.get(key)
                assert entry is not None
                assert entry.value == b"2"
            await store.close()

        self._run(story)
