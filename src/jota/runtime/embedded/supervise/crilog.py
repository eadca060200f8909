"""One container's log file: what it wrote comes in, lines in CRI's format go out, rotated by size.

Loaded by the supervisor: standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

_LINE = 16 * 1024
"""Bytes after which a log line is split into P parts, as containerd does."""


class Log:
    """One container's log file in CRI's format, `<RFC 3339 nano> stdout|stderr F|P <text>`, rotated by size."""

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self.path, self.max_size, self.max_files = path, max_size, max_files
        self.lost = 0
        self._fd = -1
        self._second, self._text = 0, b""
        self._open()

    def _open(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            self._size = os.fstat(self._fd).st_size
        except OSError as fault:
            print(f"log {self.path}: {fault}", file=sys.stderr, flush=True)
            self._fd, self._size = -1, 0

    def _stamp(self) -> bytes:
        second, nano = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%09dZ " % (self._text, nano)

    def write(self, stream: bytes, data: bytes) -> None:
        """Append what the container wrote. A full disk loses output, never the container: the loss is counted."""
        if self._fd < 0:
            self._open()
            if self._fd < 0:
                return
        prefix = self._stamp() + stream
        parts = []
        *lines, tail = data.split(b"\n")
        for line in lines:
            while len(line) > _LINE:
                parts.append(b"%b P %b\n" % (prefix, line[:_LINE]))
                line = line[_LINE:]
            parts.append(b"%b F %b\n" % (prefix, line))
        while tail:
            parts.append(b"%b P %b\n" % (prefix, tail[:_LINE]))
            tail = tail[_LINE:]
        out = b"".join(parts)
        try:
            self._size += os.write(self._fd, out)
        except OSError as fault:
            if not self.lost:
                print(f"log {self.path}: {fault}", file=sys.stderr, flush=True)
            self.lost += len(out)
        if self._size >= self.max_size:
            self._rotate()

    def _rotate(self) -> None:
        """Rename as the kubelet does (0.log.20060102-150405) and keep `max_files` files, the current one included."""
        os.close(self._fd)
        self._fd = -1
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        directory, base = os.path.split(self.path)
        with contextlib.suppress(OSError):
            os.rename(self.path, f"{self.path}.{stamp}.{time.time_ns() % 10**9:09d}")
            old = sorted(name for name in os.listdir(directory) if name.startswith(base + "."))
            for name in old[: max(0, len(old) - (self.max_files - 1))]:
                os.unlink(f"{directory}/{name}")
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
