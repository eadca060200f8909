"""Local volumes that are block devices, on a real loop device: formatted once, shared by pods, given raw, or refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jota.node.volumes import blockdevice, keeper
from jota.node.volumes.volume import Mounted, VolumeFault
from jota.runtime import sys as kernel
from jota.runtime.protocol import Device

from .shapes import pod
from .test_persistent import BY_CLAIM, mount

Object = dict[str, Any]
needs_tools = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("losetup", "mkfs.ext4", "blkid")),
    reason="loop devices and file system tools are needed",
)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A block device of 8 MiB, empty."""
    backing = tmp_path / "disk"
    with backing.open("wb") as file:
        file.truncate(8 << 20)
    made = subprocess.run(["losetup", "-f", "--show", str(backing)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        for point in kernel.mounts_below(str(tmp_path)):
            kernel.umount(point)
        subprocess.run(["losetup", "-d", device], check=True)


def local(device: str, **spec: Any) -> Object:
    return {"spec": {"local": {"path": device}, **spec}}


@needs_tools
def test_an_empty_device_is_formatted_once_and_all_pods_see_the_same_files(tmp_path: Path, loop: str) -> None:
    one, two = tmp_path / "pod1", tmp_path / "pod2"
    first = mount(one, BY_CLAIM, local(loop)).path
    assert first.startswith(str(one))
    assert os.path.ismount(first)
    Path(first, "kept").write_text("x")
    assert mount(one, BY_CLAIM, local(loop)).path == first
    second = mount(two, BY_CLAIM, local(loop), fs_group=4321).path
    assert Path(second, "kept").read_text() == "x"
    assert os.stat(second).st_gid == 4321
    asyncio.run(keeper.unmount_all([str(one)]))
    assert Path(second, "kept").read_text() == "x"
    asyncio.run(keeper.unmount_all([str(two)]))
    assert Path(mount(one, BY_CLAIM, local(loop)).path, "kept").read_text() == "x"


@needs_tools
def test_pods_that_begin_together_format_once(tmp_path: Path, loop: str) -> None:
    targets = [str(tmp_path / str(n)) for n in range(3)]

    async def together() -> None:
        await asyncio.gather(*(blockdevice.mount(loop, target, "ext4", ()) for target in targets))

    asyncio.run(together())
    Path(targets[0], "f").write_text("x")
    assert [os.listdir(target).count("f") for target in targets] == [1, 1, 1]


@needs_tools
@pytest.mark.parametrize(
    ("content", "spec", "complaint"),
    [
        ("", {"mountOptions": ["ro"]}, "cannot mount unformatted disk"),
        ("", {"local": {"fsType": "nosuchfs"}}, "this node has no mkfs.nosuchfs"),
        ("ext4", {"local": {"fsType": "xfs"}}, r"as xfs \(it holds ext4\)"),
        ("table", {}, r"as ext4 \(it holds a partition table\)"),
    ],
)
def test_what_cannot_be_mounted_is_left_as_it_is(
    tmp_path: Path, loop: str, content: str, spec: Object, complaint: str
) -> None:
    if content == "ext4":
        subprocess.run(["mkfs.ext4", "-q", "-F", loop], check=True)
    elif content == "table":  # of a master boot record: its signature, and one partition
        with open(loop, "r+b") as disk:
            disk.seek(446)
            disk.write(bytes([0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0]) + bytes(48) + b"\x55\xaa")
    before = Path(loop).read_bytes()
    whole = local(loop, **{k: v for k, v in spec.items() if k != "local"})
    whole["spec"]["local"] |= spec.get("local", {})
    with pytest.raises(VolumeFault, match=complaint):
        mount(tmp_path / "pod", BY_CLAIM, whole)
    assert Path(loop).read_bytes() == before
    assert kernel.mounts_below(str(tmp_path)) == []


@needs_tools
def test_a_raw_device_is_given_as_it_is(tmp_path: Path, loop: str) -> None:
    (tmp_path / "link").symlink_to(loop)
    volume = local(str(tmp_path / "link"), volumeMode="Block")
    found = mount(tmp_path / "pod", BY_CLAIM, volume)
    assert found == Mounted(str(tmp_path / "link"), device=True)
    read_only = {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    container = {"name": "c", "volumeDevices": [{"name": "vol", "devicePath": "/dev/x"}]}
    given = {"vol": mount(tmp_path / "pod", read_only, volume)}
    assert keeper.container_devices(container, given) == [Device(found.path, "/dev/x", "r")]
    assert keeper.container_devices(container, {"vol": found}) == [Device(found.path, "/dev/x", "rwm")]


@pytest.mark.parametrize(
    ("volume", "complaint"),
    [
        ({"spec": {"local": {"path": "/etc/passwd"}, "volumeMode": "Block"}}, "is not a block device of this node"),
        ({"spec": {"local": {"path": "/no/such"}, "volumeMode": "Block"}}, "is not a block device of this node"),
        ({"spec": {"hostPath": {"path": "/dev"}, "volumeMode": "Block"}}, "only local volumes are block devices"),
    ],
)
def test_what_is_no_device_says_so(tmp_path: Path, volume: Object, complaint: str) -> None:
    with pytest.raises(VolumeFault, match=complaint):
        mount(tmp_path, BY_CLAIM, volume)


def test_a_volume_is_used_the_way_its_mode_says() -> None:
    mounted = {"v": Mounted("/dev/x", device=True), "f": Mounted("/x")}
    obj = pod()
    (used,) = obj["spec"]["containers"]
    used["volumeMounts"], used["volumeDevices"] = (
        [{"name": "f", "mountPath": "/f"}],
        [{"name": "v", "devicePath": "/v"}],
    )
    keeper.check_modes(obj, mounted)
    used["volumeMounts"] = [{"name": "v", "mountPath": "/x"}]
    with pytest.raises(VolumeFault, match="volume v has volumeMode Block, but is specified in volumeMounts"):
        keeper.check_modes(obj, mounted)
    used["volumeMounts"], used["volumeDevices"] = [], [{"name": "f", "devicePath": "/x"}]
    with pytest.raises(VolumeFault, match="volume f has volumeMode Filesystem, but is specified in volumeDevices"):
        keeper.check_modes(obj, mounted)
    with pytest.raises(VolumeFault, match='volume "w" is not mounted'):
        keeper.container_devices({"name": "c", "volumeDevices": [{"name": "w", "devicePath": "/x"}]}, mounted)
