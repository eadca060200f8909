"""fsGroup of persistent volumes: everything in the volume is given to the group. In: a directory. Out: owners and modes.

As upstream: files become readable and writable for the group, directories also pass it on; links are given away, what they lead
to is not. `OnRootMismatch` leaves a volume alone whose root is as wanted. Blocking: large volumes take long. Next: persistent.py.
"""

from __future__ import annotations

import logging
import os
import stat

log = logging.getLogger("jota.node")

_FILE, _DIRECTORY = 0o660, 0o2770


def give(root: str, group: int, policy: str = "Always") -> None:
    """`policy`: the pod's fsGroupChangePolicy. What cannot be changed is told in the log, as upstream. Raises OSError for the root."""
    held = os.stat(root)
    if policy == "OnRootMismatch" and held.st_gid == group and held.st_mode & _DIRECTORY == _DIRECTORY:
        return
    for _, directories, files, fd in os.fwalk(root, topdown=False, onerror=_tell):
        for name in (*directories, *files):
            try:
                _one(name, group, fd)
            except FileNotFoundError:
                continue  # somebody is at work in it
            except OSError as fault:
                _tell(fault)
    # The root comes last: one that is as wanted says that all below it is.
    os.chown(root, -1, group)
    os.chmod(root, stat.S_IMODE(held.st_mode) | (_DIRECTORY if stat.S_ISDIR(held.st_mode) else _FILE))


def _one(name: str, group: int, directory: int) -> None:
    """By the open file: a link that takes its place meanwhile leads nowhere."""
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(entry).st_mode
        if stat.S_ISLNK(mode):
            os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
            return
        path = f"/proc/self/fd/{entry}"
        os.chown(path, -1, group)
        os.chmod(path, stat.S_IMODE(mode) | (_DIRECTORY if stat.S_ISDIR(mode) else _FILE))
    finally:
        os.close(entry)


def _tell(fault: OSError) -> None:
    log.warning("fsGroup: %s: %s", fault.filename, fault.strerror)
