"""Port forwarding: a network namespace's pin and a port come in, a connected stream goes out.

A thread enters the namespace just long enough to make the socket; a socket stays in the namespace it was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading

from jota.runtime import sys as kernel

_CONNECT = 10.0


def socket_in(netns: str, family: int) -> socket.socket:
    """A TCP socket inside the namespace ("" is our own). Takes 0.1 ms. Raises OSError."""
    if not netns:
        return socket.socket(family, socket.SOCK_STREAM)
    made: list[socket.socket] = []
    faults: list[OSError] = []

    def work() -> None:
        try:
            pin = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                kernel.setns(pin, kernel.CLONE_NEWNET)
            finally:
                os.close(pin)
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as fault:
            faults.append(fault)

    thread = threading.Thread(target=work, name="netns")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return made[0]


class Stream:
    """See `jota.wire.message.Duplex`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, limit: int = 65536) -> bytes:
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def connect(netns: str, port: int) -> Stream:
    """127.0.0.1:port, else [::1]:port. Raises ConnectionError with the reason."""
    loop = asyncio.get_running_loop()
    last: Exception = ConnectionError("no address")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            made = socket_in(netns, family)
        except OSError as fault:
            last = fault
            continue
        made.setblocking(False)
        try:
            await asyncio.wait_for(loop.sock_connect(made, (host, port)), _CONNECT)
            reader, writer = await asyncio.open_connection(sock=made)
            return Stream(reader, writer)
        except (OSError, TimeoutError) as fault:
            made.close()
            last = fault if family == socket.AF_INET else last
    raise ConnectionError(f"failed to connect to localhost:{port} inside the pod: {last}")
