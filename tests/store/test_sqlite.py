"""The suite on sqlite, and what only a durable driver can get wrong: crashes, full disks, damaged files, growth."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jota.store.drivers import sqlite
from jota.store.drivers.sqlite import Damaged, SqliteStore
from jota.store.protocol import Store, Unavailable
from jota.testing.store_suite import StoreSuite


class TestSqlite(StoreSuite):
    def open(self, directory: Path) -> Store:
        return SqliteStore(str(directory / "db"))


@pytest.mark.fault
def test_no_acknowledged_write_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    acknowledged: dict[str, int] = {}
    for round_ in range(6):
        command = [sys.executable, str(Path(__file__).with_name("crash_writer.py")), str(tmp_path / "db"), str(round_)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        wanted = chance.randrange(20, 1500)
        for n, line in enumerate(process.stdout):
            if not line.endswith("\n"):
                break
            key, revision = line.split()
            acknowledged[key] = max(acknowledged.get(key, 0), int(revision))
            if n == wanted:
                process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

        async def check() -> None:
            store = SqliteStore(str(tmp_path / "db"))
            for key, revision in acknowledged.items():
                entry = store.get(key)
                assert entry is not None
                assert entry.revision >= revision
            revisions = [e.revision for e in store.range("/")]
            assert len(set(revisions)) == len(revisions)
            assert max(revisions) <= store.revision
            await store.close()

        asyncio.run(check())
    assert len(acknowledged) > 100


def test_a_full_disk_refuses_the_write_and_loses_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        await store.put("/core/pods/a/kept", b"1")
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + 4}").fetchall()
        with pytest.raises(Unavailable, match="full"):
            for n in range(100):
                await store.put(f"/core/pods/a/{n}", b"x" * 4096)
        kept = store.get("/core/pods/a/kept")
        assert kept is not None
        before = store.revision
        store._db.execute("PRAGMA max_page_count=1000000").fetchall()
        assert (await store.put("/core/pods/a/later", b"2")).revision == before + 1
        names = {e.key for e in store.range("/")}
        await store.close()
        again = SqliteStore(str(tmp_path / "db"))
        assert {e.key for e in again.range("/")} == names
        await again.close()

    asyncio.run(story())


def test_the_file_does_not_grow_without_bound(tmp_path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        for round_ in range(12):
            await asyncio.gather(*(store.put(f"/core/pods/a/{n}", os.urandom(4000)) for n in range(500)))
            if round_ % 2:
                await store.compact(store.revision)
        await store.close()
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 20 << 20  # 24 MB written, 2 MB live

    asyncio.run(story())


def test_the_log_is_begun_anew_where_it_begins_and_a_crash_at_any_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind the last commit (zeros, or an older and longer WAL) is never taken for a part of it."""
    monkeypatch.setattr(sqlite, "_WAL_CHECKPOINT", 256 << 10)
    monkeypatch.setattr(sqlite, "_WAL_STEP", 64 << 10)

    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        wal, sizes, begun = tmp_path / "db-wal", [], 0
        for n in range(150):
            used = store._wal_used
            await store.put(f"/core/pods/a/{n % 40}", os.urandom(3000))
            begun += store._wal_used < used
            sizes.append(wal.stat().st_size)
            if store._checkpointer is not None:
                store._checkpointer.join()
            if n % 7 == 0:
                image = tmp_path / f"image{n}"
                image.mkdir()
                for part in ("db", "db-wal"):
                    shutil.copy(tmp_path / part, image / part)
                again = SqliteStore(str(image / "db"))
                assert again.revision == store.revision
                assert [(e.key, e.value) for e in again.range("/")] == [(e.key, e.value) for e in store.range("/")]
                await again.close()
        assert begun >= 3
        assert sizes == sorted(sizes), "a file that was cut has to grow again, and each commit waits for that"
        assert sizes[-1] <= 512 << 10
        await store.close()

    asyncio.run(story())


def test_who_holds_a_read_open_does_not_stop_the_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup by SQLite's own means: the WAL cannot be begun anew before it ends, and grows meanwhile."""
    monkeypatch.setattr(sqlite, "_WAL_CHECKPOINT", 64 << 10)

    async def story() -> None:
        store = SqliteStore(str(tmp_path / "db"))
        await store.put("/core/pods/a/x", b"1")
        reader = sqlite3.connect(tmp_path / "db", isolation_level=None)
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM log").fetchone()
        for n in range(60):
            await store.put(f"/core/pods/a/{n}", os.urandom(3000))
        assert reader.execute("SELECT count(*) FROM log").fetchone() == seen
        assert (tmp_path / "db-wal").stat().st_size > 128 << 10
        reader.close()
        for n in range(20):
            await store.put(f"/core/pods/b/{n}", b"1")
            if store._checkpointer is not None:
                store._checkpointer.join()
        assert store._wal_used < 64 << 10
        await store.close()

    asyncio.run(story())


def test_a_compaction_cut_short_is_finished_at_the_next_start(tmp_path: Path) -> None:
    async def story() -> None:
        path = str(tmp_path / "db")
        store = SqliteStore(path)
        for n in range(10):
            await store.put("/core/pods/a/x", b"%d" % n)
        dead = store._index.compact(store.revision)
        store.prune(dead[:3], store.compacted)  # and the process dies here
        store._db.close()
        again = SqliteStore(path)
        assert again._db.execute("SELECT count(*) FROM log").fetchone()[0] == 1
        entry = again.get("/core/pods/a/x")
        assert entry is not None
        assert entry.value == b"9"
        await again.close()

    asyncio.run(story())


def test_the_collector_need_not_look_at_what_is_loaded(tmp_path: Path) -> None:
    async def story() -> None:
        path = str(tmp_path / "db")
        store = SqliteStore(path)
        await asyncio.gather(*(store.put(f"/core/pods/a/{n}", b"x") for n in range(10)))
        await store.compact(store.revision)
        await store.close()
        again = SqliteStore(path)
        assert len(again.range("/")) == 10
        assert not [entry for entry in again.range("/") if gc.is_tracked(entry)]
        await again.close()

    asyncio.run(story())


@pytest.mark.parametrize("content", [b"not a database, sorry" * 300, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(Damaged, match="restore a snapshot"):
        SqliteStore(str(tmp_path / "db"))


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db")
    db.execute("PRAGMA user_version=99")
    db.commit()
    db.close()
    with pytest.raises(Damaged, match="another version"):
        SqliteStore(str(tmp_path / "db"))
