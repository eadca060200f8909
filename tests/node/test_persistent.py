"""Persistent volumes on the node: what a claim becomes, what is refused with which words, and what is removed."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from jota.meta.errors import not_found
from jota.node.fields import Place
from jota.node.volumes import keeper, ownership
from jota.node.volumes.persistent import CLAIMS, remove
from jota.node.volumes.volume import Context, Mounted, VolumeFault
from jota.testing.virtual import VirtualClock

from .shapes import pod

Object = dict[str, Any]
LOCAL = {"pv.kubernetes.io/provisioned-by": "jota.dev/local"}


def mount(
    tmp_path: Path, source: Object, volume: Object | None, *, phase: str = "Bound", uid: str = "u", **fields: Any
) -> Mounted:
    claim = {"metadata": {"name": "data", "uid": "u"}, "spec": {"volumeName": "v"}, "status": {"phase": phase}}
    name = "vol"
    obj = pod(volumes=[{"name": name, **source}])

    async def read(wanted: str) -> Object:
        if volume is None:
            raise not_found("persistentvolumes", wanted)
        spec = {**volume["spec"], "claimRef": {"uid": uid}}
        return {"metadata": {"name": wanted, "annotations": volume.get("annotations", {})}, "spec": spec}

    names = ("data", f"{obj['metadata']['name']}-{name}")
    ctx = Context(
        obj,
        lambda resource, n: claim if resource == CLAIMS and n in names else None,
        Place("n1", (), (), {}),
        None,  # type: ignore[arg-type]
        VirtualClock(),
        str(tmp_path),
        str(tmp_path),
        volume=read,
        **fields,
    )
    return asyncio.run(keeper.mount_all(obj["spec"]["volumes"], ctx))[name]


BY_CLAIM = {"persistentVolumeClaim": {"claimName": "data"}}


def test_a_provisioned_directory_is_made_once_and_keeps_its_content(tmp_path: Path) -> None:
    path = str(tmp_path / "root" / "v")
    volume = {"spec": {"local": {"path": path}}, "annotations": LOCAL}
    assert mount(tmp_path, BY_CLAIM, volume) == Mounted(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777
    assert os.stat(os.path.dirname(path)).st_mode & 0o007 == 0  # for pods, not for the machine's users
    Path(path, "kept").write_text("x")
    assert mount(tmp_path, {"ephemeral": {"volumeClaimTemplate": {}}}, volume).path == path
    assert Path(path, "kept").read_text() == "x"
    read_only = {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    assert mount(tmp_path, read_only, volume).read_only
    assert remove(str(tmp_path / "root"), "v")
    assert not remove(str(tmp_path / "root"), "v")
    assert not os.path.exists(path)


def test_a_host_path_volume(tmp_path: Path) -> None:
    volume = {"spec": {"hostPath": {"path": str(tmp_path / "h"), "type": "DirectoryOrCreate"}}}
    assert mount(tmp_path, BY_CLAIM, volume).path == str(tmp_path / "h")
    assert (tmp_path / "h").is_dir()


@pytest.mark.parametrize(
    ("source", "volume", "given", "complaint"),
    [
        ({"persistentVolumeClaim": {"claimName": "none"}}, None, {}, 'persistentvolumeclaim "none" not found'),
        (BY_CLAIM, None, {"phase": "Pending"}, "is not bound to a volume yet"),
        (BY_CLAIM, None, {}, 'persistentvolume "v" could not be read'),
        (BY_CLAIM, {"spec": {"local": {"path": "/x"}}}, {"uid": "other"}, "is bound to another claim"),
        (BY_CLAIM, {"spec": {"local": {"path": "/no/such/path"}}}, {}, "does not exist on this node"),
        (BY_CLAIM, {"spec": {"nfs": {"server": "s"}}}, {}, "type nfs is not supported on this node"),
    ],
)
def test_what_cannot_be_mounted_says_why(
    tmp_path: Path, source: Object, volume: Object | None, given: Object, complaint: str
) -> None:
    with pytest.raises(VolumeFault, match=complaint):
        mount(tmp_path, source, volume, **given)


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a/b"])
def test_only_a_volumes_own_directory_is_ever_removed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a volume's name"):
        remove(str(tmp_path), name)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "v").symlink_to(tmp_path / "precious")
    assert not remove(str(tmp_path / "root"), "v")
    assert (tmp_path / "precious").is_dir()


def test_the_whole_volume_is_given_to_the_group_once_per_pod(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file").write_text("x")
    (root / "deep" / "file").chmod(0o4600)
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o600)
    (root / "link").symlink_to(tmp_path / "outside")
    volume = {"spec": {"local": {"path": str(root)}}}

    def owners() -> list[tuple[int, int]]:
        found = (root, root / "deep", root / "deep" / "file", tmp_path / "outside")
        return [(os.stat(path).st_gid, stat.S_IMODE(os.stat(path).st_mode)) for path in found]

    mine = os.getgid()
    read_only = {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    mount(tmp_path / "a", read_only, volume, fs_group=4321)
    assert owners()[0][0] == mine
    mount(tmp_path / "a", BY_CLAIM, volume, fs_group=4321)
    assert owners() == [(4321, 0o2775), (4321, 0o2775), (4321, 0o4660), (mine, 0o600)]
    assert os.lstat(root / "link").st_gid == 4321
    os.chown(root / "deep" / "file", -1, mine)
    mount(tmp_path / "a", BY_CLAIM, volume, fs_group=4321)
    assert owners()[2][0] == mine
    mount(tmp_path / "b", BY_CLAIM, volume, fs_group=4321)
    assert owners()[2][0] == 4321


@pytest.mark.parametrize(
    ("policy", "group", "changed"),
    [("OnRootMismatch", 4321, False), ("OnRootMismatch", 4322, True), ("Always", 4321, True)],
)
def test_a_root_that_is_as_wanted_says_enough_if_the_pod_thinks_so(
    tmp_path: Path, policy: str, group: int, changed: bool
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    mount(tmp_path / "a", BY_CLAIM, {"spec": {"local": {"path": str(root)}}}, fs_group=4321)
    (root / "file").write_text("x")
    os.chown(root / "file", -1, os.getgid())
    ownership.give(str(root), group, policy)
    assert (os.stat(root / "file").st_gid == group) is changed
