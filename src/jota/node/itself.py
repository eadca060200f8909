"""The agent's own process, seen as the one container of its mirror pod: what it is, what it uses. In: /proc. Out: values.

`Itself.here` looks once, at the start; `container` and `use` give the forms in which the runtime tells of containers, so
that status.py and summary.py need no other rules for it. Next: mirror.py.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from jota.runtime.protocol import Container, Stats

CONTAINER = "agent"


@dataclass(slots=True, frozen=True)
class Itself:
    pid: int
    ticks: int
    """When the process started, in clock ticks since boot: with the pid it names the process beyond doubt."""
    started_at: float
    """Epoch seconds."""
    version: str
    log_path: str = ""
    """The file that the agent logs to; "" when that is no file (a terminal, a pipe of the init system)."""
    proc: str = "/proc"

    @classmethod
    def here(cls, version: str, *, log: int = 2, proc: str = "/proc") -> Itself:
        """This process; `log`: the descriptor that it logs to."""
        fields, frequency = _fields(f"{proc}/self/stat"), os.sysconf("SC_CLK_TCK")
        with open(f"{proc}/stat", encoding="ascii") as f:
            boot = next(float(line.split()[1]) for line in f if line.startswith("btime "))
        return cls(os.getpid(), fields[19], boot + fields[19] / frequency, version, _file(log, proc), proc)

    @property
    def image(self) -> str:
        """`jota:<version>`; a local version's plus sign is not allowed in a tag."""
        return "jota:" + self.version.replace("+", "-")

    @property
    def id(self) -> str:
        return f"agent-{self.pid}-{self.ticks}"

    def container(self, pod_uid: str, attempt: int = 0) -> Container:
        return Container(
            self.id, f"sandbox-{self.id}", pod_uid, CONTAINER, attempt, self.image, "", "running",
            self.started_at, self.started_at, pid=self.pid, log_path=self.log_path,
        )  # fmt: skip

    def use(self, now: float) -> Stats:
        """CPU time of all its threads and resident memory, at `now` (epoch seconds). Raises OSError."""
        fields = _fields(f"{self.proc}/{self.pid}/stat")
        cpu = (fields[11] + fields[12]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        memory = fields[21] * os.sysconf("SC_PAGE_SIZE")
        return Stats(self.id, now, cpu, memory, memory, fields[17])


def _fields(path: str) -> list[int]:
    """The numbers of a `stat` file (proc(5)), from the state on: [11] utime, [12] stime, [17] threads, [19] starttime,
    [21] resident pages. The command's name before them may hold spaces and brackets."""
    with open(path, encoding="ascii", errors="replace") as f:
        words = f.read().rpartition(")")[2].split()
    return [0, *map(int, words[1:])]


def _file(descriptor: int, proc: str) -> str:
    """The path behind a descriptor when it is a regular file."""
    try:
        found = os.fstat(descriptor)
        return os.readlink(f"{proc}/self/fd/{descriptor}") if stat.S_ISREG(found.st_mode) else ""
    except OSError:
        return ""
