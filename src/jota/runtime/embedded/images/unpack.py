"""A layer's tar stream comes in; a directory that overlayfs understands goes out.

Own tar parser (ustar, GNU long names, pax) over openat2: every path is resolved inside the target directory, so neither
"..", absolute names nor planted symbolic links leave it (tarfile's and libarchive's defaults can be escaped). Whiteouts
become 0/0 character devices and the opaque attribute. Sizes and counts are bounded: a layer is input from strangers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from jota.runtime import sys as kernel
from jota.runtime import trees

WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
_BLOCK = 512
_REGULAR = (b"0", b"\0", b"7")


class LayerFault(Exception):
    """The layer is malformed, hostile or too large."""


@dataclass(slots=True)
class Bounds:
    """What one layer may hold."""

    size: int = 64 << 30
    """Bytes of all files together."""
    entries: int = 2_000_000
    header: int = 1 << 20
    """Bytes of one pax header or GNU long name."""


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class Entry:
    """One member of the archive, with its extended headers folded in."""

    name: bytes
    kind: bytes
    link: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    device: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)


def open_layer(path: str) -> tuple[Readable, Callable[[], None]]:
    """The decompressed stream of a layer blob (by magic bytes, since media types lie) and a function that closes it."""
    file = open(path, "rb")  # noqa: SIM115 (closed by the returned function)
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        from isal import igzip

        return igzip.GzipFile(fileobj=file, mode="rb"), file.close  # type: ignore[no-untyped-call]
    if magic == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True), file.close
    return file, file.close


class Source:
    """Exact reads over a stream, hashing what passes (the diff id) and counting it."""

    def __init__(self, stream: Readable, bounds: Bounds) -> None:
        self._stream, self._left = stream, bounds.size + bounds.entries * 4 * _BLOCK
        self._buffer, self._at = b"", 0
        self.hasher = hashlib.sha256()

    def _fill(self, want: int) -> bytes:
        try:
            data = self._stream.read(want)
        except Exception as fault:  # isal, zlib and zstandard raise their own unrelated classes
            raise LayerFault(f"cannot decompress: {fault}") from fault
        self._left -= len(data)
        if self._left < 0:
            raise LayerFault("the layer is larger than allowed")
        self.hasher.update(data)
        return data

    def some(self, limit: int) -> bytes:
        """1 to `limit` bytes, or b"" at the end."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._fill(1 << 18), 0
        out = self._buffer[self._at : self._at + limit]
        self._at += len(out)
        return out

    def exact(self, size: int) -> bytes:
        out = self.some(size)
        if len(out) == size:
            return out
        parts = [out]
        left = size - len(out)
        while left:
            piece = self.some(left)
            if not piece:
                raise LayerFault("the archive ends inside a member")
            parts.append(piece)
            left -= len(piece)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        while size:
            piece = self.some(min(size, 1 << 18))
            if not piece:
                raise LayerFault("the archive ends inside a member")
            size -= len(piece)

    def drain(self) -> None:
        """Read to the end, so that `hasher` covers the whole stream."""
        while self.some(1 << 18):
            pass


def number(raw: bytes) -> int:
    """Octal text, or base 256 when the first bit is set (GNU). Raises LayerFault."""
    if raw[:1] and raw[0] & 0x80:
        if raw[0] == 0xFF:
            raise LayerFault("negative number in a tar header")
        return int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
    text = raw.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise LayerFault(f"bad number in a tar header: {raw!r}")
    try:
        return int(text, 8)
    except ValueError as fault:
        raise LayerFault(f"bad number in a tar header: {raw!r}") from fault


def pax_records(data: bytes) -> dict[bytes, bytes]:
    """ "<length> <key>=<value>\\n" records. Raises LayerFault."""
    out: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        # Within the header, which is not cut for each record: a stranger may have made two hundred thousand of them.
        digits = data[at : max(at, data.find(b" ", at, at + 9))]
        if not digits.isdigit():
            raise LayerFault("bad pax record")
        length = int(digits)
        record = data[at + len(digits) + 1 : at + length]
        if length <= len(digits) + 1 or at + length > len(data) or not record.endswith(b"\n"):
            raise LayerFault("bad pax record length")
        key, equals, value = record[:-1].partition(b"=")
        if not equals:
            raise LayerFault("bad pax record")
        out[key] = value
        at += length
    return out


def _checksum_ok(header: bytes) -> bool:
    want = number(header[148:156])
    return sum(header) - sum(header[148:156]) + 8 * 32 == want


def read_entry(source: Source, bounds: Bounds) -> Entry | None:
    """The next member; None at the end of the archive."""
    pax: dict[bytes, bytes] = {}
    long_name: bytes | None = None
    long_link: bytes | None = None
    while True:
        first = source.some(_BLOCK)
        if not first:
            return None
        header = first if len(first) == _BLOCK else first + source.exact(_BLOCK - len(first))
        if header == bytes(_BLOCK):
            return None
        if not _checksum_ok(header):
            raise LayerFault("bad checksum in a tar header")
        kind, size = header[156:157], number(header[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if size > bounds.header:
                raise LayerFault("an extended header is too large")
            data = source.exact(size + -size % _BLOCK)[:size]
            if kind == b"x":
                pax = pax_records(data)
            elif kind == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif kind == b"K":
                long_link = data.split(b"\0", 1)[0]
            continue
        return _entry(header, kind, size, pax, long_name, long_link)


def _entry(
    header: bytes, kind: bytes, size: int, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None
) -> Entry:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    link = header[157:257].split(b"\0", 1)[0]
    device = 0
    if kind in (b"3", b"4"):
        major, minor = number(header[329:337]), number(header[337:345])
        if major > 0xFFF or minor > 0xFFFFF:
            raise LayerFault("bad device number")
        device = os.makedev(major, minor)
    entry = Entry(
        pax.get(b"path", long_name if long_name is not None else name),
        kind,
        pax.get(b"linkpath", long_link if long_link is not None else link),
        number(header[100:108]) & 0o7777,
        _decimal(pax.get(b"uid"), number(header[108:116])),
        _decimal(pax.get(b"gid"), number(header[116:124])),
        _decimal(pax.get(b"size"), size),
        _mtime(pax.get(b"mtime"), number(header[136:148])),
        device,
        {_text(k[13:]): v for k, v in pax.items() if k.startswith(b"SCHILY.xattr.")},
    )
    if b"\0" in entry.name or b"\0" in entry.link:
        raise LayerFault("NUL in a name")
    if entry.uid > 0xFFFFFFFE or entry.gid > 0xFFFFFFFE:
        raise LayerFault("bad owner")
    return entry


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _decimal(text: bytes | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdigit() or len(text) > 20:
        raise LayerFault(f"bad number in a pax header: {text!r}")
    return int(text)


def _mtime(text: bytes | None, default: int) -> int:
    """Nanoseconds since the epoch, kept inside what utimensat takes."""
    try:
        value = int(float(text) * 1e9) if text is not None else default * 1_000_000_000
    except (ValueError, OverflowError) as fault:
        raise LayerFault(f"bad time in a pax header: {text!r}") from fault
    return max(-(1 << 61), min(value, 1 << 61))


def split(name: bytes) -> list[bytes]:
    """Path components; ".." is refused. Raises LayerFault."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise LayerFault(f"path leaves the layer: {name!r}")
    if any(len(part) > 255 for part in parts) or len(name) > 4096:
        raise LayerFault(f"name too long: {name[:64]!r}...")
    return parts


class Unpacker:
    """Writes entries below one directory."""

    def __init__(self, target: str, bounds: Bounds) -> None:
        self.root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.bounds = bounds
        self._parents: dict[bytes, int] = {}
        self._times: list[tuple[bytes, int]] = []
        self._stale: list[int] = []
        self._left = bounds.size

    def close(self) -> None:
        self._forget()
        for fd in self._stale:
            os.close(fd)
        os.close(self.root)

    def _forget(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    def directory(self, parts: list[bytes]) -> int:
        """A descriptor of the directory, made (0755, root) where missing."""
        path = b"/".join(parts)
        fd = self._parents.get(path)
        if fd is not None:
            return fd
        if len(self._parents) > 256:
            self._forget()
        try:
            fd = kernel.open_in_root(self.root, path or b".", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            fd = self._make_directories(parts)
        self._parents[path] = fd
        return fd

    def _make_directories(self, parts: list[bytes]) -> int:
        """From the top, step by step: a name may have two thousand of them."""
        fd = kernel.open_in_root(self.root, b".", os.O_PATH | os.O_DIRECTORY)
        for depth, name in enumerate(parts, start=1):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=fd)
            finally:
                os.close(fd)
            fd = kernel.open_in_root(self.root, b"/".join(parts[:depth]), os.O_PATH | os.O_DIRECTORY)
        return fd

    def write(self, entry: Entry, source: Source) -> None:
        """Create one member. Raises LayerFault or OSError."""
        parts = split(entry.name)
        padding = -entry.size % _BLOCK
        if entry.kind not in _REGULAR:
            if entry.size:
                source.skip(entry.size + padding)
        elif not parts:
            raise LayerFault("a file without a name")
        if not parts:
            if entry.kind == b"5":
                self._attributes(f"/proc/self/fd/{self.directory([])}", entry)
            return
        at, base = self.directory(parts[:-1]), parts[-1]
        if base.startswith(WHITEOUT):
            if entry.kind in _REGULAR:
                source.skip(entry.size + padding)
            self._whiteout(at, base)
        elif entry.kind in _REGULAR:
            self._file(at, base, entry, source)
            source.skip(padding)
        elif entry.kind == b"5":
            self._directory(at, base, parts, entry)
        else:
            self._special(at, base, entry)

    def _whiteout(self, at: int, base: bytes) -> None:
        if base == OPAQUE:
            os.setxattr(f"/proc/self/fd/{at}", "trusted.overlay.opaque", b"y")
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b"..") or hidden.startswith(WHITEOUT):
            raise LayerFault(f"bad whiteout: {base!r}")
        self._clear(at, hidden)
        os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=at)

    def _file(self, at: int, base: bytes, entry: Entry, source: Source) -> None:
        self._left -= entry.size
        if self._left < 0:
            raise LayerFault("the layer's files are larger than allowed")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(base, flags, 0o600, dir_fd=at)
        except FileExistsError:
            self._clear(at, base)
            fd = os.open(base, flags, 0o600, dir_fd=at)
        try:
            left = entry.size
            while left:
                piece = source.some(min(left, 1 << 18))
                if not piece:
                    raise LayerFault("the archive ends inside a file")
                left -= len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            _xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, at: int, base: bytes, parts: list[bytes], entry: Entry) -> None:
        try:
            os.mkdir(base, 0o755, dir_fd=at)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=at, follow_symlinks=False).st_mode):
                self._clear(at, base)
                os.mkdir(base, 0o755, dir_fd=at)
        fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            self._attributes(f"/proc/self/fd/{fd}", entry)
        finally:
            os.close(fd)
        self._times.append((b"/".join(parts), entry.mtime_ns))

    def _attributes(self, path: str, entry: Entry) -> None:
        os.chown(path, entry.uid, entry.gid)
        os.chmod(path, entry.mode)
        _xattrs(path, entry)

    def _special(self, at: int, base: bytes, entry: Entry) -> None:
        """Links, devices and FIFOs."""
        self._clear(at, base)
        if entry.kind == b"1":
            self._hard_link(at, base, entry)
            return
        if entry.kind == b"2":
            if not entry.link or len(entry.link) > 4095:
                raise LayerFault(f"bad symbolic link {entry.name!r}")
            os.symlink(entry.link, base, dir_fd=at)
        elif entry.kind in (b"3", b"4", b"6"):
            kind = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}[entry.kind]
            if entry.kind == b"3" and entry.device == 0:
                raise LayerFault(f"a 0/0 device would be a whiteout: {entry.name!r}")
            os.mknod(base, kind | 0o600, entry.device, dir_fd=at)
        else:
            raise LayerFault(f"unknown member type {entry.kind!r} of {entry.name!r}")
        os.chown(base, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        if entry.kind != b"2":
            os.chmod(base, entry.mode, dir_fd=at)
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)

    def _hard_link(self, at: int, base: bytes, entry: Entry) -> None:
        target = split(entry.link)
        if not target:
            raise LayerFault(f"bad hard link {entry.name!r}")
        held = kernel.open_in_root(self.root, b"/".join(target[:-1]) or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(target[-1], base, src_dir_fd=held, dst_dir_fd=at, follow_symlinks=False)
        finally:
            os.close(held)

    def _clear(self, at: int, base: bytes) -> None:
        """Remove what an earlier member put there (a directory goes with everything in it)."""
        try:
            os.unlink(base, dir_fd=at)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            trees.remove_at(at, base)
        self._forget_below()

    def _forget_below(self) -> None:
        """Directory descriptors may point into the tree that goes away; the caller's own `at` must stay open."""
        self._stale += self._parents.values()
        self._parents.clear()

    def finish(self) -> None:
        """Directory times last: creating members changes them."""
        for path, mtime in reversed(self._times):
            with contextlib.suppress(OSError):
                fd = kernel.open_in_root(self.root, path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.utime(fd, ns=(mtime, mtime))
                finally:
                    os.close(fd)


def _xattrs(target: int | str, entry: Entry) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            raise LayerFault(f"a layer may not carry {name}")
        with contextlib.suppress(OSError):
            # ENOTSUP and EPERM depend on the file system and our rights; the layer is usable without it.
            os.setxattr(target, name, value)


def unpack(stream: Readable | BinaryIO, target: str, bounds: Bounds | None = None) -> str:
    """Unpack a decompressed tar stream into the directory `target`; returns the sha256 diff id of what was read.
    Raises LayerFault (malformed, hostile, too large) or OSError (disk full)."""
    bounds = bounds or Bounds()
    source, writer = Source(stream, bounds), Unpacker(target, bounds)
    try:
        count = 0
        while (entry := read_entry(source, bounds)) is not None:
            count += 1
            if count > bounds.entries:
                raise LayerFault("the layer has too many members")
            try:
                writer.write(entry, source)
            except OSError as fault:
                if fault.errno in (28, 122):  # ENOSPC, EDQUOT: the machine's trouble, not the layer's
                    raise
                raise LayerFault(f"cannot create {entry.name!r}: {fault.strerror or fault}") from fault
        source.drain()
        writer.finish()
    finally:
        writer.close()
    return f"sha256:{source.hasher.hexdigest()}"
