"""The agent's side of the supervisor: starts it, finds it again, speaks to it, and starts another when it dies.

Requests come in as coroutines and go out as JSON over SOCK_SEQPACKET (with descriptors where needed); events go to `on_event`.
The other side is `supervisor.py`.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from jota.aio.clock import Clock
from jota.runtime.protocol import RuntimeFault

MESSAGE = 1 << 17
_START_LIMIT = 10.0


class SupervisorLost(Exception):
    """The connection broke while a request was under way."""


class Link:
    """One connection to the supervisor of `root`, kept up by `keep`."""

    def __init__(
        self,
        root: str,
        clock: Clock,
        on_event: Callable[[dict[str, Any]], None],
        on_connect: Callable[[], Awaitable[None]],
        on_lost: Callable[[], None],
        before_spawn: Callable[[], None],
    ) -> None:
        self.root, self.clock = root, clock
        self._on_event, self._on_connect, self._on_lost = on_event, on_connect, on_lost
        self._before_spawn = before_spawn
        self._socket: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._next = 0
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self.pid = 0

    # -- connection -------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Find the supervisor, or start one. Raises RuntimeFault when it does not come up."""
        deadline = self.clock.monotonic() + _START_LIMIT
        spawned = False
        while True:
            found = self._dial()
            if found is not None:
                break
            if not spawned or self.clock.monotonic() > deadline:
                if spawned:
                    raise RuntimeFault(
                        "SupervisorUnavailable", f"the supervisor did not start, see {self.root}/supervisor.log"
                    )
                self._before_spawn()
                self._spawn()
                spawned = True
            await self.clock.sleep(0.005)
        self._socket = found
        self._lost.clear()
        self._up.set()
        asyncio.get_running_loop().add_reader(found.fileno(), self._receive)
        answer, _ = await self.call({"op": "ping"})
        self.pid = int(answer["pid"])
        await self._on_connect()

    def _dial(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        directory = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Through /proc/self/fd: the path of a socket is limited to 107 bytes.
            connection.connect(f"/proc/self/fd/{directory}/supervisor.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        finally:
            os.close(directory)
        connection.setblocking(False)
        return connection

    def _spawn(self) -> None:
        """A process with its own session that outlives us. When two are started, a lock lets one live."""
        log = f"{self.root}/supervisor.log"
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor.py")
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        argv = [sys.executable, "-I", "-S", script, self.root]
        environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
        self._child = os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsid=True)

    def reap(self) -> None:
        """Collect a dead supervisor that was our child."""
        with contextlib.suppress(ChildProcessError, AttributeError):
            os.waitpid(self._child, os.WNOHANG)

    async def keep(self) -> None:
        """Watchdog: reconnect, with a new supervisor if need be, whenever the connection is lost. Runs until cancelled."""
        while True:
            await self._lost.wait()
            self.reap()
            try:
                await self.connect()
            except (RuntimeFault, SupervisorLost, OSError):
                self.close()  # what was half made: nobody has looked yet at what ended meanwhile
                self._lost.set()
                await self.clock.sleep(0.5)

    async def connected(self, seconds: float) -> None:
        """Wait for a connection. Raises TimeoutError."""
        await asyncio.wait_for(self._up.wait(), seconds)

    def close(self) -> None:
        connection, self._socket = self._socket, None
        self._up.clear()
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SupervisorLost("the supervisor is gone"))
        self._waiting.clear()
        self._on_lost()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, MESSAGE, 8)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.close()
                self._lost.set()
                return
            message = json.loads(data)
            future = self._waiting.pop(message["re"], None) if "re" in message else None
            if future is not None and not future.done():
                future.set_result((message, descriptors))
                continue
            for fd in descriptors:
                os.close(fd)
            if "event" in message:
                self._on_event(message)

    def post(self, message: dict[str, Any]) -> None:
        """Send without waiting; lost when the supervisor is."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendmsg([json.dumps({**message, "re": 0}).encode()])

    async def call(
        self, message: dict[str, Any], descriptors: tuple[int, ...] = (), seconds: float = 30.0
    ) -> tuple[dict[str, Any], list[int]]:
        """Send a request and wait for its answer (and its descriptors, which the caller closes). Raises SupervisorLost,
        TimeoutError."""
        if self._socket is None:
            raise SupervisorLost("the supervisor is gone")
        self._next += 1
        ticket = self._next
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        data = json.dumps({**message, "re": ticket}).encode()
        if len(data) > MESSAGE:
            raise RuntimeFault("CreateContainerError", f"request of {len(data)} bytes is larger than {MESSAGE}")
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], control)
        except OSError as fault:
            self._waiting.pop(ticket, None)
            raise SupervisorLost(f"the supervisor does not answer: {fault}") from fault
        try:
            return await asyncio.wait_for(future, seconds)
        finally:
            self._waiting.pop(ticket, None)
