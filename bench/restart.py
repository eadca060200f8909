"""A full store: memory per stored pod, and a restart with 100,000 objects

Pods of 3.9 KB at rest that name a scheduler that is not there; the server's memory grows by what the store, its history of
five minutes and the caches of scheduler and controllers hold of them. Then ConfigMaps of 3 KB fill the store up to 100,000
objects, the server is killed (SIGKILL) and started again on the same data; the clock runs from the start of the process
until `/readyz` says ok, and until a list of one object is answered.
"""

from __future__ import annotations

import json
import os
import signal
import time

from bench import load
from bench.api import _path, _pod, _text
from bench.cluster import Cluster, cluster, jota
from bench.figure import Figure
from bench.idle import memory

PODS, OBJECTS = 20_000, 100_000
_CACHES = (
    "beside the bytes at rest (3.8 KB) there are the store's entry, one typed view of every pod and their keys, some 0.9 KB; the "
    "rest is what the allocator keeps of the requests that made them"
)


def run() -> list[Figure]:
    with cluster(nodes=0) as made:
        server = _server(made)
        before = memory(server, "Rss")
        _fill(made, "pods", json.dumps(_pod()), PODS)
        pods = memory(server, "Rss") - before
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c#"}, "data": {"text": "x" * 2700}}
        _fill(made, "configmaps", _text(body), OBJECTS - PODS)
        os.kill(server, signal.SIGKILL)
        took = _restart(made)
        size = sum(f.stat().st_size for f in (made.directory / "data").rglob("store.db*")) / 1e6
        return [
            Figure(
                name="memory per stored pod of 3.9 KB, with all caches",
                value=1000 * pods / PODS,
                unit="KB",
                target=6,
                why=_CACHES,
            ),
            Figure(
                name=f"restart with {OBJECTS:,} objects, to the first answer",
                value=took,
                unit="s",
                target=1.5,
                note=f"the store's files take {size:.0f} MB; {memory(_server(made), 'Rss'):.0f} MB of memory afterwards",
                why="the log is read once and indexed in Python; the rest is the start of the interpreter and its modules",
            ),
        ]


def _fill(made: Cluster, plural: str, body: str, total: int) -> None:
    options = {"config": made.config, "work": str(made.directory), "connections": 64, "first": 0}
    while total > 0:
        batch = min(total, 20_000)
        load.run(mode="rate", method="POST", path=_path(plural), body=body, total=batch, **options)
        options["first"] = int(str(options["first"])) + batch + 64
        total -= batch


def _server(made: Cluster) -> int:
    return next(int(p["pid"]) for p in made.status()["processes"] if p["role"] == "server")


def _restart(made: Cluster) -> float:
    """Seconds until a list is answered. `jota up` brings the server back; its own start is part of the time."""
    begin = time.monotonic()
    jota(
        "up",
        "--name",
        made.name,
        "--data-dir",
        str(made.directory / "data"),
        "--kubeconfig",
        made.config,
        "--nodes",
        "0",
    )
    with made.http() as api:
        api.json("GET", _path("pods") + "?limit=1")
    return time.monotonic() - begin
