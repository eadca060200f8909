"""What clients see over HTTPS is one history: writers, readers and watchers at once, with cut connections and compaction.

A model check in the manner of linearizability checkers. The store's own log is the truth; afterwards it is asked:
every acknowledged write is in it, with what was written, on top of what the writer had read (nothing was lost); writes and
reads keep the order of real time; every list is the state at its resourceVersion; every watch gave exactly what the log
holds after the version where it began.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from jota.aio.clock import SystemClock
from jota.api.filters.attributes import COMPONENT
from jota.client.client import Client
from jota.client.https import Https
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS
from jota.pki.ca import CertificateAuthority, Subject
from jota.store.drivers.sqlite import SqliteStore
from jota.store.protocol import Entry
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

SECONDS = 1.5
NAMES = ("a", "b", "c", "d")
PREFIX = "/core/configmaps/default/"


@dataclass
class Write:
    name: str
    revision: int
    base: int
    """The resourceVersion that it was built upon; 0 for a creation."""
    text: str | None
    """What was written; None for a deletion."""
    began: float
    ended: float


@dataclass
class Read:
    name: str
    revision: int
    began: float
    ended: float


@dataclass
class Seen:
    """One list and the watch that followed it."""

    listed: int
    state: dict[str, int]
    events: list[tuple[str, str, int, str]] = field(default_factory=list)
    """(type, name, revision, text)."""
    until: int = 0


@dataclass
class Notes:
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    expired: int = 0


def text_of(obj: dict[str, Any]) -> str:
    return str((obj.get("data") or {}).get("text", ""))


def version_of(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def writer(me: int, client: Client, random: Random, notes: Notes, end: float) -> None:
    count = 0
    while time.monotonic() < end:
        name, count = random.choice(NAMES), count + 1
        began = time.monotonic()
        try:
            obj = await client.get(CONFIGMAPS, name, "default")
            notes.reads.append(Read(name, version_of(obj), began, time.monotonic()))
        except ApiError as e:
            assert e.code == 404
            obj = None
        text, began = f"{me}.{count}", time.monotonic()
        base = 0 if obj is None else version_of(obj)
        wanted = {"metadata": {"name": name}, "data": {"text": text}}
        try:
            if obj is None:
                done = await client.create(CONFIGMAPS, wanted, "default")
            elif random.random() < 0.2:
                await client.delete(CONFIGMAPS, name, "default", resource_version=str(base))
                # the answer to a delete has no version: the log will tell
                notes.writes.append(Write(name, 0, base, None, began, time.monotonic()))
                continue
            else:
                done = await client.update(CONFIGMAPS, {**obj, "data": {"text": text}})
        except ApiError as e:
            assert e.code in (404, 409), e
            continue
        notes.writes.append(Write(name, version_of(done), base, text, began, time.monotonic()))


async def follower(client: Client, random: Random, notes: Notes, end: float) -> None:
    seen: Seen | None = None
    while time.monotonic() < end:
        if seen is None:
            listed = await client.list(CONFIGMAPS, "default")
            state = {o["metadata"]["name"]: version_of(o) for o in listed["items"] if o["metadata"]["name"] in NAMES}
            seen = Seen(version_of(listed), state, until=version_of(listed))
            notes.seen.append(seen)
        try:
            async with asyncio.timeout(random.uniform(0.02, 0.3)):
                await follow(client, seen)
        except TimeoutError:
            # cut off in the middle; the watch goes on from the last version, now and then too late
            await asyncio.sleep(random.choice((0, 0, 0.25)))
        except ApiError as e:
            assert e.code == 410, e
            notes.expired += 1
            seen = None


async def follow(client: Client, seen: Seen) -> None:
    stream = client.watch(CONFIGMAPS, "default", resource_version=str(seen.until))
    async with aclosing(stream) as events:  # type: ignore[type-var]
        async for kind, raw in events:
            obj = orjson.loads(raw)
            if kind != "BOOKMARK" and obj["metadata"]["name"] in NAMES:
                seen.events.append((kind, obj["metadata"]["name"], version_of(obj), text_of(obj)))
            seen.until = version_of(obj)


async def compactor(api: ApiServer, log: list[Entry], random: Random, end: float) -> None:
    """Takes history away behind the log's reader."""
    truth = api.store.watch(PREFIX, after=api.store.revision, limit=1 << 20)
    while time.monotonic() < end:
        await asyncio.sleep(random.uniform(0.01, 0.2))
        log += truth.pending()
        await api.store.compact(max(0, api.store.revision - random.choice((0, 5, 50))))
    await asyncio.sleep(0.5)
    log += truth.pending()


def check(log: list[Entry], notes: Notes) -> None:
    history = [(e.key[len(PREFIX) :], e.revision, e.value) for e in log if e.key.startswith(PREFIX)]
    history = [h for h in history if h[0] in NAMES]
    by_revision = {revision: (name, value) for name, revision, value in history}
    before: dict[int, int] = {}
    latest: dict[str, int] = {}
    for name, revision, value in history:
        before[revision] = latest.get(name, 0)
        latest[name] = revision if value is not None else 0
    check_writes(notes, by_revision, before)
    check_real_time(notes)
    for seen in notes.seen:
        check_seen(seen, history)


def check_writes(notes: Notes, by_revision: dict[int, tuple[str, bytes | None]], before: dict[int, int]) -> None:
    taken: set[int] = set()
    for write in notes.writes:
        if write.text is None:
            write.revision = next(r for r, (n, v) in by_revision.items() if n == write.name and before[r] == write.base)
        name, value = by_revision[write.revision]
        assert (name, before[write.revision]) == (write.name, write.base), "an update was lost"
        assert (value is None) == (write.text is None)
        assert value is None or f'"text":"{write.text}"'.encode() in value
        taken.add(write.revision)
    assert len(taken) == len(notes.writes)
    assert taken == by_revision.keys(), "the log holds a write that nobody was told of"


def check_real_time(notes: Notes) -> None:
    begun = 0.0
    for write in sorted(notes.writes, key=lambda w: w.revision):
        assert write.ended >= begun, "a write that was done took effect after one that had not begun"
        begun = max(begun, write.began)
    for read in notes.reads:
        known = [w.revision for w in notes.writes if w.name == read.name and w.ended < read.began]
        assert read.revision >= max(known, default=0), "a read was older than a write that was done"
        assert any(w.revision == read.revision and w.began < read.ended for w in notes.writes)


def check_seen(seen: Seen, history: list[tuple[str, int, bytes | None]]) -> None:
    state: dict[str, int] = {}
    expected: list[tuple[str, str, int]] = []
    for name, revision, value in history:
        if revision <= seen.listed:
            if value is None:
                state.pop(name, None)
            else:
                state[name] = revision
    assert seen.state == state, "a list was not the state at its version"
    for name, revision, value in history:
        if seen.listed < revision <= seen.until:
            kind = "DELETED" if value is None else "MODIFIED" if name in state else "ADDED"
            expected.append((kind, name, revision))
            if value is None:
                state.pop(name)
            else:
                state[name] = revision
    assert [e[:3] for e in seen.events] == expected, "a watch gave something else than the log"


@pytest.mark.parametrize("seed", [1, 2])
def test_everybody_sees_one_history(seed: int, tmp_path: Path) -> None:
    clock, notes = SystemClock(), Notes()
    authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=clock.now()))
    pair = authority.issue(Subject("s", (), (), ("127.0.0.1",)), days=1, client=False, server=True, now=clock.now())
    (tmp_path / "c").write_bytes(pair.certificate)
    (tmp_path / "k").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")

    async def main() -> list[Entry]:
        store = SqliteStore(str(tmp_path / "db"))
        async with ApiServer(clock=clock, seed=seed, store=store) as api:

            async def handle(request: Request) -> Response:
                return await api.api.handle(replace(request, user=COMPONENT))

            server = HttpServer(handle, ssl=context, clock=clock)
            await server.start("127.0.0.1", 0)
            log: list[Entry] = []
            transports = [Https(f"https://127.0.0.1:{server.port}", ca=authority.certificate_pem) for _ in range(7)]
            end = time.monotonic() + SECONDS
            try:
                async with asyncio.TaskGroup() as group:
                    for n, transport in enumerate(transports):
                        client, random = Client(transport), Random(seed * 100 + n)
                        if n < 4:
                            group.create_task(writer(n, client, random, notes, end))
                        else:
                            group.create_task(follower(client, random, notes, end))
                    group.create_task(compactor(api, log, Random(seed), end))
                return log
            finally:
                for transport in transports:
                    await transport.close()
                await server.close(0)

    log = asyncio.run(main())
    assert (len(notes.writes) > 20, bool(notes.reads), len(notes.seen) >= 3) == (True, True, True)
    check(log, notes)
