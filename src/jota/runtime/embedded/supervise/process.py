"""What /proc and pidfds tell of processes that are not our children. Loaded by the supervisor: standard library only."""

from __future__ import annotations


def start_time(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat: tells a process from a later one with the same id. "" when it is gone or dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def zombie_status(pid: int) -> int | None:
    """The last field of a zombie's /proc/<pid>/stat; None when there is no such zombie (any more)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] == "Z" else None


def noted_status(directory: str) -> int | None:
    """What the agent learnt of an exit that no supervisor watched (`holder.py`)."""
    try:
        with open(f"{directory}/status", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def rename_self(name: bytes) -> None:
    """Overwrite our command line: the containers that see this process need not see the host's paths."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(name[: end - start - 1].ljust(end - start, b"\0"))
