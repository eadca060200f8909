"""Replace a file as a whole: bytes in, the path shows all of the old or all of the new, whenever this process is killed.

Beside it only what the name says in front: a temporary file that a kill left is `.<name>.<number>.tmp`, and nobody reads it.
Standard library alone and small, for the supervisor runs it, too.
"""

from __future__ import annotations

import contextlib
import os


def replace(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Give `path` this content, with these permissions from its first moment on. Whoever comes at the same time, from
    this process or another, replaces it as a whole, too.

    A kill of this process never shows half of it; a loss of power may, unless it is `durable`: then what was replaced is on
    the disk, under its name, before this returns. Raises OSError, and `path` is what it was."""
    path = os.fspath(path)
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the umask took some away
            file.write(data)
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_directory(directory or ".")


def _sync_directory(path: str) -> None:
    """A rename is on the disk when its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
