"""Watch fan-out: one stream of creates to 1,000 watchers over TLS

1,000 connections of one client process watch ConfigMaps while 16 clients of a second process create 1,000 of them (300 bytes
each), as an ordinary user with RBAC, flow control and the audit log. A delivery is one event at one watcher; its delay is from
the moment at which the create is sent to the arrival. The peer does nothing but pass each body on to 1,000 connections at once
(bench/bare.py), with no API and no store.
"""

from __future__ import annotations

import json

from bench import load
from bench.bare import NAME as BARE
from bench.bare import bare
from bench.cluster import Cluster, directory
from bench.figure import Figure

WATCHERS, EVENTS = 1_000, 1_000
_WHY = (
    "every watcher has a TLS connection of its own, so every batch is encrypted and handed to the kernel a thousand times, and "
    "the readers share the two cores; the more events there are in a batch, the more are delivered and the later each one is"
)
_PATH = "/api/v1/namespaces/default/configmaps"


def run() -> list[Figure]:
    with directory() as made:
        made.up(0, "--audit-log", str(made.directory / "audit.log"))
        user = made.as_user("bench", "edit")
        found = _fan_out(user, f"{_PATH}?watch=1&resourceVersion={_revision(user)}")
        with bare(made.directory, b"{}") as other:
            least = _fan_out(other, f"{_PATH}?watch=1")
    return [
        Figure(
            name=f"deliveries to {WATCHERS:,} watchers",
            value=found["rate"],
            unit="events/s",
            better="more",
            target=300_000,
            peer=BARE,
            peer_value=least["rate"],
            why=_WHY,
        ),
        Figure(name="delay, p50", value=found["p50"], unit="ms", peer=BARE, peer_value=least["p50"], why=_WHY),
        Figure(name="delay, p99", value=found["p99"], unit="ms", peer=BARE, peer_value=least["p99"], why=_WHY),
    ]


def _fan_out(made: Cluster, path: str) -> dict[str, float]:
    where = {"config": made.config, "work": str(made.directory)}
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
