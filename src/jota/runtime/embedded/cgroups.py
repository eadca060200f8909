"""Control groups: v1, hybrid (v1 controllers beside a unified tree) and v2 behind one set of verbs.

A `Resources` value comes in; directories and numbers in /sys/fs/cgroup go out. Layout: <parent>/jota-<name>/<pod>/<container>.
On v1 the container's first process joins by itself, writing "0" to `tasks` (joining another process costs a grace
period of milliseconds): `join_files` names the files and `supervisor.py` does it. On v2 the low-level runtime joins.
"""

from __future__ import annotations

import errno
import glob
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Literal

from jota.runtime.protocol import Resources

MODE = Literal["v1", "hybrid", "v2"]
DEFAULT_DEVICES = (
    "c *:* m", "b *:* m",  # mknod is allowed (CAP_MKNOD); opening is not
    "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",  # null zero full random urandom
    "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm",  # tty console ptmx pts net/tun
)  # fmt: skip
_CLOCK_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Layout:
    """Where the machine mounts its hierarchies."""

    mode: MODE
    controllers: dict[str, str] = field(default_factory=dict)
    """v1: controller (or "systemd") -> mount point."""
    unified: str = ""


def detect(mountinfo: str | None = None) -> Layout:
    """Read the layout from mountinfo text (default: this process' own)."""
    if mountinfo is None:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mountinfo = file.read()
    controllers: dict[str, str] = {}
    unified = ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if tail[0] == "cgroup2":
            unified = unified or fields[4]
        elif tail[0] == "cgroup":
            for option in tail[2].split(","):
                if option in _V1 or option.startswith("name="):
                    controllers.setdefault(option.removeprefix("name="), fields[4])
    if not controllers:
        return Layout("v2", {}, unified)
    return Layout("hybrid" if unified else "v1", controllers, unified)


_V1 = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
)


def find_parents(layout: Layout, name: str) -> list[str]:
    """Parents, relative to the hierarchies, below which a node `name` has its group: for when its directory is gone."""
    found: set[str] = set()
    for root in [*layout.controllers.values(), *([layout.unified] if layout.unified else [])]:
        for depth in ("", "*/", "*/*/"):
            found.update(
                os.path.relpath(os.path.dirname(path), root)
                for path in glob.glob(f"{root}/{depth}jota-{glob.escape(name)}")
            )
    return sorted("" if parent == "." else parent for parent in found)


class Cgroups:
    """The groups of one node. `base` is relative to each hierarchy's mount point."""

    def __init__(self, layout: Layout, parent: str, name: str) -> None:
        self.layout = layout
        self.base = "/".join(part for part in (parent.strip("/"), f"jota-{name}") if part)

    @property
    def self_join(self) -> bool:
        return self.layout.mode != "v2"

    def _roots(self) -> list[str]:
        if self.layout.mode == "v2":
            return [self.layout.unified]
        return list(dict.fromkeys(self.layout.controllers.values()))

    def _every_root(self) -> list[str]:
        """With the unified tree of a hybrid layout: runc makes groups there, too."""
        return list(dict.fromkeys([*self._roots(), *([self.layout.unified] if self.layout.unified else [])]))

    def _dir(self, controller: str, path: str) -> str:
        if self.layout.mode == "v2":
            return f"{self.layout.unified}/{self.base}/{path}".rstrip("/")
        root = self.layout.controllers.get(controller)
        return f"{root}/{self.base}/{path}".rstrip("/") if root else ""

    def create_base(self) -> None:
        """Make the node's own group. Raises OSError when the hierarchies cannot be written."""
        for root in self._roots():
            at = root
            for part in self.base.split("/"):
                parent, at = at, f"{at}/{part}"
                _mkdir(at)
                if self.layout.mode == "v2":
                    _delegate(parent)
                elif root == self.layout.controllers.get("cpuset"):
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        if not _read(f"{at}/{name}").strip():
                            _write(f"{at}/{name}", _read(f"{parent}/{name}").strip())
                    _write(f"{at}/cgroup.clone_children", "1")
            if self.layout.mode == "v2":
                _delegate(at)

    def create(self, path: str, resources: Resources | None = None) -> None:
        """Make the group `path` below the base, and set its limits."""
        for root in self._roots():
            _mkdir(f"{root}/{self.base}/{path}")
            if self.layout.mode == "v2" and "/" not in path:
                _delegate(f"{root}/{self.base}/{path}")
        if resources is not None:
            self.limit(path, resources)

    def limit(self, path: str, resources: Resources, *, lift: bool = False) -> None:
        """Write `resources`; `lift`: to a group that may have limits already, which go where there are to be none. Raises
        OSError."""
        for controller, name, value in self.limits(resources, lift=lift):
            directory = self._dir(controller, path)
            if directory:
                _write(f"{directory}/{name}", value)

    def limits(self, resources: Resources, *, lift: bool = False) -> list[tuple[str, str, str]]:
        """(controller, file, value): pure. cpu.weight from shares is the mapping of the OCI runtimes."""
        r = resources
        out: list[tuple[str, str, str]] = []
        if self.layout.mode == "v2":
            if r.cpu_shares:
                out.append(("cpu", "cpu.weight", str(1 + (max(2, min(r.cpu_shares, 262144)) - 2) * 9999 // 262142)))
            out.append(("cpu", "cpu.max", f"{r.cpu_quota if (r.cpu_quota or 0) > 0 else 'max'} {r.cpu_period}"))
            out.append(("memory", "memory.max", str(r.memory_limit or "max")))
            out.append(("pids", "pids.max", str(r.pids_limit or "max")))
            return out
        if r.cpu_shares:
            out.append(("cpu", "cpu.shares", str(max(2, r.cpu_shares))))
        if r.cpu_quota:
            out += [("cpu", "cpu.cfs_period_us", str(r.cpu_period)), ("cpu", "cpu.cfs_quota_us", str(r.cpu_quota))]
        elif lift:
            out.append(("cpu", "cpu.cfs_quota_us", "-1"))
        if r.memory_limit or lift:
            out.append(("memory", "memory.limit_in_bytes", str(r.memory_limit or -1)))
        if r.pids_limit:
            out.append(("pids", "pids.max", str(r.pids_limit)))
        return out

    def allow_devices(self, path: str, rules: tuple[str, ...]) -> None:
        """v1 devices controller: deny all, then allow `rules`. On v2 the low-level runtime loads a BPF program."""
        directory = self._dir("devices", path) if self.layout.mode != "v2" else ""
        if directory:
            _write(f"{directory}/devices.deny", "a")
            for rule in rules:
                _write(f"{directory}/devices.allow", rule)

    def join_files(self, path: str, always: bool = False) -> list[str]:
        """Files that take "0" from a process which joins the group; on v2 only when `always`, for there the low-level runtime
        joins."""
        if self.layout.mode == "v2":
            return [self.procs_file(path)] if always else []
        return [f"{root}/{self.base}/{path}/tasks" for root in self._roots()]

    def procs_file(self, path: str) -> str:
        """The file that lists the group's processes."""
        return f"{self._main_dir(path)}/cgroup.procs"

    def end(self, path: str, seconds: float = 5.0) -> bool:
        """Kill and remove the group, waiting for its processes to go. False when they do not. Blocks."""
        deadline, pause = time.monotonic() + seconds, 0.0005
        while self.kill(path) or not self.remove(path):
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)  # noqa: TID251 (on a worker thread, for a process that is dying)
            pause = min(pause * 2, 0.05)
        return True

    def oom_file(self, path: str) -> str:
        """The file whose `oom_kill N` line counts kills."""
        directory = self._dir("memory", path)
        if not directory:
            return ""
        return f"{directory}/memory.events" if self.layout.mode == "v2" else f"{directory}/memory.oom_control"

    def _main_dir(self, path: str) -> str:
        for controller in ("freezer", "pids", "memory", "cpu"):
            directory = self._dir(controller, path)
            if directory:
                return directory
        return ""

    def processes(self, path: str = "") -> list[int]:
        """Process ids in the group and the groups below it."""
        out: set[int] = set()
        top = self._main_dir(path)
        for directory, _, _ in os.walk(top) if top else ():
            out.update(int(word) for word in _read(f"{directory}/cgroup.procs").split())
        out.discard(0)
        return sorted(out)

    def kill(self, path: str = "") -> int:
        """SIGKILL everything in the group and below; returns how many processes were signalled."""
        directory = self._main_dir(path)
        if self.layout.mode == "v2" and os.path.exists(f"{directory}/cgroup.kill"):
            count = len(self.processes(path))
            if count:
                _write(f"{directory}/cgroup.kill", "1")
            return count
        found = self.processes(path)
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(found)

    def remove(self, path: str = "") -> bool:
        """Remove the group and everything below it; False while a process is still in it."""
        done = True
        for root in self._every_root():
            for directory, _, _ in os.walk(f"{root}/{self.base}/{path}".rstrip("/"), topdown=False):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    continue
                except OSError as fault:
                    if fault.errno != errno.EBUSY:
                        raise
                    done = False
        return done

    def remove_parents(self) -> None:
        """Remove the groups above the base that this project named and that are empty now."""
        for root in self._every_root():
            at = os.path.dirname(self.base)
            while at and os.path.basename(at).startswith("jota-"):
                try:
                    os.rmdir(f"{root}/{at}")
                except OSError as fault:
                    if fault.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
                        raise
                    break
                at = os.path.dirname(at)

    def usage(self, path: str) -> tuple[int, int, int, int]:
        """(cpu nanoseconds, memory working set, memory usage, pids). Raises FileNotFoundError when the group is gone."""
        if self.layout.mode == "v2":
            directory = self._dir("", path)
            cpu = _stat(f"{directory}/cpu.stat").get("usage_usec", 0) * 1000
            usage = int(_read(f"{directory}/memory.current") or 0)
            inactive = _stat(f"{directory}/memory.stat").get("inactive_file", 0)
            return cpu, max(0, usage - inactive), usage, int(_read(f"{directory}/pids.current") or 0)
        with open(f"{self._dir('cpuacct', path)}/cpuacct.usage", encoding="ascii") as file:
            cpu = int(file.read())
        memory = self._dir("memory", path)
        usage = int(_read(f"{memory}/memory.usage_in_bytes") or 0)
        inactive = _stat(f"{memory}/memory.stat").get("total_inactive_file", 0)
        return cpu, max(0, usage - inactive), usage, int(_read(f"{self._dir('pids', path)}/pids.current") or 0)


def _mkdir(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as fault:
        raise OSError(fault.errno, f"{os.strerror(fault.errno or 0)}: {value!r} to {path}") from fault
    finally:
        os.close(fd)


def _read(path: str) -> str:
    """The file's text; empty when the group or file is gone."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, OSError):
        return ""


def _stat(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _delegate(path: str) -> None:
    """v2: hand the controllers that exist here to the groups below (one by one: a missing one must not stop the rest)."""
    for controller in _read(f"{path}/cgroup.controllers").split():
        if controller in ("cpu", "cpuset", "io", "memory", "pids"):
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{controller}")
            except OSError as fault:
                if fault.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTSUP, errno.EACCES):
                    raise
