"""The store's contract: etcd's semantics, small. One global revision; compare-and-put; ranges at a revision; watches.

Every driver keeps the live and recent history in one in-memory index (`store/index.py`), so reads are synchronous and
cost no I/O; drivers differ only in how a write becomes durable (memory: not at all; sqlite: fsync of a group; etcd: the
cluster's agreement, mirrored back through a watch). Values are opaque bytes. Next: drivers/sqlite.py.

Worked example. Keys are "/" paths; a revision belongs to exactly one write.

    r1 = await store.put("/pods/ns/a", b"1", expect=0)      # create: key must not exist
    r2 = await store.put("/pods/ns/a", b"2", expect=r1)     # compare-and-put on the revision of the last write
    await store.put("/pods/ns/a", b"3", expect=r1)          # raises Conflict(current=<entry of r2>)
    store.get("/pods/ns/a", revision=r1).value == b"1"      # history, until compact(r1) or later
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec


class Entry(msgspec.Struct, eq=False):
    """One key at one revision. Immutable but for `memo`, where those above keep what they know or made of the value.

    A Struct, since there is one for each object: Python's cyclic collector looks at those alone that hold what it must look at."""

    key: str
    value: bytes | None
    """None for a tombstone (the key was deleted at `revision`)."""
    revision: int
    created: int
    """Revision of the write that created this incarnation of the key."""
    previous: Entry | None = None
    """What this write replaced, while history keeps it (watchers need it for selector transitions); else None."""
    memo: Any = None


Beside = Mapping[str, bytes | None]
"""Other keys that are written (None: removed, if there) in the same commit, whatever they hold by then."""
ALONE: Beside = MappingProxyType({})


Write = tuple[str, bytes | None, int, Any]
"""(key, value, expect, memo), as `Store.put` has them."""
Told = Callable[["Entry", "Unavailable | None"], None]
"""(what is durable now, None), or what was not applied, and why. Raises nothing."""


class Cipher(Protocol):
    """Seals values of some keys on their way to the disk; readers above see plain values only."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Keys under these are sealed."""
        ...

    def seal(self, key: str, value: bytes) -> bytes: ...

    def open(self, key: str, value: bytes) -> bytes:
        """The plain value; one that was never sealed comes back as it is. Raises ValueError with the cause."""
        ...

    def stale(self, value: bytes) -> bool:
        """Whether stored bytes should be sealed anew: plain ones, and those of a key on its way out."""
        ...


class StoreError(Exception):
    """Base of the store's errors."""


class Conflict(StoreError):
    """The key's revision was not the expected one."""

    def __init__(self, key: str, current: Entry | None) -> None:
        super().__init__(f"{key}: revision differs from the expected one")
        self.key, self.current = key, current
        """`current` is None when the key does not exist."""


class Compacted(StoreError):
    """The revision asked for is older than history reaches."""

    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} was compacted (history begins after {compacted})")
        self.revision, self.compacted = revision, compacted


class FutureRevision(StoreError):
    """The revision asked for does not exist yet."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is ahead of the store's {current}")
        self.revision, self.current = revision, current


class Unavailable(StoreError):
    """The write is not durable and was not applied (disk full, I/O error, no quorum). The caller may retry."""


class Watch(Protocol):
    """A subscription. Iterating yields the events of one commit batch at a time, in revision order."""

    def __aiter__(self) -> AsyncIterator[list[Entry]]: ...

    async def __anext__(self) -> list[Entry]:
        """Raises Compacted when this watcher fell further behind than history or its bound reaches."""
        ...

    def pending(self) -> list[Entry]:
        """What is queued right now, without waiting (may be empty)."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    @property
    def revision(self) -> int:
        """The newest durable and visible revision. A fresh store starts at 1."""
        ...

    @property
    def compacted(self) -> int:
        """Revisions up to and including this one cannot be read or watched from any more."""
        ...

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """The live entry, or the one at `revision`. Raises Compacted, FutureRevision."""
        ...

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> list[Entry]:
        """Live entries under `prefix` in key order (byte order), keys > `after`, at most `limit` (0: all)."""
        ...

    def count(self, prefix: str, *, after: str = "", revision: int = 0) -> int: ...

    def touched(self, table: str) -> int:
        """The revision of the newest visible write (or delete) under a resource's prefix, e.g. "/core/pods/"; 0: none.

        Two equal answers mean that nothing there has changed in between."""
        ...

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, beside: Beside = ALONE, memo: Any = None
    ) -> Entry:
        """Write and wait until durable. `expect`: the key's last revision, 0 for "must not exist", None for any. `memo`: the
        entry's.

        What is `beside` becomes durable and visible together with it, or neither does; no key is in there twice.
        Raises Conflict, Unavailable. Visible to readers and watchers only once durable.
        """
        ...

    def begin(self, write: Write) -> Future[Entry] | None:
        """`put` it, or `delete` it where the value is None; done when it is durable, or with Unavailable: then it was not applied.
        None: a conflict, or another write of the key is on its way; nothing was begun. Raises Unavailable."""
        ...

    def submit(self, write: Write, told: Told) -> bool:
        """The same for whoever waits for no future: `told` hears of the outcome in the very turn in which it is known, if True."""
        ...

    async def put_many(self, writes: Sequence[Write]) -> list[Entry | None]:
        """`begin` each and wait until all are durable. None: nothing was begun. Raises Unavailable: some may have been written."""
        ...

    async def delete(self, key: str, *, expect: int | None = None, beside: Beside = ALONE) -> Entry:
        """Remove; returns the tombstone (whose `previous` is the last entry). Raises Conflict (also if absent)."""
        ...

    def watch(self, prefix: str, *, after: int, limit: int = 10_000) -> Watch:
        """Every write under `prefix` with a revision > `after`. `limit` bounds the queued events of this watcher.

        Raises Compacted, FutureRevision.
        """
        ...

    async def sync(self) -> int:
        """Make reads linearizable: returns once every write acknowledged anywhere is visible here; the revision."""
        ...

    @property
    def behind(self) -> bool:
        """Whether `sync` may have to wait."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history up to `revision` (live entries stay)."""
        ...

    async def close(self) -> None: ...
