"""Layers: the members of any tar stream, or LayerFault; nothing is written here."""

from __future__ import annotations

import io
import tarfile

from jota.runtime.embedded.images.unpack import Bounds, LayerFault, Source, read_entry, split


def _archive(form: int, *members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=out, mode="w", format=form, bufsize=512)
        if form
        else tarfile.open(fileobj=out, mode="w") as tar
    ):
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "etc/x" if kind in (b"1", b"2") else ""
            info.pax_headers = {"SCHILY.xattr.user.a": "b"} if form == tarfile.PAX_FORMAT else {}
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue().rstrip(b"\0") + bytes(1024)


SEEDS = [
    _archive(tarfile.USTAR_FORMAT, ("etc/x", b"0", b"hello"), ("l", b"2", b""), ("h", b"1", b"")),
    _archive(tarfile.PAX_FORMAT, ("n" * 120, b"0", b"x"), ("d/.wh.gone", b"0", b"")),
    _archive(tarfile.GNU_FORMAT, ("m/" * 70, b"5", b""), ("c", b"3", b"")),
]
WORDS = [
    b"ustar\x0000",
    b"ustar  \0",
    b"SCHILY.xattr.",
    b"30 mtime=1.5\n",
    b"path=",
    b"././@LongLink",
    b"/../",
    b"\x80\0\0",
]
BOUNDS = Bounds(size=1 << 20, entries=1000, header=4096)


def _summed(data: bytes) -> bytes:
    """Every block that could be a header gets a right checksum, or no mutation would come past it."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def check(data: bytes) -> None:
    source = Source(io.BytesIO(_summed(data)), BOUNDS)
    try:
        for _ in range(BOUNDS.entries):
            entry = read_entry(source, BOUNDS)
            if entry is None:
                return
            assert b"\0" not in entry.name
            assert entry.size >= 0
            assert all(part not in (b"", b".", b"..") and b"/" not in part for part in split(entry.name))
            source.skip(entry.size + -entry.size % 512)
    except LayerFault:
        return
