"""subPath: a part of a volume, bound in such a way that a symlink in the volume cannot lead out of it.

As the kubelet: links are resolved as the host sees them, what they lead to must lie in the volume, and it is then opened step
by step without following any. The open file is bind-mounted under the pod's directory; the container engine is handed that
bind mount, so swapping a symlink afterwards changes nothing.
"""

from __future__ import annotations

import os
import stat

from jota.node.volumes.volume import VolumeFault
from jota.runtime import sys

MS_BIND, MS_REC = 0x1000, 0x4000


def bind(root: str, path: str, target: str) -> str:
    """Bind `path` inside the volume at `root` to `target`; missing directories are made. Returns `target`. Idempotent: what
    an earlier run of the container had there goes, for the path may lead elsewhere now."""
    check(path)
    try:
        handle = _open_or_make(root, _inside(root, path))
    except OSError as e:
        raise VolumeFault(f"failed to prepare subPath {path!r}: {e.strerror}") from e
    try:
        return _bind(handle, target)
    finally:
        os.close(handle)


def check(path: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeFault(f"subPath {path!r} must be relative and must not contain '..'")


def _inside(root: str, path: str) -> list[str]:
    """The steps from the volume's root to what `path` leads to, without links."""
    base, wanted = os.path.realpath(root), os.path.realpath(os.path.join(root, path))
    if os.path.commonpath((base, wanted)) != base:
        raise VolumeFault(f"subPath {path!r} leads out of the volume")
    return [step for step in os.path.relpath(wanted, base).split("/") if step != "."]


def _open_or_make(root: str, steps: list[str]) -> int:
    """A descriptor of the last step. Directories that are missing are made, with the mode of the volume."""
    here = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        mode = stat.S_IMODE(os.fstat(here).st_mode)
        for step in steps:
            below = _step(here, step, mode)
            os.close(here)
            here = below
            if stat.S_ISLNK(os.fstat(here).st_mode):
                raise VolumeFault(f"subPath: {step!r} became a link meanwhile")
    except BaseException:
        os.close(here)
        raise
    return here


def _step(here: int, name: str, mode: int) -> int:
    flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=here)
    except FileNotFoundError:
        os.mkdir(name, mode, dir_fd=here)
    made = os.open(name, flags | os.O_DIRECTORY, dir_fd=here)
    # mkdir obeys the umask; what is made has the mode of the volume, its setgid bit too.
    os.chmod(f"/proc/self/fd/{made}", mode)
    return made


def _bind(handle: int, target: str) -> str:
    try:
        # First of all: the pod's FIFO or device would be opened below, which may wait for ever.
        sys.umount_if_mounted(target)
        _place(target, directory=stat.S_ISDIR(os.fstat(handle).st_mode))
        sys.mount(f"/proc/self/fd/{handle}", target, "", MS_BIND | MS_REC)
    except OSError as e:
        raise VolumeFault(f"failed to bind subPath: {e}") from e
    return target


def _place(target: str, *, directory: bool) -> None:
    """Something empty to mount on: as the kernel wants, a directory for a directory, a file for all else."""
    if os.path.isdir(target) and not directory:
        os.rmdir(target)
    elif os.path.isfile(target) and directory:
        os.unlink(target)
    os.makedirs(target if directory else os.path.dirname(target), exist_ok=True)
    if not directory:
        with open(target, "ab"):
            pass
