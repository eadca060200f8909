"""Background processes of an instance: start them apart from the terminal, find them again, end them.

A pid alone proves nothing (pids are reused), so a process is ours only if its command line carries the instance's data
directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jota.run.instance import Instance, Refused
from jota.run.pidfile import READY

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Set in many container images, it makes each start of an editable installation compile every module anew: half its time.
Our daemons write byte code where Python keeps it by default (and do without where they may not write)."""


@dataclass(slots=True, frozen=True)
class Process:
    role: str
    """server | agent | supervisor | hollow | autoscaler"""
    pid: int
    node: str = ""
    ready: bool = True
    """False while it starts."""

    @property
    def rss(self) -> int:
        """Resident memory in bytes; 0 when the process is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")


def start(command: list[str], log: Path, *, netns: str = "") -> tuple[subprocess.Popen[bytes], int]:
    """Run `jota <command>` in its own session, output to `log`. Returns the process and the read end of its ready pipe:
    the process writes one line there when it serves, and closes it when it dies."""
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    arguments = [sys.executable, "-X", "utf8", "-m", "jota.cli.main", *command, "--ready-fd", str(write_end)]
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*_inside(netns), *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(write_end,),
            start_new_session=True,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != _NO_BYTECODE},
        )
    os.close(write_end)
    return process, read_end


def _inside(netns: str) -> list[str]:
    """nsenter (util-linux) joins the network namespace alone; `ip netns exec` would also remount /sys and hide cgroups."""
    return ["nsenter", f"--net={netns}", "--"] if netns else []


def running(instance: Instance) -> list[Process]:
    """Every live process of this instance."""
    found = []
    if pid := _read(path := instance.pid_file("server"), instance.data_dir):
        found.append(Process("server", pid, ready=_ready(path)))
    if pid := _read(instance.pid_file("hollow"), instance.data_dir):
        found.append(Process("hollow", pid))
    if pid := _read(path := instance.pid_file("autoscaler"), instance.data_dir):
        found.append(Process("autoscaler", pid, ready=_ready(path)))
    for node in instance.nodes:
        if pid := _read(path := instance.pid_file("agent", node.name), instance.data_dir):
            found.append(Process("agent", pid, node.name, _ready(path)))
        if pid := _read(instance.node_dir(node.name) / "runtime" / "run" / "supervisor.pid", instance.data_dir):
            found.append(Process("supervisor", pid, node.name))
    return found


def strays(instance: Instance) -> list[Process]:
    """Servers, agents and autoscalers that have no pid file yet: who started them was killed right after."""
    known = {p.pid for p in running(instance)}
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        words = _command(pid)
        role = next((r for r in ("server", "agent", "autoscale") if r in words), "")
        mine = any(w == instance.data_dir or w.startswith(f"{instance.data_dir}/nodes/") for w in words)
        if role and mine and "jota.cli.main" in words and pid not in known:
            found.append(Process(role, pid, ready=False))
    return found


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _ready(pid_file: Path) -> bool:
    try:
        return READY in pid_file.read_text().split()
    except OSError:
        return False


def settle(process: Process, instance: Instance, patience: float) -> bool:
    """Wait for a process that somebody else started: True once it is ready, False if it ended. Raises Refused."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        now = next((p for p in running(instance) if p.pid == process.pid), None)
        if now is None or now.ready:
            return now is not None
        time.sleep(0.01)
    log = instance.log_file(process.role, process.node)
    raise Refused(f"the {process.role} (process {process.pid}) is not ready after {patience:.0f} s; its log: {log}")


def _read(path: Path, mark: str) -> int:
    try:
        pid = int(path.read_text().split()[0])
        return pid if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    except (OSError, ValueError, IndexError):
        return 0


def end(processes: Iterable[Process], grace: float) -> None:
    """SIGTERM, then SIGKILL after `grace` seconds; returns once all are gone."""
    waiting = list(processes)
    for process in waiting:
        _signal(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while waiting and time.monotonic() < deadline:
        time.sleep(0.01)
        waiting = [p for p in waiting if _alive(p.pid)]
    for process in waiting:
        _signal(process.pid, signal.SIGKILL)
    while any(_alive(p.pid) for p in waiting):
        time.sleep(0.005)


def gone(process: Process, patience: float) -> bool:
    """Wait up to `patience` seconds until a process has ended by itself; whether it has."""
    deadline = time.monotonic() + patience
    while _alive(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
