"""Layers from strangers: what is well formed arrives exactly, what is hostile is refused or stays inside."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jota.runtime.embedded.images.unpack import Bounds, LayerFault, number, open_layer, pax_records, unpack
from jota.testing.images import LayerBuilder

pytestmark = pytest.mark.kernel


def make(*members: tuple, end: bool = True) -> bytes:
    layer = LayerBuilder()
    for name, options in members:
        layer.add(name, **options)
    return layer.bytes()


def tree(root: Path) -> dict[str, object]:
    out: dict[str, object] = {}
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = Path(directory) / name
            mode = path.lstat().st_mode
            key = str(path.relative_to(root))
            if stat.S_ISLNK(mode):
                out[key] = "-> " + os.readlink(path)
            elif stat.S_ISREG(mode):
                out[key] = path.read_bytes()
            else:
                out[key] = stat.S_IFMT(mode)
    return out


def test_every_kind_of_member(tmp_path):
    data = make(
        ("./", {"kind": tarfile.DIRTYPE, "mode": 0o700}),
        ("etc/", {"kind": tarfile.DIRTYPE, "mode": 0o755}),
        ("etc/conf", {"data": b"hello", "mode": 0o4640, "uid": 1000}),
        ("etc/link", {"kind": tarfile.SYMTYPE, "link": "/etc/conf"}),
        ("hard", {"kind": tarfile.LNKTYPE, "link": "etc/conf"}),
        ("fifo", {"kind": tarfile.FIFOTYPE, "mode": 0o600}),
        ("null", {"kind": tarfile.CHRTYPE, "device": (1, 3), "mode": 0o666}),
        ("deep/er/file", {"data": b"x" * 100_000}),
        ("n" * 200 + "/" + "m" * 150, {"data": b"long"}),
        ("late/.wh.gone", {}),
        ("opaque/.wh..wh..opq", {}),
    )
    assert unpack(io.BytesIO(data), str(tmp_path)) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    found = tree(tmp_path)
    assert found["etc/conf"] == found["hard"] == b"hello"
    assert found["etc/link"] == "-> /etc/conf"
    assert found["n" * 200 + "/" + "m" * 150] == b"long"
    assert found["fifo"] == stat.S_IFIFO
    info = (tmp_path / "etc/conf").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_nlink) == (0o4640, 1000, 2)
    assert (tmp_path / "null").stat().st_rdev == os.makedev(1, 3)
    assert (tmp_path / "late/gone").stat().st_rdev == 0
    assert stat.S_ISCHR((tmp_path / "late/gone").stat().st_mode)
    assert os.getxattr(tmp_path / "opaque", "trusted.overlay.opaque") == b"y"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_pax_names_sizes_times_and_attributes(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("späth/" + "é" * 120)
        info.size, info.mtime = 3, 1234.5
        info.pax_headers = {"SCHILY.xattr.user.colour": "blue"}
        tar.addfile(info, io.BytesIO(b"abc"))
    unpack(io.BytesIO(buffer.getvalue()), str(tmp_path))
    path = tmp_path / ("späth/" + "é" * 120)
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mtime == 1234.5
    assert os.getxattr(path, "user.colour") == b"blue"


def test_later_members_replace_earlier_ones(tmp_path):
    data = make(
        ("a", {"data": b"1"}),
        ("a", {"data": b"2"}),
        ("d", {"kind": tarfile.DIRTYPE}),
        ("d/x", {"data": b"1"}),
        ("d", {"data": b"file now"}),
        ("s", {"kind": tarfile.SYMTYPE, "link": "a"}),
        ("s", {"kind": tarfile.DIRTYPE}),
        ("s/in", {"data": b"y"}),
    )
    unpack(io.BytesIO(data), str(tmp_path))
    assert tree(tmp_path) == {"a": b"2", "d": b"file now", "s": stat.S_IFDIR, "s/in": b"y"}


REFUSED = {
    "parent": [("../evil", {"data": b"x"})],
    "parent in the middle": [("a/../../evil", {"data": b"x"})],
    "hard link to the parent": [("h", {"kind": tarfile.LNKTYPE, "link": "../outside"})],
    "hard link to nothing": [("h", {"kind": tarfile.LNKTYPE, "link": "nowhere"})],
    "whiteout of nothing": [(".wh.", {})],
    "whiteout of itself": [("a/.wh..", {})],
    "whiteout of the parent": [("a/.wh...", {})],
    "double whiteout": [("a/.wh..wh.x", {})],
    "forged whiteout": [("w", {"kind": tarfile.CHRTYPE, "device": (0, 0)})],
    "file as a parent": [("a", {"data": b""}), ("a/b", {"data": b"x"})],
    "unknown type": [("a", {"kind": b"Z"})],
    "empty symbolic link": [("a", {"kind": tarfile.SYMTYPE, "link": ""})],
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_hostile_layers_are_refused(tmp_path, members):
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(LayerFault):
        unpack(io.BytesIO(make(*members)), str(root))
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


STAYS = {
    "absolute": [("/abs", {"data": b"x"})],
    "through an absolute link": [("l", {"kind": tarfile.SYMTYPE, "link": "/"}), ("l/inside", {"data": b"x"})],
    "through a parent link": [("l", {"kind": tarfile.SYMTYPE, "link": "../../../.."}), ("l/inside", {"data": b"x"})],
    "through a link to the outside": [("l", {"kind": tarfile.SYMTYPE, "link": "/OUT"}), ("l/f", {"data": b"x"})],
    "onto a link": [("l", {"kind": tarfile.SYMTYPE, "link": "/OUT/outside"}), ("l", {"data": b"x"})],
    "mode through a link": [("l", {"kind": tarfile.SYMTYPE, "link": "/OUT"}), ("l", {"kind": tarfile.DIRTYPE, "mode": 0o777})],
}  # fmt: skip


@pytest.mark.parametrize("members", STAYS.values(), ids=STAYS)
def test_hostile_layers_stay_inside(tmp_path, members):
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    replaced = []
    for name, options in members:
        if "link" in options:
            options = {**options, "link": options["link"].replace("/OUT", str(tmp_path))}
        replaced.append((name, options))
    try:
        unpack(io.BytesIO(make(*replaced)), str(root))
    except LayerFault:
        pass
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]
    assert (tmp_path / "outside").read_text() == "secret"
    assert stat.S_IMODE(tmp_path.stat().st_mode) != 0o777
    assert not os.path.exists("/inside")


def test_a_layer_may_not_carry_overlay_attributes(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("d")
        info.type = tarfile.DIRTYPE
        info.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc"}
        tar.addfile(info)
    with pytest.raises(LayerFault, match="may not carry"):
        unpack(io.BytesIO(buffer.getvalue()), str(tmp_path))


def test_deep_names_are_made_and_removed(tmp_path):
    """Deeper than Python recurses, and replaced by a later member."""
    deep = "a/" * 2000 + "file"
    unpack(io.BytesIO(make((deep, {"data": b"x"}))), str(tmp_path))
    assert (tmp_path / "a" / "a" / "a").is_dir()
    unpack(io.BytesIO(make((deep, {"data": b"x"}), ("a", {"data": b"y"}))), str(tmp_path))
    assert tree(tmp_path) == {"a": b"y"}


def test_bombs_are_bounded(tmp_path):
    bounds = Bounds(size=1 << 20, entries=10)
    with pytest.raises(LayerFault, match="larger than allowed"):
        unpack(io.BytesIO(make(("a", {"data": bytes(2 << 20)}))), str(tmp_path), bounds)
    with pytest.raises(LayerFault, match="too many"):
        unpack(io.BytesIO(make(*((f"f{i}", {}) for i in range(20)))), str(tmp_path), bounds)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(make(("a", {"data": b""})) + bytes(64 << 20)))
    stream, close = open_layer(str(path))
    with pytest.raises(LayerFault, match="larger than allowed"):
        unpack(stream, str(tmp_path), bounds)
    close()


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["tar", "gzip", "zstd"]
)
def test_compressions_by_their_magic(tmp_path, pack):
    data = make(("a", {"data": b"hello" * 50_000}))
    (tmp_path / "blob").write_bytes(pack(data))
    (tmp_path / "root").mkdir()
    stream, close = open_layer(str(tmp_path / "blob"))
    assert unpack(stream, str(tmp_path / "root")) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    close()
    assert (tmp_path / "root" / "a").read_bytes() == b"hello" * 50_000


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_a_cut_off_layer_is_not_taken_for_whole(tmp_path, pack):
    layer = make(("a", {"data": os.urandom(50_000)}))
    data = pack(layer)
    (tmp_path / "blob").write_bytes(data[: len(data) // 2])
    stream, close = open_layer(str(tmp_path / "blob"))
    try:
        # zstandard ends quietly: then the diff id tells, which the library compares with the config's.
        assert unpack(stream, str(tmp_path)) != f"sha256:{hashlib.sha256(layer).hexdigest()}"
    except LayerFault:
        pass
    finally:
        close()


def test_numbers():
    assert [number(raw) for raw in (b"0000644\0", b"     17 ", b"\0" * 8, b"\x80" + b"\0" * 6 + b"\x07")] == [
        0o644,
        15,
        0,
        7,
    ]
    for raw in (b"9\0", b"-1\0", b"\xff" * 8, b"1 1 1\0"):
        with pytest.raises(LayerFault):
            number(raw)


@given(st.binary(max_size=200))
def test_pax_records_never_crash(data):
    try:
        pax_records(data)
    except LayerFault:
        pass


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzzed_layers_are_unpacked_or_refused_and_stay_inside(tmp_path, data):
    base = bytearray(
        make(
            ("dir/", {"kind": tarfile.DIRTYPE}),
            ("dir/file", {"data": b"hello"}),
            ("link", {"kind": tarfile.SYMTYPE, "link": "/dir"}),
            ("link/two", {"data": b"x"}),
            ("hard", {"kind": tarfile.LNKTYPE, "link": "dir/file"}),
        )[:6144]
    )
    for _ in range(data.draw(st.integers(0, 8))):
        base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        for block in range(0, len(base) - 511, 512):  # let the damage pass the checksum
            header = base[block : block + 512]
            if header[257:262] == b"ustar":
                total = sum(header) - sum(header[148:156]) + 256
                base[block + 148 : block + 156] = b"%06o\0 " % total
    root = tmp_path / os.urandom(6).hex()
    root.mkdir()
    try:
        unpack(io.BytesIO(bytes(base)), str(root), Bounds(size=1 << 20, entries=100))
    except LayerFault:
        pass
    assert all(len(name) == 12 for name in os.listdir(tmp_path))
