"""Ports and address ranges that were chosen but are not in use yet: kept from others who choose at the same moment.

The registry of instances belongs to one user, its lock too; a port belongs to everybody in a network namespace, and is not
seen to be taken before somebody listens on it. So the chooser binds a name in the kernel's abstract socket namespace, which
has just this scope, needs no file and no rights, and ends with its process. It is given up when the choice can be seen (the
server listens, the routes are there): who comes then finds the port itself taken. Next: instance.py chooses, up.py holds.
"""

from __future__ import annotations

import errno
import socket
from types import TracebackType


class Reservations:
    """Use as `with`: all end with the block. Those of another `scope` are not in the way (tests)."""

    def __init__(self, scope: str = "jota") -> None:
        self._scope = scope
        self._held: dict[str, socket.socket] = {}

    def take(self, what: str) -> bool:
        """Reserve e.g. "port 6443". False: another process (or block) has it. Raises OSError."""
        if what in self._held:
            return True
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            name.bind(f"\0{self._scope}/{what}")
        except OSError as error:
            name.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        self._held[what] = name
        return True

    def leave(self, what: str) -> None:
        """Give one back."""
        self._held.pop(what).close()

    def __enter__(self) -> Reservations:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for what in list(self._held):
            self.leave(what)
