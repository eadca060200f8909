"""The embedded default: one append-only table whose row id is the revision, in a WAL, fsynced once per group of writes.

    log(rev INTEGER PRIMARY KEY, key TEXT, value BLOB, created INTEGER)   value NULL: a tombstone
    meta(name TEXT PRIMARY KEY, value INTEGER)                            "compacted"

Nothing is ever updated in place, but for values that are sealed anew at start (a new key, or plain rows of a time before
there was one; see Cipher in protocol.py). At start the rows are replayed in revision order into the index; compaction deletes the
rows that no reader can reach, and the next writes take their room (the file does not become shorter: pages that may move cost
each commit a page). Durability is `synchronous=FULL`: a write is acknowledged after the WAL is on disk.

Two things are the cause of SQLite's long tail. Checkpoints: they run passively in a second thread and connection, the writers'
own moves no more than what came in meanwhile, and only a WAL past a hard bound is cut on their path. And a file that grows: to
sync it the file system commits its journal too, three times as long and behind everybody else's. So the WAL is begun anew
where it begins, never cut, and grows ahead of what is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import chain

from jota.store.index import Index
from jota.store.log import LogStore
from jota.store.protocol import Cipher, Entry, StoreError, Unavailable

log = logging.getLogger("jota.store")

_WAL_CHECKPOINT = 16 << 20
"""Bytes of WAL after which a passive checkpoint starts."""
_WAL_BOUND = 96 << 20
"""Bytes of WAL after which writers wait for a full checkpoint."""
_WAL_STEP = 1 << 20
"""Bytes by which the file grows ahead of what is written into it."""
_PAGE = 4096
_AT_ONCE = 128
"""Rows of one statement. Each statement lets go of the interpreter's lock and has to get it back from the loop's thread: a
statement for each row cost five times as many changes between the two threads."""
_INSERT = ["INSERT INTO log VALUES " + ", ".join(["(?, ?, ?, ?)"] * n) for n in range(_AT_ONCE + 1)]
_SCHEMA = 1
_REMEDY = "restore a snapshot, or move the file away to begin anew"
_Row = tuple[int, str, bytes | None, int]
"""Of the table `log`: revision, key, value, revision that created the key."""


class Damaged(StoreError):
    """The database file is not one of ours, or is damaged."""


class SqliteStore(LogStore):
    """A durable store in the file `path` (with -wal and -shm beside it). One process at a time: the caller holds a lock.

    Raises Damaged when the file cannot be read as a store; Unavailable when it cannot be opened.
    """

    def __init__(self, path: str, cipher: Cipher | None = None) -> None:
        """`cipher` seals the values under its prefixes on the disk."""
        self._path = path
        self._db = _open(path)
        self._checkpointing = threading.Event()
        self._moved = threading.Event()
        """A checkpoint has moved all of the WAL but what was written meanwhile."""
        self._checkpointer: threading.Thread | None = None
        self._wal_used = self._wal_size = 0
        """Bytes, about, that were written since the WAL was begun anew (nobody tells), and of its file."""
        self._cipher = cipher
        self._sealed = cipher.prefixes if cipher is not None else ()
        try:
            index = _load(self._db, path, cipher)
        except Damaged:
            self._db.close()
            raise
        super().__init__(index, time.monotonic)

    def append(self, batch: list[Entry]) -> None:
        rows = [
            (e.revision, e.key, self._seal(e) if e.key.startswith(self._sealed) else e.value, e.created) for e in batch
        ]
        try:
            self._roll_back()
            _insert(self._db, rows)
        except Exception as error:  # not only sqlite3.Error: text that is no UTF-8, numbers that are no 64 bits
            self._roll_back()
            raise Unavailable(f"{self._path}: {error}") from error
        self._wal_used += 3 * _PAGE + sum([len(row[1]) + len(row[2] or b"") for row in rows]) * 11 // 10
        try:
            self._bound_wal()
        except (sqlite3.Error, OSError, RuntimeError) as error:
            # The batch is durable: to fail it now would give its revisions away a second time.
            log.warning("%s: the write-ahead log was not cut: %s", self._path, error)

    def prune(self, dead: list[int], compacted: int) -> None:
        try:
            self._roll_back()
            self._db.execute("BEGIN IMMEDIATE")
            _remove(self._db, dead)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (compacted,))
            self._db.execute("COMMIT")
            self._wal_used += (len(dead) + 8) * _PAGE
        except sqlite3.Error as error:
            self._roll_back()
            raise Unavailable(f"{self._path}: {error}") from error

    async def close(self) -> None:
        await super().close()
        if self._checkpointer is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._checkpointer.join)
        self._db.close()  # the last connection to go moves the rest of the WAL into the database and removes it

    def _seal(self, entry: Entry) -> bytes | None:
        assert self._cipher is not None, "without a cipher no prefix is sealed"
        return None if entry.value is None else self._cipher.seal(entry.key, entry.value)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # should it stay open, the next write tries again, and says why
                self._db.execute("ROLLBACK")

    def slow(self) -> bool:
        return self._checkpointing.is_set() or self._moved.is_set() or self._wal_used > _WAL_BOUND

    def _bound_wal(self) -> None:
        if self._checkpointing.is_set():
            return
        if self._moved.is_set():
            self._moved.clear()
            # what came in meanwhile: nobody writes now, so this ends it, and the next write begins the WAL anew
            busy, frames, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy and frames == moved:
                self._wal_used = 0
        elif self._wal_used > _WAL_BOUND:
            self._wal_used = self._wal_size = 0
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        elif self._wal_used > _WAL_CHECKPOINT:
            self._checkpointing.set()
            self._checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
            try:
                self._checkpointer.start()
            except RuntimeError:  # no thread to be had: tried again at a later write
                self._checkpointer = None
                self._checkpointing.clear()
        elif self._wal_size < min(self._wal_used + _WAL_STEP, _WAL_CHECKPOINT):
            self._grow_wal()

    def _grow_wal(self) -> None:
        """Add to the end of the file what SQLite takes for the rest of an older, longer WAL."""
        wal = os.open(self._path + "-wal", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(wal).st_size
            if size < min(self._wal_used + _WAL_STEP, _WAL_CHECKPOINT):
                size += os.write(wal, bytes(_WAL_STEP))
            self._wal_size = size
        finally:
            os.close(wal)

    def _checkpoint(self) -> None:
        """Move the WAL into the database beside the writers."""
        try:
            db = sqlite3.connect(self._path, timeout=5)
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                db.close()
            self._moved.set()
        except sqlite3.Error:
            # A full disk shows on the writers' path too, where it has somebody to be told to.
            pass
        finally:
            self._checkpointing.clear()


def _insert(db: sqlite3.Connection, rows: list[_Row]) -> None:
    """All of them or none, durably. Raises sqlite3.Error; the transaction may still be open then."""
    if len(rows) <= _AT_ONCE:
        db.execute(_INSERT[len(rows)], list(chain.from_iterable(rows)))
        return
    db.execute("BEGIN IMMEDIATE")
    for begin in range(0, len(rows), _AT_ONCE):
        some = rows[begin : begin + _AT_ONCE]
        db.execute(_INSERT[len(some)], list(chain.from_iterable(some)))
    db.execute("COMMIT")


def _remove(db: sqlite3.Connection, revisions: list[int]) -> None:
    """In one statement (see _AT_ONCE). Raises sqlite3.Error."""
    db.execute("DELETE FROM log WHERE rev IN (SELECT value FROM json_each(?))", (str(revisions),))


def _open(path: str) -> sqlite3.Connection:
    try:
        _private(path)
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=_AT_ONCE + 32
        )
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"{path}: {error}") from error
    try:
        _prepare(db, path)
    except sqlite3.OperationalError as error:
        db.close()
        raise Unavailable(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise Damaged(f"{path}: {error}; {_REMEDY}") from error
    except Damaged:
        db.close()
        raise
    return db


def _private(path: str) -> None:
    """For our user alone, from its first moment on; SQLite gives -wal and -shm the same permissions. Raises OSError."""
    if path != ":memory:":
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _prepare(db: sqlite3.Connection, path: str) -> None:
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    db.execute(f"PRAGMA journal_size_limit={2 * _WAL_CHECKPOINT}").fetchall()
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, _SCHEMA):
        raise Damaged(f"{path}: written by another version of this program (schema {found}, this one knows {_SCHEMA})")
    db.execute(
        "CREATE TABLE IF NOT EXISTS log (rev INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB, created INTEGER)"
    )
    db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER)")
    if found != _SCHEMA:  # it is a write, and waits for the disk
        db.execute(f"PRAGMA user_version={_SCHEMA}")


def _load(db: sqlite3.Connection, path: str, cipher: Cipher | None) -> Index:
    """Replay the log. Rows up to the compacted revision are live entries by definition; later ones are history too."""
    stale: list[Entry] = []
    try:
        row = db.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
        index = Index(compacted=row[0] if row else 0)
        leftover = index.load(_rows(db, path, cipher, stale))
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path}: {error}; {_REMEDY}") from error
    # A crash may have cut a compaction short: what it left is unreachable, remove it now.
    db.execute("BEGIN IMMEDIATE")
    _remove(db, leftover)
    db.execute("COMMIT")
    if cipher is not None and stale:
        _seal_anew(db, stale, cipher)
    return index


def _rows(db: sqlite3.Connection, path: str, cipher: Cipher | None, stale: list[Entry]) -> Iterator[Entry]:
    """The log in revision order, with plain values; `stale` gets what should be sealed anew."""
    sealed = cipher.prefixes if cipher is not None else ()
    for revision, key, value, created in db.execute("SELECT rev, key, value, created FROM log ORDER BY rev"):
        # most objects were never changed: one number in memory for both
        entry = Entry(key, value, revision, revision if created == revision else created)
        if cipher is not None and value is not None and key.startswith(sealed):
            entry.value = _opened(cipher, path, key, value)
            if cipher.stale(value):
                stale.append(entry)
        yield entry


def _opened(cipher: Cipher, path: str, key: str, value: bytes) -> bytes:
    try:
        return cipher.open(key, value)
    except ValueError as error:
        remedy = (
            "put the key that it was sealed with back into the key file (pki/encryption.keys, below the first line)"
        )
        raise Damaged(f"{path}: {key} cannot be read: {error}; {remedy}") from None


def _seal_anew(db: sqlite3.Connection, stale: list[Entry], cipher: Cipher) -> None:
    """Seal old rows with the key of today, and leave nothing of their plain bytes in the file, its free pages or the WAL."""
    db.execute("PRAGMA secure_delete=ON").fetchall()
    db.execute("BEGIN IMMEDIATE")
    rows = ((cipher.seal(e.key, e.value or b""), e.revision) for e in stale)
    db.executemany("UPDATE log SET value = ? WHERE rev = ?", rows)
    db.execute("COMMIT")
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.execute("PRAGMA secure_delete=OFF").fetchall()
