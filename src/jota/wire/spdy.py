"""SPDY/3.1: what kubectl before 1.31 speaks after `Upgrade: SPDY/3.1`, and what newer ones tunnel for port-forward.

`SpdyConnection` is sans-IO: bytes in -> events out; calls in -> bytes to send. `SpdySession` is the thin glue that runs one
over a `Duplex` and gives each stream as a `Duplex` of its own. Both roles: servers accept odd streams, clients open them.
Source: "SPDY Protocol - Draft 3.1" (The Chromium Projects).

Flow control: we always send WINDOW_UPDATE for what was consumed. Go's spdystream, which every Kubernetes client uses, neither
sends nor heeds window updates; so our own sending is held to the window only once the peer has shown (by a WINDOW_UPDATE
or a SETTINGS) that it counts. Until then TCP alone holds us back, and a transfer never stalls.

    >> SYN_STREAM 1 {streamtype: data, port: 80}     << SYN_REPLY 1
    >> DATA 1 "GET /"                                << DATA 1 "HTTP/1.1 200"   << WINDOW_UPDATE 1
    >> DATA 1 "" FIN                                 << DATA 1 "" FIN
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jota.wire.message import Duplex

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, FLOW_CONTROL_ERROR = 1, 2, 3, 5, 7

WINDOW = 64 * 1024
"""Initial window of every stream and of the session."""
MAX_CONTROL = 64 * 1024
MAX_HEADERS = 256 * 1024
"""Bytes of a header block after inflation."""
MAX_STREAMS = 2048
MAX_DATA = 32 * 1024
"""The largest DATA frame that we send."""

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal "
    "Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, "
    "Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-"
    "8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [w.replace("_", " ").encode() for w in _WORDS.split()]
    return b"".join(struct.pack(">I", len(w)) + w for w in words) + _TAIL.encode()


DICTIONARY = _dictionary()
"""The zlib dictionary of SPDY/3 (its Adler-32 is e3c6a7c2)."""


class ProtocolError(Exception):
    """The peer broke SPDY; the session must end."""


@dataclass(slots=True, frozen=True)
class Opened:
    """The peer opened a stream (SYN_STREAM)."""

    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(slots=True, frozen=True)
class Replied:
    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(slots=True, frozen=True)
class Data:
    """A piece of a DATA frame; `fin` on the last piece of the last frame."""

    stream: int
    data: bytes
    fin: bool


@dataclass(slots=True, frozen=True)
class Reset:
    stream: int
    code: int


@dataclass(slots=True, frozen=True)
class Window:
    """More may be sent: on `stream`, or on every stream when it is 0."""

    stream: int


@dataclass(slots=True, frozen=True)
class Pinged:
    """A ping was answered."""


@dataclass(slots=True, frozen=True)
class GoneAway:
    """The peer opens no more streams."""


Event = Opened | Replied | Data | Reset | Window | Pinged | GoneAway


@dataclass(slots=True)
class _State:
    """What is counted per stream."""

    send_window: int
    consumed: int = 0
    sent_fin: bool = False
    got_fin: bool = False


class SpdyConnection:
    """One SPDY session's protocol state."""

    def __init__(self, *, client: bool = False) -> None:
        self._client = client
        self._inbox = bytearray()
        self._out: list[bytes] = []
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._streams: dict[int, _State] = {}
        self._next = 1 if client else 2
        self._last_peer = 0
        self._data_stream = self._data_left = self._data_flags = 0
        self._initial_send = self._session_send = WINDOW
        self._session_consumed = 0
        self.counts = False
        """The peer heeds windows."""

    # -- receiving --

    def receive(self, data: bytes) -> list[Event]:
        """Raises ProtocolError. Control frames are bounded; DATA is passed on in pieces as it arrives."""
        inbox = self._inbox
        inbox += data
        events: list[Event] = []
        at = 0
        while True:
            if self._data_left:
                piece = bytes(inbox[at : at + self._data_left])
                if not piece:
                    break
                at += len(piece)
                self._data_left -= len(piece)
                self._got_data(piece, events)
                continue
            if len(inbox) - at < 8:
                break
            word, rest = struct.unpack_from(">II", inbox, at)
            flags, length = rest >> 24, rest & 0xFFFFFF
            if not word & 0x80000000:
                at += 8
                self._data_stream, self._data_left, self._data_flags = word, length, flags
                if length == 0:
                    self._got_data(b"", events)
                continue
            if length > MAX_CONTROL:
                raise ProtocolError(f"control frame of {length} bytes")
            if len(inbox) - at < 8 + length:
                break
            body = bytes(inbox[at + 8 : at + 8 + length])
            at += 8 + length
            if (word >> 16) & 0x7FFF != 3:
                raise ProtocolError(f"SPDY version {(word >> 16) & 0x7FFF}")
            self._got_control(word & 0xFFFF, flags, body, events)
        del inbox[:at]
        return events

    def _got_data(self, piece: bytes, events: list[Event]) -> None:
        stream, fin = self._data_stream, bool(self._data_flags & FIN) and not self._data_left
        state = self._streams.get(stream)
        if state is None or state.got_fin:
            self._consume_session(len(piece))
            if not self._data_left and state is None and stream != 0:
                self._control(RST_STREAM, 0, struct.pack(">II", stream, INVALID_STREAM))
            return
        state.got_fin = fin
        if piece or fin:
            events.append(Data(stream, piece, fin))
        self._reap(stream)

    def _got_control(self, kind: int, flags: int, body: bytes, events: list[Event]) -> None:
        try:
            if kind == SYN_STREAM:
                self._got_syn(flags, body, events)
            elif kind in (SYN_REPLY, HEADERS):
                (stream,) = struct.unpack_from(">I", body)
                headers, fin = self._headers(body[4:]), bool(flags & FIN)
                state = self._streams.get(stream & 0x7FFFFFFF)
                if state is not None:
                    state.got_fin = state.got_fin or fin
                    if kind == SYN_REPLY:
                        events.append(Replied(stream, headers, fin))
                    elif fin:
                        events.append(Data(stream, b"", True))
                    self._reap(stream)
            elif kind == RST_STREAM:
                stream, code = struct.unpack_from(">II", body)
                if self._streams.pop(stream, None) is not None:
                    events.append(Reset(stream, code))
            elif kind == SETTINGS:
                self._got_settings(body, events)
            elif kind == PING:
                (number,) = struct.unpack_from(">I", body)
                if bool(number & 1) != self._client:
                    self._control(PING, 0, body[:4])
                    events.append(Pinged())
            elif kind == GOAWAY:
                events.append(GoneAway())
            elif kind == WINDOW_UPDATE:
                self._got_window(body, events)
        except struct.error as error:
            raise ProtocolError(f"short control frame of type {kind}") from error

    def _got_syn(self, flags: int, body: bytes, events: list[Event]) -> None:
        (stream,) = struct.unpack_from(">I", body)
        headers = self._headers(body[10:])
        if stream & 1 == self._client or stream <= self._last_peer:
            raise ProtocolError(f"stream id {stream} is not next")
        self._last_peer = stream
        if len(self._streams) >= MAX_STREAMS:
            self._control(RST_STREAM, 0, struct.pack(">II", stream, REFUSED_STREAM))
            return
        self._streams[stream] = _State(self._initial_send, got_fin=bool(flags & FIN))
        events.append(Opened(stream, headers, bool(flags & FIN)))

    def _got_settings(self, body: bytes, events: list[Event]) -> None:
        (count,) = struct.unpack_from(">I", body)
        if len(body) != 4 + 8 * count:
            raise ProtocolError("SETTINGS of a wrong length")
        for at in range(4, len(body), 8):
            key, value = struct.unpack_from(">II", body, at)
            if key & 0xFFFFFF == 7:
                if value > 0x7FFFFFFF:
                    raise ProtocolError("initial window too large")
                for state in self._streams.values():
                    state.send_window += value - self._initial_send
                self._initial_send, self.counts = value, True
                events.append(Window(0))

    def _got_window(self, body: bytes, events: list[Event]) -> None:
        stream, delta = struct.unpack_from(">II", body)
        delta &= 0x7FFFFFFF
        self.counts = True
        if stream == 0:
            self._session_send += delta
            if self._session_send > 0x7FFFFFFF:
                raise ProtocolError("session window overflow")
        elif (state := self._streams.get(stream)) is not None:
            state.send_window += delta
            if state.send_window > 0x7FFFFFFF:
                self.reset(stream, FLOW_CONTROL_ERROR)
                events.append(Reset(stream, FLOW_CONTROL_ERROR))
                return
        events.append(Window(stream))

    def _headers(self, block: bytes) -> dict[str, str]:
        """Inflate and parse one name/value block; the zlib state runs through the whole session."""
        try:
            raw = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise ProtocolError(f"header block: {error}") from error
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise ProtocolError("header block too large")
        headers: dict[str, str] = {}
        (count,) = struct.unpack_from(">I", raw)
        at = 4
        for _ in range(count):
            name, at = self._text(raw, at)
            value, at = self._text(raw, at)
            headers[name.lower()] = value.replace("\0", ", ")
        return headers

    @staticmethod
    def _text(raw: bytes, at: int) -> tuple[str, int]:
        (size,) = struct.unpack_from(">I", raw, at)
        end = at + 4 + size
        if end > len(raw):
            raise ProtocolError("header block is cut off")
        return raw[at + 4 : end].decode("latin-1"), end

    # -- sending --

    def take(self) -> bytes:
        """Bytes to send, once."""
        out, self._out = b"".join(self._out), []
        return out

    def open(self, headers: dict[str, str], *, fin: bool = False) -> int:
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = _State(self._initial_send, sent_fin=fin)
        self._control(SYN_STREAM, FIN if fin else 0, struct.pack(">IIBB", stream, 0, 0, 0) + self._block(headers))
        return stream

    def reply(self, stream: int, headers: dict[str, str] | None = None) -> None:
        if stream in self._streams:
            self._control(SYN_REPLY, 0, struct.pack(">I", stream) + self._block(headers or {}))

    def room(self, stream: int) -> int:
        """Bytes that may be sent on a stream now."""
        state = self._streams.get(stream)
        if state is None or state.sent_fin:
            return 0
        return max(0, min(state.send_window, self._session_send)) if self.counts else 1 << 20

    def known(self, stream: int) -> bool:
        return stream in self._streams

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """At most `room(stream)` bytes. Nothing happens on a stream that is closed."""
        state = self._streams.get(stream)
        if state is None or state.sent_fin:
            return
        state.send_window -= len(data)
        self._session_send -= len(data)
        state.sent_fin = fin
        for at in range(0, max(1, len(data)), MAX_DATA):
            piece = data[at : at + MAX_DATA]
            last = fin and at + MAX_DATA >= len(data)
            self._out.append(struct.pack(">II", stream, (FIN << 24 if last else 0) | len(piece)))
            self._out.append(piece)
        self._reap(stream)

    def reset(self, stream: int, code: int = CANCEL) -> None:
        if self._streams.pop(stream, None) is not None:
            self._control(RST_STREAM, 0, struct.pack(">II", stream, code))

    def ping(self, number: int) -> None:
        self._control(PING, 0, struct.pack(">I", number))

    def goaway(self, code: int = 0) -> None:
        self._control(GOAWAY, 0, struct.pack(">II", self._last_peer, code))

    def consumed(self, stream: int, size: int) -> None:
        """The user took `size` bytes of a stream: open the windows again, in steps of half a window."""
        self._consume_session(size)
        state = self._streams.get(stream)
        if state is None or state.got_fin:
            return
        state.consumed += size
        if state.consumed >= WINDOW // 2:
            self._control(WINDOW_UPDATE, 0, struct.pack(">II", stream, state.consumed))
            state.consumed = 0

    def _consume_session(self, size: int) -> None:
        self._session_consumed += size
        if self._session_consumed >= WINDOW // 2:
            self._control(WINDOW_UPDATE, 0, struct.pack(">II", 0, self._session_consumed))
            self._session_consumed = 0

    def _reap(self, stream: int) -> None:
        state = self._streams.get(stream)
        if state is not None and state.sent_fin and state.got_fin:
            del self._streams[stream]

    def _control(self, kind: int, flags: int, body: bytes) -> None:
        self._out.append(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body)

    def _block(self, headers: dict[str, str]) -> bytes:
        raw = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1", "replace")):
                raw += (struct.pack(">I", len(text)), text)
        return self._deflate.compress(b"".join(raw)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class SpdyStream:
    """One stream as a `Duplex`."""

    UNREAD = 256 * 1024
    """Bytes above which the session is no longer read (its peer may not heed our window)."""
    UNSENT = 256 * 1024
    """Bytes above which `drain` waits."""

    def __init__(self, session: SpdySession, number: int, headers: dict[str, str]) -> None:
        self.id, self.headers = number, headers
        self._session = session
        self._unread: deque[bytes] = deque()
        self.unread = 0
        self._unsent = bytearray()
        self._eof = self._fin = self._dead = False
        self._wake = asyncio.Event()

    async def read(self, limit: int = 65536) -> bytes:
        """Raises ConnectionResetError after a RST_STREAM."""
        while not self._unread:
            if self._eof:
                return b""
            if self._dead:
                raise ConnectionResetError("the stream was reset")
            self._wake.clear()
            await self._wake.wait()
        data = self._unread.popleft()
        if len(data) > limit:
            self._unread.appendleft(data[limit:])
            data = data[:limit]
        self.unread -= len(data)
        self._session.consumed(self, len(data))
        return data

    def write(self, data: bytes) -> None:
        if not self._fin and not self._dead:
            self._unsent += data
            self.pump()

    async def drain(self) -> None:
        while len(self._unsent) > self.UNSENT and not self._dead:
            self._wake.clear()
            await self._wake.wait()
        if self._dead:
            raise ConnectionResetError("the stream was reset")
        await self._session.duplex.drain()

    def write_eof(self) -> None:
        if not self._fin:
            self._fin = True
            self.pump()

    def close(self) -> None:
        """Done with it: FIN after what was written; what still arrives is thrown away."""
        self.write_eof()
        self._unread.clear()
        self._session.consumed(self, self.unread)
        self.unread = 0
        self._dead_end()

    def reset(self) -> None:
        self._session.reset(self)

    def _dead_end(self) -> None:
        self.got = self._discard  # type: ignore[method-assign]

    def _discard(self, data: bytes, fin: bool) -> None:
        self._eof = self._eof or fin
        self._session.consumed(self, len(data))

    # -- the session's side --

    def got(self, data: bytes, fin: bool) -> None:
        if data:
            self._unread.append(data)
            self.unread += len(data)
        self._eof = self._eof or fin
        self._wake.set()

    def pump(self) -> None:
        """Send what the window allows."""
        connection, sent = self._session.connection, False
        while self._unsent and (room := connection.room(self.id)):
            piece = bytes(self._unsent[:room])
            del self._unsent[:room]
            connection.send(self.id, piece)
            sent = True
        if self._fin and not self._unsent:
            connection.send(self.id, b"", fin=True)
            sent = True
        if sent:
            self._session.flush()
        if len(self._unsent) <= self.UNSENT:
            self._wake.set()

    def die(self) -> None:
        self._dead = True
        self._unsent.clear()
        self._wake.set()


class SpdySession:
    """Runs a SpdyConnection over a Duplex. `on_stream` is called (not awaited) for each stream that the peer opens."""

    def __init__(
        self, duplex: Duplex, on_stream: Callable[[SpdyStream], None] | None = None, *, client: bool = False
    ) -> None:
        self.duplex = duplex
        self.connection = SpdyConnection(client=client)
        self.streams: dict[int, SpdyStream] = {}
        self._on_stream = on_stream
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Until the peer is gone. Raises ProtocolError after telling the peer. Streams left over are dead then."""
        try:
            while data := await self.duplex.read():
                for event in self.connection.receive(data):
                    self._handle(event)
                    if isinstance(event, Pinged):
                        self.flush()
                        await self.duplex.drain()  # whoever floods us with pings must also read the answers
                self.flush()
                await self._wait_for_room()
        except ProtocolError:
            self.connection.goaway(PROTOCOL_ERROR)
            self.flush()
            raise
        finally:
            for stream in list(self.streams.values()):
                stream.die()
            self.streams.clear()

    def open(self, headers: dict[str, str], *, fin: bool = False) -> SpdyStream:
        """Client role: open a stream."""
        stream = SpdyStream(self, self.connection.open(headers, fin=fin), headers)
        self.streams[stream.id] = stream
        self.flush()
        return stream

    def reply(self, stream: SpdyStream) -> None:
        self.connection.reply(stream.id)
        self.flush()

    def flush(self) -> None:
        if data := self.connection.take():
            self.duplex.write(data)

    def consumed(self, stream: SpdyStream, size: int) -> None:
        self.connection.consumed(stream.id, size)
        self.flush()
        self._room.set()

    def reset(self, stream: SpdyStream, code: int = CANCEL) -> None:
        self.connection.reset(stream.id, code)
        self.flush()
        stream.die()
        self.streams.pop(stream.id, None)
        self._room.set()

    async def _wait_for_room(self) -> None:
        while any(s.unread > SpdyStream.UNREAD for s in self.streams.values()):
            self._room.clear()
            await self._room.wait()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            stream = SpdyStream(self, event.stream, event.headers)
            self.streams[event.stream] = stream
            if event.fin:
                stream.got(b"", True)
            if self._on_stream is None:
                self.reset(stream, REFUSED_STREAM)
            else:
                self._on_stream(stream)
        elif isinstance(event, Data):
            if (found := self.streams.get(event.stream)) is not None:
                found.got(event.data, event.fin)
        elif isinstance(event, Replied):
            if event.fin and (found := self.streams.get(event.stream)) is not None:
                found.got(b"", True)
        elif isinstance(event, Reset):
            if (found := self.streams.pop(event.stream, None)) is not None:
                found.die()
        elif isinstance(event, Window):
            for found in [self.streams.get(event.stream)] if event.stream else list(self.streams.values()):
                if found is not None:
                    found.pump()
        self._forget()

    def _forget(self) -> None:
        """Streams that the protocol has closed and the user has read need no entry."""
        if len(self.streams) > 256:
            live = self.connection
            for number in [n for n, s in self.streams.items() if not live.known(n) and not s.unread]:
                del self.streams[number]
