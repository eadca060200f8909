"""Descriptors on the event loop: reads and writes that wait, without a transport or a thread.

A descriptor comes in and is owned; bytes go out. Used by `exec.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any


class Pipe:
    """One non-blocking descriptor; closing it wakes whoever waits."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._waiters: set[asyncio.Future[None]] = set()

    async def read(self, limit: int = 65536) -> bytes:
        """At most `limit` bytes; b"" at the end (a terminal ends with EIO)."""
        while self.fd >= 0:
            try:
                return os.read(self.fd, limit)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError:
                return b""
        return b""

    def read_now(self, limit: int = 65536) -> bytes:
        """What is there; b"" when nothing is."""
        try:
            return os.read(self.fd, limit) if self.fd >= 0 else b""
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            if self.fd < 0:
                raise BrokenPipeError("closed")
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError as fault:
                raise BrokenPipeError(str(fault)) from fault

    async def _ready(self, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        fd = self.fd
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        add(fd, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            self._waiters.discard(future)
            if self.fd == fd:
                remove(fd)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if self._waiters:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        os.close(fd)
