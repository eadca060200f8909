"""An idle cluster of one node: memory and processor time of all its processes together

Server, agent and supervisor after 10 s of settling, over a minute in which nobody asks anything of the cluster. PSS counts
what processes share once; RSS counts it in each of them.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.cluster import cluster, needs_root
from bench.figure import Figure

SETTLE, WINDOW = 10.0, 60.0


def run() -> list[Figure]:
    needs_root("a node")
    with cluster() as made:
        time.sleep(SETTLE)
        processes = {int(p["pid"]): str(p["role"]) for p in made.status()["processes"]}
        before = {pid: seconds(pid) for pid in processes}
        time.sleep(WINDOW)
        used = {pid: seconds(pid) - before[pid] for pid in processes}
        rss = {pid: memory(pid, "Rss") for pid in processes}
        pss = sum(memory(pid, "Pss") for pid in processes)
    parts = ", ".join(f"{role} {rss[pid]:.0f} MB and {used[pid] / WINDOW:.2%}" for pid, role in processes.items())
    return [
        Figure(
            name="RSS, all processes",
            value=sum(rss.values()),
            unit="MB",
            target=200,
            peer="k0s, operating system included",
            peer_value=510,
            published=True,
            note=parts,
            why="Python's modules are most of it; merging agent and supervisor would save one interpreter",
        ),
        Figure(name="PSS, all processes", value=pss, unit="MB"),
        Figure(
            name="CPU, all processes",
            value=100 * sum(used.values()) / WINDOW,
            unit="% of a core",
            target=2,
            peer="k3s resource profiling",
            peer_value=5,
            published=True,
            why="every informer's resync, lease and look at the containers wakes an interpreter; fewer wake-ups mend it",
        ),
    ]


def seconds(pid: int) -> float:
    """Processor time of all threads so far, to the nanosecond (/proc/PID/task/TID/schedstat); `stat` only counts ticks."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def memory(pid: int, what: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel tells no {what} of process {pid}")
