"""Exec and attach sessions: a container's record and a command come in, an `Exec` goes out.

The supervisor starts the process (it has the cgroups and the low-level runtime); output flows directly between the process and
this one, through pipes or the terminal whose master the supervisor hands over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from typing import Any

from jota.runtime.embedded import lowlevel
from jota.runtime.embedded.link import Link, SupervisorLost
from jota.runtime.embedded.lowlevel import LowLevel
from jota.runtime.embedded.pipes import Pipe
from jota.runtime.embedded.supervise import console
from jota.runtime.protocol import RuntimeFault

OUTPUT_LIMIT = 1 << 20
"""Bytes of each stream that exec_sync keeps."""


class Session:
    """See `jota.runtime.protocol.Exec`."""

    def __init__(self, ended: Callable[[], Awaitable[int]], on_close: Callable[[], Awaitable[None]]) -> None:
        self._ended, self._on_close = ended, on_close
        self.stdin: Pipe | None = None
        self.stdout: Pipe | None = None
        self.stderr: Pipe | None = None
        self.terminal: Pipe | None = None
        self._end_stdin: Callable[[], None] | None = None

    async def read_stdout(self) -> bytes:
        pipe = self.stdout or self.terminal
        return await pipe.read() if pipe else b""

    async def read_stderr(self) -> bytes:
        return await self.stderr.read() if self.stderr else b""

    async def write_stdin(self, data: bytes) -> None:
        """Raises BrokenPipeError when the process does not read any more."""
        pipe = self.stdin or self.terminal
        if pipe is None:
            raise BrokenPipeError("the session has no stdin")
        await pipe.write(data)

    def close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()
            self.stdin = None
            if self._end_stdin is not None:
                self._end_stdin()

    def on_stdin_closed(self, callback: Callable[[], None]) -> None:
        self._end_stdin = callback

    def resize(self, width: int, height: int) -> None:
        """Columns and rows of the terminal; without one it does nothing."""
        if self.terminal is not None and self.terminal.fd >= 0:
            size = struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.terminal.fd, termios.TIOCSWINSZ, size)

    async def wait(self) -> int:
        """Raises RuntimeFault when nobody can tell any more."""
        try:
            return await self._ended()
        except SupervisorLost as fault:
            raise RuntimeFault("ExecError", f"the session is lost: {fault}") from fault

    async def close(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr, self.terminal):
            if pipe is not None:
                pipe.close()
        await self._on_close()


class Execs:
    """Starts exec sessions, and hands them their exit codes."""

    def __init__(self, link: Link, new_id: Callable[[], str]) -> None:
        self._link, self._new_id = link, new_id
        self._running: dict[str, asyncio.Future[int]] = {}

    def on_event(self, message: dict[str, Any]) -> None:
        future = self._running.pop(message["id"], None)
        if future is not None and not future.done():
            future.set_result(int(message["code"]))

    def on_lost(self) -> None:
        """The supervisor died: its sessions have no exit code."""
        for future in self._running.values():
            if not future.done():
                future.set_exception(SupervisorLost("the supervisor was restarted"))
                future.exception()
        self._running.clear()

    async def start(
        self,
        low: LowLevel,
        root: str,
        container_id: str,
        common: dict[str, Any],
        command: list[str],
        tty: bool,
        stdin: bool,
    ) -> Session:
        """`common`: join, hide. Raises RuntimeFault(ExecError) with the low-level runtime's words."""
        if not command:
            raise RuntimeFault("ExecError", "no command specified")
        id = self._new_id()
        base = f"{root}/containers/{container_id}/exec-{id[:16]}"
        socket_path = console.path(root, id) if tty else ""
        _write_process(f"{root}/containers/{container_id}/config.json", f"{base}.json", command, tty)
        request = {
            "op": "exec",
            "id": id,
            "tty": tty,
            "cwd": f"{root}/containers/{container_id}",
            "argv": low.exec(container_id, f"{base}.json", f"{base}.pid", f"{base}.log", socket_path),
            "pid_file": f"{base}.pid",
            "error_log": f"{base}.log",
            **common,
        }
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._running[id] = ended
        session = Session(lambda: asyncio.shield(ended), lambda: self._kill(id, ended))
        theirs = _plumb(session, tty, stdin)
        # Not cancelled with us: what is being started must become known, or nobody could end it.
        asking = asyncio.ensure_future(self._ask(request, theirs, base, command[0]))
        try:
            descriptors = await asyncio.shield(asking)
        except BaseException:
            self._running.pop(id, None)
            asking.add_done_callback(lambda asked: self._abandon(id, asked))
            for pipe in (session.stdin, session.stdout, session.stderr):
                if pipe is not None:
                    pipe.close()
            raise
        if tty:
            session.terminal = Pipe(descriptors[0])
        return session

    async def _ask(self, request: dict[str, Any], theirs: list[int], base: str, program: str) -> list[int]:
        """The descriptors that come back. Raises RuntimeFault(ExecError)."""
        try:
            answer, descriptors = await self._link.call(request, tuple(theirs))
            if "error" in answer:
                _, message = lowlevel.explain(_read(f"{base}.log"), program, str(answer["error"]))
                raise RuntimeFault("ExecError", message)
            return descriptors
        except (SupervisorLost, TimeoutError) as fault:
            raise RuntimeFault("ExecError", f"cannot start the session: {fault}") from fault
        finally:
            for fd in set(theirs):
                os.close(fd)
            for name in ("json", "pid", "log"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{base}.{name}")

    def _abandon(self, id: str, asked: asyncio.Future[list[int]]) -> None:
        """Whoever wanted the session has gone: end it."""
        if asked.cancelled() or asked.exception() is not None:
            return  # nothing was started
        for fd in asked.result():
            os.close(fd)
        self._link.post({"op": "kill", "id": id, "signal": int(signal.SIGKILL)})

    async def _kill(self, id: str, ended: asyncio.Future[int]) -> None:
        if not ended.done():
            with contextlib.suppress(SupervisorLost, TimeoutError):
                await self._link.call({"op": "kill", "id": id, "signal": int(signal.SIGKILL)})


def _plumb(session: Session, tty: bool, stdin: bool) -> list[int]:
    """Make the session's pipes; returns the other ends: stdin, stdout, stderr."""
    if tty:
        return []
    if stdin:
        first, ours = os.pipe2(os.O_CLOEXEC)
        session.stdin = Pipe(ours)
    else:
        first = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    out, second = os.pipe2(os.O_CLOEXEC)
    err, third = os.pipe2(os.O_CLOEXEC)
    session.stdout, session.stderr = Pipe(out), Pipe(err)
    return [first, second, third]


def _write_process(config: str, target: str, command: list[str], tty: bool) -> None:
    """The container's own process description with another command. Raises RuntimeFault when the container is gone."""
    try:
        with open(config, "rb") as file:
            process = json.loads(file.read())["process"]
    except FileNotFoundError as fault:
        raise RuntimeFault("ExecError", "the container is gone") from fault
    process.update(args=command, terminal=tty)
    if tty and not any(line.startswith("TERM=") for line in process["env"]):
        process["env"].append("TERM=xterm")
    with open(target, "w", encoding="utf-8") as out:
        json.dump(process, out)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return ""


async def collect(session: Session) -> tuple[int, bytes, bytes]:
    """Run a session to its end: (exit code, stdout, stderr), each bounded. What the process wrote is in the pipes when it has
    ended; what it left running in the background is not waited for."""
    outputs = {"out": bytearray(), "err": bytearray()}

    async def drain(name: str, pipe: Pipe | None) -> None:
        while pipe is not None and (data := await pipe.read()):
            outputs[name] += data[: max(0, OUTPUT_LIMIT - len(outputs[name]))]

    readers = [asyncio.ensure_future(drain("out", session.stdout)), asyncio.ensure_future(drain("err", session.stderr))]
    try:
        code = await session.wait()
        await asyncio.wait(readers, timeout=0.05)
        return code, bytes(outputs["out"]), bytes(outputs["err"])
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


class _Attachment(Session):
    """Ends with the container, or with its own input where that is left open for others (containerd's rule)."""

    def __init__(self, ended: Callable[[], Awaitable[int]], once: bool) -> None:
        super().__init__(ended, self._leave)
        self._once, self._left = once, False

    async def _leave(self) -> None:
        return

    def close_stdin(self) -> None:
        fed = self.stdin is not None or self.terminal is not None
        super().close_stdin()
        if fed and (self.terminal is not None or not self._once):
            self._left = True
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()  # its reader sees the end

    async def wait(self) -> int:
        return 0 if self._left else await super().wait()


async def attach(
    link: Link, container_id: str, stdin: bool, once: bool, ended: Callable[[], Awaitable[int]]
) -> Session:
    """Follow a running container's output and, with `stdin`, feed its input, which ends with this session's if it is to be
    fed `once`. Raises RuntimeFault."""
    session = _Attachment(ended, once)
    pairs = [socket.socketpair(), socket.socketpair()]
    for ours, theirs in pairs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.shutdown(socket.SHUT_WR)
    session.stdout, session.stderr = (Pipe(ours.detach()) for ours, _ in pairs)
    try:
        request = {"op": "attach", "id": container_id, "stdin": stdin}
        answer, descriptors = await link.call(request, tuple(theirs.fileno() for _, theirs in pairs))
        if "error" in answer:
            raise RuntimeFault("AttachError", str(answer["error"]))
    except BaseException as fault:  # a client that went away meanwhile is a cancellation
        await session.close()
        if isinstance(fault, SupervisorLost | TimeoutError):
            raise RuntimeFault("AttachError", f"cannot attach: {fault}") from fault
        raise
    finally:
        for _, theirs in pairs:
            theirs.close()
    if answer["tty"]:
        # The terminal's master is for input and size; its output comes by the supervisor's copy.
        session.terminal = Pipe(descriptors[0])
    elif descriptors:
        session.stdin = Pipe(descriptors[0])
        session.on_stdin_closed(lambda: link.post({"op": "close_stdin", "id": container_id}))
    return session
