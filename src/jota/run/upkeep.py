"""What a daemon does for itself while it runs: bound its log, raise its limit of open files."""

from __future__ import annotations

import os
import resource
import shutil
import stat

LOG_LIMIT = 16 << 20
"""Bytes after which a log file is moved aside (one older file is kept)."""


def bound_log(descriptor: int = 2, limit: int = LOG_LIMIT) -> bool:
    """Move the log that a descriptor appends to aside once it is larger than `limit`; whether it was.

    The file stays open and is cut to nothing: it was opened for appending, so the next line begins at its start.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size <= limit:
        return False
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    shutil.copyfile(path, f"{path}.1")
    os.ftruncate(descriptor, 0)
    return True


def raise_open_files() -> int:
    """Lift the soft limit of open files to the hard one (thousands of watches are thousands of sockets); the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
