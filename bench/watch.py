"""Watch fan-out: one stream of creates to 1,000 watchers over TLS

1,000 connections of one client process watch ConfigMaps while 16 clients of a second process create 1,000 of them (300 bytes
each); a delivery is one event at one watcher. The delay is from the moment at which the create is sent to the arrival.
"""

from __future__ import annotations

import json

from bench import load
from bench.cluster import Cluster, cluster
from bench.figure import Figure

WATCHERS, EVENTS = 1_000, 1_000
_PATH = "/api/v1/namespaces/default/configmaps"


def run() -> list[Figure]:
    with cluster(nodes=0) as made:
        found = _fan_out(made)
    return [
        Figure(
            name=f"deliveries to {WATCHERS:,} watchers",
            value=found["rate"],
            unit="events/s",
            better="more",
            target=300_000,
            why=(
                "every watcher has a TLS connection of its own, so every batch is encrypted and handed to the kernel a thousand "
                "times; sixteen writers that wait for their answers keep batches small, and the readers share the two cores"
            ),
        ),
        Figure(name="delay, p50", value=found["p50"], unit="ms"),
        Figure(name="delay, p99", value=found["p99"], unit="ms"),
    ]


def _fan_out(made: Cluster) -> dict[str, float]:
    where = {"config": made.config, "work": str(made.directory)}
    revision = _revision(made)
    path = f"{_PATH}?watch=1&resourceVersion={revision}"
    watchers = load.start({"mode": "watch", "path": path, "connections": WATCHERS, "events": EVENTS, **where})
    try:
        assert watchers.stdout is not None
        if watchers.stdout.readline().strip() != "ready":
            raise RuntimeError("the watchers could not connect")
        body = {"metadata": {"name": "c#"}, "data": {"sent": "@", "text": "x" * 100}}
        load.run(
            mode="rate",
            method="POST",
            path=_PATH,
            body=json.dumps(body, separators=(",", ":")),
            connections=16,
            total=EVENTS,
            **where,
        )
        return load.result(watchers)
    finally:
        if watchers.poll() is None:
            watchers.kill()
            watchers.wait()


def _revision(made: Cluster) -> str:
    with made.http() as api:
        return str(api.json("GET", _PATH)["metadata"]["resourceVersion"])
