"""TCP keep-alive: a peer that vanishes without a word is found out by the kernel, and the kernel is asked where the loop does not
look: at sockets that are not read. Used by http.py, dial.py, connection.py and duplex.py."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

_IDLE, _INTERVAL, _PROBES = 15, 15, 9
"""Those of Go's net package."""
_CLOSED = 7
"""TCP_CLOSE of Linux' tcp_states.h: reset, or silent for longer than keep-alive allows."""


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


def given_up(transport: asyncio.Transport) -> bool:
    """Whether the kernel has given the connection up."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED)
    except OSError:
        return False
