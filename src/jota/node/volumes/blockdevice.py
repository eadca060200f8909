"""Block devices below local volumes: made a file system where there is none, and mounted. Comes in: a device. Out: a mount.

As the kubelet's FormatAndMount: what holds anything (a file system, a partition table) is never formatted, and is checked
before it is mounted. The tools are the machine's own: blkid, fsck, mkfs.<type>, mount. Next: persistent.py.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence

from jota.node.volumes.volume import VolumeFault

DEFAULT = "ext4"
_PARTITIONED = "a partition table"
_NOTHING_FOUND = 2
"""Exit code of blkid."""
_FORCED = {"ext3": ["-F", "-m0"], "ext4": ["-F", "-m0"], "xfs": ["-f"]}
_FSCK_REPAIRED, _FSCK_UNCORRECTED = 1, 4
_locks: dict[str, asyncio.Lock] = {}
"""Per device: two pods that begin together must not both find it empty."""


def is_block_device(path: str) -> bool:
    """Follows links. False for what is not there."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


async def mount(device: str, target: str, kind: str, options: Sequence[str]) -> None:
    """Mount the device at the directory `target`, which is made; a no-op when it is mounted. `kind`: of file system.

    Raises VolumeFault.
    """
    async with _locks.setdefault(os.path.realpath(device), asyncio.Lock()):
        if os.path.ismount(target):
            return
        found = await _format_of(device)
        if not found:
            if "ro" in options:
                raise VolumeFault(f"cannot mount unformatted disk {device} as we are manipulating it in read-only mode")
            await _do(f"mkfs.{kind}", *_FORCED.get(kind, []), device)
        elif "ro" not in options and found != _PARTITIONED:
            await _check(device)
        os.makedirs(target, mode=0o750, exist_ok=True)
        try:
            await _do("mount", "-t", kind, "-o", ",".join([*options, "defaults"]), device, target)
        except VolumeFault as fault:
            os.rmdir(target)
            holds = f" (it holds {found})" if found not in ("", kind) else ""
            raise VolumeFault(f"failed to mount device {device} as {kind}{holds}: {fault}") from None


async def _format_of(device: str) -> str:
    """The type of file system on it; "" for none."""
    code, out = await _run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device)
    if code == _NOTHING_FOUND:
        return ""
    if code:
        raise VolumeFault(f"failed to get disk format of disk {device}: {out or f'blkid ended with {code}'}")
    fields = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return _PARTITIONED if "PTTYPE" in fields else fields.get("TYPE", "")


async def _check(device: str) -> None:
    """Repair what can be repaired. A machine without fsck mounts unchecked, as upstream."""
    try:
        code, out = await _run("fsck", "-a", device)
    except FileNotFoundError:
        return
    if code & _FSCK_UNCORRECTED:
        raise VolumeFault(f"'fsck' found errors on device {device} but could not correct them: {out}")


async def _do(*command: str) -> None:
    """Raises VolumeFault with what the command said."""
    try:
        code, out = await _run(*command)
    except FileNotFoundError:
        raise VolumeFault(f"this node has no {command[0]}") from None
    if code:
        raise VolumeFault(f"{' '.join(command)} ended with {code}: {out}")


async def _run(*command: str) -> tuple[int, str]:
    """Exit code and everything that it wrote. Raises FileNotFoundError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace").strip()
