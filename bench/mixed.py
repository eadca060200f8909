"""Ten minutes of mixed load: the longest pauses

Six clients create, read, list and replace ConfigMaps and pods all over TLS, for JOTA_BENCH_MIXED
seconds (600 unless set). Beside them a client of its own asks for one small object again and again, one request at a time:
whatever stops the server's loop (garbage collection, a checkpoint, compaction, a long list) shows in its longest answers.
"""

from __future__ import annotations

import os
import time

from bench import load
from bench.api import _path, _pod, _text
from bench.cluster import Cluster, cluster
from bench.figure import Figure

SECONDS = int(os.environ.get("JOTA_BENCH_MIXED", "600"))
_WHY = (
    "one loop serves all: while a large answer is joined and encrypted, or Python's collector looks at what is new, others wait; "
    "the figure also holds what the probing client itself waits for one of the two cores"
)


def run() -> list[Figure]:
    with cluster(nodes=0) as made:
        _seed(made)
        generators = [load.start(options) for options in _loads(made)]
        try:
            probe = load.run(
                mode="rate",
                method="GET",
                path=_path("configmaps") + "/probe",
                connections=1,
                seconds=SECONDS,
                **_at(made),
            )
            results = [load.result(g) for g in generators]
        finally:
            for generator in generators:
                generator.kill()
                generator.wait()
        rate = sum(r["rate"] for r in results)
    return [
        Figure(
            name=f"longest answer in {SECONDS} s",
            value=probe["max"],
            unit="ms",
            target=50,
            note=f"p50 {probe['p50']:.2f} ms, p99 {probe['p99']:.2f} ms, p99.9 {probe['p99.9']:.2f} ms of {probe['count']:,} answers",
            why=_WHY,
        ),
        Figure(name="requests of all clients meanwhile", value=rate, unit="requests/s", better="more"),
    ]


def _at(made: Cluster) -> dict[str, str]:
    return {"config": made.config, "work": str(made.directory)}


def _seed(made: Cluster) -> None:
    with made.http() as api:
        api.json("POST", _path("configmaps"), {"metadata": {"name": "probe"}, "data": {"a": "b"}})
    create = {"mode": "rate", "method": "POST", "connections": 8, "total": 2_000, **_at(made)}
    load.run(path=_path("pods"), body=_text(_pod()), first=0, **create)
    time.sleep(1)


def _loads(made: Cluster) -> list[dict[str, object]]:
    common = {"mode": "rate", "seconds": SECONDS, **_at(made)}
    body = _text({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m#"}, "data": {"text": "x" * 500}})
    lease = _text({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}, "data": {"a": "#"}})
    return [
        {
            **common,
            "method": "POST",
            "path": _path("configmaps"),
            "body": body,
            "connections": 2,
            "first": 10**8,
            "pause": 0.01,
        },
        {**common, "method": "GET", "path": _path("pods") + "?limit=500", "connections": 1, "pause": 0.05},
        {**common, "method": "GET", "path": _path("configmaps") + "/probe", "connections": 2, "pause": 0.002},
        {
            **common,
            "method": "PUT",
            "path": _path("configmaps") + "/probe",
            "body": lease,
            "connections": 1,
            "first": 0,
            "pause": 0.01,
        },
    ]
