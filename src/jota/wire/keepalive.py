"""TCP keep-alive: a peer that vanishes without a word is found out by the kernel. Used by http.py and dial.py."""

from __future__ import annotations

import socket
from typing import Any

_IDLE, _INTERVAL, _PROBES = 15, 15, 9
"""Those of Go's net package."""


def keep_alive(sock: Any) -> None:
    """Also on a listening socket: what it accepts inherits them. Nothing happens to sockets that are not TCP's."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        (socket.TCP_KEEPIDLE, _IDLE),
        (socket.TCP_KEEPINTVL, _INTERVAL),
        (socket.TCP_KEEPCNT, _PROBES),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, name, value)
