"""What the machine has: capacity, nodeInfo, pressure. In: /proc, statvfs. Out: plain values. The only reader of both.

Next: nodestatus.py makes the Node's status of it; eviction.py decides on pressure.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int


@dataclass(slots=True, frozen=True)
class Disk:
    """Bytes, and fractions of free inodes."""

    total: int
    available: int
    inodes: int
    inodes_free: int


class Machine:
    """Reads `proc` ("/proc") and the file system of `data_dir`."""

    def __init__(self, data_dir: str, proc: str = "/proc") -> None:
        self._data_dir, self._proc = data_dir, proc
        self.memory_total = self.memory().total

    def memory(self) -> Memory:
        fields: dict[str, int] = {}
        with open(os.path.join(self._proc, "meminfo"), encoding="ascii") as f:
            for line in f:
                name, _, rest = line.partition(":")
                fields[name] = int(rest.split()[0]) << 10
        return Memory(fields["MemTotal"], fields.get("MemAvailable", fields.get("MemFree", 0)))

    def disk(self) -> Disk:
        path = self._data_dir
        while not os.path.exists(path):
            path = os.path.dirname(path)
        s = os.statvfs(path)
        return Disk(s.f_blocks * s.f_frsize, s.f_bavail * s.f_frsize, s.f_files, s.f_ffree)

    def pids(self) -> tuple[int, int]:
        """(in use, limit) of the whole machine."""
        with open(os.path.join(self._proc, "loadavg"), encoding="ascii") as f:
            used = int(f.read().split()[3].partition("/")[2])
        limits = []
        for name in ("sys/kernel/pid_max", "sys/kernel/threads-max"):
            with open(os.path.join(self._proc, name), encoding="ascii") as f:
                limits.append(int(f.read()))
        return used, min(limits)

    def capacity(self, max_pods: int) -> dict[str, str]:
        """Resource quantities as in Node.status.capacity."""
        return {
            "cpu": str(os.cpu_count() or 1),
            "memory": f"{self.memory_total >> 10}Ki",
            "ephemeral-storage": f"{self.disk().total >> 10}Ki",
            "hugepages-2Mi": "0",
            "pods": str(max_pods),
        }

    def info(self) -> dict[str, str]:
        """The machine's half of nodeInfo."""
        uname = platform.uname()
        return {
            "machineID": _text("/etc/machine-id"),
            "systemUUID": _text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
            "bootID": _text(os.path.join(self._proc, "sys/kernel/random/boot_id")),
            "kernelVersion": uname.release,
            "osImage": _os_name(),
            "operatingSystem": "linux",
            "architecture": architecture(uname.machine),
        }


def architecture(machine: str) -> str:
    """Go's name of a processor architecture."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)


def _os_name() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""  # containers and small distributions lack some of these files; the field stays empty
