"""One attached client: a socket that gets a copy of one output stream. Loaded by the supervisor: standard library only."""

from __future__ import annotations

import select
import socket

_BACKLOG = 1 << 20
"""Bytes an attached client may lag behind before it is dropped: a slow client must not stop the container."""


class Tap:
    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(False)
        self.backlog = b""

    def send(self, data: bytes) -> bool:
        """False when the client is gone or too slow."""
        self.backlog += data
        try:
            self.backlog = self.backlog[self.socket.send(self.backlog) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return len(self.backlog) <= _BACKLOG

    @property
    def gone(self) -> bool:
        """The client has closed its side, which nobody else tells while the container is silent."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return bool(poll.poll(0))
