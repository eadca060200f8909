"""The one door to the kernel: ctypes wrappers for what Python's os module lacks.

Bytes and integers come in, file descriptors or OSError come out; no policy lives here. Callers: `embedded/*`.
Every function raises OSError with the failing path in its text.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWUSER = 0x20000000, 0x40000000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER, _PR_SET_NAME = 36, 15

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = (
    0x01,
    0x02,
    0x04,
    0x08,
    0x10,
)
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_OPENAT2 = 429, 430, 431, 432, 437
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100
# include/uapi/linux/pidfd.h: struct pidfd_info is 64 bytes in its first version; exit_code came with PIDFD_INFO_EXIT.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: {what}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode() or None,
            target.encode(),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
        f"mount {kind or source} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def umount_if_mounted(target: str) -> bool:
    """Detach every mount stacked on `target`; False when there was none."""
    seen = False
    while True:
        try:
            umount(target, MNT_DETACH)
            seen = True
        except OSError as fault:
            if fault.errno in (errno.EINVAL, errno.ENOENT):
                return seen
            raise


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(fd: int, kind: int = 0) -> None:
    _check(_libc.setns(fd, kind), "setns")


def prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def set_name(name: str) -> None:
    """The process' name in ps and /proc/<pid>/comm (15 bytes)."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "prctl PR_SET_NAME")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: bytes, flags: int, mode: int = 0) -> int:
    """openat2(2): `path` is resolved as if `root` were "/", so that neither "..", an absolute name nor a symbolic link
    leaves it (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)."""
    return _openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_directory(at: int, name: bytes) -> int:
    """openat2(2): a directory in an open one, to be read. ELOOP for a symbolic link, EXDEV for a mount point (a bind mount
    of the same file system, too)."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    return _openat2(at, name, os.O_RDONLY | os.O_DIRECTORY, 0, resolve)


def _openat2(at: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    result = int(_libc.syscall(_SYS_OPENAT2, at, path, ctypes.byref(how), ctypes.sizeof(how)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def mount_overlay(target: str, lowers: list[str], upper: str = "", work: str = "") -> None:
    """Mount overlayfs: `lowers` from the top layer down. The mount API takes any number of layers ("lowerdir+", Linux
    6.7); older kernels get mount(2), whose options end at one page."""
    try:
        _fs_overlay(target, lowers, upper, work)
    except OSError as fault:
        if fault.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        options = "lowerdir=" + ":".join(lowers)
        if upper:
            options += f",upperdir={upper},workdir={work}"
        mount("overlay", target, "overlay", 0, options)


def _fs_overlay(target: str, lowers: list[str], upper: str, work: str) -> None:
    context = _check(int(_libc.syscall(_SYS_FSOPEN, b"overlay", 1)), "fsopen overlay")
    try:
        options = [("lowerdir+", lower) for lower in lowers]
        if upper:
            options += [("upperdir", upper), ("workdir", work)]
        for key, value in options:
            arguments = (context, _FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
            _check(int(_libc.syscall(_SYS_FSCONFIG, *arguments)), f"overlay {key}={value}")
        _check(int(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)), f"overlay on {target}")
        made = _check(int(_libc.syscall(_SYS_FSMOUNT, context, 1, 0)), "fsmount overlay")
    finally:
        os.close(context)
    try:
        moved = _libc.syscall(_SYS_MOVE_MOUNT, made, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
        _check(int(moved), f"move overlay to {target}")
    finally:
        os.close(made)


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status of a process that is not our child, once it is reaped (PIDFD_GET_INFO, Linux 6.15). None: the
    kernel cannot say, or not yet."""
    buffer = bytearray(64)
    struct.pack_into("Q", buffer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask = struct.unpack_from("Q", buffer, 0)[0]
    return int(struct.unpack_from("i", buffer, 60)[0]) if mask & _PIDFD_INFO_EXIT else None


_ESCAPED = re.compile(r"\\([0-7]{3})")
"""Blank, tab, newline and backslash in mountinfo."""


def mounts_below(root: str) -> list[str]:
    """Mount points at or below `root`, deepest first (/proc/self/mountinfo)."""
    found = []
    prefix = root.rstrip("/") + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), line.split(" ", 5)[4])
            if point == root or point.startswith(prefix):
                found.append(point)
    return sorted(found, key=len, reverse=True)
