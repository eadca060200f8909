"""The scheduler alone: pods placed per second

`Cycle.place` on a snapshot in memory, every node filtered and scored for every pod (no sampling), all default plugins; singly
(each pod sees the one before) and in batches of 256 pods of one shape, by the processor's time, as nothing here waits. First
pods of three sizes in turn on nodes of two; then, on 5,000 nodes among 5,000 pods of its kind (anti-affinity: 1,000), each
kind of constraint; then the choice of victims on 5,000 nodes for a pod that needs three of a node's four pods gone. No API
and no store take part; upstream's floors include them, and its nodes are sampled, so the ratios are no more than a hint.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from bench.figure import Figure, median
from bench.schedulerperf import templates
from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Pod, Shape, Shapes
from jota.scheduler.preemption import Asked, Placed, find
from jota.scheduler.profile import default_profile
from jota.scheduler.snapshot import Node, Snapshot
from jota.scheduler.workloads import Selecting

RUNS = 5
_SIZES = (("100m", "200Mi"), ("250m", "128Mi"), ("1", "1Gi"))
_FLOOR = 810.0
"""Pods/s; the highest CI floor of kubernetes test/integration/scheduler_perf for SchedulingBasic on 5,000 nodes."""
_KINDS = (
    ("node affinity", "pod-with-node-affinity", 220.0),
    ("pod affinity in a zone", "pod-with-pod-affinity", 35.0),
    ("pod anti-affinity by host", "pod-with-pod-anti-affinity", 60.0),
    ("preferred pod affinity", "pod-with-preferred-pod-affinity", 90.0),
    ("preferred pod anti-affinity", "pod-with-preferred-pod-anti-affinity", 90.0),
    ("anti-affinity with a namespace selector", "pod-anti-affinity-ns-selector", 24.0),
    ("topology spread over zones", "pod-with-topology-spreading", 460.0),
    ("preferred topology spread", "pod-with-preferred-topology-spreading", 340.0),
    ("default topology spread (a Service)", "pod-with-label", 160.0),
)
"""(name, template, upstream's floor for the workload of that kind)."""


def run() -> list[Figure]:
    figures = []
    for nodes in (5_000, 15_000, 50_000):
        figures += [
            _figure(f"{nodes:,} nodes, one pod at a time", lambda n=nodes: _sizes(n, 1, 2_000), nodes == 5_000),
            _figure(f"{nodes:,} nodes, batches of 256", lambda n=nodes: _sizes(n, 256, 12_800), nodes == 5_000),
        ]
    for name, template, floor in _KINDS:
        figures.append(_figure(f"{name}, one at a time", lambda t=template: _kind(t, 1), True, floor))
        figures.append(_figure(f"{name}, batches of 256", lambda t=template: _kind(t, 256), True, floor))
    figures.append(_figure("victims chosen among 20,000 pods", _victims, False))
    return figures


def _figure(name: str, once: Callable[[], float], peer: bool, floor: float = _FLOOR) -> Figure:
    return Figure(
        name=name,
        value=median([once() for _ in range(RUNS)]),
        unit="pods/s",
        better="more",
        peer="upstream's scheduler_perf floor, API and etcd included" if peer else "",
        peer_value=floor if peer else None,
        published=peer,
    )


def _sizes(nodes: int, batch: int, pods: int) -> float:
    snapshot = _nodes(nodes)
    shapes = _shapes()
    cycle = Cycle(default_profile(), snapshot, 7)
    turns = [shapes[turn % len(shapes)] for turn in range(pods // batch)]
    return _placed(cycle, turns, batch)


def _placed(cycle: Cycle, turns: list[Shape], batch: int) -> float:
    """Pods/s."""
    begin = time.process_time()
    placed = sum(len(cycle.place(shape, batch)) for shape in turns)
    took = time.process_time() - begin
    if placed != len(turns) * batch:
        raise RuntimeError(f"only {placed} of {len(turns) * batch} pods found a node")
    return placed / took


def _kind(template: str, batch: int) -> float:
    snapshot = Snapshot()
    for n in range(5_000):
        zone = "zone1" if "affinity" in template else f"zone{n % 3}"
        snapshot.put_node(msgspec.convert(templates.node(f"node-{n}", {templates.ZONE: zone}), Node))
    for name in ("sched-0", "sched-1"):
        snapshot.pods.set_namespace(name, {"team": "devops"})
    service = templates.service("service")
    service["metadata"]["namespace"] = "sched-0"
    snapshot.workloads.put("Service", msgspec.convert(service, Selecting))
    cycle, shape = Cycle(default_profile(), snapshot, 7), _shape(Shapes(), template)
    begin = 1_000 if "anti-affinity" in template and "preferred" not in template else 5_000
    cycle.place(shape, begin)
    return _placed(cycle, [shape] * (2_048 // batch if batch > 1 else 500), batch)


def _victims() -> float:
    snapshot, shapes = Snapshot(), Shapes()
    for n in range(5_000):
        snapshot.put_node(msgspec.convert(templates.node(f"node-{n}"), Node))
    cycle = Cycle(default_profile(), snapshot, 7)
    low, high = _shape(shapes, "pod-low-priority"), _shape(shapes, "pod-high-priority")
    there: dict[str, dict[str, Placed]] = {}
    for n, slot in enumerate(cycle.place(low, 20_000)):
        name = snapshot.names[slot]
        there.setdefault(name, {})[f"{n}"] = Placed(name, low, f"{n}", "sched-0", f"{n}")
    find(Asked(cycle, snapshot, high, 10, there, [], 0))  # the table is made once
    begin = time.process_time()
    for n in range(200):
        candidate, _ = find(Asked(cycle, snapshot, high, 10, there, [], n))
        if candidate is None:
            raise RuntimeError("no victims found")
        for victim in candidate.victims:
            snapshot.remove_pod(victim.node, victim.shape)
            del there[victim.node][victim.uid]
        snapshot.add_pod(candidate.node, high)
    return 200 / (time.process_time() - begin)


def _shape(kept: Shapes, template: str) -> Shape:
    pod = templates.pod(template, "p")
    pod["metadata"] |= {"namespace": "sched-0", "uid": "u"}
    return kept.of(msgspec.convert(pod, Pod))


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
