"""What the agent holds of its containers, so that a dead supervisor loses nothing: pipe ends, terminals and pidfds.

A FIFO that somebody has open keeps its content, a terminal whose master somebody has is not hung up, and a pidfd that was opened
before the exit still knows the exit code afterwards (Linux 6.15). The next supervisor takes them over, see `runtime.py`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from jota.aio import files
from jota.runtime import sys as kernel


@dataclass(slots=True)
class Held:
    directory: str
    pidfd: int = -1
    terminal: int = -1
    pipes: list[int] = field(default_factory=list)


class Holder:
    """Descriptors by container id."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def keep(self, id: str, directory: str, pid: int, terminal: int = -1) -> None:
        """Hold a running container. `terminal` is owned from now on."""
        self.drop(id)
        held = self._held[id] = Held(directory, terminal=terminal)
        with contextlib.suppress(OSError):
            held.pidfd = os.pidfd_open(pid)
        for name in ("stdout", "stderr") if terminal < 0 else ():
            with contextlib.suppress(FileNotFoundError):
                held.pipes.append(os.open(f"{directory}/{name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def terminal(self, id: str) -> int:
        """-1 when there is none."""
        held = self._held.get(id)
        return held.terminal if held else -1

    def drop(self, id: str) -> None:
        held = self._held.pop(id, None)
        if held is not None:
            for fd in (held.pidfd, held.terminal, *held.pipes):
                if fd >= 0:
                    os.close(fd)

    def drop_all(self) -> None:
        for id in list(self._held):
            self.drop(id)

    def note_exits(self) -> None:
        """Before a new supervisor starts: write the wait status of what ended unwatched to `status`, where it looks."""
        for held in self._held.values():
            status = kernel.pidfd_exit_status(held.pidfd) if held.pidfd >= 0 else None
            if status is not None:
                with contextlib.suppress(OSError):
                    files.replace(f"{held.directory}/status", str(status).encode())
