"""The pid file of one process: held by a lock, so that a second process of the same role never starts, or hides the first.

`<pid>\\n` while it starts, `<pid>\\nready\\n` once it serves: `jota up` waits for that word when an earlier `up`, which would
have heard it through a pipe, was killed. Next: processes.py, which reads these files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jota.run.instance import Refused

READY = "ready"


@dataclass(slots=True)
class PidFile:
    path: Path
    descriptor: int
    pipe: int | None
    """Where `jota up` waits to hear that we serve."""

    def announce(self) -> None:
        """Say "ready" in the file and to whoever started us; it may be gone by now."""
        os.write(self.descriptor, f"{READY}\n".encode())
        if self.pipe is not None:
            try:
                os.write(self.pipe, f"{READY}\n".encode())
            except BrokenPipeError:
                pass
            os.close(self.pipe)
            self.pipe = None


@contextmanager
def held(path: Path, role: str, pipe: int | None = None, remedy: str = "stop it first: jota down") -> Iterator[PidFile]:
    """Own the file for the life of the block. Raises Refused when a live process owns it."""
    if pipe is not None:
        os.set_inheritable(pipe, False)  # our children must not hold it open after us
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path, role, remedy)
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    try:
        yield PidFile(path, descriptor, pipe)
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, role: str, remedy: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            owner = path.read_text().split()[:1] if path.exists() else []
            os.close(descriptor)
            raise Refused(f"{role} is running already (process {''.join(owner)}); {remedy}") from None
        os.close(descriptor)  # its last owner removed it between our open and our lock
