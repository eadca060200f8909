"""GET with watch=1: a stream of events, one JSON object per line (over WebSocket, one per message: watch_socket.py).

The stream begins with the present state (resourceVersion unset or 0, or WatchList) or with what happened after a
revision; then `feed.py` calls `deliver` with each commit batch, and all events of a batch leave in one write. An event is
encoded once for all watchers that take the same form. A watcher that does not read is cut off with a 410 event (slow.py).
Who is in this process (a Receiver) is handed the events themselves, unencoded: meta/watchevent.py.

An entry, seen through a selection:   before  now     event
                                      no      yes     ADDED
                                      yes     yes     MODIFIED
                                      yes     no      DELETED, the state before, at the new revision
                                      no      no      nothing
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson

from jota.api import object as at_rest
from jota.api import respond, table
from jota.api.call import Call
from jota.api.path import flag, integer
from jota.api.resource import Engine
from jota.api.served import Selection
from jota.api.slow import NOTICED
from jota.api.verbs import freshness
from jota.api.verbs.list import select
from jota.kinds.kind import Object
from jota.meta.change import Change
from jota.meta.errors import ApiError, expired
from jota.meta.watchevent import Receiver, WatchEvent
from jota.store.protocol import Compacted, Entry
from jota.wire.message import Response, Writer

BOOKMARK_EVERY = 60.0
TIMEOUT = (1800, 3600)
"""Seconds; a watch without timeoutSeconds ends at random between these, so that clients do not come back all at once."""
PIECE_TIME, PIECE_BYTES = 0.004, 256 * 1024
"""Seconds and bytes after which the loop has a turn while the present state is sent."""
JOINED = 64 * 1024
"""Bytes up to which the frames of a batch are joined once, not by each of its watchers."""
STALL, LAST_WORDS = 60.0, 5.0
"""Seconds for which a reader may take nothing of the present state; and, once it is cut off, of what it was sent before."""
INITIAL_END = {"k8s.io/initial-events-end": "true"}


async def watch(engine: Engine, call: Call) -> Response:
    """Raises ApiError 400, 422, 504; a revision too old is answered in the stream."""
    params = call.params
    freshness.check_match(params, watch=True)
    selection = select(call)
    asked = freshness.parse(params.get("resourceVersion", ""))
    initial = flag(params, "sendInitialEvents") if "sendInitialEvents" in params else None
    seconds = integer(params, "timeoutSeconds")
    if not seconds or seconds < 0:
        seconds = engine.random.randint(*TIMEOUT)
    if initial:
        await freshness.not_older_than(engine, asked)
    if initial is None and not params.get("resourceVersion"):
        await engine.store.sync()
    if call.accepted.form == "Table":
        table.include(call)
    stream = WatchStream(engine, call, selection)
    if call.served.foreign:
        # only definitions with a conversion webhook need it
        from jota.api.verbs.converted_watch import ConvertedWatch

        stream = ConvertedWatch(engine, call, selection)
    stream.after, stream.seconds = asked, float(seconds)
    stream.initial = asked == 0 if initial is None else initial
    stream.mark_initial = bool(initial)
    stream.bookmarks = flag(params, "allowWatchBookmarks")
    if initial is False and not asked:
        stream.after = engine.store.revision
    if "upgrade" in call.request.headers:
        from jota.api.verbs import watch_socket

        if watch_socket.wanted(call.request):
            return watch_socket.upgraded(call.request, stream.run)
    if call.request.user is None:
        stream.joined = JOINED
    return Response(200, respond.headers(call), stream=stream.run)


class WatchStream:
    """One watcher (feed.Watcher)."""

    __slots__ = (
        "_call",
        "_closing",
        "_cut",
        "_deaf",
        "_done",
        "_engine",
        "_first",
        "_format",
        "_late",
        "_receiver",
        "_seen",
        "_selection",
        "_writer",
        "after",
        "bookmarks",
        "initial",
        "inside",
        "joined",
        "mark_initial",
        "seconds",
        "trigger",
    )

    def __init__(self, engine: Engine, call: Call, selection: Selection) -> None:
        self._engine, self._call, self._selection = engine, call, selection
        self.trigger, self.inside = selection.trigger, False
        self.after = 0
        self.seconds = float(TIMEOUT[0])
        self.initial = self.mark_initial = self.bookmarks = False
        self.joined = 0
        """Bytes up to which frames may be one part of a write. Readers in process and WebSockets take a part for an event."""
        self._first = True
        self._seen = 0
        self._closing = self._cut = self._late = False
        self._deaf = True
        """Events are passed over: before the present state is sent, and after the end."""
        accepted = call.accepted
        included = table.include(call) if accepted.form == "Table" else ""
        self._format = (call.served.resource, accepted.form, accepted.version, included, False)
        self._receiver: Receiver | None = None
        """The writer, when it takes events as they are."""
        self._writer: Writer
        self._done: asyncio.Future[None]

    # -- life

    async def run(self, writer: Writer) -> None:
        """The stream: wire.message.Stream."""
        self._writer = writer
        if isinstance(writer, Receiver) and self._format[1] != "Table":
            self._receiver, self.joined, self.inside = writer, 0, True
            self._format = (*self._format[:-1], True)
        self._done = asyncio.get_running_loop().create_future()
        channel = self._call.served.channel
        try:
            channel.add(self)  # to be told of an end; events are taken once `_begin` is through
            await self._begin()
            self._leave_seat()
            await self._live()
            if self._cut:
                await self._last_words()
        finally:
            channel.discard(self)
            self._engine.feed.slow.forget(self)

    def _leave_seat(self) -> None:
        if self._call.seat is not None:
            self._call.seat.leave()

    async def _last_words(self) -> None:
        """A reader that was cut off gets a moment to read that; then its memory is needed. Raises ConnectionResetError."""
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionResetError("the watcher did not read") from None

    async def _begin(self) -> None:
        """Present state or history, and from then on the feed, without a gap. Raises ConnectionResetError."""
        engine, served, prefix = self._engine, self._call.served, self._selection.prefix
        # not only `pump`: what is held for a crowd that rests is told while this one is deaf, and comes by `join`, once
        engine.feed.settle(served.channel)
        if self.initial:
            self.after = engine.store.revision
            await self._send_present()
            if self._closing:
                return
            engine.feed.settle(served.channel)
        self._seen = self.after
        self._deaf = False
        try:
            if self.after <= engine.store.revision:
                engine.feed.join(served.channel, self, prefix, self.after)
        except Compacted:
            text = f"too old resource version: {self.after} ({engine.store.compacted})"
            self._fail(expired(text))

    async def _live(self) -> None:
        clock = self._engine.clock
        end = clock.monotonic() + self.seconds
        while not self._done.done():
            left = end - clock.monotonic()
            if left <= 0:
                break
            # the last bookmark comes shortly before the end
            pause = min(left, BOOKMARK_EVERY) if left < BOOKMARK_EVERY or left > BOOKMARK_EVERY + 2 else left - 1
            await self._wait(clock.sleep(pause))
            if self.bookmarks and not self._done.done():
                self._engine.feed.settle(self._call.served.channel)
                self._bookmark()

    async def _wait(self, delay: Awaitable[None]) -> None:
        """Until the delay is over or the stream is."""
        sleeper = asyncio.ensure_future(delay)
        try:
            await asyncio.wait((sleeper, self._done), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()

    def end(self) -> None:
        self._closing = self._deaf = True
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, problem: ApiError) -> None:
        """An ERROR event, and the end."""
        status = orjson.dumps(problem.status())
        self._writer.write((b'{"type":"ERROR","object":' + status + b"}\n",))
        self.end()

    # -- feed.Watcher

    def deliver(self, entries: list[Entry]) -> None:
        if self._deaf:
            return
        parts = self._shared(entries) if self._selection.all and entries[0].revision > self._seen else None
        if parts is None:
            parts = []
            for entry in entries:
                if entry.revision > self._seen and entry.key.startswith(self._selection.prefix):
                    frame = self._event(entry)
                    if frame is not None:
                        parts.append(frame)
        if not parts:
            return
        unsent = self._writer.buffered
        if (unsent > NOTICED or self._late) and not self._keeps_up(unsent):
            return
        self._send(parts)

    def _send(self, frames: list[Any]) -> None:
        if self._receiver is not None:
            self._receiver.hand_over(frames)
        else:
            self._writer.write(frames)

    def _keeps_up(self, unsent: int) -> bool:
        slow = self._engine.feed.slow
        self._late = unsent > NOTICED
        if not self._late:
            slow.forget(self)
            return True
        return slow.late(self, unsent, self._engine.clock.monotonic())

    def unsent(self) -> int:
        return self._writer.buffered

    def too_slow(self) -> None:
        self._cut = True
        self._fail(expired("the watcher does not read its events fast enough: too old resource version"))

    def cut(self) -> None:
        if not self._closing:
            self._fail(expired("too old resource version: events were lost"))

    # -- frames

    # Each is bytes or, for those in this process, a WatchEvent.

    def _shared(self, entries: list[Entry]) -> list[Any] | None:
        """The frames of a batch for all who watch the same without selectors: built once, however many they are."""
        if self._format[1] == "Table":
            return None  # the first event of each stream differs
        batches, prefix = self._engine.feed.batches, self._selection.prefix
        key = (id(entries), self._format, prefix, self.joined)
        found = batches.get(key)
        if found is None:
            frames = [f for e in entries if e.key.startswith(prefix) and (f := self._event(e)) is not None]
            if self.joined and len(frames) > 1 and sum(map(len, frames)) <= self.joined:
                frames = [b"".join(frames)]
            found = batches[key] = entries, frames
        return found[1]

    def _event(self, entry: Entry) -> Any:
        previous = entry.previous
        before = previous is not None and previous.value is not None and self._selection.matches(previous)
        if entry.value is not None and self._selection.matches(entry):
            return self._frame("MODIFIED" if before else "ADDED", entry, entry.value)
        if before and previous is not None and previous.value is not None:
            return self._frame("DELETED", entry, previous.value)
        return None

    def _frame(self, type_: str, entry: Entry, value: bytes) -> Any:
        if self._first and self._format[1] == "Table":
            return self._encode(type_, entry, value)
        frames = self._engine.feed.frames
        key = (entry.revision, type_, self._format)
        found = frames.get(key)
        if found is None:
            found = frames[key] = self._encode(type_, entry, value)
        return found

    def _encode(self, type_: str, entry: Entry, value: bytes) -> Any:
        served, call, revision = self._call.served, self._call, entry.revision
        form = call.accepted.form
        if self._receiver is not None:
            key = entry.key[len(served.prefix) :]
            if form == "Metadata":
                opening = respond.metadata_head(call.accepted.version)
                return WatchEvent.stored(type_, key, revision, value, opening, at_rest.render_metadata)
            if not served.converted and not served.custom:
                parts, change = at_rest.parts, _change(type_, entry)
                return WatchEvent.stored(type_, key, revision, value, served.head, served.render, parts, change)
            event = WatchEvent.stored(type_, key, revision, value, served.head, served.render)
            event.render()  # what may fail, fails here
            return event
        if not form:
            body = served.render(value, revision, served.head)
        elif form == "Metadata":
            body = at_rest.render_metadata(value, revision, respond.metadata_head(call.accepted.version))
        else:
            obj = served.decode(value, revision)
            body = orjson.dumps(table.of_object(call, obj, self._engine.clock.now(), head=self._first))
            self._first = False
        return b'{"type":"%b","object":%b}\n' % (type_.encode(), body)

    def _present(self) -> list[Entry]:
        """What is there now and may be selected."""
        point = self._selection.point
        if point is None:
            return self._engine.store.range(self._selection.prefix)
        entry = self._engine.store.get(point)
        return [entry] if entry is not None else []

    async def _send_present(self) -> None:
        """All that is there at revision `after`."""
        await self._send_added(self._present())
        if self.mark_initial and self.bookmarks and not self._closing:
            self._bookmark(INITIAL_END, self.after)

    async def _send_added(self, found: list[Entry]) -> None:
        """In pieces: neither the loop nor the memory shall feel a large state. Raises ConnectionResetError."""
        everything, matches, clock = self._selection.all, self._selection.matches, self._engine.clock
        parts: list[Any] = []
        size, began = 0, clock.monotonic()
        for number, entry in enumerate(found):
            if everything or matches(entry):
                part = self._encode("ADDED", entry, entry.value or b"")
                parts.append(part)
                size += len(part)
            if size > PIECE_BYTES or (not number % 16 and clock.monotonic() - began > PIECE_TIME):
                await self._send_piece(parts)
                if self._closing:
                    return
                parts, size, began = [], 0, clock.monotonic()
        if parts:
            self._send(parts)

    async def _send_piece(self, parts: list[Any]) -> None:
        """One piece, and a turn for everybody else. Raises ConnectionResetError when the peer takes nothing."""
        if parts:
            self._send(parts)
        if self._writer.buffered > NOTICED:
            self._leave_seat()  # from here on it is the reader who takes time, not we
        try:
            async with asyncio.timeout(STALL):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionResetError("the watcher did not read") from None
        await asyncio.sleep(0)

    def _bookmark(self, annotations: dict[str, str] | None = None, revision: int = 0) -> None:
        """`revision`: what was told up to here, when that is not the present."""
        served = self._call.served
        revision = revision or max(self._engine.store.revision, self._seen)
        metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        form, version = self._call.accepted.form, self._call.accepted.version
        if form == "Table":
            # a Table's own metadata has no annotations: they stand on a row's object, as upstream
            bare: Object = {"kind": served.resource.kind, "metadata": metadata}
            rows = [table.row(self._call, bare, self._engine.clock.now(), "Metadata")] if annotations else []
            body = orjson.dumps(table.table(self._call, rows, {"resourceVersion": str(revision)}, head=self._first))
            self._first = False
        else:
            head = respond.metadata_head(version) if form == "Metadata" else served.head
            body = head + b'"metadata":' + orjson.dumps(metadata) + b"}"
        self._writer.write((b'{"type":"BOOKMARK","object":%b}\n' % body,))


def _change(type_: str, entry: Entry) -> Change | None:
    """What the event of an entry changed, when that is known."""
    if type_ == "DELETED":
        return None if entry.previous is None else Change(str(entry.previous.revision))
    return None if entry.memo is None else at_rest.memo(entry).change
