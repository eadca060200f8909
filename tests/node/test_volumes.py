"""Volumes on a real file system: the atomic layout, modes, fsGroup, missing references, tokens, sub-paths that try to escape."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.clock import rfc3339
from jota.meta.resource import CONFIGMAPS, SECRETS
from jota.node.fields import Place
from jota.node.volumes import atomic, keeper, subpath
from jota.node.volumes.tokens import Tokens
from jota.node.volumes.volume import Context, File, Mounted, VolumeFault
from jota.runtime import sys as kernel
from jota.testing.virtual import VirtualClock

from .shapes import pod

NOW = 1_800_000_000.0
OBJECTS = {
    (CONFIGMAPS, "cm"): {"data": {"a": "1", "b": "2"}, "binaryData": {"raw": base64.b64encode(b"\xff").decode()}},
    (SECRETS, "s"): {"data": {"token": base64.b64encode(b"t0p").decode()}},
}
needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


class FakeTokens:
    async def token(self, pod: Any, audience: str, seconds: int) -> tuple[str, float]:
        return f"token for {audience}", NOW + seconds * 0.8


def context(tmp_path: Path, obj: Any = None, **fields: Any) -> Context:
    place = Place("n1", ("10.0.0.1",), ("10.42.0.1",), {"cpu": "4"})
    lookup = lambda r, n: OBJECTS.get((r, n))  # noqa: E731
    volumes, volatile = str(tmp_path / "volumes"), str(tmp_path / "volatile")
    return Context(obj or pod(), lookup, place, FakeTokens(), VirtualClock(NOW), volumes, volatile, **fields)


def mounted(tmp_path: Path, *volumes: dict[str, Any], **fields: Any) -> dict[str, Mounted]:
    obj = pod(volumes=list(volumes))
    obj["metadata"]["labels"] = {"a": "b"}
    return asyncio.run(keeper.mount_all(obj["spec"]["volumes"], context(tmp_path, obj, **fields)))


def shown(directory: str) -> dict[str, str]:
    """What a container sees: path -> content."""
    out = {}
    for base, _, names in os.walk(directory, followlinks=True):
        if "/.." in base[len(directory) :]:
            continue
        for name in names:
            path = os.path.join(base, name)
            out[os.path.relpath(path, directory)] = Path(path).read_bytes().decode("latin-1")
    return out


def mode(path: str) -> str:
    return oct(stat.S_IMODE(os.stat(path).st_mode))


def test_config_map(tmp_path: Path) -> None:
    found = mounted(tmp_path, {"name": "v", "configMap": {"name": "cm"}})["v"]
    assert shown(found.path) == {"a": "1", "b": "2", "raw": "\xff"}
    assert found.read_only
    assert os.readlink(os.path.join(found.path, "a")) == "..data/a"
    assert mode(os.path.join(found.path, "a")) == "0o644"


def test_items_and_modes(tmp_path: Path) -> None:
    items = [{"key": "a", "path": "deep/er/x", "mode": 0o400}, {"key": "b", "path": "y"}]
    found = mounted(tmp_path, {"name": "v", "configMap": {"name": "cm", "items": items, "defaultMode": 0o440}})["v"]
    assert shown(found.path) == {"deep/er/x": "1", "y": "2"}
    assert [mode(os.path.join(found.path, p)) for p in ("deep/er/x", "y")] == ["0o400", "0o440"]


MISSING = [
    ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
    ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
    ({"configMap": {"name": "cm", "items": [{"key": "zz", "path": "z"}]}}, "references non-existent configmap key: zz"),
    ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../z"}]}}, "invalid path"),
    ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "..z"}]}}, "invalid path"),
    (
        {"hostPath": {"path": "/none/such", "type": "Directory"}},
        "hostPath type check failed: /none/such is not a directory",
    ),
    ({"hostPath": {"path": "/etc", "type": "File"}}, "hostPath type check failed: /etc is not a file"),
    ({"nfs": {}}, "type nfs is not supported"),
]


@pytest.mark.parametrize(("source", "message"), MISSING)
def test_what_is_wrong_is_named(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeFault, match=message):
        mounted(tmp_path, {"name": "v", **source})


def test_optional_and_host_path(tmp_path: Path) -> None:
    volumes = [
        {"name": "o", "configMap": {"name": "none", "optional": True}},
        {"name": "h", "hostPath": {"path": str(tmp_path / "new"), "type": "DirectoryOrCreate"}},
        {"name": "f", "hostPath": {"path": str(tmp_path / "file"), "type": "FileOrCreate"}},
        {"name": "n", "hostPath": {"path": "/dev/null", "type": "CharDevice"}},
    ]
    found = mounted(tmp_path, *volumes)
    assert shown(found["o"].path) == {}
    assert (tmp_path / "new").is_dir()
    assert (tmp_path / "file").is_file()
    assert found["n"] == Mounted("/dev/null")


def test_projected(tmp_path: Path) -> None:
    sources = [
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "cm"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "sa", "audience": "vault", "expirationSeconds": 600}},
    ]
    obj = pod(volumes=[{"name": "v", "projected": {"sources": sources, "defaultMode": 0o600}}])
    obj["metadata"]["labels"] = {"a": "b"}
    ctx = context(tmp_path, obj)
    found = asyncio.run(keeper.mount_all(obj["spec"]["volumes"], ctx))["v"]
    assert shown(found.path) == {"cm": "1", "token": "t0p", "labels": 'a="b"', "sa": "token for vault"}
    assert found.path.startswith(str(tmp_path / "volatile"))
    assert ctx.refresh_at == NOW + 480


@needs_mount
def test_fs_group(tmp_path: Path) -> None:
    volumes = [
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "e", "emptyDir": {}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "sa"}}]}},
    ]
    found = mounted(tmp_path, *volumes, fs_group=4321)
    token = os.stat(os.path.join(found["s"].path, "token"))
    assert (oct(stat.S_IMODE(token.st_mode)), token.st_gid) == ("0o440", 4321)
    empty = os.stat(found["e"].path)
    assert (oct(stat.S_IMODE(empty.st_mode)), empty.st_gid) == ("0o2777", 4321)
    assert mode(os.path.join(found["t"].path, "sa")) == "0o640"


@needs_mount
def test_a_token_belongs_to_its_only_user(tmp_path: Path) -> None:
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "sa"}}]}}
    found = mounted(tmp_path, volume, fs_user=1234)["t"]
    file = os.stat(os.path.join(found.path, "sa"))
    assert (oct(stat.S_IMODE(file.st_mode)), file.st_uid) == ("0o600", 1234)


def test_who_is_the_only_user() -> None:
    assert keeper.fs_user(pod()) is None
    assert keeper.fs_user(pod(securityContext={"runAsUser": 5})) == 5
    mixed = pod("a", "b", securityContext={"runAsUser": 5})
    mixed["spec"]["containers"][0]["securityContext"] = {"runAsUser": 6}
    assert keeper.fs_user(mixed) is None


PAYLOADS = st.dictionaries(
    st.sampled_from(["a", "b", "d/x", "d/y", "d/e/z", "f"]),
    st.tuples(st.binary(max_size=20), st.sampled_from([0o400, 0o644, 0o600])).map(lambda pair: File(*pair)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=5))
def test_every_version_is_shown_whole(tmp_path_factory: pytest.TempPathFactory, versions: list[Any]) -> None:
    directory = str(tmp_path_factory.mktemp("v"))
    for n, payload in enumerate(versions):
        atomic.write(directory, payload, NOW + n)
        assert shown(directory) == {p: f.data.decode("latin-1") for p, f in payload.items()}
        assert atomic.write(directory, payload, NOW + n + 0.5) is False
        hidden = [e for e in os.listdir(directory) if e.startswith("..")]
        assert len(hidden) == 2, hidden


def test_a_reader_never_sees_half(tmp_path: Path) -> None:
    """The directory that a reader opened stays whole until it is replaced; a write that died leaves the old version."""
    directory = str(tmp_path)
    atomic.write(directory, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)}, NOW)
    os.mkdir(os.path.join(directory, "..2027_dead"))
    assert shown(directory) == {"a": "1", "b": "1"}
    atomic.write(directory, {"a": File(b"2", 0o644)}, NOW + 1)
    assert shown(directory) == {"a": "2"}
    assert not os.path.exists(os.path.join(directory, "..2027_dead"))


# -- sub-paths


@needs_mount
def test_a_sub_path_cannot_escape(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "link").symlink_to(outside)
    (root / "up").symlink_to("../outside")
    (root / "ok").mkdir()
    target = str(tmp_path / "bind")
    try:
        for path in ("../outside", "/etc", "a/../../b"):
            with pytest.raises(VolumeFault):
                subpath.bind(str(root), path, target)
        (root / "back").symlink_to("../")
        (root / "nowhere").symlink_to(tmp_path / "missing" / "deep")
        held = len(os.listdir("/proc/self/fd"))
        for path in ("link", "up", "up/secret", "back", "nowhere", "link/new"):
            with pytest.raises(VolumeFault, match="leads out of the volume"):
                subpath.bind(str(root), path, target + "x")
        (root / "file").write_text("x")
        with pytest.raises(VolumeFault, match="Not a directory"):
            subpath.bind(str(root), "file/new", target + "x")
        # nothing stays open: it would keep the volume's file system busy for ever
        assert len(os.listdir("/proc/self/fd")) == held
        assert sorted(os.listdir(outside)) == ["secret"]
        # links within the volume are followed, absolute ones as the host sees them
        (root / "near").symlink_to("ok")
        (root / "far").symlink_to(root / "ok")
        (root / "ok" / "here").write_text("x")
        for path in ("near", "far"):
            assert os.listdir(subpath.bind(str(root), path, target + path)) == ["here"]
        subpath.bind(str(root), "ok/new/deep", target)
        Path(target, "f").write_text("1")
        assert (root / "ok/new/deep/f").read_text() == "1"
        assert subpath.bind(str(root), "ok/new/deep", target) == target
    finally:
        for point in kernel.mounts_below(str(tmp_path)):
            kernel.umount(point, kernel.MNT_DETACH)


@needs_mount
@pytest.mark.parametrize(("group", "modes"), [(None, (0o777, 0o1777)), (os.getgid(), (0o2777, 0o3777))])
def test_an_empty_dir_is_for_everybody_and_one_in_memory_is_sticky(
    tmp_path: Path, group: int | None, modes: tuple[int, int]
) -> None:
    volumes = [{"name": "d", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]
    try:
        found = mounted(tmp_path, *volumes, fs_group=group)
        assert tuple(stat.S_IMODE(os.stat(found[name].path).st_mode) for name in "dm") == modes
    finally:
        for point in kernel.mounts_below(str(tmp_path)):
            kernel.umount(point, kernel.MNT_DETACH)


@needs_mount
def test_a_container_that_starts_again_has_its_sub_path_made_anew(tmp_path: Path) -> None:
    """Whatever the pod has made of it: opening its FIFO, or its device, would hold up the agent or harm the machine."""
    root, target = tmp_path / "root", str(tmp_path / "binds" / "0")
    root.mkdir()

    def bind() -> None:
        thread = threading.Thread(target=subpath.bind, args=(str(root), "x", target), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert kernel.mounts_below(str(tmp_path)) == [target]
        assert os.path.samefile(root / "x", target)

    try:
        for make in (os.mkfifo, os.mkfifo, os.mkdir, Path.touch, os.mkdir):
            make(root / "x")
            bind()
            bind()
            (root / "x").rename(root / f"old{len(os.listdir(root))}")
    finally:
        for point in kernel.mounts_below(str(tmp_path)):
            kernel.umount(point, kernel.MNT_DETACH)


@needs_mount
def test_a_sub_path_that_is_made_has_the_mode_of_its_volume_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o2777)
    before = os.umask(0o077)
    try:
        subpath.bind(str(root), "new/deep", str(tmp_path / "bind"))
        assert [stat.S_IMODE((root / path).stat().st_mode) for path in ("new", "new/deep")] == [0o2777, 0o2777]
    finally:
        os.umask(before)
        for point in kernel.mounts_below(str(tmp_path)):
            kernel.umount(point, kernel.MNT_DETACH)


@needs_mount
def test_mounts_of_a_container_and_their_end(tmp_path: Path) -> None:
    volumes = [
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "c", "configMap": {"name": "cm"}},
    ]
    found = mounted(tmp_path, *volumes)
    wanted = [
        {"name": "m", "mountPath": "/m", "mountPropagation": "HostToContainer"},
        {"name": "c", "mountPath": "/c"},
        {"name": "m", "mountPath": "/sub", "subPathExpr": "$(POD)/x", "readOnly": True},
    ]
    subs = str(tmp_path / "subs")
    mounts = keeper.container_mounts({"name": "c", "volumeMounts": wanted}, found, {"POD": "web"}, subs)
    assert [(m.target, m.read_only, m.propagation) for m in mounts] == [
        ("/m", False, "rslave"),
        ("/c", True, "private"),
        ("/sub", True, "private"),
    ]
    assert os.path.isdir(os.path.join(found["m"].path, "web/x"))
    bad = [{"name": "m", "mountPath": "/x", "subPathExpr": "$(NONE)"}]
    with pytest.raises(VolumeFault, match="missing value"):
        keeper.container_mounts({"name": "c", "volumeMounts": bad}, found, {}, subs)
    asyncio.run(keeper.unmount_all([subs, str(tmp_path / "volumes"), str(tmp_path / "volatile")]))
    assert kernel.mounts_below(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_two_may_remove_the_same_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pod" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (tmp_path / "pod" / name).write_text("x")
    unlink, rmdir = os.unlink, os.rmdir

    def twice(remove: Any) -> Any:
        def other_first(path: Any, **more: Any) -> None:
            remove(path, **more)
            remove(path, **more)

        return other_first

    monkeypatch.setattr(os, "unlink", twice(unlink))
    monkeypatch.setattr(os, "rmdir", twice(rmdir))
    asyncio.run(keeper.unmount_all([str(tmp_path / "pod")]))
    assert list(tmp_path.iterdir()) == []


def test_references_of_a_pod() -> None:
    sources = [{"configMap": {"name": "p"}}, {"secret": {"name": "q"}}]
    volumes = [
        {"name": "a", "secret": {"secretName": "s"}},
        {"name": "b", "projected": {"sources": sources}},
        {"name": "unused", "secret": {"secretName": "t"}},
    ]
    obj = pod(volumes=volumes)
    obj["spec"]["containers"][0]["volumeMounts"] = [{"name": n, "mountPath": f"/{n}"} for n in "ab"]
    assert keeper.references(obj) == {(SECRETS, "s"), (CONFIGMAPS, "p"), (SECRETS, "q")}


# -- tokens


class TokenClient:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.asked = clock, 0

    async def create(self, resource: Any, obj: Any, namespace: str, subresource: str, name: str) -> Any:
        self.asked += 1
        assert (resource.plural, namespace, subresource, name) == ("serviceaccounts", "default", "token", "default")
        assert obj["spec"]["boundObjectRef"]["uid"] == "u1"
        expires = rfc3339(self.clock.now() + obj["spec"]["expirationSeconds"])
        return {"status": {"token": f"t{self.asked}", "expirationTimestamp": expires}}


def test_tokens_are_renewed_at_80_percent() -> None:
    async def story() -> None:
        clock = VirtualClock(NOW)
        client: Any = TokenClient(clock)
        tokens = Tokens(client, clock)
        first = await tokens.token(pod(), "", 1000)
        assert first == ("t1", NOW + 800)
        await clock.advance(799)
        assert (await tokens.token(pod(), "", 1000))[0] == "t1"
        await clock.advance(2)
        assert (await tokens.token(pod(), "", 1000))[0] == "t2"
        assert (await tokens.token(pod(), "other", 1000))[0] == "t3"

    asyncio.run(story())
