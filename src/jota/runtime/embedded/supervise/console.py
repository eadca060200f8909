"""The socket over which the low-level runtime sends a terminal's master. Loaded by the supervisor: standard library only.

Who asks for a start tells the low-level runtime its `path`; the supervisor listens there meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket


def directory(root: str) -> str:
    return f"{root}/console"


def path(root: str, id: str) -> str:
    """Of the container or exec session `id`; `root` is the supervisor's."""
    return f"{directory(root)}/{id[:24]}"


class Console:
    """Open while the low-level runtime is at work on one container or exec session."""

    def __init__(self, root: str, id: str) -> None:
        """Raises OSError."""
        os.makedirs(directory(root), mode=0o700, exist_ok=True)
        self._path = path(root, id)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        held = os.open(directory(root), os.O_PATH | os.O_DIRECTORY)
        try:
            # through /proc/self/fd, for a socket's path is limited to 107 bytes
            self._listener.bind(f"/proc/self/fd/{held}/{os.path.basename(self._path)}")
        finally:
            os.close(held)
        self._listener.listen(1)

    def take(self) -> int:
        """The terminal's master: it waits in the socket once the low-level runtime has ended well. Raises OSError."""
        self._listener.settimeout(5)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(5)
            _, descriptors, _, _ = socket.recv_fds(connection, 256, 1)
        if not descriptors:
            raise OSError(errno.EPROTO, "the low-level runtime sent no terminal")
        return descriptors[0]

    def close(self) -> None:
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
