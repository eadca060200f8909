"""subPath: a part of a volume, bound in such a way that a symlink in the volume cannot lead out of it.

The path is opened beneath the volume's root by openat2(RESOLVE_IN_ROOT), and the open file is bind-mounted under the pod's
directory; the container engine is handed that bind mount, so swapping a symlink afterwards changes nothing.
"""

from __future__ import annotations

import os
import stat

from jota.node.volumes.volume import VolumeFault
from jota.runtime import sys

MS_BIND, MS_REC = 0x1000, 0x4000


def bind(root: str, path: str, target: str) -> str:
    """Bind `path` inside the volume at `root` to `target`; missing directories are made. Returns `target`. Idempotent."""
    check(path)
    if os.path.ismount(target):
        return target
    anchor = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        handle = _open_or_make(anchor, path)
    except OSError as e:
        raise VolumeFault(f"failed to prepare subPath {path!r}: {e.strerror}") from e
    finally:
        os.close(anchor)
    try:
        return _bind(handle, target)
    finally:
        os.close(handle)


def check(path: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeFault(f"subPath {path!r} must be relative and must not contain '..'")


def _open_or_make(anchor: int, path: str) -> int:
    try:
        return sys.open_in_root(anchor, path.encode(), os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    mode = stat.S_IMODE(os.stat(f"/proc/self/fd/{anchor}").st_mode)
    here = os.dup(anchor)
    done: list[str] = []
    for step in (s for s in path.split("/") if s not in ("", ".")):
        done.append(step)
        try:
            below = sys.open_in_root(anchor, "/".join(done).encode(), os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            os.mkdir(step, mode, dir_fd=here)
            below = os.open(step, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=here)
            # mkdir obeys the umask; what is made has the mode of the volume, its setgid bit too.
            os.chmod(f"/proc/self/fd/{below}", mode)
        os.close(here)
        here = below
    return here


def _bind(handle: int, target: str) -> str:
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    try:
        sys.mount(f"/proc/self/fd/{handle}", target, "", MS_BIND | MS_REC)
    except OSError as e:
        raise VolumeFault(f"failed to bind subPath: {e}") from e
    return target
