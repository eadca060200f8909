"""The scheduler alone: pods placed per second

`Cycle.place` on a snapshot in memory, every node filtered and scored for every pod (no sampling), all default plugins; singly
(each pod sees the one before) and in batches of 128 pods of one shape, with pods of three sizes on nodes of two. No API and
no store take part; upstream's floor includes them, and samples the nodes, so the ratio is no more than a hint.
"""

from __future__ import annotations

import time

import msgspec

from bench.figure import Figure, median
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Pod, Shape, Shapes
from jota.scheduler.profile import default_profile
from jota.scheduler.snapshot import Node, Snapshot

RUNS = 5
_SIZES = (("100m", "200Mi"), ("250m", "128Mi"), ("1", "1Gi"))
_FLOOR = 810.0
"""Pods/s; the highest CI floor of kubernetes test/integration/scheduler_perf for SchedulingBasic on 5,000 nodes."""


def run() -> list[Figure]:
    figures = []
    for nodes in (5_000, 15_000):
        figures += [
            _figure(f"{nodes:,} nodes, one pod at a time", nodes, 1, 2_000),
            _figure(f"{nodes:,} nodes, batches of 128", nodes, 128, 12_800),
        ]
    return figures


def _figure(name: str, nodes: int, batch: int, pods: int) -> Figure:
    rate = median([_once(nodes, batch, pods) for _ in range(RUNS)])
    peer = nodes == 5_000
    return Figure(
        name=name,
        value=rate,
        unit="pods/s",
        better="more",
        peer="upstream's scheduler_perf floor, API and etcd included" if peer else "",
        peer_value=_FLOOR if peer else None,
        published=peer,
    )


def _once(nodes: int, batch: int, pods: int) -> float:
    snapshot = _nodes(nodes)
    shapes = _shapes()
    cycle = Cycle(default_profile(), snapshot, 7)
    begin = time.perf_counter()
    placed = 0
    for turn in range(pods // batch):
        placed += len(cycle.place(shapes[turn % len(shapes)], batch))
    took = time.perf_counter() - begin
    if placed != pods // batch * batch:
        raise RuntimeError(f"only {placed} of {pods} pods found a node")
    return placed / took


def _nodes(count: int) -> Snapshot:
    snapshot = Snapshot()
    for n in range(count):
        big = n % 3 == 0
        node = {
            "metadata": {
                "name": f"node-{n}",
                "labels": {"kubernetes.io/hostname": f"node-{n}", "topology.kubernetes.io/zone": f"zone-{n % 3}"},
            },
            "status": {
                "allocatable": {"cpu": "16" if big else "4", "memory": "64Gi" if big else "32Gi", "pods": "110"}
            },
        }
        snapshot.put_node(msgspec.convert(node, Node))
    return snapshot


def _shapes() -> list[Shape]:
    kept = Shapes()
    found = []
    for cpu, memory in _SIZES:
        container = {"resources": {"requests": {"cpu": cpu, "memory": memory}}}
        pod = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": [container]}}
        found.append(kept.of(msgspec.convert(pod, Pod)))
    return found
