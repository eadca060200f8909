"""Walk and remove directory trees that strangers made: containers, volumes, layers. In: a path. Out: gone, or what is in it.

Deeper than any path may be long and than Python may recurse, with symbolic links in it, perhaps with a mount that was left
behind: `mkdir` in a loop must not keep a pod from going away, or hide what it uses. Everything is opened by its name in an
open directory (openat2), never through a link or onto another mount. Blocking. Callers: node/volumes, embedded/container.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from itertools import islice

from jota.runtime import sys as kernel

_DEPTH = 64
"""Directories that are open at a time."""
_BATCH = 1000
"""Names that are read at a time."""


def entries(path: str) -> Iterator[os.stat_result]:
    """Of everything below a directory, on its own file system. What cannot be read, or is moved meanwhile, is passed over.

    One directory is open at a time: the way back is "..", taken where it leads to where we came from."""
    here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(here).st_dev
        above: list[tuple[int, list[str]]] = []
        todo = yield from _look(here, device)
        while True:
            if not todo:
                if not above:
                    return
                inode, todo = above.pop()
                here = _move(here, "..")
                found = os.fstat(here)
                if (found.st_dev, found.st_ino) != (device, inode):
                    return
                continue
            inode = os.fstat(here).st_ino
            try:
                here = _move(here, todo.pop())
            except OSError:
                continue
            above.append((inode, todo))
            todo = (yield from _look(here, device)) if os.fstat(here).st_dev == device else []
    finally:
        os.close(here)


def _move(here: int, name: str) -> int:
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    os.close(here)
    return there


def _look(here: int, device: int) -> Generator[os.stat_result, None, list[str]]:
    """Yields what is in an open directory; returns the directories."""
    below = []
    with os.scandir(here) as found:
        for entry in found:
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                if info.st_dev != device:
                    continue
                if stat.S_ISDIR(info.st_mode):
                    below.append(entry.name)
                yield info
    return below


def remove(path: str) -> None:
    """Idempotent, and somebody else may be at it. Raises OSError, EXDEV for a mount in it, of which nothing is removed."""
    parent, name = os.path.split(os.path.abspath(path))
    try:
        above = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_at(above, name)
    finally:
        os.close(above)


def remove_at(above: int, name: str | bytes) -> None:
    """The same of a directory in an open one."""
    with contextlib.suppress(FileNotFoundError):
        top = kernel.open_directory(above, os.fsencode(name))
        try:
            _empty(top, top, 0)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=above)


def _empty(top: int, here: int, depth: int) -> None:
    """What lies too deep is moved to the top first, whose turn comes again."""
    while names := _some(here):
        for name, directory in names:
            with contextlib.suppress(FileNotFoundError):
                if not directory:
                    os.unlink(name, dir_fd=here)
                elif depth == _DEPTH:
                    os.rename(name, secrets.token_hex(16), src_dir_fd=here, dst_dir_fd=top)
                else:
                    below = kernel.open_directory(here, os.fsencode(name))
                    try:
                        _empty(top, below, depth + 1)
                    finally:
                        os.close(below)
                    os.rmdir(name, dir_fd=here)


def _some(here: int) -> list[tuple[str, bool]]:
    """(name, is a directory) of some entries; none when there are none."""
    with os.scandir(here) as found:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(found, _BATCH)]
