"""A container's log file (CRI format) as the lines that `kubectl logs` asked for.

What comes in is a path of `<container>/<attempt>.log` and `LogOptions`; what goes out are pieces of text, ready to be sent.
Each line of the file is `<RFC 3339 time with nanoseconds> stdout|stderr F|P <text>`: P marks a part of a line that goes on in
the next entry of the same stream. `parse` and `Selector` are pure; `read` and `follow` are the thin part around them.
Rotation renames the file and makes a new one: the reader finishes the old one, then opens the new. Next: `node/server.py`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Literal

from jota.aio.clock import Clock, parse_rfc3339

BLOCK = 64 * 1024
MAX_LINE = 1024 * 1024
"""Longest entry that is looked at as one; the pump writes at most 16 KiB of text into one."""
POLL_FAST, POLL_SLOW = 0.05, 0.5
"""Seconds between looks at a followed file: at first, and when nothing has come for a while."""

Stream = Literal["", "stdout", "stderr"]


@dataclass(slots=True, frozen=True)
class LogOptions:
    """The query of a log request (v1 PodLogOptions)."""

    follow: bool = False
    previous: bool = False
    tail: int | None = None
    """Lines."""
    since: float | None = None
    """Epoch seconds."""
    timestamps: bool = False
    limit: int | None = None
    """Bytes."""
    stream: Stream = ""
    """One of the two streams; "" for both."""


@dataclass(slots=True, frozen=True)
class Entry:
    """One line of the file."""

    time: bytes
    stream: bytes
    partial: bool
    text: bytes
    """Without the line's end."""


def parse(line: bytes) -> Entry | None:
    """None for a line that is not in CRI format (a torn write after a crash): such lines are left out."""
    parts = line.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    tag = parts[2].split(b":", 1)[0]
    if tag not in (b"F", b"P"):
        return None
    return Entry(parts[0], parts[1], tag == b"P", parts[3] if len(parts) == 4 else b"")


Parse = Callable[[bytes], Entry | None]


def seconds(time: bytes) -> float:
    """Epoch seconds of an entry's time; 0 when it cannot be read. Nanoseconds are cut to what a float can tell."""
    try:
        text = time.decode("ascii")
        whole, dot, rest = text.partition(".")
        if not dot:
            return parse_rfc3339(text)
        digits = len(rest) - len(rest.lstrip("0123456789"))
        return parse_rfc3339(whole + rest[digits:]) + float("0." + (rest[:digits] or "0"))
    except (ValueError, UnicodeDecodeError):
        return 0.0


class Selector:
    """Turns entries into the bytes that are sent: since, stream, timestamps, limit. `done` once the limit is reached."""

    def __init__(self, options: LogOptions, parse: Parse = parse) -> None:
        self._options, self._parse = options, parse
        self._since = None if options.since is None else _stamp(options.since)
        self._stream = options.stream.encode()
        self._left = options.limit
        self._inside: set[bytes] = set()
        self.done = options.limit == 0

    def wants(self, entry: Entry) -> bool:
        """By stream and time alone."""
        if self._stream and entry.stream != self._stream:
            return False
        if self._since is None:
            return True
        if entry.time.endswith(b"Z"):
            return entry.time >= self._since  # in UTC, in one width: bytes compare as times do
        return seconds(entry.time) >= (self._options.since or 0.0)

    def feed(self, line: bytes) -> bytes:
        """The text of one line of the file, or b""."""
        entry = self._parse(line)
        if entry is None or self.done or not self.wants(entry):
            return b""
        # a time stands only before the first part of a line
        start = self._options.timestamps and entry.time and entry.stream not in self._inside
        if entry.partial:
            self._inside.add(entry.stream)
        else:
            self._inside.discard(entry.stream)
        out = (entry.time + b" " if start else b"") + entry.text + (b"" if entry.partial else b"\n")
        return self._limited(out)

    def _limited(self, out: bytes) -> bytes:
        if self._left is None:
            return out
        out = out[: self._left]
        self._left -= len(out)
        self.done = self._left <= 0
        return out


def _stamp(since: float) -> bytes:
    """`since` in the file's own form: nine digits, `Z`."""
    whole = int(since // 1)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{int((since - whole) * 1_000_000_000):09d}Z".encode()


def tail_offset(file: BinaryIO, lines: int, stream: str = "", parse: Parse = parse) -> int:
    """Where the last `lines` whole lines of the file (of one stream) begin; reads backwards from the end.

    An entry that goes on (P) is not a line's end, so it is not counted.
    """
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    wanted = stream.encode()
    found, at, rest = 0, end, b""
    while at > 0:
        size = min(BLOCK, at)
        at -= size
        file.seek(at)
        block = file.read(size) + rest
        start = 0 if at == 0 else block.find(b"\n") + 1
        if start == 0 and at > 0:
            rest = block[:MAX_LINE]
            continue
        position = at + len(block)
        for line in reversed(block[start:].splitlines(keepends=True)):
            entry = parse(line.rstrip(b"\n"))
            if entry is not None and not entry.partial and (not wanted or entry.stream == wanted):
                found += 1
                if found > lines:
                    return position
            position -= len(line)
        rest = block[:start]
    return 0


class LogReader:
    """Reads one log file forwards, over rotations. Blocking reads of a local file, bounded by `BLOCK` each."""

    def __init__(self, path: str) -> None:
        """Raises FileNotFoundError."""
        self._path = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - lives as long as the reader
        self._rest = b""

    def seek_tail(self, lines: int, stream: str = "", parse: Parse = parse) -> None:
        self._file.seek(tail_offset(self._file, lines, stream, parse))

    def lines(self) -> Iterator[bytes]:
        """The whole lines of at most one block; what is not finished yet waits for the rest of it."""
        data = self._file.read(BLOCK)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""  # no entry is that long: the file is damaged here
        self.more = len(data) == BLOCK
        return iter(whole)

    def rotated(self) -> bool:
        """True when there is more to read: the rest of a renamed file, then the file that now has the name."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False  # between rename and creation, or removed with its pod
        ours = os.fstat(self._file.fileno())
        if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
            if now.st_size >= self._file.tell():
                return False
            self._file.seek(0)  # cut in place
        elif ours.st_size > self._file.tell():
            return True  # written between our last look and the renaming
        else:
            self._file.close()
            self._file = open(self._path, "rb")  # noqa: SIM115
        self._rest = b""
        return True

    @property
    def gone(self) -> bool:
        """The file has no name any more: its container was removed."""
        return os.fstat(self._file.fileno()).st_nlink == 0 and not os.path.exists(self._path)

    def last(self) -> bytes:
        """A last line without an end, when nothing more can come."""
        rest, self._rest = self._rest, b""
        return rest

    def close(self) -> None:
        self._file.close()


async def follow(
    path: str,
    options: LogOptions,
    *,
    clock: Clock,
    running: Callable[[], Awaitable[bool]] | None = None,
    parser: Callable[[], Parse] = lambda: parse,
) -> AsyncIterator[list[bytes]]:
    """Pieces of the log, in batches. With `options.follow` until `running()` says False and all has been read.

    `parser` makes what reads the lines as entries, one after the other; files that are not in CRI format have their own.

    Raises FileNotFoundError when there is no file at the start.
    """
    selector = Selector(options, parser())
    reader = LogReader(path)
    try:
        if options.tail is not None:
            reader.seek_tail(options.tail, options.stream, parser())
        delay = POLL_FAST
        while not selector.done:
            # asked before reading: what was written before the container ended is read after this
            alive = options.follow and running is not None and await running()
            if batch := [piece for line in reader.lines() if (piece := selector.feed(line))]:
                delay = POLL_FAST
                yield batch
            if reader.more or selector.done:
                await clock.sleep(0)
            elif options.follow and reader.rotated():
                continue
            elif not alive or reader.gone:
                break
            else:
                await clock.sleep(delay)
                delay = min(POLL_SLOW, delay * 1.5)
        if (rest := reader.last()) and (piece := selector.feed(rest)):
            yield [piece]
    finally:
        reader.close()
