"""The supervisor: one tiny process per node that starts containers, pumps their output into log files and keeps exit codes.

Requests (JSON, SOCK_SEQPACKET) from the agent come in; running containers, CRI log files, `run.json` / `exit.json` in the
container's directory and events go out. Standard library only, run as `python -I -S supervisor.py ROOT`, so that it stays
small and shares no fate with the agent. Everything it knows is on disk: a new supervisor adopts the containers of a killed
one. The agent's side is `link.py`.

The life of a container:  start.json (intention) -> crun forks it -> run.json (pid) -> exit.json (code).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    # -I -S gives no path of our own; the packages on the way here are empty.
    sys.path.append(os.path.abspath(__file__).removesuffix("/jota/runtime/embedded/supervisor.py"))

from jota.aio import files
from jota.runtime import sys as kernel
from jota.runtime.embedded.supervise import child
from jota.runtime.embedded.supervise.console import Console
from jota.runtime.embedded.supervise.crilog import Log
from jota.runtime.embedded.supervise.process import noted_status, start_time, zombie_status
from jota.runtime.embedded.supervise.tap import Tap

MESSAGE = 1 << 17
"""Bytes of the largest message."""
_CHUNK = 1 << 16


def write_json(path: str, value: dict[str, Any]) -> None:
    files.replace(path, json.dumps(value).encode())


def read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class Task:
    """A container (or exec session) that this supervisor watches."""

    def __init__(self, id: str, request: dict[str, Any]) -> None:
        self.id, self.request = id, request
        self.directory: str = request.get("dir", "")
        self.pid = 0
        self.pidfd = -1
        """Only for adopted processes; our own children are reaped."""
        self.log: Log | None = None
        self.outputs: dict[int, bytes] = {}
        """Descriptor -> stream name."""
        self.stdin = -1
        self.terminal = -1
        self.console: Console | None = None
        self.taps: dict[bytes, list[Tap]] = {}
        self.client: Client | None = None
        """Exec sessions die with the connection that asked for them."""
        self.unwanted = False
        """Killed while its low-level runtime was still at work."""


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection.settimeout(5)

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> bool:
        """False when the agent does not read any more."""
        data = json.dumps(message).encode()
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self.connection.sendmsg([data], control)
        except OSError:
            return False
        return True


class Supervisor:
    """The loop. Single-threaded, so that fork in it is safe."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.selector = selectors.EpollSelector()
        self.clients: set[Client] = set()
        self.starting: dict[int, tuple[Task, Client | None, Any]] = {}
        """Pid of the low-level runtime -> whose start it is."""
        self.by_pid: dict[int, Task] = {}
        self.containers: dict[str, Task] = {}
        self.execs: dict[str, Task] = {}
        self.early: dict[int, int] = {}
        """Wait statuses of children that ended before their low-level runtime told us their pid."""
        self.running = True

    # -- set up -----------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Bind the socket. Through /proc/self/fd, for a socket's path is limited to 107 bytes."""
        directory = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/supervisor.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"/proc/self/fd/{directory}/supervisor.sock")
        os.close(directory)
        listener.listen(16)
        self._watch(listener.fileno(), lambda: self._accept(listener))

    def watch_children(self) -> None:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._watch(read, lambda: self._reap(read))

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            self.running = False

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, callback)

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(fd)

    def run(self) -> None:
        """Until SIGTERM. One container's trouble must not end the others' supervisor: it is written down."""
        while self.running:
            for key, _ in self.selector.select(30):
                try:
                    key.data()
                except Exception:
                    sys.excepthook(*sys.exc_info())
                    sys.stderr.flush()

    # -- the agent's connection -------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        client = Client(connection)
        self.clients.add(client)
        self._watch(connection.fileno(), lambda: self._receive(client))

    def _receive(self, client: Client) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(client.connection, MESSAGE, 8)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._drop(client)
            return
        message: dict[str, Any] = {}
        try:
            message = json.loads(data)
            handler = getattr(self, f"do_{message['op']}")
            handler(client, message, descriptors)
        except (OSError, KeyError, ValueError, AttributeError) as fault:
            for fd in descriptors:
                with contextlib.suppress(OSError):
                    os.close(fd)
            client.send({"re": message.get("re"), "error": f"{type(fault).__name__}: {fault}"})

    def _drop(self, client: Client) -> None:
        """The agent went away: containers stay, its exec sessions are killed."""
        self.clients.discard(client)
        self._forget(client.connection.fileno())
        client.connection.close()
        for task in list(self.execs.values()):
            if task.client is client:
                self._signal(task, signal.SIGKILL)

    def _tell(self, message: dict[str, Any], client: Client | None = None) -> None:
        for one in [client] if client else list(self.clients):
            if one in self.clients and not one.send(message):
                self._drop(one)

    # -- starting ---------------------------------------------------------------------------------------------------

    def do_start(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        task = Task(message["id"], message)
        if task.id in self.containers:
            raise ValueError(f"container {task.id} is already started")
        write_json(f"{task.directory}/start.json", message)
        self.containers[task.id] = task
        try:
            self._open_streams(task)
            pid = self._spawn(task, message["argv"], self._stdio(task))
        except OSError:
            self.containers.pop(task.id, None)
            self._close_streams(task)
            raise
        self.starting[pid] = (task, client, message.get("re"))

    def do_exec(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """Descriptors: stdin, stdout, stderr; with a terminal none, the master is sent back."""
        task = Task(message["id"], message)
        task.client = client
        stdio: tuple[int, int, int]
        if message["tty"]:
            task.console = Console(self.root, task.id)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            stdio, descriptors = (null, null, null), [null]
        else:
            stdio = (descriptors[0], descriptors[1], descriptors[2])
        try:
            pid = self._spawn(task, message["argv"], stdio)
        except OSError:
            self._close_console(task)
            raise
        finally:
            for fd in set(descriptors):
                os.close(fd)
        self.execs[task.id] = task
        self.starting[pid] = (task, client, message.get("re"))

    def _open_streams(self, task: Task) -> None:
        request = task.request
        task.log = Log(request["log"], request["log_size"], request["log_files"])
        if request["tty"]:
            task.console = Console(self.root, task.id)
            return
        for name in (b"stdout", b"stderr"):
            fd = os.open(f"{task.directory}/{name.decode()}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            task.outputs[fd] = name
            self._watch(fd, self._pump_callback(task, fd))
        if request["stdin"]:
            task.stdin = os.open(f"{task.directory}/stdin", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _stdio(self, task: Task) -> tuple[int, int, int]:
        """What the container inherits. Its outputs are opened for reading too, so that a dead supervisor is no broken
        pipe; stdin is not when it must end once (stdin_once)."""
        if task.request["tty"]:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            return null, null, null
        if task.request["stdin"]:
            mode = os.O_RDONLY if task.request["stdin_once"] else os.O_RDWR
            first = os.open(f"{task.directory}/stdin", mode | os.O_CLOEXEC)
        else:
            first = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        second = os.open(f"{task.directory}/stdout", os.O_RDWR | os.O_CLOEXEC)
        return first, second, os.open(f"{task.directory}/stderr", os.O_RDWR | os.O_CLOEXEC)

    def _take_console(self, task: Task) -> None:
        """Called when the low-level runtime has ended well."""
        assert task.console is not None
        try:
            task.terminal = task.console.take()
        finally:
            self._close_console(task)

    def _close_console(self, task: Task) -> None:
        if task.console is not None:
            task.console.close()
            task.console = None

    def _spawn(self, task: Task, argv: list[str], stdio: tuple[int, int, int]) -> int:
        """Fork (this process is small and has one thread) and run the low-level runtime in the container's cgroups."""
        own = stdio if task.client is None else ()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            for fd in set(own):
                os.close(fd)
            raise
        if pid == 0:
            child.low_level(task.request, argv, stdio, parent)
        for fd in set(own):
            os.close(fd)
        return pid

    # -- the process that holds a shared process namespace --------------------------------------------------------------

    def do_pause(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """Start PID 1 of a pod with shareProcessNamespace: it does nothing, has no rights and an empty root, and takes in
        orphans. Its id is written to `pid_file`; its group is how it is killed."""
        read, write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            child.pause_parent(message, write)
        os.close(write)
        with open(read, "rb") as pipe:
            answer = pipe.read(4096).decode()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        if answer.isdigit():
            client.send({"re": message.get("re"), "pid": int(answer)})
        else:
            client.send({"re": message.get("re"), "error": answer or "the pause process did not start"})

    # -- children end -----------------------------------------------------------------------------------------------

    def _reap(self, wakeup: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.starting:
                self._started(pid, status)
            elif pid in self.by_pid:
                self._ended(self.by_pid.pop(pid), status)
            elif self.starting:
                self.early[pid] = status

    def _started(self, pid: int, status: int) -> None:
        """The low-level runtime has done its work: the container runs, or it said why not."""
        task, client, ticket = self.starting.pop(pid)
        try:
            if status != 0:
                raise OSError(
                    errno.ECHILD, f"the low-level runtime ended with status {os.waitstatus_to_exitcode(status)}"
                )
            with open(task.request["pid_file"], encoding="ascii") as file:
                task.pid = int(file.read())
            if task.console is not None:
                self._take_console(task)
        except (OSError, ValueError) as fault:
            self._failed(task, client, ticket, fault)
            return
        self.by_pid[task.pid] = task
        if task.id in self.execs:
            descriptors = (task.terminal,) if task.terminal >= 0 else ()
            self._answer(client, {"re": ticket, "pid": task.pid}, descriptors)
            if task.terminal >= 0:
                os.close(task.terminal)
                task.terminal = -1
            if task.unwanted:
                self._signal(task, signal.SIGKILL)
        else:
            if task.terminal >= 0:
                self._watch_terminal(task)
            run = {"pid": task.pid, "start_time": start_time(task.pid), "started_at": time.time()}
            write_json(f"{task.directory}/run.json", run)
            self._answer(client, {"re": ticket, **run}, (task.terminal,) if task.terminal >= 0 else ())
        if task.pid in self.early:
            status = self.early.pop(task.pid)
            del self.by_pid[task.pid]
            self._ended(task, status)
        if not self.starting:
            self.early.clear()

    def _answer(self, client: Client | None, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        if client in self.clients and client is not None and not client.send(message, descriptors):
            self._drop(client)

    def _failed(self, task: Task, client: Client | None, ticket: Any, fault: Exception) -> None:
        self.containers.pop(task.id, None)
        self.execs.pop(task.id, None)
        self._close_console(task)
        self._close_streams(task)
        self._answer(client, {"re": ticket, "error": str(fault)})

    def _ended(self, task: Task, status: int | None, reason: str = "") -> None:
        """`status`: wait status, None when nobody could tell."""
        code, number = 137, 0
        if status is None:
            reason = "ContainerStatusUnknown"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            code = 128 + number
        else:
            code = os.WEXITSTATUS(status)
        if self.execs.pop(task.id, None) is not None:
            self._tell({"event": "exec_exit", "id": task.id, "code": code}, task.client)
            return
        self._kill_rest(task)
        for fd in list(task.outputs):
            self._pump(task, fd)
        self._close_streams(task)
        value = {"code": code, "signal": number, "finished_at": time.time(), "reason": reason, "oom": self._oom(task)}
        self.containers.pop(task.id, None)
        with contextlib.suppress(FileNotFoundError):  # removed by force meanwhile
            write_json(f"{task.directory}/exit.json", value)
        self._tell({"event": "exit", "id": task.id, **value})

    def _kill_rest(self, task: Task) -> None:
        """When PID 1 ends the container ends. Its process namespace sees to that; with a shared one we do."""
        for _ in range(100):
            try:
                with open(task.request["procs"], encoding="ascii") as file:
                    pids = [int(line) for line in file]
            except OSError:
                return
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def _oom(self, task: Task) -> bool:
        try:
            with open(task.request["oom"], encoding="ascii") as file:
                return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in file)
        except (OSError, ValueError):
            return False

    # -- output -----------------------------------------------------------------------------------------------------

    def _pump_callback(self, task: Task, fd: int) -> Callable[[], None]:
        return lambda: self._pump(task, fd, once=True)

    def _watch_terminal(self, task: Task) -> None:
        os.set_blocking(task.terminal, False)
        task.outputs[task.terminal] = b"stdout"
        self._watch(task.terminal, self._pump_callback(task, task.terminal))

    def _pump(self, task: Task, fd: int, once: bool = False) -> None:
        """Move what is there into the log and to attached clients."""
        while fd in task.outputs:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError:  # EIO: the terminal's other side is closed
                data = b""
            if not data:
                self._forget(fd)
                return
            stream = task.outputs[fd]
            assert task.log is not None
            task.log.write(stream, data)
            taps = task.taps.get(stream)
            if taps:
                for tap in [tap for tap in taps if not tap.send(data)]:
                    tap.socket.close()
                    taps.remove(tap)
            if once:
                return

    def _close_streams(self, task: Task) -> None:
        for fd in task.outputs:
            self._forget(fd)
            os.close(fd)
        if task.terminal >= 0 and task.terminal not in task.outputs:
            os.close(task.terminal)
        task.terminal = -1
        task.outputs.clear()
        if task.stdin >= 0:
            os.close(task.stdin)
            task.stdin = -1
        if task.pidfd >= 0:
            self._forget(task.pidfd)
            os.close(task.pidfd)
            task.pidfd = -1
        for taps in task.taps.values():
            for tap in taps:
                tap.socket.close()
        task.taps.clear()
        if task.log is not None:
            task.log.close()

    # -- other requests ---------------------------------------------------------------------------------------------

    def do_kill(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        task = self.containers.get(message["id"]) or self.execs.get(message["id"])
        client.send({"re": message.get("re"), "sent": task is not None and self._signal(task, message["signal"])})

    def _signal(self, task: Task, number: int) -> bool:
        """No race with pid reuse: a child keeps its id until we reap it, an adopted process has a pidfd."""
        try:
            if task.pidfd >= 0:
                signal.pidfd_send_signal(task.pidfd, number)
            elif task.pid:
                os.kill(task.pid, number)
            else:
                task.unwanted = task.client is not None and number == signal.SIGKILL
                return False
        except ProcessLookupError:
            return False
        return True

    def do_attach(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """Descriptors: a socket for stdout, one for stderr (without a terminal). With stdin, its write side goes back."""
        task = self.containers.get(message["id"])
        if task is None or not task.pid:
            raise ValueError(f"container {message['id']} is not running")
        if task.request["tty"] and task.terminal < 0:
            raise ValueError(f"the terminal of container {message['id']} is lost")
        for taps in task.taps.values():
            for tap in [tap for tap in taps if tap.gone]:
                tap.socket.close()
                taps.remove(tap)
        for name, fd in zip((b"stdout", b"stderr"), descriptors, strict=False):
            task.taps.setdefault(name, []).append(Tap(fd))
        back: tuple[int, ...] = ()
        if task.terminal >= 0:
            back = (task.terminal,)
        elif message["stdin"] and task.stdin >= 0:
            back = (task.stdin,)
        self._answer(client, {"re": message.get("re"), "tty": task.terminal >= 0}, back)

    def do_close_stdin(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """stdin_once: the reader sees the end once our side is closed, too."""
        task = self.containers.get(message["id"])
        if task is not None and task.stdin >= 0 and task.request["stdin_once"]:
            os.close(task.stdin)
            task.stdin = -1
        client.send({"re": message.get("re")})

    def do_terminal(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """The agent gives us a terminal that our predecessor had (a descriptor comes), or asks for ours (one goes)."""
        task = self.containers.get(message["id"])
        if task is not None and task.pid and task.terminal < 0 and descriptors and task.request["tty"]:
            task.terminal = descriptors.pop()
            self._watch_terminal(task)
        for fd in descriptors:
            os.close(fd)
        ours = task.terminal if task is not None else -1
        self._answer(client, {"re": message.get("re")}, (ours,) if ours >= 0 else ())

    def do_ping(self, client: Client, message: dict[str, Any], descriptors: list[int]) -> None:
        """What this supervisor watches; the agent compares it with its own view."""
        running = [task.id for task in self.containers.values() if task.pid]
        client.send({"re": message.get("re"), "pid": os.getpid(), "running": running[:1000]})

    # -- adoption ---------------------------------------------------------------------------------------------------

    def adopt_all(self) -> None:
        """Take over what a killed supervisor left: containers that run, and those whose start it did not finish."""
        try:
            names = os.listdir(f"{self.root}/containers")
        except FileNotFoundError:
            return
        for name in names:
            directory = f"{self.root}/containers/{name}"
            request = read_json(f"{directory}/start.json")
            if request is None or os.path.exists(f"{directory}/exit.json"):
                continue
            self._adopt(Task(name, request))

    def _adopt(self, task: Task) -> None:
        run = read_json(f"{task.directory}/run.json")
        if run is None:
            # The low-level runtime was killed with the old supervisor: nobody knows how far it came. Start over.
            task.log = None
            self._end_unfinished(task)
            return
        task.pid = int(run["pid"])
        self.containers[task.id] = task
        with contextlib.suppress(OSError):
            self._open_adopted(task)
        try:
            task.pidfd = os.pidfd_open(task.pid)
            if run["start_time"] and start_time(task.pid) not in ("", run["start_time"]):
                raise ProcessLookupError
        except OSError:
            self._ended(task, noted_status(task.directory))
            return
        self._watch(task.pidfd, lambda: self._adopted_ended(task))

    def _open_adopted(self, task: Task) -> None:
        if task.request["tty"]:
            request = task.request
            task.log = Log(request["log"], request["log_size"], request["log_files"])
            return
        self._open_streams(task)

    def _end_unfinished(self, task: Task) -> None:
        self._kill_rest(task)
        value = {"code": 137, "signal": 9, "finished_at": time.time(), "reason": "ContainerStatusUnknown", "oom": False}
        write_json(f"{task.directory}/exit.json", value)
        self._tell({"event": "exit", "id": task.id, **value})

    def _adopted_ended(self, task: Task) -> None:
        """The pidfd says that it is dead. Its new parent may reap late: until then /proc has the wait status, afterwards the
        pidfd."""
        self._forget(task.pidfd)
        status = zombie_status(task.pid)
        if status is None:
            status = kernel.pidfd_exit_status(task.pidfd)
        self._ended(task, status)


def main(root: str) -> int:
    lock = os.open(f"{root}/supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another supervisor has this directory", file=sys.stderr)
        return 3
    supervisor = Supervisor(root)
    supervisor.watch_children()
    supervisor.adopt_all()
    files.replace(f"{root}/supervisor.pid", f"{os.getpid()}\n".encode())
    supervisor.listen()
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
