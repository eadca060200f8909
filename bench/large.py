"""The largest cluster that upstream supports, on one machine: 5,000 nodes and 150,000 pods

Fifteen deployments of 10,000 pods on 5,000 simulated nodes, with all controllers on. When all pods are ready: the memory of all
processes together, and their processor time over a minute in which nothing happens but heartbeats.
"""

from __future__ import annotations

import time

from bench.cluster import directory, needs_root
from bench.endtoend import _deployment
from bench.figure import Figure
from bench.idle import memory, seconds

NODES, DEPLOYMENTS, EACH = 5_000, 15, 10_000
WINDOW, SETTLE, PATIENCE = 60.0, 30.0, 1200.0
_PATH = "/apis/apps/v1/namespaces/default/deployments"


def run() -> list[Figure]:
    needs_root("a cluster")
    with directory() as made:
        made.up(0, "--hollow", str(NODES))
        begin = time.monotonic()
        with made.http() as api:
            for number in range(DEPLOYMENTS):
                body = _deployment()
                body["metadata"]["name"] = name = f"bench{number}"
                labels = {"app": name}
                body["spec"] |= {"replicas": EACH, "selector": {"matchLabels": labels}}
                body["spec"]["template"]["metadata"]["labels"] = labels
                api.json("POST", _PATH, body)
                while (ready := api.json("GET", f"{_PATH}/{name}").get("status", {}).get("readyReplicas", 0)) < EACH:
                    if time.monotonic() - begin > PATIENCE:
                        raise RuntimeError(f"{name}: {ready} of {EACH} pods are ready after {PATIENCE:.0f} s in all")
                    time.sleep(0.2)
        took = time.monotonic() - begin
        time.sleep(SETTLE)
        processes = {int(p["pid"]): str(p["role"]) for p in made.status()["processes"]}
        before = {pid: seconds(pid) for pid in processes}
        time.sleep(WINDOW)
        used = {pid: (seconds(pid) - before[pid]) / WINDOW for pid in processes}
        held = {pid: memory(pid, "Rss") for pid in processes}
    parts = ", ".join(
        f"{role} {held[pid] / 1000:.2f} GB and {used[pid]:.0%} of a core" for pid, role in processes.items()
    )
    return [
        Figure(
            name=f"{DEPLOYMENTS * EACH:,} pods from create to ready",
            value=DEPLOYMENTS * EACH / took,
            unit="pods/s",
            better="more",
        ),
        Figure(name="memory of all processes", value=sum(held.values()) / 1000, unit="GB", target=6, note=parts),
        Figure(
            name="processor time while nothing happens",
            value=sum(used.values()),
            unit="cores",
            target=0.5,
            why="500 leases a second, each a durable write, are most of it",
        ),
    ]
